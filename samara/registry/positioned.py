"""Reading and writing open files at given places, from several threads, also where the system has no call for that."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator

_seek = threading.Lock()  # Windows has no positioned reads and writes: one seek at a time


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Up to `size` bytes at `offset`; none at the end of the file."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    with _seek:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)


def read_into(fd: int, view: memoryview, offset: int) -> int:
    """Fill `view` from `offset`, as far as one call goes; how many bytes that was, 0 at the end of the file."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, [view], offset)
    data = read_at(fd, len(view), offset)
    view[: len(data)] = data
    return len(data)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """All of `data` at `offset`."""
    view = memoryview(data)
    done = 0
    while done < len(view):
        if hasattr(os, "pwrite"):
            done += os.pwrite(fd, view[done:], offset + done)
        else:
            with _seek:
                os.lseek(fd, offset + done, os.SEEK_SET)
                done += os.write(fd, view[done:])


def extents(fd: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each stretch of a file that holds data; the whole file where the disk can't tell."""
    size = os.fstat(fd).st_size
    if not hasattr(os, "SEEK_DATA"):
        yield 0, size
        return
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            yield at, size
            return
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at
