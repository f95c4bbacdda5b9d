"""A blob on its way, as those see it who read it meanwhile. Moves no bytes: `samara.fetcher.intake` does, and says here
what is proven.

One thread tells (`is_at`, `proved`, `ended`), any number of threads wait. Nobody is told of a byte that isn't firm:
proven by BLAKE3 in its block, and no longer written to. The last block is held back until the whole file's digest has
been proven: who gets to the end has what was asked for, even if the manifest that named the blocks lied.
"""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from samara.fetcher.transfer import blocks_touching
from samara.registry.durable import io_error
from samara.schemas.errors import NetworkError, NotFoundError, SamaraError
from samara.schemas.manifest import Block

AHEAD = 1 << 20  # bytes that are hurried for a reader who follows the file
LOOK_EVERY = 0.5  # seconds


class Stage(StrEnum):
    """Where a blob on its way stands."""

    QUEUED = "queued"
    COMING = "coming"
    HERE = "here"
    FAILED = "failed"


class Coming:
    """One blob's fetch. Safe to use from any thread. `b3`: text; `size`: bytes, None while any will do."""

    def __init__(self, b3: str, size: int | None, *, for_reader: bool) -> None:
        self.b3 = b3
        self._size = size
        self.for_reader = for_reader
        self.readers = 0
        self.withheld = False
        self._changed = threading.Condition()
        self._stage = Stage.QUEUED
        self._error: SamaraError | None = None
        self._path: Path | None = None
        self._later: Path | None = None
        self._blocks: Sequence[Block] = ()
        self._firm = bytearray()
        self._prefix = 0
        self._wanted: tuple[int, int] | None = None

    @property
    def wanted_size(self) -> int | None:
        """Bytes, if anybody has said."""
        return self._size

    @property
    def size(self) -> int:
        """Bytes; 0 while nobody has said."""
        return self._size or 0

    def is_of(self, size: int | None) -> bool:
        """Whether that is its size, or will do; who says so first decides."""
        with self._changed:
            if self._size is None:
                self._size = size
            return size is None or self._size == size

    def withhold(self) -> None:
        """Publishers contradict each other about it: nobody gets a byte before the whole is proven."""
        with self._changed:
            self.withheld = True

    def is_now(self, size: int) -> None:
        """By the description that is tried now. Only for what is withheld: nobody was told another size."""
        with self._changed:
            self._size = size

    # -- for whoever fetches -------------------------------------------------------------------------------------

    def begun(self, path: Path, later: Path, blocks: Sequence[Block]) -> None:
        """Its bytes come into the file at `path`, renamed to `later` in the end. Nothing of it is firm yet."""
        with self._changed:
            self._stage, self._path, self._later, self._blocks = Stage.COMING, path, later, blocks
            self._firm, self._prefix = bytearray(len(blocks)), 0
            self._changed.notify_all()

    def proved(self, news: Iterable[tuple[int, bool]]) -> None:
        """(block, whether it is firm now)."""
        with self._changed:
            for index, firm in news:
                self._firm[index] = firm
                if not firm:
                    self._prefix = min(self._prefix, index)
            while self._prefix < len(self._firm) and self._firm[self._prefix]:
                self._prefix += 1
            self._changed.notify_all()

    def arrived(self, path: Path) -> None:
        """All of it is proven, and lies at `path`."""
        with self._changed:
            self._stage, self._path = Stage.HERE, path
            self._changed.notify_all()

    def failed(self, error: SamaraError) -> None:
        """No more will come of this fetch."""
        with self._changed:
            if self._stage is not Stage.HERE:
                self._stage, self._error = Stage.FAILED, error
            self._changed.notify_all()

    def take_wanted(self) -> tuple[int, int] | None:
        """The bytes (start, end) that somebody waits for, once for each time that somebody began to."""
        with self._changed:
            wanted, self._wanted = self._wanted, None
            return wanted

    # -- for readers ---------------------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """Where it stands."""
        return self._stage

    @property
    def error(self) -> SamaraError | None:
        """Why it failed."""
        return self._error

    @property
    def path(self) -> Path:
        """Where its bytes lie now. Raises NetworkError before any have come."""
        with self._changed:
            if self._path is None:
                raise NetworkError(f"nothing of {self.b3} is here yet", next_step="try again in a moment")
            return self._path

    @property
    def proven(self) -> int:
        """Firm bytes, wherever they lie."""
        with self._changed:
            if self._stage is Stage.HERE:
                return self.size
            return sum(block.size for block, firm in zip(self._blocks, self._firm, strict=True) if firm)

    def open(self) -> int:
        """A descriptor to read from. Raises NetworkError, StoreError."""
        places = (self.path, self._later or self.path, self.path)  # it may be renamed just now
        for attempt, path in enumerate(places):
            try:
                return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except OSError as error:
                if attempt == len(places) - 1 or not isinstance(error, FileNotFoundError):
                    raise io_error(error, path) from None
        raise AssertionError("unreachable")

    def wait(self, beyond: int, timeout: float) -> int:
        """See `ports.Arriving.wait`."""
        return self._wait(lambda: self._front() > beyond, (beyond, min(self.size, beyond + AHEAD)), timeout)

    def wait_range(self, start: int, end: int, timeout: float) -> bool:
        """See `ports.Arriving.wait_range`."""
        start, end = max(0, start), min(end, self.size)
        if start >= end:
            return True
        self._wait(lambda: self._has(start, end), (start, end), timeout)
        with self._changed:
            return self._has(start, end)

    def join(self, *, for_reader: bool) -> None:
        """One more who waits for it."""
        with self._changed:
            self.readers += 1
            self.for_reader |= for_reader

    def leave(self) -> None:
        """One less."""
        with self._changed:
            self.readers -= 1

    def _wait(self, is_there: Callable[[], bool], wanted: tuple[int, int], timeout: float) -> int:
        until = time.monotonic() + timeout
        with self._changed:
            while not is_there():
                if self._error is not None:
                    raise copy.copy(self._error)  # each reader has a traceback of its own
                left = until - time.monotonic()
                if left <= 0 or self._front() == self.size:
                    break
                self._wanted = wanted  # said again and again: others wait for other parts
                self._changed.wait(min(left, LOOK_EVERY))
            return self._front()

    def _front(self) -> int:
        if self._stage is Stage.HERE:
            return self.size
        if self.withheld:
            return 0
        firm = min(self._prefix, len(self._blocks) - 1)
        return self._blocks[firm - 1].end if firm > 0 else 0

    def _has(self, start: int, end: int) -> bool:
        if self._stage is Stage.HERE:
            return True
        if self.withheld or not self._blocks or end > self._blocks[-1].offset:
            return False
        return all(self._firm[index] for index in blocks_touching(self._blocks, start, end))


