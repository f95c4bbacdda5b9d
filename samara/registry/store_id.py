"""Which store a SAMARA_HOME is, among those that share a PostgreSQL database: the small file `store-id`.

    {"id": 32 hex digits at random, "inode": of this very file, "seat": where it lay, "before": where it lay before}

A folder is easily copied, file and all: by cp, from a template, a backup, a snapshot. Two machines with one id would
each believe to have the other's bytes. So a copy gets an id of its own. A copied file has another inode than it says; a
disk copied block by block is found out by its *seat* (this boot of this machine, and the folder), which moves on in the
file and in the database together: whoever comes with the seat of before, and finds that the database has moved on from
it, is a copy. An SQLite file lies in its store, and needs none of this.

Reads and writes that file, and decides what it is to be; what the database says, `samara.registry.stores` knows.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from samara.registry.durable import TEMPORARY_PREFIX, io_errors, publish_name
from samara.registry.home import Home
from samara.schemas.errors import StoreError

FILE_NAME = "store-id"
LOCK_NAME = "store-id.lock"
LOCK_SECONDS = 30.0
_MAX_BYTES = 4096
_HEX = re.compile(r"[0-9a-f]{32}\Z")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreId:
    """`id`: the store's; `seat`: where its file lay when it was written; `before`: the seat that it came from."""

    id: str
    seat: str
    before: str


def next_id(own: StoreId | None, here: str, noted: str | None, *, fresh: str) -> StoreId:
    """What a store's file has to say from now on. Pure.

    `own`: what it says, None if there is none, or a copy; `here`: the seat; `noted`: the seat that the database has for
    that id, None if it doesn't know it; `fresh`: an id that nobody has.
    """
    if own is None or noted not in {None, own.seat, own.before}:
        return StoreId(id=fresh, seat=here, before=here)
    if own.seat == here:
        return own
    return replace(own, seat=here, before=noted or own.seat)


def new_id() -> str:
    """128 bits at random."""
    return secrets.token_hex(16)


def is_store_id(text: str) -> bool:
    """Whether a text can be a store's id."""
    return _HEX.match(text) is not None


def seat_of(home: Home) -> str:
    """Where a home lies now: this boot of this machine, and the folder on it. Raises StoreError."""
    with io_errors(home.root):
        found = home.root.stat()
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):  # not Linux: then a machine is told from another by its name alone
        boot = platform.node()
    return sha256(f"{boot}\0{found.st_dev}\0{found.st_ino}".encode(errors="replace")).hexdigest()[:32]


def read_id(home: Home) -> StoreId | None:
    """What the file says; None where there is none, or one that is damaged or a copy. Raises StoreError."""
    path = home.root / FILE_NAME
    with io_errors(path):
        try:
            with path.open("rb") as file:
                data, inode = file.read(_MAX_BYTES), os.fstat(file.fileno()).st_ino
        except (FileNotFoundError, NotADirectoryError):
            return None
    try:
        value = json.loads(data)
        found = StoreId(id=str(value["id"]), seat=str(value["seat"]), before=str(value["before"]))
        is_right = value["inode"] == inode and all(map(is_store_id, (found.id, found.seat, found.before)))
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return found if is_right else None


def write_id(home: Home, wanted: StoreId) -> None:
    """Replace the file, durably. Raises DiskFullError, StoreError."""
    path = home.root / FILE_NAME
    temporary = path.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    with io_errors(path):
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
                inode = os.fstat(file.fileno()).st_ino
                value = {"id": wanted.id, "inode": inode, "seat": wanted.seat, "before": wanted.before}
                file.write(json.dumps(value).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            publish_name(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def id_locked(home: Home) -> Iterator[None]:
    """While no other process changes the file. Raises StoreError when one holds on to it."""
    from filelock import FileLock, Timeout

    lock = FileLock(home.root / LOCK_NAME, timeout=LOCK_SECONDS)
    with io_errors(home.root / LOCK_NAME):
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"{home.root} is being opened by another samara process", next_step="try again when that has ended"
            ) from None
    try:
        yield
    finally:
        lock.release()
