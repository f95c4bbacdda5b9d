"""The database that holds the index: its transactions and what its errors mean. Knows nothing of what is in it.

Its two kinds are `index_sqlite` and `index_postgres`; `index_opening` chooses. SQLAlchemy's exceptions stop here. Used
by `samara.registry.index` and what it hands out.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.orm import Session

from samara.registry.own_rows import STORE
from samara.schemas.errors import SamaraError, StoreError, UsageError


class Database(ABC):
    """An open database. Safe to use from several threads.

    `store`: whose rows of files and transfers it gives and takes (`samara.registry.stores`); empty: of nobody yet.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.store = ""

    @property
    @abstractmethod
    def name(self) -> str:
        """What people call it: a path, or an address without its password."""

    @property
    @abstractmethod
    def migrates_by_itself(self) -> bool:
        """Whether opening it may change its schema, or `samara db upgrade` alone."""

    @property
    def is_shared(self) -> bool:
        """Whether several stores may be using it, each with files of its own."""
        return False

    @property
    def is_frozen(self) -> bool:
        """Whether it can only be read, as it was when it was opened."""
        return False

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that reads, all of it as of one moment. Raises StoreError."""
        with self._session(self._reader()) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; no other one writes meanwhile. Raises StoreError, DiskFullError, UsageError."""
        with self._session(self._writer()) as session:
            yield session

    @contextlib.contextmanager
    def note(self) -> Iterator[Session]:
        """A transaction that writes what no other writer reads before it writes: it waits for them only if it must."""
        with self.write() as session:
            yield session

    @contextlib.contextmanager
    def read_or_freeze(self) -> Iterator[Session]:
        """A first transaction that reads; where that can't be without writing, the database is frozen for good."""
        with self.read() as session:
            yield session

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether nobody else who uses it is in here too; who isn't alone leaves it for later. Raises StoreError."""
        yield True

    @abstractmethod
    def damage(self, session: Session) -> tuple[str, ...]:
        """What the database itself finds wrong with what it holds; empty when sound."""

    @abstractmethod
    def size(self, session: Session) -> int:
        """Bytes that it takes."""

    @abstractmethod
    def _reader(self) -> sa.Engine: ...

    @abstractmethod
    def _writer(self) -> sa.Engine: ...

    @abstractmethod
    def _meaning(self, error: exc.DBAPIError) -> SamaraError | None:
        """What the database's own code means; None where it means a bug of ours."""

    @abstractmethod
    def _damaged(self, why: str) -> StoreError: ...

    @contextlib.contextmanager
    def _session(self, engine: sa.Engine) -> Iterator[Session]:
        told = {STORE: self.store}
        with self._translated(), Session(engine, expire_on_commit=False, info=told) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError:
            raise  # a bug of ours: what breaks a constraint is never handed in by anybody
        except exc.DBAPIError as error:
            told = self._meaning(error)
            if told is None:
                raise
            raise told from None
        except exc.TimeoutError:
            raise StoreError(
                f"the index {self.name} is asked by too many at once", next_step="try again in a moment"
            ) from None
        except UnicodeEncodeError as error:
            raise UsageError(
                f"a path that is not UTF-8 can't be recorded: {str(error.object)[:200]!r}", next_step="rename it"
            ) from None
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
            # a row that is no value of ours: text where bytes belong, half a digest, signatures that are no JSON
            raise self._damaged(f"{type(error).__name__}: {error}") from error
