"""What a killed process can leave behind, removed when the next one starts. Needs no index, reads no bytes.

    sweep(home, now)          the store: things made aside, and transfers' folders with nothing in them
    sweep_folder(folder, now) a folder of the user's that we wrote into: only names that none but we make

Everything made aside bears TEMPORARY_PREFIX and is renamed within seconds, but for the folders in which an import or a
session works, which have younger files in them or a lock. What is younger than an hour may be in use and stays. Blobs,
names and half downloads are never leftovers here: which of them are needed only `samara prune` can tell. The folders of
trust and keys sweep themselves, under their own locks.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.scratch import LOCK, is_held, is_locked

AGE = 3600.0  # seconds that a leftover must have rested
_ASIDE = re.compile(re.escape(TEMPORARY_PREFIX) + r"(bundle-)?[0-9a-f]{16}\Z")
_IMPORT = TEMPORARY_PREFIX + "import"
IMPORT_LOCK = "import.lock"
_EMPTY_PARTIAL = {"lock", "news"}
_DONE_PARTIAL = {"lock", "news", "record"}  # whatever else lies there somebody may need


def sweep(home: Home, *, now: float) -> int:
    """Remove what has rested for an hour; how many things. `now`: UTC epoch seconds. Raises nothing."""
    removed = sum(_remove(path) for path in temporaries(home) if now - touched(path) >= AGE)
    return removed + sum(_remove_partial(folder) for folder in _empty_partials(home, now))


def sweep_folder(folder: Path, *, now: float) -> int:
    """The same for files made aside right in a folder that is not the store's."""
    return sum(
        _remove(path)
        for path in _entries(folder)
        if _ASIDE.match(path.name) and _is_file(path) and now - touched(path) >= AGE
    )


def temporaries(home: Home) -> Iterator[Path]:
    """Everything in the store that was made aside and that no lock protects, whatever its age."""
    for path in _entries(home.root):
        if path.name == _IMPORT:
            if not is_locked(home.root / IMPORT_LOCK):
                yield path
        elif path.name.startswith(TEMPORARY_PREFIX) and not is_held(path):
            yield path
    for room in (home.partials, home.blobs, home.models, home.root / "announced"):
        for base, folders, names in os.walk(room):
            for name in [*folders, *names]:
                if name.startswith(TEMPORARY_PREFIX):
                    yield Path(base, name)
            folders[:] = [name for name in folders if not name.startswith(TEMPORARY_PREFIX)]


def touched(path: Path) -> float:
    """The latest time (UTC epoch seconds) of a file, or of a folder and all but its lock in it; gone: never old."""
    try:
        found = path.lstat()
        latest = max(found.st_mtime, found.st_ctime) if stat.S_ISREG(found.st_mode) else found.st_mtime
        if stat.S_ISDIR(found.st_mode):
            latest = max([latest, *(touched(inner) for inner in path.iterdir() if inner.name != LOCK)])
    except OSError:
        return float("inf")
    return latest


def partial_touched(folder: Path) -> float:
    """When anything of a transfer changed last; its lock, which whoever looks takes, doesn't count."""
    try:
        own = folder.lstat().st_mtime
    except OSError:
        return float("inf")
    return max([own, *(touched(path) for path in _entries(folder) if path.name != "lock")])


def _empty_partials(home: Home, now: float) -> Iterator[Path]:
    """Transfers killed before their first byte, or after their blob got its name."""
    for folder in _entries(home.partials):
        if folder.name.startswith(TEMPORARY_PREFIX) or not folder.is_dir() or folder.is_symlink():
            continue
        names = {path.name for path in _entries(folder)}
        is_done = names <= _DONE_PARTIAL and home.blob(folder.name).exists()
        if (names <= _EMPTY_PARTIAL or is_done) and now - partial_touched(folder) >= AGE:
            yield folder


def _remove_partial(folder: Path) -> bool:
    """Under its lock: a pull may begin just now."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except (Timeout, OSError):
        return False
    try:
        if (folder / "data").exists():
            return False
        aside = folder.with_name(TEMPORARY_PREFIX + os.urandom(8).hex())
        try:
            folder.rename(aside)  # whoever waits for the lock must find no folder, never one that is being emptied
        except OSError:
            return False
        return _remove(aside)
    finally:
        lock.release()


def _remove(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
    return not os.path.lexists(path)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
