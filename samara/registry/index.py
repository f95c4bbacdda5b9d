"""The index: all that this machine knows and holds, in one SQL database that machines may share.

Rows, sessions and SQLAlchemy's exceptions stop here; what goes in and out are the frozen values of `samara.schemas` and
of `samara.registry.records`. Every public method is one transaction. The index claims nothing about bytes that isn't
proven elsewhere: losing it loses names, not models.

`Index` is what callers use. How each kind of thing is stored: index_releases, index_blobs, index_partials, index_pulls,
holdings; the database itself, an SQLite file or PostgreSQL: index_database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import select

from samara.registry import index_blobs, index_partials, index_pulls, index_releases, schema, stores
from samara.registry.durable import io_errors
from samara.registry.holdings import Forgotten, Holdings, forget, held_releases, is_needed
from samara.registry.home import Home
from samara.registry.index_database import Database
from samara.registry.index_opening import open_database
from samara.registry.listings import Listings
from samara.registry.own_rows import is_own
from samara.registry.records import BlobRecord, Counts, Location, StoredRelease
from samara.registry.tables import BlobRow, BlockRow, LocationRow, ReleaseRow
from samara.schemas.envelope import Envelope
from samara.schemas.manifest import Block, Release
from samara.schemas.pull_record import PullRecord
from samara.schemas.stamps import Stamp

LOCK_WAIT_SECONDS = 20.0


class Index:
    """One open index. Safe to use from several threads; several processes may have it open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listings = Listings(database)

    @classmethod
    def open(cls, home: Home, *, migrate: bool | None = None, lock_wait: float = LOCK_WAIT_SECONDS) -> Index:
        """Open a home's index, creating it where there is none. Raises StoreError, UsageError.

        `migrate`: whether one of an older version is brought up to date, or refused; if nobody says, a file is, and a
        PostgreSQL database, which others may be using, is refused.
        """
        home.prepare()
        database = open_database(home, lock_wait, make=True)
        migrating = database.migrates_by_itself if migrate is None else migrate
        try:
            if not _is_ready(database):
                with database.write() as session:
                    schema.bring_up_to_date(session.connection(), migrating=migrating)
            stores.settle(database, home, now=time.time())
        except BaseException:
            database.close()
            raise
        return cls(database)

    @classmethod
    def open_existing(cls, home: Home, *, lock_wait: float = LOCK_WAIT_SECONDS) -> Index | None:
        """The index if there is one, to read from; None on a machine that has nothing yet. Raises StoreError.

        Waits for no writer and asks for no right to write, unless it has to be made or migrated. Writing goes on to
        work wherever it can. Where nothing can be written, an index of an older version is read as it is.
        """
        if home.database is None:
            with io_errors(home.index):
                if not home.index.exists():
                    return None
        database = open_database(home, lock_wait, make=False)
        try:
            with database.read_or_freeze() as session:
                connection = session.connection()
                found = schema.revision_of(connection)
                can_be_read = schema.is_up_to_date(connection) or (database.is_frozen and found is not None)
        except BaseException:
            database.close()
            raise
        if can_be_read:
            stores.settle_to_read(database, home, now=time.time())
            return cls(database)
        database.close()  # `open` makes, migrates or refuses it
        return cls.open(home, lock_wait=lock_wait)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def database(self) -> Database:
        """For this room: where it is kept."""
        return self._database

    @property
    def listings(self) -> Listings:
        """What a registry lists out of this index."""
        return self._listings

    def keep_seat(self, home: Home, *, now: float) -> None:
        """For who has it open for long: say that this store is in use, and notice if its place was taken by a copy.

        `now`: UTC epoch seconds. Raises StoreError.
        """
        stores.settle(self._database, home, now=now)

    # -- releases ------------------------------------------------------------------------------------------------

    def add_release(
        self,
        release: Release,
        envelope: Envelope,
        torrents: Mapping[str, bytes],
        *,
        now: float,
        must_be_newest: bool = False,
    ) -> None:
        """Record a release whose signature was checked, its files, blobs, blocks and torrents. Idempotent.

        A release that is known gains the signatures and torrents that it lacked, and what rotted here is replaced by
        what was checked just now. `torrents`: b3 text of a blob → canonical .torrent bytes. `must_be_newest`: for who
        publishes; StoreError if meanwhile another release took its version. Of others' releases both are kept.
        """
        with self._database.write() as session:
            index_releases.add(session, release, envelope, torrents, now=now, must_be_newest=must_be_newest)

    def release(self, identity: str, model: str, tag: str) -> StoredRelease | None:
        """The newest release known here under a tag."""
        with self._database.read() as session:
            return index_releases.newest(session, identity, model, tag)

    def release_by_digest(self, digest: str) -> StoredRelease | None:
        """A release by its manifest's digest."""
        with self._database.read() as session:
            return index_releases.by_digest(session, digest)

    def releases(self) -> tuple[StoredRelease, ...]:
        """Every release, oldest first."""
        with self._database.read() as session:
            return index_releases.every(session)

    def manifests(self) -> tuple[str, ...]:
        """The digests of every release's manifest, oldest first."""
        with self._database.read() as session:
            return index_releases.manifests(session)

    def latest_release(self) -> int:
        """Grows with every release that is added; 0 when there is none."""
        with self._database.read() as session:
            return index_releases.latest(session)

    def releases_of_blob(self, b3: str) -> tuple[StoredRelease, ...]:
        """Every release that has a file with these bytes, newest first."""
        with self._database.read() as session:
            return index_releases.of_blob(session, b3)

    def next_version(self, identity: str, model: str) -> int:
        """One more than the highest version this machine knows of a model."""
        with self._database.read() as session:
            return index_releases.highest_version(session, identity, model) + 1

    # -- blobs and where they lie --------------------------------------------------------------------------------

    def blob(self, b3: str) -> BlobRecord | None:
        """One blob with its torrent and every location recorded for it."""
        with self._database.read() as session:
            return index_blobs.by_digest(session, b3)

    def blobs(self) -> tuple[BlobRecord, ...]:
        """Every blob known, oldest first."""
        with self._database.read() as session:
            return index_blobs.every(session)

    def blobs_of_size(self, size: int) -> tuple[BlobRecord, ...]:
        """Blobs of exactly `size` bytes: the candidates for a file we were merely pointed at."""
        with self._database.read() as session:
            return index_blobs.of_size(session, size)

    def blocks(self, b3: str) -> tuple[Block, ...]:
        """The blocks recorded for a blob, in order."""
        with self._database.read() as session:
            return index_blobs.blocks(session, b3)

    def block_places(self, digests: Sequence[bytes]) -> dict[bytes, list[tuple[Path, int, int]]]:
        """Digest of a block → (path, offset, size) wherever a file of ours held such bytes when it was verified."""
        with self._database.read() as session:
            return index_blobs.block_places(session, digests)

    def set_location(self, b3: str, path: Path, stamp: Stamp, *, in_store: bool, verified_at: float) -> None:
        """Record that `path` held exactly this blob when it bore `stamp`."""
        with self._database.write() as session:
            index_blobs.set_location(session, b3, path, stamp, in_store=in_store, verified_at=verified_at)

    def drop_location(self, path: Path) -> None:
        """Forget a file that is gone or no longer holds its blob."""
        with self._database.write() as session:
            index_blobs.drop_location(session, path)

    def location_at(self, path: Path) -> tuple[str, Location] | None:
        """(b3, location) recorded for one path."""
        with self._database.read() as session:
            return index_blobs.location_at(session, path)

    # -- files that were merely found (`samara adopt`) -----------------------------------------------------------

    def add_found_blob(self, b3: str, sha256: str, size: int, layout: str, blocks: Sequence[Block]) -> None:
        """Record what a file of no known release holds, so that its blocks are found. `size`: bytes. Idempotent.

        It is forgotten with its last location, and described anew by the first release that has it.
        """
        with self._database.write() as session:
            index_blobs.add_found(session, b3, sha256, size, layout, blocks)

    def doubt_location(self, path: Path) -> None:
        """A file no longer holds its blob whole: it is nobody's copy any more, but remembered as the place to mend."""
        with self._database.write() as session:
            index_blobs.doubt_location(session, path)

    def places_below(self, path: Path) -> tuple[Path, ...]:
        """The recorded locations outside the store that are `path` or lie below it, whether they exist or not."""
        with self._database.read() as session:
            return index_blobs.places_below(session, path)

    # -- transfers -----------------------------------------------------------------------------------------------

    def start_partial(self, b3: str, manifest: str, *, now: float) -> None:
        """Note that a transfer of this blob has begun."""
        with self._database.write() as session:
            index_partials.start(session, b3, manifest, now=now)

    def end_partial(self, b3: str) -> None:
        """Forget a transfer: it is complete, or its folder is gone."""
        with self._database.write() as session:
            index_partials.end(session, b3)

    def partials(self) -> tuple[str, ...]:
        """The blobs (b3 text) whose transfer has begun and not ended."""
        with self._database.read() as session:
            return index_partials.every(session)

    # -- records of pulls ----------------------------------------------------------------------------------------

    def add_pull_record(self, record: PullRecord) -> None:
        """Keep the record of a pull that has ended; the oldest are forgotten when there are too many."""
        with self._database.write() as session:
            index_pulls.add(session, record)

    def pull_records(self, limit: int, reference: str | None = None) -> tuple[PullRecord, ...]:
        """The newest records, newest first; with `reference` only of pulls that asked for it in any spelling."""
        with self._database.read() as session:
            if self._database.is_frozen and not schema.is_up_to_date(session.connection()):
                return ()  # of an older version, which kept none
            return index_pulls.newest(session, limit, reference)

    # -- space: what needs what, and forgetting ------------------------------------------------------------------

    def holdings(self) -> Holdings:
        """Every release, where blobs lie and which transfers are noted, as of one moment."""
        with self._database.read() as session:
            return Holdings(
                releases=held_releases(session),
                locations=index_blobs.locations(session),
                partials=frozenset(index_partials.every(session)),
            )

    def forget_release(self, manifest: str) -> Forgotten | None:
        """Forget a release, and blobs that no other one needs. None if it wasn't known.

        Their rows, files in place included, go with it; if another store that shares the database has bytes of it, this
        store's alone, and the release stays. Names and bytes are the caller's to remove, after this.
        """
        with self._database.write() as session:
            return forget(session, manifest)

    def unless_needed(self, b3: str, remove: Callable[[], None], *, let_go: Collection[str] = ()) -> bool:
        """Call `remove` if no release needs this blob here; whether it was called. `let_go`: manifests of releases that
        were forgotten just now and stay for another store's sake.

        Nobody can record a release meanwhile: whoever pulls one either did so before, and the blob stays, or does so
        after, and finds no file.
        """
        with self._database.write() as session:
            if is_needed(session, b3, let_go=let_go):
                return False
            remove()
            return True

    # -- the index itself ----------------------------------------------------------------------------------------

    def counts(self) -> Counts:
        """How much the index holds; of locations: how many of this store's."""
        with self._database.read() as session:
            counted = select(sa.func.count())
            found = [session.scalar(counted.select_from(table)) or 0 for table in (ReleaseRow, BlobRow, BlockRow)]
            places = counted.select_from(LocationRow).where(is_own(session, LocationRow.store))
            found.append(session.scalar(places) or 0)
        return Counts(releases=found[0], blobs=found[1], blocks=found[2], locations=found[3])

    def damage(self) -> tuple[str, ...]:
        """What the database itself finds wrong with what it holds; empty when sound."""
        with self._database.read() as session:
            return self._database.damage(session)


def _is_ready(database: Database) -> bool:
    """Whether a database that others use too has this version's schema already: then nobody need be waited for."""
    if database.migrates_by_itself:
        return False
    with database.read() as session:
        return schema.is_up_to_date(session.connection())
