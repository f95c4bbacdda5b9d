"""The file that a transfer's bytes are written to: blocks read and judged, the crash order, the proof of the whole.

    bytes in the file → fdatasync → record that claims them → (whole) BLAKE3 of all → the blob's name

Fetches nothing, and doesn't know what is missing. The slow work runs in a pull's threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from pathlib import Path

from samara.fetcher.blocks import BadBlock, BlockChecker, whole_digest
from samara.fetcher.partial import Claims, Partial
from samara.fetcher.threads import Threads
from samara.registry.allocation import Reserved, give_back, reserve
from samara.registry.durable import io_errors, sync_data
from samara.schemas.digests import b3_text
from samara.schemas.errors import IntegrityError, StoreError
from samara.schemas.events import OnEvent, Reached
from samara.schemas.manifest import Block, ReleaseFile
from samara.schemas.ranges import Bitmap

Check = Future[BadBlock | None]
Outcome = Path | tuple[BadBlock, ...]


class DataFile:
    """`partial`'s data, open. `publish`: makes a blob of it once it is proven and durable; gives where that lies.

    Once it `is_suspect`, what was finished may not be in it: nothing more must be claimed.
    """

    def __init__(
        self,
        file: ReleaseFile,
        partial: Partial,
        *,
        threads: Threads,
        publish: Callable[[Path], Path],
        on_event: OnEvent,
    ) -> None:
        self.path = partial.data
        self.is_suspect = False
        self.is_open = True
        self._file = file
        self._partial = partial
        self._threads = threads
        self._publish = publish
        self._on_event = on_event
        self._fd = partial.open_data()
        self._checker = BlockChecker(self._fd, shared=threads.blocks)
        self._reserved: Reserved | None = None
        self._grown = 0

    def close(self, *, is_blob: bool) -> None:
        """Only when no work of its is under way. `is_blob`: it has become one, and keeps its room."""
        if self._reserved is not None and self._reserved.how == "reserved" and not is_blob:
            with contextlib.suppress(OSError):  # what isn't fetched now must not fill somebody's disk
                give_back(self._fd)
        os.close(self._fd)
        self.is_open = False

    def reserve(self) -> bool:
        """See to the room that the whole needs. Whether it must be written in order. Raises DiskFullError."""
        if self._reserved is None:
            self._reserved = reserve(self._fd, self.path, self._file.size)
        return self._reserved.how == "in order"  # else each far write fills all before it with zeros

    def require_untouched(self) -> None:
        """Somebody else's hands in our file must not pass for a peer's wrong bytes. Raises StoreError."""
        found = os.fstat(self._fd)
        removed = found.st_nlink == 0 and os.name == "posix"
        if removed or found.st_size < self._grown:
            self.is_suspect = True
            raise StoreError(
                f"{self.path} was {'removed' if removed else 'cut short'} by somebody else",
                next_step="leave it alone, and run the same command again",
            )
        self._grown = found.st_size

    # -- blocks --------------------------------------------------------------------------------------------------

    def check(self, block: Block) -> Check:
        """Have a block read and hashed; `result` gives what came of it."""
        return self._checker.submit(block)

    def result(self, check: Check) -> BadBlock | None:
        """None for a block that is right. Raises StoreError if it can't be read."""
        with io_errors(self.path):
            return check.result()

    def bad_of(self, blocks: Iterable[Block]) -> tuple[BadBlock, ...]:
        """Those that are wrong, all read now. Raises StoreError."""
        checks = [self.check(block) for block in blocks]
        return tuple(bad for check in checks if (bad := self.result(check)) is not None)

    # -- crash order ---------------------------------------------------------------------------------------------

    def begin_save(self, pieces: Iterable[int], blocks: Iterable[int]) -> Future[None]:
        """`save` in a thread."""
        return self._threads.disk.submit(self.save, pieces, blocks)

    def save(self, pieces: Iterable[int], blocks: Iterable[int]) -> None:
        """Make what is written durable, then claim these pieces and proven blocks. Raises DiskFullError, StoreError."""
        try:
            self._sync()
            self._record(pieces, blocks)
        except BaseException:
            self.is_suspect = True  # what a disk couldn't keep it tells once
            raise

    def begin_commit(self, checks: Mapping[int, Check], proven: frozenset[int]) -> Future[Outcome]:
        """Every byte is in the file: prove the whole in a thread, then publish it.

        `checks`: those of blocks that are under way; `proven`: blocks that need no other look. Gives the blob's path,
        or what must be fetched again. Raises IntegrityError where the manifest contradicts itself; StoreError.
        """
        return self._threads.commits.submit(self._prove_and_publish, dict(checks), proven)

    def _prove_and_publish(self, checks: Mapping[int, Check], proven: frozenset[int]) -> Outcome:
        sync = self._threads.disk.submit(self._sync)  # the disk works while the processor hashes
        try:
            with io_errors(self.path):
                passed = proven | {index for index, check in checks.items() if check.result() is None}
                bad = self.bad_of(block for block in self._file.blocks if block.index not in passed)
                if not bad and b3_text(whole_digest(self._fd)) != self._file.b3:
                    bad = self._why_whole_is_wrong()
        finally:
            wait([sync])  # it has the file open
        sync.result()
        if bad:
            return bad
        self._record(range(self._file.piece_count), range(len(self._file.blocks)))
        self._on_event(Reached(point="before-rename"))
        path = self._publish(self.path)
        self._on_event(Reached(point="after-rename"))
        return path

    def _why_whole_is_wrong(self) -> tuple[BadBlock, ...]:
        """Some claim of an earlier run was wrong (bit rot): find it. Raises IntegrityError if every block is right."""
        bad = self.bad_of(self._file.blocks)
        if not bad and os.fstat(self._fd).st_size > self._file.size:
            os.ftruncate(self._fd, self._file.size)
            bad = (BadBlock(block=self._file.blocks[-1], actual=None),)
        if not bad:
            self._partial.forget()
            raise IntegrityError(
                f"the manifest contradicts itself: every block of {self._file.path} is right, the whole is not",
                expected=self._file.b3, next_step="tell its publisher; nothing was kept",
            )  # fmt: skip
        return bad

    def _sync(self) -> None:
        self._on_event(Reached(point="before-sync"))
        with io_errors(self.path):
            sync_data(self._fd)
        self._on_event(Reached(point="after-sync"))

    def _record(self, pieces: Iterable[int], blocks: Iterable[int]) -> None:
        claims = Claims(
            pieces=Bitmap.of(self._file.piece_count, pieces), blocks=Bitmap.of(len(self._file.blocks), blocks)
        )
        self._on_event(Reached(point="before-record"))
        self._partial.save(claims)
        self._on_event(Reached(point="after-record"))