class Reader:
    """One reader of a blob on its way (`samara.registry.service.ports.Arriving`).

    `for_registry`: another registry reads it. That nobody has it means there that it isn't here: not to be asked again.
    """

    def __init__(self, coming: Coming, *, for_registry: bool = False) -> None:
        self._coming = coming
        self._for_registry = for_registry
        self._closed = False
        self._lock = threading.Lock()
        coming.join(for_reader=True)

    @property
    def size(self) -> int:
        """Bytes of the whole blob."""
        return self._coming.size

    @property
    def path(self) -> Path:
        """The file that it lies in now."""
        return self._coming.path

    def open(self) -> int:
        """A descriptor of that file."""
        return self._coming.open()

    def wait(self, beyond: int, timeout: float) -> int:
        """How many bytes from the start are proven, once these are more than `beyond`."""
        with absent_for(registry=self._for_registry):
            return self._coming.wait(beyond, timeout)

    def wait_range(self, start: int, end: int, timeout: float) -> bool:
        """Whether all these bytes are proven."""
        with absent_for(registry=self._for_registry):
            return self._coming.wait_range(start, end, timeout)

    def close(self) -> None:
        """It reads no more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._coming.leave()


@contextlib.contextmanager
def absent_for(*, registry: bool) -> Iterator[None]:
    """What nobody has isn't here, as far as another registry is concerned."""
    try:
        yield
    except NetworkError as error:
        if registry:
            raise NotFoundError(error.what, next_step=error.next_step) from None
        raise
