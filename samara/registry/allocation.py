"""How a half file takes its room: reserved at once, as it grows, or in order from the start. Decided by filesystem.

On ext4 and XFS the bytes still missing are reserved (`fallocate`, FALLOC_FL_KEEP_SIZE): a disk that fills up later
can't stop a transfer that was promised its room. What is reserved is a hole to SEEK_DATA, so a resume finds data as
ever (what somebody read of it counts as data while it is in memory: zeros, which no digest lets through), and counts as
allocated, so nobody promises it twice. Copy-on-write filesystems write into other blocks, whatever was
reserved: there, and where reserving isn't supported, files stay sparse. FAT and exFAT have no holes: a write far behind
the end makes the system write all the zeros before it, so who fetches should do so in order.

Doesn't ask whether there is room (`samara.registry.store.free_bytes`) and writes no bytes of the file itself.
"""

from __future__ import annotations

import errno
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samara.registry.durable import TEMPORARY_PREFIX, io_errors
from samara.registry.positioned import extents
from samara.schemas.errors import DiskFullError

How = Literal["reserved", "sparse", "in order"]

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h
_PROBE = 1 << 20
_TRIES = 100  # a signal may interrupt a call; not for ever
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, kw_only=True, slots=True)
class Filesystem:
    """What one kind of filesystem does.

    `reserves`: reserving is possible and keeps its promise. `holes`: files may have stretches that take no room; None
    where that can't be told by the kind.
    """

    name: str
    reserves: bool = False
    holes: bool | None = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Reserved:
    """What `reserve` did.

    `bytes`: disk that the file takes more than before. `how`: "reserved", every missing byte has its room; "sparse", it
    takes room as it grows; "in order", it does so too and should be written from its start on.
    """

    bytes: int
    how: How


# statfs's f_type (linux/magic.h, and the filesystems' own sources)
_BY_MAGIC = {
    0xEF53: Filesystem(name="ext4", reserves=True),  # ext2 and ext3 too: they refuse, and stay sparse
    0x58465342: Filesystem(name="xfs", reserves=True),
    0x9123683E: Filesystem(name="btrfs"),
    0x2FC12FC1: Filesystem(name="zfs"),
    0xCA451A4E: Filesystem(name="bcachefs"),
    0x3434: Filesystem(name="nilfs"),
    0xF2F52010: Filesystem(name="f2fs"),
    0x794C7630: Filesystem(name="overlay"),  # of what, can't be told from inside a container
    0x01021994: Filesystem(name="tmpfs"),  # what is reserved there is memory
    0x858458F6: Filesystem(name="ramfs"),
    0x6969: Filesystem(name="nfs"),
    0x00C36400: Filesystem(name="ceph"),
    0x4D44: Filesystem(name="vfat", holes=False),
    0x2011BAB0: Filesystem(name="exfat", holes=False),
    0x482B: Filesystem(name="hfs+", holes=False),
    0x65735546: Filesystem(name="fuse", holes=None),  # of anything: NTFS, exFAT, another machine
    0xFF534D42: Filesystem(name="smb", holes=None),
    0xFE534D42: Filesystem(name="smb", holes=None),
    0x01021997: Filesystem(name="9p", holes=None),
}
_UNKNOWN = Filesystem(name="unknown", holes=None)
# not Linux: macOS tells by its files; on Windows libtorrent makes files sparse by a call of its own
_ELSEWHERE = Filesystem(name="not asked", holes=True if sys.platform == "win32" else None)


def filesystem(magic: int) -> Filesystem:
    """A kind of filesystem by what statfs calls it. Pure."""
    return _BY_MAGIC.get(magic, _UNKNOWN)


def filesystem_of(fd: int) -> Filesystem:
    """The kind of filesystem that an open file lies on."""
    if sys.platform != "linux":
        return _ELSEWHERE
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    told = ctypes.create_string_buffer(1024)  # struct statfs64 has 120 bytes or fewer
    call = getattr(libc, "fstatfs64", None) or libc.fstatfs
    if call(ctypes.c_int(fd), told) != 0:
        return _UNKNOWN
    return filesystem(int.from_bytes(told.raw[:4], sys.byteorder))  # f_type comes first and has 32 bits


def reserve(fd: int, path: Path, size: int) -> Reserved:
    """Reserve what the file open at `fd`, to become `size` bytes long, still lacks. `path`: where it lies.

    Its length and what it reads as stay the same, and so does what it holds. Call it when all that is to be cloned into
    it is there, and while nobody else writes to it. Raises DiskFullError, after giving back what was reserved.
    """
    system = filesystem_of(fd)
    if system.holes is False or (system.holes is None and not keeps_holes(path.parent)):
        return Reserved(bytes=0, how="in order")
    if not system.reserves or size <= 0:
        return Reserved(bytes=0, how="sparse")
    before = allocated(fd)
    failure = _fallocate(fd, _KEEP_SIZE, 0, size)
    if failure in _FULL:
        with io_errors(path):
            give_back(fd)
        raise DiskFullError(
            f"not enough room on the disk of {path}", expected=f"room for {size - before} more bytes",
            next_step="free some space and run the same command again",
        )  # fmt: skip
    if failure:
        return Reserved(bytes=0, how="sparse")
    return Reserved(bytes=max(0, allocated(fd) - before), how="reserved")


def give_back(fd: int) -> None:
    """Free what is reserved of a file and not written yet. While nobody else writes to it. Raises OSError."""
    size = os.fstat(fd).st_size
    if hasattr(os, "posix_fadvise"):  # what is reserved and was read lies in memory, and then counts as data
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.ftruncate(fd, size)  # what lies behind the end goes with that
    at = 0
    for start, end in (*extents(fd), (size, size)):
        if start > at:
            _fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, at, start - at)
        at = end


def allocated(fd: int) -> int:
    """Bytes of disk that an open file takes."""
    found = os.fstat(fd)
    return getattr(found, "st_blocks", -(-found.st_size // 512)) * 512


def keeps_holes(folder: Path) -> bool:
    """Whether a long file in `folder` can take no room: looks, by making one. Raises StoreError, DiskFullError."""
    probe = folder / (TEMPORARY_PREFIX + secrets.token_hex(8))
    with io_errors(probe):
        fd = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            probe.unlink()
            os.ftruncate(fd, _PROBE)
            return allocated(fd) < _PROBE
        finally:
            os.close(fd)


def _fallocate(fd: int, mode: int, offset: int, length: int) -> int:
    """Linux's fallocate(2), never the C library's imitation that writes zeros. 0 or an errno."""
    if sys.platform != "linux":
        return errno.ENOSYS
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if call is None:
        return errno.ENOSYS
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    for _ in range(_TRIES):
        if call(fd, mode, offset, length) == 0:
            return 0
        failure = ctypes.get_errno()
        if failure != errno.EINTR:
            return failure
    return errno.EINTR
