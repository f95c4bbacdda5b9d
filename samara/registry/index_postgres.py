"""The index in a PostgreSQL database, which several registries may share: connections, locks, what its errors mean.

One writer at a time, as in an SQLite file: every transaction that writes first takes an advisory lock, so that what it
read before it writes still holds when it does. Readers never wait. Connections that broke are noticed and replaced:
after the database comes back the next call works. No message names a password. psycopg's exceptions stop here. Used by
`samara.registry.index_database` alone.

A pooler may stand in between (PgBouncer), and give each transaction another connection: nothing here lives longer than
a transaction. Time limits are set for a connection where that is possible, else for each transaction; statements are
prepared only where they can be found again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.orm import Session

from samara.registry.home import ENV_DATABASE
from samara.registry.index_database import Database
from samara.schemas.errors import DiskFullError, SamaraError, StoreError, UsageError

EXAMPLE = "postgresql+psycopg://samara@db.example.org/samara"
WRITER_LOCK = int.from_bytes(b"samara", "big")  # pg_advisory_xact_lock's key: one number for everybody's index
ALONE_LOCK = WRITER_LOCK + 1

_CONNECTIONS, _MORE_CONNECTIONS = 5, 15  # of one process; PostgreSQL allows 100 unless told otherwise
_CONNECTION_WAIT = 10.0  # seconds, for one of them to be free
_STATEMENT_SECONDS = 60
_IDLE_SECONDS = 60  # of a writer that died or was stopped while it held the lock
# A server that vanished without a word is given up on; TCP's own defaults are two hours
_LINK = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "samara",
}
_TOLD = "samara.told"  # a setting of our own, among libpq's options: is it there, they came through
_POOLED = "samara_pooled"
# SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html
_OURS = ("22", "23", "42601", "42804", "42883")  # bugs: a value of a wrong kind, a broken constraint, wrong SQL


class PostgresDatabase(Database):
    """A database behind a URL."""

    def __init__(self, url: str, lock_wait: float) -> None:
        """Opens nothing yet. `lock_wait`: seconds to wait for another writer. Raises UsageError."""
        self._url = parse_url(url)
        super().__init__(_engine(self._url, lock_wait))

    @property
    def name(self) -> str:
        """Host, port and name of the database."""
        return name_of(self._url)

    @property
    def migrates_by_itself(self) -> bool:
        """Others may be using it: an operator says when."""
        return False

    @property
    def is_shared(self) -> bool:
        """By the machines whose SAMARA_DATABASE it is."""
        return True

    @contextlib.contextmanager
    def note(self) -> Iterator[Session]:
        """A transaction that writes without the writers' lock."""
        with self._session(self._engine) as session:
            yield session

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """By a lock of a transaction, which goes with it, whatever becomes of the process."""
        with self._session(self._engine) as session:
            yield bool(session.scalar(sa.text(f"SELECT pg_try_advisory_xact_lock({ALONE_LOCK})")))

    def damage(self, session: Session) -> tuple[str, ...]:  # noqa: ARG002
        """Nothing: PostgreSQL refuses damaged pages when they are read, and checks its own constraints."""
        return ()

    def size(self, session: Session) -> int:
        """Bytes of the database."""
        return int(session.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one())

    def _reader(self) -> sa.Engine:
        return self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def _writer(self) -> sa.Engine:
        # READ COMMITTED, the default: what a statement sees is as of itself, not as of before the lock was waited for
        return self._engine.execution_options(samara_write=True)

    def _meaning(self, error: exc.DBAPIError) -> SamaraError | None:
        code: str | None = getattr(error.orig, "sqlstate", None)
        why = _told(error, self._url)
        if code is None:
            if isinstance(error, exc.DataError) and "NUL" in why:
                return UsageError("a text with a zero byte can't be recorded or looked for", next_step="leave it out")
            if isinstance(error, exc.ProgrammingError) and error.statement is None:  # an option that libpq doesn't know
                return UsageError(f"{ENV_DATABASE} can't be used ({why})", expected=EXAMPLE)
            return self._gone(why) if isinstance(error, (exc.OperationalError, exc.InterfaceError)) else None
        if code == "22001":
            return UsageError(f"a text is too long for the index ({why})", next_step="shorten it")
        if code == "22021":
            return UsageError(f"a text can't be recorded ({why})", next_step="use UTF-8 without zero bytes")
        if code == "53100":
            return DiskFullError(f"no room left for the index {self.name}", next_step="free some space on its server")
        if code in {"55P03", "40001", "40P01"}:
            return StoreError(
                f"the index {self.name} is locked by another process", next_step="wait for it to finish, or stop it"
            )
        if code == "57014":
            return StoreError(
                f"the index {self.name} took too long ({why})", next_step="try again when it is less busy"
            )
        if code in {"25006", "42501"}:
            return StoreError(
                f"can't write the index {self.name} ({why})",
                next_step=f"check what {ENV_DATABASE}'s user may do there, and that it isn't a standby",
            )
        if code.startswith(_OURS):
            return None
        if code.startswith(("XX", "42")):
            return self._damaged(why)
        return self._gone(why)

    def _gone(self, why: str) -> StoreError:
        return StoreError(
            f"can't use the index {self.name} ({why})",
            next_step=f"check that the database runs, and {ENV_DATABASE}",
        )

    def _damaged(self, why: str) -> StoreError:
        return StoreError(
            f"the index {self.name} is damaged ({why})",
            next_step="restore it from a backup, or begin with an empty database: publishers can push again",
        )


