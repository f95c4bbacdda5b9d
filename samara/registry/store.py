"""The store: where blobs lie, how they become visible, and the model views other programs read.

Only whole, verified blobs come in here; the callers prove that first. Nothing is ever written into a blob: it is made
read-only, renamed into place once, and only linked from then on. Resuming a transfer is `samara.fetcher.partial`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from samara.registry.durable import TEMPORARY_PREFIX, fsync_folder, io_error, io_errors, make_folder, publish_name
from samara.registry.home import Home
from samara.registry.records import BlobRecord, Location
from samara.schemas.errors import StoreError, UsageError
from samara.schemas.stamps import Stamp

READ_ONLY = 0o444
_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file


def stamp_at(path: Path) -> Stamp | None:
    """The stamp of the regular file at `path`; None where there is none. Raises StoreError if one can't look."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise io_error(error, path) from None
    return Stamp.of(found) if stat.S_ISREG(found.st_mode) else None


def whole_copy(blob: BlobRecord) -> Location | None:
    """A place that still holds the whole blob untouched since it was verified; the store's own copy first.

    A place that can't be looked at (a disk that fails, a folder closed to us) is not one: another may do, or a pull.
    """
    untouched = (place for place in blob.locations if _is_untouched(place))
    return min(untouched, key=lambda place: not place.in_store, default=None)


def last_seen(blob: BlobRecord) -> Location | None:
    """A place where there is still a file, changed or not. Raises StoreError if all that is left can't be looked at."""
    trouble: StoreError | None = None
    for place in blob.locations:
        try:
            if stamp_at(place.path) is not None:
                return place
        except StoreError as error:
            trouble = trouble or error
    if trouble is not None:
        raise trouble
    return None


def commit_blob(home: Home, b3_hex: str, data: Path) -> Path:
    """Make durable, verified bytes a blob: visible under its digest, then read-only. Returns its path.

    In that order, because a process killed in between leaves either a partial it can write to or a blob that is whole,
    which the next pull finds without a row in the index, checks and seals.
    """
    target = home.blob(b3_hex)
    with io_errors(data):
        publish_name(data, target)
    seal(target)
    return target


def seal(blob: Path) -> None:
    """Make a blob read-only, durably: its row in the index must not outlive a mode that power loss took back."""
    with io_errors(blob):
        if not blob.stat().st_mode & 0o222:
            return
        blob.chmod(READ_ONLY)
        if os.name == "nt":  # there only what is open for writing can be synced
            return
        fd = os.open(blob, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _is_untouched(place: Location) -> bool:
    try:
        return stamp_at(place.path) == place.stamp
    except StoreError:
        return False


def free_bytes(folder: Path) -> int:
    """Room that this user may fill on the disk of `folder` (which need not exist yet)."""
    at = folder
    while not at.exists() and at != at.parent:
        at = at.parent
    with io_errors(at):
        return shutil.disk_usage(at).free


def link_into(source: Path, target: Path, *, replace: bool, hard_links: bool = True) -> str:
    """Give `source`'s bytes the name `target` without a second copy where the disk can.

    Tries a reflink (its own file, shared extents), a hard link, then a copy; returns which: "same", "reflink",
    "hardlink" or "copy". Without `replace` an existing file that is not already a link to `source` is refused. Only the
    store's read-only blobs may be hard-linked: an owner's own file must not change with somebody's copy of it.
    """
    make_folder(target.parent)
    with io_errors(target):
        if target.exists() and target.samefile(source):
            return "same"
        if not replace and target.exists():
            raise UsageError(f"{target} already exists and is something else", next_step="move it away or choose --to")
        how = _put(target, lambda aside: _link(source, aside, hard_links=hard_links))
        fsync_folder(target.parent)
    return how


def clone(source: Path, target: Path) -> None:
    """A writable file of its own with `source`'s bytes: shared extents where the disk can, else a copy."""
    with io_errors(target):
        if not _reflink(source, target):
            _copy(source, target)
        fsync_folder(target.parent)


def reflink(source: Path, target: Path) -> bool:
    """A file of its own that shares `source`'s extents, durably; False, and no file, where the disk can't."""
    with io_errors(target):
        return _reflink(source, target)


def link_view(home: Home, source: Path, relative: Path) -> Path:
    """models/<relative> → the blob at `source`: hard link, else symlink, else copy. Returns the view's path."""
    target = home.models / relative
    with io_errors(target):
        for folder in list(relative.parents)[-2::-1]:  # from the outermost in: a planted link must not lead elsewhere
            if (home.models / folder).is_symlink():
                (home.models / folder).unlink()
    make_folder(target.parent)
    with io_errors(target):
        if target.exists() and target.samefile(source):
            return target
        try:
            os.link(source, target)  # at once: a process killed here leaves nothing behind
        except OSError:  # there is an older file of that name, or the disk knows no hard links
            _put(target, lambda aside: _view(source, aside))
        fsync_folder(target.parent)
    return target


def _put(target: Path, make: Callable[[Path], str]) -> str:
    """Have `make` make a file aside, then rename it over `target`."""
    aside = target.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    try:
        how = make(aside)
        aside.replace(target)
    finally:
        # also when all went well: renaming one link over another of the same file does nothing at all (POSIX)
        with contextlib.suppress(OSError):
            aside.unlink()
    return how


def _link(source: Path, target: Path, *, hard_links: bool) -> str:
    if _reflink(source, target):
        return "reflink"
    if hard_links:
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}:
                raise io_error(error, target) from None
        else:
            return "hardlink"
    _copy(source, target)
    return "copy"


def _view(source: Path, target: Path) -> str:
    with contextlib.suppress(OSError):
        os.link(source, target)
        return "hardlink"
    with contextlib.suppress(OSError):
        target.symlink_to(source)
        return "symlink"
    _copy(source, target)
    return "copy"


def _reflink(source: Path, target: Path) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
            os.fsync(writer.fileno())
        except OSError:
            target.unlink()
            return False
    return True


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 4 << 20)
        writer.flush()
        os.fsync(writer.fileno())
