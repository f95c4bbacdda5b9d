"""What an operator does with an index as a whole: look at its schema, bring it up to date, forget a store that is gone.
Backups: `backup`.
"""

from __future__ import annotations

from dataclasses import dataclass

from samara.registry import schema, stores
from samara.registry.durable import io_errors
from samara.registry.home import Home
from samara.registry.index import LOCK_WAIT_SECONDS, Index
from samara.registry.index_opening import open_database
from samara.registry.records import Counts
from samara.registry.stores import UNCLAIMED, StoreStatus
from samara.registry.tables import HEAD
from samara.schemas.errors import NotFoundError, SamaraError, UsageError

UNCLAIMED_WORD = "unclaimed"  # what people call it
_IN_USE = 2 * stores.SEEN_EVERY  # seconds: whoever serves says once in an hour that it is there


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
    writes could begin, `trouble`: why not. `stores`: those that share it, none for a file; `store`: which of them this
    one is; `unclaimed`: locations of none of them.
    """

    database: str
    schema: str | None
    expected: str
    size: int
    counts: Counts | None
    is_writable_now: bool
    trouble: str | None = None
    store: str | None = None
    stores: tuple[StoreStatus, ...] = ()
    unclaimed: int = 0

    @property
    def is_current(self) -> bool:
        """Whether this version can work with it as it is."""
        return self.schema == self.expected


def upgrade(home: Home, *, now: float) -> Upgraded:
    """Create or migrate a home's index, whatever holds it; of a shared one this store claims what is its own.

    `now`: UTC epoch seconds. Raises StoreError, UsageError.
    """
    home.prepare()
    database = open_database(home, LOCK_WAIT_SECONDS, make=True)
    try:
        with database.write() as session:
            before = schema.revision_of(session.connection())
            schema.bring_up_to_date(session.connection())
        stores.settle(database, home, now=now)  # else who upgrades, and forgets what nobody claimed, forgets its own
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
        sharing: tuple[StoreStatus, ...] = ()
        unclaimed = 0
        if database.is_shared and found == HEAD:
            stores.peek(database, home)
            with database.read() as session:
                sharing, unclaimed = stores.every(session), stores.unclaimed(session)
        return DatabaseStatus(
            database=database.name,
            schema=found,
            expected=HEAD,
            size=size,
            counts=Index(database).counts() if found == HEAD else None,
            is_writable_now=trouble is None,
            trouble=trouble,
            store=database.store or None,
            stores=sharing,
            unclaimed=unclaimed,
        )
    finally:
        database.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgottenStore:
    """`store`: which one, or "unclaimed"; `locations`: how many files of it were known."""

    store: str
    locations: int


def forget_store(home: Home, store: str, *, now: float, force: bool = False) -> ForgottenStore:
    """Forget what a shared database says of a store that is gone for good, or of files that no store claimed.

    `store`: its id, as much of it as tells it from the others, or "unclaimed"; `now`: UTC epoch seconds. `force`: also
    one that was in use lately. Raises NotFoundError, UsageError, StoreError.
    """
    if home.database is None:
        raise UsageError(
            "an SQLite file is of one store alone", next_step="only a database in SAMARA_DATABASE is shared"
        )
    with Index.open(home, migrate=False) as index:
        database = index.database
        with database.write() as session:
            if store == UNCLAIMED_WORD:
                return ForgottenStore(store=store, locations=stores.forget(session, UNCLAIMED))
            chosen = [one for one in stores.every(session) if store and one.id.startswith(store)]
            if len(chosen) != 1:
                raise NotFoundError(
                    f"{len(chosen) or 'no'} stores here are called {store[:40]!r}", next_step="see: samara db status"
                )
            _require_gone(chosen[0], own=database.store, now=now, force=force)
            return ForgottenStore(store=chosen[0].id, locations=stores.forget(session, chosen[0].id))


def _require_gone(store: StoreStatus, *, own: str, now: float, force: bool) -> None:
    if store.id == own:
        raise UsageError(f"{store.id} is this machine's own store", next_step="to empty it: samara rm, samara prune")
    if now - store.seen_at < _IN_USE and not force:
        raise UsageError(
            f"{store.id} on {store.host} was in use lately", expected=f"unused for {_IN_USE / 3600:g} hours",
            actual=f"{max(0.0, now - store.seen_at) / 60:.0f} minutes",
            next_step="stop samara there; if that machine is gone for good: --force",
        )  # fmt: skip