def parse_url(text: str) -> sa.URL:
    """A PostgreSQL URL as people write it (SQLAlchemy's, or libpq's). Raises UsageError that doesn't repeat it."""
    try:
        url = sa.make_url(text)
        kind = url.get_backend_name()
    except (exc.ArgumentError, exc.NoSuchModuleError, ValueError):
        raise UsageError(f"{ENV_DATABASE} is not the URL of a database", expected=EXAMPLE) from None
    if kind not in {"postgresql", "postgres"} or url.drivername not in {kind, f"{kind}+psycopg"}:
        raise UsageError(
            f"{ENV_DATABASE} names a database that samara can't use", expected=EXAMPLE, actual=f"{url.drivername}://…",
            next_step="leave it out for an SQLite file in SAMARA_HOME",
        )  # fmt: skip
    return url.set(drivername="postgresql+psycopg")


def name_of(url: sa.URL) -> str:
    """Where a database is, for people: no user, no password, no options."""
    told = url.query.get("host", ())
    host = url.host or ",".join((told,) if isinstance(told, str) else told) or "this machine"
    port = f":{url.port}" if url.port else ""
    return f"{url.database or url.username or 'postgres'} at {host}{port}"


def secrets_of(url: sa.URL) -> tuple[str, ...]:
    """Whatever in a URL must not be shown."""
    hidden = [url.password, *(v for k, v in url.query.items() if "password" in k)]
    return tuple(str(one) for one in hidden if one)


def without_secrets(text: str, url: sa.URL) -> str:
    """A text of the database's or its programs', in one line, that repeats nothing secret of a URL."""
    for secret in secrets_of(url):
        text = text.replace(secret, "…")
    return " ".join(text.split())[:500]


def _told(error: exc.DBAPIError, url: sa.URL) -> str:
    """What the database says. Of several lines the first: the others quote rows."""
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    is_about_the_link = getattr(error.orig, "sqlstate", None) is None
    return without_secrets("; ".join(line.strip() for line in lines) if is_about_the_link else lines[0], url)


def _engine(url: sa.URL, lock_wait: float) -> sa.Engine:
    try:
        import psycopg as _psycopg  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{ENV_DATABASE} needs psycopg, which isn't installed ({error})", next_step="pip install 'samara[serve]'"
        ) from None
    waits = {
        "lock_timeout": max(1, int(lock_wait * 1000)),  # 0 would mean: for ever
        "statement_timeout": _STATEMENT_SECONDS * 1000,
        "idle_in_transaction_session_timeout": _IDLE_SECONDS * 1000,
    }
    told = url.query.get("options", ())
    own = [told] if isinstance(told, str) else list(told)
    # the last one counts
    options = " ".join([f"-c {_TOLD}=1", *(f"-c {name}={value}" for name, value in waits.items()), *own])
    arguments: dict[str, Any] = {k: v for k, v in _LINK.items() if k not in url.query} | {"options": options}
    engine = sa.create_engine(
        url.difference_update_query(["options"]),
        connect_args=arguments,
        pool_size=_CONNECTIONS,
        max_overflow=_MORE_CONNECTIONS,
        pool_timeout=_CONNECTION_WAIT,
        pool_pre_ping=True,
        hide_parameters=True,
    )

    refused: list[bool] = []  # whether a pooler did: then it isn't asked again

    @event.listens_for(engine, "do_connect")
    def _on_asking(dialect: Any, _record: object, places: list[Any], named: dict[str, Any]) -> Any:
        if not refused:
            try:
                return dialect.connect(*places, **named)
            except dialect.loaded_dbapi.OperationalError as error:
                if "unsupported startup parameter" not in str(error):
                    raise
                refused.append(True)
        return dialect.connect(*places, **{name: value for name, value in named.items() if name != "options"})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT current_setting('{_TOLD}', true)")
            is_told = cursor.fetchone() == ("1",)
        connection.rollback()
        if is_told:
            return
        if own:
            raise UsageError(
                f"{ENV_DATABASE} has options, and the pooler that it names doesn't pass them on",
                next_step="give them to the role instead, e.g. ALTER ROLE samara SET search_path = …, or leave it out",
            )
        connection.prepare_threshold = None
        record.info[_POOLED] = True

    limits = "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in waits.items())

    @event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        if connection.info.get(_POOLED, False):
            connection.exec_driver_sql(limits)
        if connection.get_execution_options().get("samara_write", False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")

    return engine
