"""Verified bytes in order, while they come: for programs that can start before a file is whole.

Through a named pipe (made here, removed at the end) or to stdout. What is handed on was proven by BLAKE3, block by
block from the file's beginning; nobody reads a byte that isn't right. Whoever reads slowly holds up nothing but his own
copy, and whoever stops reading ends the stream, not the pull.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
import threading
from pathlib import Path

from samara.registry.durable import io_error, io_errors
from samara.registry.positioned import read_at
from samara.schemas.errors import SamaraError, UsageError

STDOUT = Path("-")
_CHUNK = 1 << 20
LAST_WORDS = 1.0  # seconds
_OPEN_EVERY = 0.05  # seconds between looks for somebody who opens the pipe


class Stream:
    """One file's stream. Use as a context manager; `advance` from one thread.

    Raises UsageError for a path that is taken by something else, or on systems without named pipes.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._made = False
        self._fd: int | None = None
        self._proven = 0
        self._over = False
        self._given_up = False
        self._trouble: SamaraError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="stream", daemon=True)

    def __enter__(self) -> Stream:
        if self._target != STDOUT:
            self._make_pipe()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        with self._changed:
            if not self._over or kind is not None:
                self._given_up = True  # the pull failed: a reader must not take half a file for a whole one
            self._changed.notify_all()
        self._thread.join(LAST_WORDS if self._given_up else None)  # a reader that doesn't read must not hold us up
        if self._fd is not None and not self._thread.is_alive():
            os.close(self._fd)
        if self._made:
            with contextlib.suppress(OSError):
                self._target.unlink()

    def of(self, path: Path) -> None:
        """The file that is being written, or that is here already."""
        with self._changed, io_errors(path):
            if self._fd is None:
                self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def advance(self, proven: int) -> None:
        """So many bytes from the beginning are right."""
        with self._changed:
            if proven > self._proven:
                self._proven = proven
                self._changed.notify_all()

    def finish(self, size: int) -> None:
        """All of it is."""
        with self._changed:
            self._proven, self._over = size, True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Whether the reader has had everything, or has gone, within so long.

        Raises DiskFullError or StoreError if it got less for another reason.
        """
        self._thread.join(seconds)
        if self._trouble is not None:
            raise self._trouble
        return not self._thread.is_alive()

    def _make_pipe(self) -> None:
        if not hasattr(os, "mkfifo"):
            raise UsageError("this system has no named pipes", next_step="use --stream - and read from stdout")
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISFIFO(self._target.lstat().st_mode):
                raise UsageError(f"{self._target} already exists and is no pipe", next_step="name another place")
            return
        with io_errors(self._target):
            os.mkfifo(self._target, 0o600)
        self._made = True

    def _write(self) -> None:
        out = self._open()
        if out is None:
            return
        at = 0
        try:
            while (until := self._next(at)) is not None:
                while at < until:
                    assert self._fd is not None
                    data = memoryview(read_at(self._fd, min(_CHUNK, until - at), at))
                    at += len(data)
                    while data and not self._given_up:
                        data = data[_write_some(out, data) :]
        except OSError as error:
            if error.errno != errno.EPIPE:  # that is a reader who has gone; anything else cut the stream short
                self._trouble = io_error(error, self._target)
        except SamaraError as error:
            self._trouble = error
        finally:
            if self._target != STDOUT:
                os.close(out)

    def _next(self, at: int) -> int | None:
        """How far one may read; None at the end, or when there will be no more."""
        with self._changed:
            while self._proven == at and not self._over and not self._given_up:
                self._changed.wait()
            return None if self._given_up or self._proven == at else self._proven

    def _open(self) -> int | None:
        """The pipe, once somebody reads from it; None if the pull ended before."""
        if self._target == STDOUT:
            return sys.stdout.fileno()
        while True:
            try:
                fd = os.open(self._target, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads yet
                    return None
            else:
                os.set_blocking(fd, True)
                return fd
            with self._changed:
                if self._given_up:
                    return None
                self._changed.wait(_OPEN_EVERY)


def _write_some(out: int, data: memoryview) -> int:
    """Some of `data`, also where whoever made `out` lets nobody wait in a write."""
    try:
        return os.write(out, data)
    except BlockingIOError:
        select.select([], [out], [], _OPEN_EVERY)
        return 0
