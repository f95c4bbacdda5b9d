"""Small files and locks of the trust folders. Knows nothing of what is in them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from samara.registry.durable import TEMPORARY_PREFIX, io_errors, make_folder
from samara.schemas.errors import MalformedError, StoreError

LOCK_SECONDS = 30.0
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def time_text(moment: datetime) -> str:
    """An aware time as `2026-01-31T12:00:00Z`."""
    return moment.astimezone(UTC).strftime(_TIME)


def parse_time(text: str) -> datetime:
    """`2026-01-31T12:00:00Z` → aware time. Raises MalformedError."""
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except (ValueError, TypeError):
        raise MalformedError("not a time", expected="like 2026-01-31T12:00:00Z", actual=repr(text)[:40]) from None


def read_small(path: Path, *, limit: int) -> bytes:
    """The whole of a file of ours of at most `limit` bytes. Raises StoreError."""
    with io_errors(path), path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise StoreError(f"{path} is larger than such a file can be", expected=f"≤ {limit} bytes")
    return data


@contextlib.contextmanager
def locked(folder: Path, *, mode: int = 0o755, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold `folder`'s lock, creating the folder if needed. Raises StoreError when another process holds on to it."""
    from filelock import FileLock, Timeout

    make_folder(folder, mode=mode)
    lock = FileLock(folder / ".lock", timeout=seconds)
    with io_errors(folder / ".lock"):
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"{folder} is in use by another samara process", next_step="try again when that one has finished"
            ) from None
    try:
        yield
    finally:
        lock.release()


def sweep_leftovers(folder: Path) -> None:
    """Remove what a killed process left half-made. Call it only under the folder's lock."""
    with io_errors(folder):
        leftovers = [entry for entry in folder.iterdir() if entry.name.startswith(TEMPORARY_PREFIX)]
    for entry in leftovers:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
