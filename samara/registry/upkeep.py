"""What an operator does with an index as a whole: look at its schema, bring it up to date. Backups: `backup`."""

from __future__ import annotations

from dataclasses import dataclass

from samara.registry import schema
from samara.registry.durable import io_errors
from samara.registry.home import Home
from samara.registry.index import LOCK_WAIT_SECONDS, Index
from samara.registry.index_database import open_database
from samara.registry.records import Counts
from samara.registry.tables import HEAD
from samara.schemas.errors import SamaraError


@dataclass(frozen=True, kw_only=True, slots=True)
class Upgraded:
    """`database`: which one; `before`: its schema's revision, None if there was none; `after`: this version's."""

    database: str
    before: str | None
    after: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseStatus:
    """An index as a whole. `schema`: its revision, None where there is none yet; `expected`: this version's; `size`:
    bytes; `counts`: rows, None unless the schema is this version's; `is_writable_now`: whether a transaction that
    writes could begin, `trouble`: why not.
    """

    database: str
    schema: str | None
    expected: str
    size: int
    counts: Counts | None
    is_writable_now: bool
    trouble: str | None = None

    @property
    def is_current(self) -> bool:
        """Whether this version can work with it as it is."""
        return self.schema == self.expected


def upgrade(home: Home) -> Upgraded:
    """Create or migrate a home's index, whatever holds it. Raises StoreError, UsageError."""
    home.prepare()
    database = open_database(home, LOCK_WAIT_SECONDS, make=True)
    try:
        with database.write() as session:
            before = schema.revision_of(session.connection())
            schema.bring_up_to_date(session.connection())
        return Upgraded(database=database.name, before=before, after=HEAD)
    finally:
        database.close()


def status(home: Home) -> DatabaseStatus | None:
    """How a home's index is; None where there is none yet. Changes nothing. Raises StoreError, UsageError."""
    if home.database is None:
        with io_errors(home.index):
            if not home.index.exists():
                return None
    database = open_database(home, LOCK_WAIT_SECONDS, make=False)
    try:
        with database.read_or_freeze() as session:
            found = schema.revision_of(session.connection())
            size = database.size(session)
        trouble = None
        try:
            with database.write() as session:
                schema.revision_of(session.connection())
        except SamaraError as error:
            trouble = error.what
        return DatabaseStatus(
            database=database.name,
            schema=found,
            expected=HEAD,
            size=size,
            counts=Index(database).counts() if found == HEAD else None,
            is_writable_now=trouble is None,
            trouble=trouble,
        )
    finally:
        database.close()
