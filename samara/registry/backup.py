"""A copy of the index as of one moment, while others go on writing. Durable before it has its name.

An SQLite file is copied by SQLite itself (its online backup API) into one file that is checked before it counts; a
PostgreSQL database by its own `pg_dump`. Blobs, keys and pins are files of SAMARA_HOME: not in here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from samara.registry.durable import TEMPORARY_PREFIX, fsync_folder, io_errors, publish_name
from samara.registry.home import Home
from samara.registry.index_postgres import name_of, parse_url, without_secrets
from samara.schemas.errors import DiskFullError, NotFoundError, StoreError, UsageError

_WAIT = 60.0  # seconds for a writer that holds the file
_FULL = ("no space left", "disk full", "quota exceeded")


@dataclass(frozen=True, kw_only=True, slots=True)
class Backup:
    """`database`: which one; `kind`: "sqlite", a file like it, or "pg_dump", for pg_restore; `size`: bytes."""

    database: str
    kind: str
    path: Path
    size: int


def back_up(home: Home, path: Path, *, replace: bool = False) -> Backup:
    """Write the index of `home` to the file `path`; an existing one is only replaced if `replace`, and as a whole.

    Raises NotFoundError (no index, no folder), UsageError, StoreError or DiskFullError; then `path` is as it was.
    """
    _check_target(home, path, replace=replace)
    temporary = path.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    try:
        with io_errors(path):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # it holds what the index holds
            if home.database is None:
                name, kind = str(home.index), "sqlite"
                _copy_sqlite(home.index, temporary)
            else:
                url = parse_url(home.database)
                name, kind = name_of(url), "pg_dump"
                _dump_postgres(url, temporary)
            _sync(temporary)
            size = temporary.stat().st_size
        publish_name(temporary, path)
    finally:
        for tail in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                temporary.with_name(temporary.name + tail).unlink()
    return Backup(database=name, kind=kind, path=path, size=size)


def _check_target(home: Home, path: Path, *, replace: bool) -> None:
    with io_errors(path):
        if home.database is None and not home.index.exists():
            raise NotFoundError(f"there is no index in {home.root} yet", next_step="check SAMARA_HOME")
        if not path.parent.is_dir():
            raise NotFoundError(f"{path.parent} is no folder", next_step="make it first")
        if path.is_dir():
            raise UsageError(f"{path} is a folder", next_step="name a file in it")
        if path.exists() and home.index.exists() and path.samefile(home.index):
            raise UsageError(f"{path} is the index itself", next_step="name another file")
        if path.exists() and not replace:
            raise UsageError(f"{path} exists already", next_step="name another file, or say --replace")


def _copy_sqlite(source: Path, target: Path) -> None:
    """One read transaction from first page to last: in WAL mode writers go on meanwhile, and none of it is seen."""
    with contextlib.ExitStack() as stack:
        reading, writing = source, False
        try:
            ours = stack.enter_context(contextlib.closing(sqlite3.connect(source, timeout=_WAIT)))
            copy = stack.enter_context(contextlib.closing(sqlite3.connect(target, timeout=_WAIT, isolation_level=None)))
            ours.execute("SELECT count(*) FROM sqlite_master")
            reading, writing = target, True
            ours.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode=DELETE")  # a file by itself, whatever the source is
            found = [str(row[0]) for row in copy.execute("PRAGMA quick_check(1)")]
        except sqlite3.Error as error:
            raise _sqlite_error(error, reading, writing=writing) from None
        if found != ["ok"]:
            raise StoreError(
                f"the index {source} is damaged ({found[0]})", next_step="keep older backups; run: samara audit"
            )


def _sqlite_error(error: sqlite3.Error, path: Path, *, writing: bool) -> StoreError | DiskFullError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(f"no room left for {path}", next_step="free some space, or name a file on another disk")
    what = "write the backup" if writing else "read the index"
    return StoreError(f"can't {what} {path} ({error})", next_step="check its permissions and its disk")


def _dump_postgres(url: sa.URL, target: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise UsageError(
            "pg_dump is not installed", next_step="install PostgreSQL's client programs (Debian: postgresql-client)"
        )
    environment, parameters = dict(os.environ), _parameters(url)
    if "password" in parameters:  # not among the arguments: every user of the machine sees those
        environment["PGPASSWORD"] = parameters.pop("password")
    if "sslpassword" in parameters:
        raise UsageError("an sslpassword can't be handed to pg_dump in secret", next_step="use a key without one")
    done = subprocess.run(
        [program, "--format=custom", "--no-password", f"--file={target}", f"--dbname={_conninfo(parameters)}"],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode != 0:
        why = without_secrets(done.stderr, url) or f"exit status {done.returncode}"
        if any(word in why.lower() for word in _FULL):
            raise DiskFullError(f"no room left for the backup ({why})", next_step="name a file on another disk")
        raise StoreError(f"pg_dump failed for {name_of(url)} ({why})", next_step="check that the database runs")


def _parameters(url: sa.URL) -> dict[str, str]:
    """A URL as libpq's connection parameters."""
    told = {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}
    own = {"host": url.host, "port": url.port, "user": url.username, "password": url.password, "dbname": url.database}
    return told | {name: str(value) for name, value in own.items() if value}


def _conninfo(parameters: dict[str, str]) -> str:
    """libpq's own form: name='value', with quotes and backslashes escaped."""
    escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in parameters.items()}
    return " ".join(f"{name}='{value}'" for name, value in escaped.items())


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    fsync_folder(path.parent)
