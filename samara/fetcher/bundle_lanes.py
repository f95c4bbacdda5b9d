"""A bundle's blobs on their way past: hashed, held against their blocks and written side by side, in constant memory.

One thread reads; each job has a thread of its own and takes every chunk in order (`Lanes`). What is done with a blob
that was right, or wrong, is `bundle_import`'s business.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from blake3 import blake3

from samara.fetcher.blocks import BadBlock
from samara.fetcher.steady import SteadyFile
from samara.registry.durable import io_errors
from samara.schemas.digests import b3_text
from samara.schemas.errors import IntegrityError
from samara.schemas.manifest import Block, ReleaseFile

_CHUNK = 1 << 20  # bytes: long beside a lock, short beside a second-level cache
_RING = 6  # chunks on their way from zstd to disk and hashes


class Proof:
    """One blob on its way past: every block as soon as it is complete, and the whole."""

    def __init__(self, file: ReleaseFile, bundle: Path) -> None:
        self.whole = blake3()
        self._file = file
        self._bundle = bundle
        self._coming = iter(file.blocks)
        self._block: Block | None = None
        self._left = 0
        self._state = blake3()

    def blocks(self, data: memoryview) -> None:
        """The next bytes. Raises IntegrityError at the end of a block that is wrong."""
        while data:
            if self._block is None:
                self._block = next(self._coming)
                self._left, self._state = self._block.size, blake3()
            part = data[: self._left]
            self._state.update(part)
            self._left -= len(part)
            data = data[len(part) :]
            if self._left == 0:
                self._end(self._block, self._state.digest())
                self._block = None

    def check(self) -> None:
        """Raise IntegrityError unless the whole is right too."""
        actual = b3_text(self.whole.digest())
        if actual != self._file.b3:
            raise IntegrityError(
                f"{self._bundle}: {self._file.path} is another file although each block is right",
                expected=self._file.b3, actual=actual, next_step="get the bundle again",
            )  # fmt: skip

    def _end(self, block: Block, actual: bytes) -> None:
        if actual != block.digest:
            raise IntegrityError(
                f"{self._bundle}: {self._file.path}: {BadBlock(block=block, actual=actual)}",
                next_step="get the bundle again",
            )


class Staged:
    """A blob being written where nobody looks. Use as a context manager: leaving it well makes it durable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with io_errors(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
        self._file = SteadyFile(self._fd, path)

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        try:
            with self._file:
                if kind is None:
                    self._file.sync()
        finally:
            os.close(self._fd)

    def write(self, data: memoryview) -> None:
        """Append. Raises DiskFullError or StoreError."""
        self._file.write(data)


class Lanes:
    """Threads that each do one job on every chunk, in order, while the next chunk is being read. Memory: the ring."""

    def __init__(self) -> None:
        self._ring = [memoryview(bytearray(_CHUNK)) for _ in range(_RING)]
        self._lanes = [ThreadPoolExecutor(max_workers=1, thread_name_prefix="import") for _ in range(3)]
        self._at_work: deque[list[Future[object]]] = deque()
        self._next = 0

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_exc: object) -> None:
        for lane in self._lanes:
            lane.shutdown(wait=True, cancel_futures=True)

    def buffers(self) -> Iterator[memoryview]:
        """Buffers that nobody works on any more. Raises what went wrong in the work on an earlier one."""
        while True:
            if len(self._at_work) == _RING:
                self._end_first()
            yield self._ring[self._next % _RING]
            self._next += 1

    def run(self, part: memoryview, jobs: Sequence[Callable[[memoryview], object]]) -> None:
        """Have each job done on `part`, beside the others and after its own earlier parts."""
        self._at_work.append([lane.submit(job, part) for lane, job in zip(self._lanes, jobs, strict=False)])

    def finish(self) -> None:
        """All work is done. Raises what went wrong in it."""
        while self._at_work:
            self._end_first()

    def wait(self) -> None:
        """No work is going on, whatever became of it."""
        for futures in self._at_work:
            wait(futures)
        self._at_work.clear()

    def _end_first(self) -> None:
        for future in self._at_work[0]:
            future.result()
        self._at_work.popleft()
