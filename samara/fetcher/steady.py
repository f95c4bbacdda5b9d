"""Appending to a file for a long time, with the disk at work all along: a thread has written out what has come so far.

Otherwise gigabytes wait in the page cache until the last byte, and a slow stick then seems to hang when all is done.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from samara.registry.durable import io_errors, sync_data

SYNC_EVERY = 32 << 20  # bytes


class SteadyFile:
    """Writes to the descriptor `fd` of the file at `path`. Use as a context manager; closing `fd` is the caller's.

    `write` and `sync` raise DiskFullError or StoreError, also for what an earlier `write` seemed to have done.
    """

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path
        self._new = 0
        self._syncing: Future[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sync")

    def __enter__(self) -> SteadyFile:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._thread.shutdown(wait=True)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`."""
        view = memoryview(data)
        with io_errors(self._path):
            self._new += len(view)
            while view:
                view = view[os.write(self._fd, view) :]
            if self._new >= SYNC_EVERY and (self._syncing is None or self._syncing.done()):
                self._end_sync()
                self._syncing, self._new = self._thread.submit(sync_data, self._fd), 0

    def sync(self) -> None:
        """Have everything on the disk: durable at return."""
        with io_errors(self._path):
            self._end_sync()
            sync_data(self._fd)

    def _end_sync(self) -> None:
        """Raise what went wrong meanwhile: the system tells it once."""
        if self._syncing is not None:
            syncing, self._syncing = self._syncing, None
            syncing.result()
