"""What of a blob is here already, in other files: found by digest, copied, proven. No network.

Before a transfer asks anybody, every block it lacks is looked for: in other blobs at any offset, in partials of other
blobs, and in files that people point to (an older version, another program's half download). A block is copied where
the disk can by reference (`copy_file_range`), then read again and held against the manifest: a candidate is only a
hint, so nothing here has to be believed, and a file that changes meanwhile costs nothing but its copies.

    candidates_…(…)  digest → where such bytes may lie                       (looks)
    plan_copies(…)   which block comes from where, each once                 (pure)
    copy_blocks(…)   copy, verify, give the blocks that are proven           (works)
    copy_remains(…)  of a half download of the same file also parts of blocks; what they are worth, pieces will tell
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from samara.fetcher.blocks import BlockChecker, cores
from samara.registry.durable import io_error
from samara.registry.positioned import extents, read_at, write_at
from samara.schemas.errors import SamaraError
from samara.schemas.manifest import Block

if TYPE_CHECKING:
    from samara.registry.index import Index

AT_MOST = 4  # places tried for one block
_CHUNK = 1 << 20


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
    at = 0
    for block in blocks:
        while at < len(data) and data[at][1] < block.end:
            at += 1
        if at == len(data):
            break
        if data[at][0] <= block.offset:
            found.setdefault(block.digest, []).append(Place(path=path, offset=block.offset, size=block.size))
    return found


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
                        try:
                            _copy_range(source.fileno(), at, target, at, stop - at)
                        except OSError as error:
                            raise _write_error(error) from None


def copy_blocks(
    copies: Sequence[Copy],
    target: int,
    *,
    holding: Container[int] = (),
    on_progress: Callable[[int], None] | None = None,
) -> frozenset[int]:
    """Copy into the open file `target` (a descriptor) and verify there; the numbers of the blocks that are proven.

    Candidates that can't be read or aren't what was hoped cost nothing: into blocks in `holding`, parts of which are in
    the target already, nothing is copied before it is known to be right. Raises DiskFullError or StoreError when the
    target can't be written.
    """
    proven: set[int] = set()
    done = 0
    lock = threading.Lock()
    stop = threading.Event()
    sources = _Sources()
    with contextlib.closing(sources), BlockChecker(target) as checker:

        def work(copy: Copy) -> None:
            nonlocal done
            if stop.is_set():
                return
            careful = copy.block.index in holding
            if any(_copied(sources, place, target, copy.block, checker, careful=careful) for place in copy.places):
                with lock:
                    proven.add(copy.block.index)
            with lock:
                done += copy.block.size
                if on_progress is not None:
                    on_progress(done)

        with ThreadPoolExecutor(max_workers=cores(), thread_name_prefix="reuse") as pool:
            try:
                for _ in pool.map(work, copies):
                    pass
            except BaseException:
                stop.set()  # Ctrl-C need not wait for gigabytes
                raise
    return frozenset(proven)


class _Sources:
    """Files open for reading, each once."""

    def __init__(self) -> None:
        self._fds: dict[Path, int | None] = {}
        self._lock = threading.Lock()

    def open(self, path: Path) -> int | None:
        """A descriptor; None if it can't be opened (any more)."""
        with self._lock:
            if path not in self._fds:
                try:
                    self._fds[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                except OSError:
                    self._fds[path] = None
            return self._fds[path]

    def close(self) -> None:
        for fd in self._fds.values():
            if fd is not None:
                os.close(fd)


def _copied(
    sources: _Sources, place: Place, target: int, block: Block, checker: BlockChecker, *, careful: bool
) -> bool:  # fmt: skip
    source = sources.open(place.path)
    if source is None:
        return False
    try:
        if careful and not _holds(source, place.offset, block):
            return False
        whole = _copy_range(source, place.offset, target, block.offset, block.size)
    except _ReadError:
        return False
    except OSError as error:
        raise _write_error(error) from None
    return whole and checker.check(block) is None


def _holds(source: int, start: int, block: Block) -> bool:
    hasher = blake3()
    for at in range(0, block.size, _CHUNK):
        try:
            hasher.update(read_at(source, min(_CHUNK, block.size - at), start + at))
        except OSError:
            raise _ReadError from None
    return hasher.digest() == block.digest


class _ReadError(Exception):
    """The source can't be read; not the target's fault."""


def _copy_range(source: int, start: int, target: int, to: int, size: int) -> bool:
    """False where the source ends before that."""
    done = 0
    while done < size and hasattr(os, "copy_file_range"):
        try:
            got = os.copy_file_range(source, target, size - done, start + done, to + done)
        except OSError as error:
            if error.errno in {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM}:
                break
            if error.errno in {errno.EIO, errno.ESTALE}:
                raise _ReadError from None
            raise
        if got == 0:
            return False
        done += got
    while done < size:
        try:
            data = read_at(source, min(_CHUNK, size - done), start + done)
        except OSError:
            raise _ReadError from None
        if not data:
            return False
        write_at(target, data, to + done)
        done += len(data)
    return True


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
