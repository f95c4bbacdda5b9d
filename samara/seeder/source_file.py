"""A file that is to be read whole, and must hold still meanwhile: opened, stamped, compared.

Only regular files with bytes in them; whatever else a name may mean is said before anything waits for it.
"""

from __future__ import annotations

import os
import stat
from io import FileIO

from samara.schemas.errors import IntegrityError, SamaraError, UsageError, cannot_read
from samara.schemas.stamps import Stamp


def open_source(path: str | os.PathLike[str]) -> FileIO:
    """Open a file to publish, unbuffered and for reading: a regular one with bytes in it.

    Raises NotFoundError or UsageError for anything else.
    """
    name = os.fspath(path)
    stamp_of(name, name)  # before opening: a named pipe would keep us waiting for its writer
    try:
        file = FileIO(name, opener=_open_without_waiting)
    except OSError as error:
        raise cannot_read(name, error) from error
    try:
        stamp_of(name, file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    except BaseException:
        file.close()
        raise
    return file


def stamp_of(name: str, where: int | str) -> Stamp:
    """The stamp of a path or descriptor. Raises NotFoundError or UsageError for what can't be published."""
    try:
        found = os.stat(where)  # noqa: PTH116  (a descriptor has no Path)
    except ValueError:
        raise UsageError(f"{name!r} can't be the name of a file") from None
    except OSError as error:
        raise cannot_read(name, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{name} is a folder", next_step="name the files in it")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{name} is not a regular file", next_step="copy its bytes into a file first")
    if found.st_size == 0:
        raise UsageError(f"{name} is empty", expected="at least 1 byte", actual=0)
    return Stamp.of(found)


def require_same(name: str, before: Stamp, where: int | str) -> None:
    """Raise IntegrityError unless a path or descriptor bears the stamp that it bore."""
    try:
        after = stamp_of(name, where)
    except SamaraError as error:
        raise changed(name, expected=_seen(before), actual=f"({error})") from error
    if after != before:
        raise changed(name, expected=_seen(before), actual=_seen(after))


def changed(name: str, *, expected: str, actual: object) -> IntegrityError:
    """What is said of a file that didn't hold still."""
    return IntegrityError(
        f"{name} changed while it was being read",
        expected=expected, actual=actual, next_step="try again once nothing writes to it",
    )  # fmt: skip


def _open_without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def _seen(stamp: Stamp) -> str:
    return f"{stamp.size} bytes (modified {stamp.mtime_ns}, inode {stamp.inode})"
