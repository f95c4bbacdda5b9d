"""Mending a damaged file: a copy of it to mend, and the proven bytes over its name: same place, mode and owner.

The damaged file is never written to. Whoever has it open, or another name for it, keeps what they had; whoever opens
the name gets the old file or the new one, whole, whenever the process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from samara.fetcher.plan import RESERVE
from samara.registry.durable import TEMPORARY_PREFIX, fsync_folder, io_errors
from samara.registry.store import clone, free_bytes, reflink
from samara.schemas.errors import DiskFullError, IntegrityError, StoreError
from samara.schemas.stamps import Stamp

_CHUNK = 4 << 20


def require_replaceable(path: Path, size: int, partials: Path) -> None:
    """Say before anything is fetched that the file at `path` can't be replaced by one of `size` bytes.

    `partials`: the folder where the new bytes are made; on another disk they have to be copied from there. Raises
    StoreError or DiskFullError.
    """
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StoreError(
            f"{path} can't be replaced: this user can't write to {path.parent}",
            next_step="repair it as its owner, or pull a good copy into the store",
        )
    with io_errors(path):
        elsewhere = path.parent.stat().st_dev != partials.stat().st_dev
    free = free_bytes(path.parent)
    if elsewhere and free < size + RESERVE:
        raise DiskFullError(
            f"not enough room beside {path}", expected=f"{size + RESERVE:,} bytes free", actual=f"{free:,}",
            next_step="free some space there; nothing was changed",
        )  # fmt: skip


def copy_aside(damaged: Path, data: Path, size: int) -> None:
    """A copy to mend at `data`, never the file itself: others may have it open or hard-linked. `size`: of the whole.

    Raises DiskFullError, StoreError.
    """
    if reflink(damaged, data):
        return
    free, needed = free_bytes(data.parent), size + RESERVE
    if free < needed:
        raise DiskFullError(
            f"not enough room at {data.parent} to mend {damaged}", expected=f"{needed:,} bytes free",
            actual=f"{free:,}", next_step="free some space; nothing was changed",
        )  # fmt: skip
    clone(damaged, data)


def put_over(data: Path, target: Path, seen: Stamp, *, is_whole: Callable[[int], bool]) -> None:
    """Rename durable, proven bytes over `target`; where that is another disk, a copy of them that `is_whole` (a
    descriptor) agrees to.

    Raises IntegrityError, changing nothing, if `target` no longer bears the stamp `seen`, StoreError or DiskFullError.
    """
    with io_errors(target):
        try:
            old = target.stat()
        except FileNotFoundError:
            raise _changed(target) from None
        if Stamp.of(old) != seen:
            raise _changed(target)
        _dress(data, target, old)
        try:
            data.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _put_copy(data, target, old, is_whole)
        target.chmod(old.st_mode & 0o7777)
        fsync_folder(target.parent)


def _put_copy(data: Path, target: Path, old: os.stat_result, is_whole: Callable[[int], bool]) -> None:
    # always the same name: what a kill leaves here, the next repair of this file takes away
    aside = target.with_name(TEMPORARY_PREFIX + blake3(os.fsencode(target.name)).hexdigest()[:16])
    aside.unlink(missing_ok=True)
    try:
        with data.open("rb") as reader, aside.open("x+b") as writer:
            shutil.copyfileobj(reader, writer, _CHUNK)
            writer.flush()
            os.fsync(writer.fileno())
            _require(target, is_whole(writer.fileno()))
        _dress(aside, target, old)
        aside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def _dress(path: Path, like: Path, old: os.stat_result) -> None:
    """Give `path` the owner, attributes and mode of `like`, as far as permitted, durably.

    It stays writable for us until it has its name: a kill before that must leave a partial that can be gone on with.
    """
    if hasattr(os, "chown"):
        for owner, group in ((old.st_uid, old.st_gid), (-1, old.st_gid)):
            try:
                os.chown(path, owner, group)
                break
            except PermissionError:
                continue
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for name in os.listxattr(like):
                with contextlib.suppress(OSError):
                    os.setxattr(path, name, os.getxattr(like, name))
    path.chmod(old.st_mode & 0o7777 | 0o600)
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _require(target: Path, kept: bool) -> None:  # noqa: FBT001
    if not kept:
        raise IntegrityError(
            f"the disk of {target} doesn't keep what is written to it",
            next_step="check that disk; the file is as it was",
        )


def _changed(path: Path) -> IntegrityError:
    return IntegrityError(f"{path} changed while it was being repaired", next_step="run the same command again")
