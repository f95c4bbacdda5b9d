"""What of a blob is here already, in other files: found by digest, copied, proven. No network.

Before a transfer asks anybody, every block it lacks is looked for: in other blobs at any offset, in partials of other
blobs, and in files that people point to (an older version, another program's half download). A candidate is only a
hint, so nothing here has to be believed: a block is read, held against the manifest and only then written, or, where
the disk can share extents, shared first and then read. A file that changes meanwhile costs nothing but its copies.

    candidates_…(…)  digest → where such bytes may lie                       (looks)
    plan_copies(…)   which block comes from where, each once                 (pure)
    copy_blocks(…)   copy, verify, give the blocks that are proven           (works)
    copy_remains(…)  of a half download of the same file also parts of blocks; what they are worth, pieces will tell

The disk writes while the processor hashes: what was copied is synced all along, not at the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from samara.fetcher.blocks import MAX_THREADS, BlockChecker, cores
from samara.registry.durable import io_error, sync_data
from samara.registry.positioned import extents, read_into, write_at
from samara.schemas.errors import SamaraError
from samara.schemas.manifest import Block

if TYPE_CHECKING:
    from samara.registry.index import Index

AT_MOST = 4  # places tried for one block
SYNC_EVERY = 64 << 20  # bytes: below that a sync costs more than it saves
_CHUNK = 1 << 20  # what is hashed right after it was read should still be in the processor's cache
_FICLONERANGE = 0x4020940D  # linux/fs.h: share some extents of another file


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Bytes that may be a block: `size` of them at `offset` in the file at `path`."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """One block to be copied, from the first of `places` that has it."""

    block: Block
    places: tuple[Place, ...]


def plan_copies(blocks: Iterable[Block], places: Mapping[bytes, Sequence[Place]]) -> tuple[Copy, ...]:
    """The blocks for which there is a candidate, in file order. Pure."""
    return tuple(
        Copy(block=block, places=tuple(found[:AT_MOST]))
        for block in blocks
        if (found := [place for place in places.get(block.digest, ()) if place.size == block.size])
    )


def straddling_leaves(
    blocks: Sequence[Block], proven: Iterable[int], piece_length: int, leaf: int
) -> dict[int, list[bool]]:
    """Pieces that proven blocks cover in part → for each leaf of the piece whether they cover it whole. Pure.

    Only such leaves may be claimed: a wrong one would cost the honest peer that gives the rest of its piece.
    """
    size = blocks[-1].end
    runs = _runs([blocks[index] for index in sorted(proven)])
    found: dict[int, list[bool]] = {}
    for start, end in runs:
        for piece in {start // piece_length, (end - 1) // piece_length}:
            first, last = piece * piece_length, min((piece + 1) * piece_length, size)
            if start <= first and end >= last:
                continue
            leaves = found.setdefault(piece, [False] * (-(-(last - first) // leaf)))
            for number in range(len(leaves)):
                at = first + number * leaf
                if start <= at and min(at + leaf, last) <= end:
                    leaves[number] = True
    return {piece: leaves for piece, leaves in found.items() if any(leaves)}


def gaps(blocks: Iterable[Block], pieces: Container[int], piece_length: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what lies in `blocks`, which aren't proven, and in none of `pieces`, which are claimed. Pure."""
    for block in blocks:
        for piece in range(block.offset // piece_length, (block.end - 1) // piece_length + 1):
            if piece not in pieces:
                yield max(block.offset, piece * piece_length), min(block.end, (piece + 1) * piece_length)


def candidates_in_index(index: Index, blocks: Sequence[Block]) -> dict[bytes, list[Place]]:
    """Where blobs that lie here untouched have these blocks, by digest."""
    return {
        digest: [Place(path=path, offset=offset, size=size) for path, offset, size in found]
        for digest, found in index.block_places([block.digest for block in blocks]).items()
    }


def candidates_at_same_offset(path: Path, blocks: Iterable[Block]) -> dict[bytes, list[Place]]:
    """A half download of the very file: each block may lie where it belongs. Holes are passed over."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = list(extents(fd))
    finally:
        os.close(fd)
    found: dict[bytes, list[Place]] = {}
    for block in inside(blocks, data):
        found.setdefault(block.digest, []).append(Place(path=path, offset=block.offset, size=block.size))
    return found


def inside(blocks: Iterable[Block], stretches: Sequence[tuple[int, int]]) -> Iterator[Block]:
    """Those of `blocks` that lie whole in one of the stretches (start, end). Both in order. Pure."""
    at = 0
    for block in blocks:
        while at < len(stretches) and stretches[at][1] < block.end:
            at += 1
        if at == len(stretches):
            return
        if stretches[at][0] <= block.offset:
            yield block


def copy_remains(path: Path, gaps: Iterable[tuple[int, int]], target: int) -> None:
    """What a half download of the very file has in these gaps (start, end), of which nothing is known: bytes, as they
    are.

    They are not proven; pieces among them will be, by their own hashes, when the partial is looked at. Raises
    DiskFullError or StoreError when the target can't be written.
    """
    with path.open("rb", buffering=0) as source:
        data = list(extents(source.fileno()))
        for first, last in gaps:
            for start, end in data:
                at, stop = max(start, first), min(end, last)
                if at < stop:
                    with contextlib.suppress(_ReadError):
                        _carry(source.fileno(), at, target, at, stop - at)


def copy_blocks(
    copies: Sequence[Copy],
    target: int,
    *,
    holding: Container[int] = (),
    on_progress: Callable[[int], None] | None = None,
) -> Mapping[int, Place]:
    """Copy into the open file `target` (a descriptor): the number of each block that is proven, and where it was.

    Candidates that can't be read or aren't what was hoped cost nothing: into blocks in `holding`, parts of which are in
    the target already, nothing is copied before it is known to be right. Not all is synced when this returns. Raises
    DiskFullError or StoreError when the target can't be written.
    """
    proven: dict[int, Place] = {}
    done = 0
    lock = threading.Lock()
    stop = threading.Event()
    with _Copier(target) as copier, _SteadySync(target) as steady:

        def work(copy: Copy) -> None:
            nonlocal done
            if stop.is_set():
                return
            careful = copy.block.index in holding
            place = next((place for place in copy.places if copier.copy(place, copy.block, careful=careful)), None)
            with lock:
                done += copy.block.size
                if place is not None:
                    proven[copy.block.index] = place
                    steady.wrote(copy.block.size)
                if on_progress is not None:
                    on_progress(done)

        # one more than there are processors: one waits for the disk
        with ThreadPoolExecutor(max_workers=min(cores() + 1, MAX_THREADS), thread_name_prefix="reuse") as pool:
            try:
                for _ in pool.map(work, copies):
                    pass
            except BaseException:
                stop.set()  # Ctrl-C need not wait for gigabytes
                raise
        steady.end()
    return proven


class _SteadySync:
    """Has a thread make durable what has been written so far, every `SYNC_EVERY` bytes. One caller at a time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._new = 0
        self._syncing: Future[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sync")

    def __enter__(self) -> _SteadySync:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._thread.shutdown(wait=True)

    def wrote(self, size: int) -> None:
        """So many bytes more. Raises what went wrong with those before."""
        self._new += size
        if self._new >= SYNC_EVERY and (self._syncing is None or self._syncing.done()):
            self.end()
            self._syncing, self._new = self._thread.submit(sync_data, self._fd), 0

    def end(self) -> None:
        """Wait for the sync under way. Raises DiskFullError or StoreError: the system tells it only once."""
        if self._syncing is not None:
            syncing, self._syncing = self._syncing, None
            try:
                syncing.result()
            except OSError as error:
                raise _write_error(error) from None


class _Copier:
    """Copies blocks into one open file, from several threads; keeps the sources open, each once."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._checker = BlockChecker(target)
        self._buffers = threading.local()
        self._fds: dict[Path, int | None] = {}
        self._lock = threading.Lock()
        self._alone: set[int] = set()  # sources that can't share extents with the target
        self._unit = _sharing_unit(target)

    def __enter__(self) -> _Copier:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._checker.__exit__()
        for fd in self._fds.values():
            if fd is not None:
                os.close(fd)

    def copy(self, place: Place, block: Block, *, careful: bool) -> bool:
        """Whether `place` had the block; then it is in the target. If `careful`, nothing else is ever written there.

        Raises DiskFullError or StoreError when the target can't be written.
        """
        source = self._open(place.path)
        if source is None:
            return False
        try:
            if not careful and self._share(source, place, block):
                return self._checker.check(block) is None
            data = self._read(source, place, block)
        except _ReadError:
            return False
        except OSError as error:
            raise _write_error(error) from None
        if data is None:
            return False
        _write(self._target, data, block.offset)
        return True

    def _open(self, path: Path) -> int | None:
        """A descriptor; None if it can't be opened (any more)."""
        with self._lock:
            if path not in self._fds:
                try:
                    self._fds[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                except OSError:
                    self._fds[path] = None
            return self._fds[path]

    def _read(self, source: int, place: Place, block: Block) -> memoryview | None:
        """The block's bytes, proven, in this thread's own buffer; None if they aren't there."""
        buffer: memoryview | None = getattr(self._buffers, "buffer", None)
        if buffer is None or len(buffer) < block.size:
            buffer = self._buffers.buffer = memoryview(bytearray(block.size))
        hasher = blake3()
        done = 0
        while done < block.size:
            part = buffer[done : min(done + _CHUNK, block.size)]
            got = _read_some(source, part, place.offset + done)
            if got == 0:
                return None
            hasher.update(part[:got])
            done += got
        return buffer[: block.size] if hasher.digest() == block.digest else None

    def _share(self, source: int, place: Place, block: Block) -> bool:
        """Have the target share the disk's own units inside the block, and copy what sticks out at both ends.

        False, and nothing done, where that can't be. Raises _ReadError, OSError.
        """
        unit = self._unit
        first, end = -(-block.offset // unit) * unit, block.end // unit * unit
        moved = place.offset - block.offset
        if sys.platform != "linux" or moved % unit or first >= end or source in self._alone:
            return False
        import fcntl

        try:
            request = struct.pack("=qQQQ", source, first + moved, end - first, first)
            fcntl.ioctl(self._target, _FICLONERANGE, request)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise
            self._alone.add(source)  # other filesystems, or one that can't; reading will tell whatever else it was
            return False
        _carry(source, place.offset, self._target, block.offset, first - block.offset)
        _carry(source, end + moved, self._target, end, block.end - end)
        return True


class _ReadError(Exception):
    """The source can't be read; not the target's fault."""


def _sharing_unit(fd: int) -> int:
    """Bytes: what extents are shared in multiples of."""
    return os.fstatvfs(fd).f_bsize if hasattr(os, "fstatvfs") else 4096


def _carry(source: int, start: int, target: int, to: int, size: int) -> None:
    """Copy bytes as they are, as far as the source has them. Raises _ReadError, DiskFullError or StoreError."""
    view = memoryview(bytearray(min(size, _CHUNK)))
    done = 0
    while done < size:
        got = _read_some(source, view[: size - done], start + done)
        if got == 0:
            return
        _write(target, view[:got], to + done)
        done += got


def _read_some(fd: int, view: memoryview, offset: int) -> int:
    try:
        return read_into(fd, view, offset)
    except OSError:
        raise _ReadError from None


def _write(fd: int, data: memoryview, offset: int) -> None:
    try:
        write_at(fd, data, offset)
    except OSError as error:
        raise _write_error(error) from None


def _runs(blocks: Sequence[Block]) -> Iterator[tuple[int, int]]:
    """(start, end) of stretches that neighbouring blocks cover."""
    start = end = -1
    for block in blocks:
        if block.offset == end:
            end = block.end
            continue
        if end > start:
            yield start, end
        start, end = block.offset, block.end
    if end > start:
        yield start, end


def _write_error(error: OSError) -> SamaraError:
    return io_error(error, Path("the partial"))
