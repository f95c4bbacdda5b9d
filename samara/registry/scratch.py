"""A folder to work in that is gone afterwards, also after kill -9: whoever makes the next one removes it.

A scratch folder is in use as long as a process holds the lock in it. Its age alone tells nothing: a clock may jump, and
two processes need not agree about the time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from samara.registry.durable import io_errors

if TYPE_CHECKING:
    from filelock import BaseFileLock

AGE = 3600.0  # seconds; between making a folder and locking it there is a moment in which only its age protects it
LOCK = "lock"


class Scratch:
    """A new folder `where`/`prefix`…, readable by its owner alone, until `close`.

    First removes those of `prefix` there that this user's killed processes left. Raises StoreError or DiskFullError.
    """

    def __init__(self, where: Path, prefix: str) -> None:
        from filelock import FileLock

        with io_errors(where):
            sweep_scratch(where, prefix)
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
        self._lock: BaseFileLock = FileLock(self.path / LOCK, timeout=0, thread_local=False)
        with io_errors(self.path):
            self._lock.acquire()

    def close(self) -> None:
        """Remove the folder. May be called twice."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep_scratch(where: Path, prefix: str) -> None:
    """Remove old folders of `prefix` that are ours and nobody holds. Not other users'; follows no links."""
    with contextlib.suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if _is_ours(found) and found.st_mtime < time.time() - AGE and not is_held(Path(entry.path)):
                        shutil.rmtree(entry.path, ignore_errors=True)


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of a folder of ours (a scratch folder, a transfer's folder)."""
    return is_locked(folder / LOCK)


def is_locked(lock_file: Path) -> bool:
    """Whether a process holds this lock."""
    from filelock import FileLock, Timeout

    if not lock_file.exists():
        return False
    lock = FileLock(lock_file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:
        return False  # the holder removed it just now
    lock.release()
    return False


def _is_ours(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
