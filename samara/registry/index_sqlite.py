"""The index as one SQLite file: its connections, its locks, and what its errors mean. Knows nothing of what is in it.

sqlite3's exceptions stop here. Used by `samara.registry.index_database` alone.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.orm import Session

from samara.registry.durable import io_errors
from samara.registry.index_database import Database
from samara.schemas.errors import DiskFullError, SamaraError, StoreError

_CONNECTIONS, _MORE_CONNECTIONS = 10, 40  # kept; opened for a rush: a service answers in as many threads
_UNWRITABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_ERROR,  # a table or column that isn't there
}


class SqliteDatabase(Database):
    """An open file. Several processes may have it open."""

    def __init__(self, path: Path, lock_wait: float, *, make: bool) -> None:
        """Opens nothing yet. `lock_wait`: seconds to wait for another writer. `make`: whether there may be no file."""
        super().__init__(_engine(path, lock_wait, make=make))
        self._path = path
        self._is_frozen = False

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self._path)

    @property
    def is_frozen(self) -> bool:
        """Whether it can only be read, as it was when it was opened."""
        return self._is_frozen

    @property
    def migrates_by_itself(self) -> bool:
        """One machine's own file: whoever opens it may bring it up to date."""
        return True

    def freeze(self) -> None:
        """From now on read the file as it is, without locks or a log: nothing in its folder can be written."""
        self._engine.dispose()
        self._engine, self._is_frozen = _frozen_engine(self._path), True

    @contextlib.contextmanager
    def read_or_freeze(self) -> Iterator[Session]:
        """A first transaction that reads; where that can't be without writing, the database is frozen for good."""
        if self._needs_freezing():
            self.freeze()
        with self.read() as session:
            yield session

    def damage(self, session: Session) -> tuple[str, ...]:
        """What SQLite itself finds wrong with the file (`PRAGMA integrity_check`); empty when sound."""
        rows = [str(row[0]) for row in session.execute(sa.text("PRAGMA integrity_check(20)"))]
        orphans = session.execute(sa.text("PRAGMA foreign_key_check")).all()
        found = [] if rows == ["ok"] else rows
        return (*found, *(f"row {row[1]} of {row[0]} points at nothing in {row[2]}" for row in orphans[:20]))

    def size(self, session: Session) -> int:
        """Bytes of the database."""
        pages = session.execute(sa.text("PRAGMA page_count")).scalar_one()
        return int(pages) * int(session.execute(sa.text("PRAGMA page_size")).scalar_one())

    def _reader(self) -> sa.Engine:
        return self._engine

    def _writer(self) -> sa.Engine:
        # BEGIN IMMEDIATE: a transaction that starts by reading and then writes can't be refused half-way (SQLITE_BUSY)
        return self._engine.execution_options(samara_write=True)

    def _needs_freezing(self) -> bool:
        with self._translated():
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.text("SELECT count(*) FROM sqlite_master"))
            except exc.OperationalError as error:
                # the folder can't be written: SQLite can't make the files by which readers and writers agree
                if _code_of(error) not in _UNWRITABLE or _log_holds_something(self._path):
                    raise
                return True
        return False

    def _meaning(self, error: exc.DBAPIError) -> SamaraError | None:
        text, code = str(error.orig), _code_of(error)
        if code == sqlite3.SQLITE_FULL:
            return DiskFullError(f"no room left for {self._path}", next_step="free some space and run it again")
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StoreError(
                f"the index {self._path} is locked by another process", next_step="wait for it to finish, or stop it"
            )
        if code in _UNWRITABLE:
            return StoreError(f"can't write the index {self._path} ({text})", next_step="check its permissions")
        if code == sqlite3.SQLITE_IOERR:
            return StoreError(f"can't use the index {self._path} ({text})", next_step="check its disk")
        # without a code: text in a row that is no UTF-8
        if code in _DAMAGED or (code is None and isinstance(error, exc.OperationalError)):
            return self._damaged(text)
        return None

    def _damaged(self, why: str) -> StoreError:
        if self._is_frozen:
            return StoreError(
                f"the index {self._path} is damaged, or another process changed it meanwhile ({why})",
                next_step="run it again",
            )
        return StoreError(
            f"the index {self._path} is damaged ({why})",
            next_step="move it away and pull or publish again: blobs on disk are found and checked, not fetched",
        )


class _Same:
    """Whether a path still names the file that was opened first: what is written into one that was deleted, moved
    away or replaced is lost with the process, and two files must never share one log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def remember(self) -> None:
        """The file was opened just now."""
        self._opened = self._opened or self._found()

    def check(self) -> None:
        """Raises StoreError if it is another one."""
        if self._opened is not None and self._found() != self._opened:
            raise StoreError(
                f"the index {self._path} was removed or replaced while it is in use",
                next_step="put it back, or stop all that uses it and start again",
            )

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _engine(path: Path, lock_wait: float, *, make: bool) -> sa.Engine:
    same = _Same(path)
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": lock_wait},
        pool_size=_CONNECTIONS, max_overflow=_MORE_CONNECTIONS, pool_timeout=max(lock_wait, 1.0),
    )  # fmt: skip

    @event.listens_for(engine, "do_connect")
    def _before_connect(*_told: object) -> None:
        same.check()  # SQLite would make a new file

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        same.remember()
        connection.isolation_level = None  # we begin transactions ourselves, below
        if make:
            _use_wal(connection, lock_wait)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        same.check()
        write = connection.get_execution_options().get("samara_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _frozen_engine(path: Path) -> sa.Engine:
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    return sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
    )


def _log_holds_something(path: Path) -> bool:
    """Whether there are changes that are not in the file itself yet: without them it must not be read."""
    log = path.with_name(path.name + "-wal")
    with io_errors(log):
        return log.exists() and log.stat().st_size > 0


def _code_of(error: exc.DBAPIError) -> int | None:
    """SQLite's primary result code, if the error is its own."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _use_wal(connection: sqlite3.Connection, lock_wait: float) -> None:
    """Switch a new file to WAL. When two processes make an index at once, SQLite refuses one without waiting."""
    deadline = time.monotonic() + lock_wait
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return
