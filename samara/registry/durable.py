"""Bytes that survive power loss: the crash order in four functions.

bytes → fdatasync → record (written aside, fsynced, renamed) → visible name. Every file of ours that claims something
about other bytes is written by `write_durably`; every rename that makes something visible is `publish_name`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from samara.schemas.errors import DiskFullError, SamaraError, StoreError

TEMPORARY_PREFIX = ".samara-tmp-"  # the start-up sweep recognises leftovers by this

_FULL = {errno.ENOSPC, errno.EDQUOT}


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable. Windows has no such call; there NTFS journals its metadata."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_data(fd: int) -> None:
    """fdatasync where there is one, else fsync."""
    getattr(os, "fdatasync", os.fsync)(fd)


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` aside, fsync, rename over `path`, fsync the folder. Raises DiskFullError or StoreError."""
    with io_errors(path):
        temporary = path.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        fsync_folder(path.parent)


def publish_name(source: Path, target: Path) -> None:
    """Rename durable bytes to their visible name and make the name durable (same filesystem)."""
    with io_errors(target):
        make_folder(target.parent)
        source.replace(target)
        fsync_folder(target.parent)
        fsync_folder(source.parent)


def make_folder(folder: Path, *, mode: int = 0o755) -> None:
    """Create `folder` and its parents durably."""
    with io_errors(folder):
        missing = []
        at = folder
        while not at.exists():
            missing.append(at)
            at = at.parent
        for new in reversed(missing):
            with contextlib.suppress(FileExistsError):
                new.mkdir(mode=mode)
            fsync_folder(new.parent)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


@contextlib.contextmanager
def io_errors(path: Path) -> Iterator[None]:
    """OSError around our own files → DiskFullError or StoreError with a next step."""
    try:
        yield
    except SamaraError:
        raise
    except OSError as error:
        raise io_error(error, path) from None


def io_error(error: OSError, path: Path) -> SamaraError:
    """One OSError about one of our own files → the error to raise."""
    if error.errno in _FULL:
        return DiskFullError(
            f"no room left on the disk of {path}", next_step="free some space and run the same command again"
        )
    return StoreError(
        f"can't use {path} ({error.strerror or error})", next_step="check that the folder exists and can be written to"
    )
