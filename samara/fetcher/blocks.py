"""Reading blocks from a file and holding them against their digests. Reads only; threads do the hashing.

Bytes go through a few reused buffers, never through a memory map: mapped pages would count as this process's memory,
and a file that shrinks under a map kills the process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from samara.registry.durable import io_errors
from samara.registry.positioned import read_into
from samara.schemas.digests import b3_text
from samara.schemas.manifest import Block

WHOLE_CHUNK = 4 << 20  # bytes per update of the whole-file hash: enough for BLAKE3's own threads to share
MAX_THREADS = 8  # each holds a block; so many outrun any disk, and the page cache


@dataclass(frozen=True, kw_only=True, slots=True)
class BadBlock:
    """A block whose bytes aren't what the manifest says. `actual` is None where the file ends before it."""

    block: Block
    actual: bytes | None

    def __str__(self) -> str:
        got = "the file ends before it" if self.actual is None else f"got {b3_text(self.actual)}"
        where = f"block {self.block.index} (bytes {self.block.offset}–{self.block.end - 1})"
        return f"{where}: expected {b3_text(self.block.digest)}, {got}"


def cores() -> int:
    """Processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A read-only descriptor of `path`. Raises StoreError."""
    with io_errors(path):
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        yield fd
    finally:
        os.close(fd)


class BlockThreads:
    """Threads that check blocks, at most `MAX_THREADS`, and a buffer for each: for any number of files together.

    Use as a context manager.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.pool = ThreadPoolExecutor(max_workers=threads or min(cores(), MAX_THREADS), thread_name_prefix="blocks")
        self._buffers = threading.local()

    def __enter__(self) -> BlockThreads:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def buffer(self, size: int) -> memoryview:
        """The calling thread's, for its next block."""
        buffer: bytearray | None = getattr(self._buffers, "buffer", None)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers.buffer = bytearray(size)
        return memoryview(buffer)[:size]


class BlockChecker:
    """Checks blocks of one open file, in threads of its own or in `shared` ones. Use as a context manager."""

    def __init__(self, fd: int, *, threads: int | None = None, shared: BlockThreads | None = None) -> None:
        self._fd = fd
        self._threads = shared or BlockThreads(threads)
        self._is_shared = shared is not None

    def __enter__(self) -> BlockChecker:
        return self

    def __exit__(self, *_exc: object) -> None:
        if not self._is_shared:
            self._threads.__exit__()

    def submit(self, block: Block) -> Future[BadBlock | None]:
        """Check one block soon; the future gives None when it is right. Wait for it before the file is closed."""
        return self._threads.pool.submit(self.check, block)

    def check(self, block: Block) -> BadBlock | None:
        """Read and check one block now."""
        actual = self.digest(block)
        return None if actual == block.digest else BadBlock(block=block, actual=actual)

    def digest(self, block: Block) -> bytes | None:
        """The BLAKE3 of what lies where `block` belongs, whatever it should be; None where the file ends before it."""
        data = self._read(block.offset, block.size)
        return None if data is None else blake3(data).digest()

    def digests(self, blocks: Iterable[Block]) -> Iterator[bytes | None]:
        """`digest` of each, in their order, in all threads."""
        return self._threads.pool.map(self.digest, blocks)

    def _read(self, offset: int, size: int) -> memoryview | None:
        view = self._threads.buffer(size)
        done = 0
        while done < size:
            got = read_into(self._fd, view[done:], offset + done)
            if got == 0:
                return None
            done += got
        return view


def check_blocks(
    path: Path, blocks: Sequence[Block], *, on_progress: Callable[[int], None] | None = None, threads: int | None = None
) -> tuple[BadBlock, ...]:
    """Every bad block of the file at `path`. Raises StoreError if it can't be read."""
    bad: list[BadBlock] = []
    done = 0
    with opened(path) as fd, BlockChecker(fd, threads=threads) as checker:
        ahead = 2 * (threads or cores())
        for block, outcome in _in_order(checker, blocks, ahead):
            with io_errors(path):
                found = outcome.result()
            if found is not None:
                bad.append(found)
            done += block.size
            if on_progress is not None:
                on_progress(done)
    return tuple(bad)


def whole_digest(fd: int, *, on_progress: Callable[[int], None] | None = None) -> bytes:
    """BLAKE3 of a whole open file (32 raw bytes), with BLAKE3's own threads, while another reads ahead."""
    hasher = blake3(max_threads=blake3.AUTO)
    view, ahead = (memoryview(bytearray(WHOLE_CHUNK)) for _ in range(2))
    done = 0
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="whole") as reader:
        got = read_into(fd, view, 0)
        while got:
            reading = reader.submit(read_into, fd, ahead, done + got)
            hasher.update(view[:got])
            done += got
            if on_progress is not None:
                on_progress(done)
            got = reading.result()
            view, ahead = ahead, view
    return hasher.digest()


def _in_order(
    checker: BlockChecker, blocks: Iterable[Block], ahead: int
) -> Iterator[tuple[Block, Future[BadBlock | None]]]:
    """Keep a few checks in flight, hand the results out in order."""
    waiting: list[tuple[Block, Future[BadBlock | None]]] = []
    for block in blocks:
        waiting.append((block, checker.submit(block)))
        if len(waiting) > ahead:
            yield waiting.pop(0)
    yield from waiting
