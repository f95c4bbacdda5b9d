"""The index: all that this machine knows and holds, in one SQL database.

Rows, sessions and SQLAlchemy's exceptions stop here; what goes in and out are the frozen values of `samara.schemas` and
of `samara.registry.records`. Every public method is one transaction. The index claims nothing about bytes that isn't
proven elsewhere: losing it loses names, not models.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event, exc, select
from sqlalchemy.orm import Session

from samara.registry import index_pulls, schema
from samara.registry.durable import io_errors
from samara.registry.holdings import Holdings, forget, held_releases, is_needed
from samara.registry.home import Home
from samara.registry.records import BlobRecord, Counts, Location, StoredRelease
from samara.registry.tables import (
    BlobRow,
    BlockRow,
    FileRow,
    LocationRow,
    ModelRow,
    PartialRow,
    PublisherRow,
    ReleaseRow,
    TorrentRow,
)
from samara.schemas.digests import b3_raw, b3_text, sha256_raw, sha256_text
from samara.schemas.envelope import MAX_SIGNATURES, Envelope, Signature
from samara.schemas.errors import DiskFullError, StoreError, UsageError
from samara.schemas.manifest import Block, Release, ReleaseFile
from samara.schemas.pull_record import PullRecord
from samara.schemas.stamps import Stamp

LOCK_WAIT_SECONDS = 20.0
AT_ONCE = 500  # values in one question: SQLite takes a limited number

_DIGEST_BYTES = 32
_UNWRITABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_ERROR,  # a table or column that isn't there
}


class Index:
    """One open index. Safe to use from several threads; several processes may have it open."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._is_frozen = False

    @classmethod
    def open(cls, home: Home, *, lock_wait: float = LOCK_WAIT_SECONDS) -> Index:
        """Open SAMARA_HOME's index, creating or migrating it. Raises StoreError."""
        home.prepare()
        engine = _sqlite_engine(home.index, lock_wait)
        index = cls(engine, str(home.index))
        try:
            with index._write() as session:
                schema.bring_up_to_date(session.connection())
        except BaseException:
            engine.dispose()
            raise
        return index

    @classmethod
    def open_existing(cls, home: Home, *, lock_wait: float = LOCK_WAIT_SECONDS) -> Index | None:
        """The index if there is one, to read from; None on a machine that has nothing yet. Raises StoreError.

        Waits for no writer and asks for no right to write, unless it has to be migrated. Writing goes on to work
        wherever it can.
        """
        with io_errors(home.index):
            if not home.index.exists():
                return None
        index = cls(_sqlite_engine(home.index, lock_wait, make=False), str(home.index))
        try:
            with index._translated():
                try:
                    current = _is_up_to_date(index._engine)
                except exc.OperationalError as error:
                    # the folder can't be written: SQLite can't make the files by which readers and writers agree
                    if _code_of(error) not in _UNWRITABLE or _log_holds_something(home.index):
                        raise
                    index._engine.dispose()
                    index._engine, index._is_frozen = _frozen_engine(home.index), True
                    current = _is_up_to_date(index._engine)
        except BaseException:
            index.close()
            raise
        if current:
            return index
        index.close()
        return cls.open(home, lock_wait=lock_wait)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

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
        with self._write() as session:
            digest = b3_raw(release.digest)
            found = session.scalar(select(ReleaseRow).where(ReleaseRow.manifest_digest == digest))
            if found is not None:
                found.payload = envelope.payload
                # the newly checked first: a publisher that replaced its keys signs what it published before again
                found.signatures = _signatures_text((*envelope.signatures, *_signatures_left(found)))
                known = session.scalars(select(FileRow).where(FileRow.release_id == found.id).order_by(FileRow.ordinal))
                for file_row, file in zip(known.all(), release.files, strict=True):
                    file_row.torrent_id = _torrent_id(session, file_row.blob_id, file, torrents) or file_row.torrent_id
                return
            if must_be_newest and release.version <= _highest_version(session, release.identity, release.model):
                raise StoreError(
                    f"another release of {release.model} was published as version {release.version} at the same time",
                    next_step="run it again",
                )
            publisher = session.scalar(select(PublisherRow).where(PublisherRow.identity == release.identity))
            if publisher is None:
                publisher = PublisherRow(identity=release.identity, name=release.publisher_name, first_seen=now)
                session.add(publisher)
                session.flush()
            model = session.scalar(
                select(ModelRow).where(ModelRow.publisher_id == publisher.id, ModelRow.name == release.model)
            )
            if model is None:
                model = ModelRow(publisher_id=publisher.id, name=release.model)
                session.add(model)
                session.flush()
            row = ReleaseRow(
                model_id=model.id,
                tag=release.tag,
                version=release.version,
                manifest_digest=digest,
                payload=envelope.payload,
                signatures=_signatures_text(envelope.signatures),
                created=release.created,
                added_at=now,
            )
            session.add(row)
            session.flush()
            for ordinal, file in enumerate(release.files):
                blob = _blob_row(session, file)
                session.add(
                    FileRow(
                        release_id=row.id,
                        blob_id=blob.id,
                        ordinal=ordinal,
                        path=file.path,
                        role=file.role,
                        torrent_id=_torrent_id(session, blob.id, file, torrents),
                    )
                )

    def release(self, identity: str, model: str, tag: str) -> StoredRelease | None:
        """The newest release known here under a tag."""
        with self._read() as session:
            row = session.scalar(
                select(ReleaseRow)
                .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
                .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
                .where(PublisherRow.identity == identity, ModelRow.name == model, ReleaseRow.tag == tag)
                .order_by(ReleaseRow.version.desc(), ReleaseRow.id.desc())
                .limit(1)
            )
            return None if row is None else _stored(session, row)

    def release_by_digest(self, digest: str) -> StoredRelease | None:
        """A release by its manifest's digest."""
        with self._read() as session:
            row = session.scalar(select(ReleaseRow).where(ReleaseRow.manifest_digest == b3_raw(digest)))
            return None if row is None else _stored(session, row)

    def releases(self) -> tuple[StoredRelease, ...]:
        """Every release, oldest first."""
        with self._read() as session:
            return tuple(_stored(session, row) for row in session.scalars(select(ReleaseRow).order_by(ReleaseRow.id)))

    def manifests(self) -> tuple[str, ...]:
        """The digests of every release's manifest, oldest first."""
        with self._read() as session:
            rows = session.scalars(select(ReleaseRow.manifest_digest).order_by(ReleaseRow.id))
            return tuple(_digest(raw) for raw in rows)

    def latest_release(self) -> int:
        """Grows with every release that is added; 0 when there is none."""
        with self._read() as session:
            return session.scalar(select(sa.func.max(ReleaseRow.id))) or 0

    def releases_of_blob(self, b3: str) -> tuple[StoredRelease, ...]:
        """Every release that has a file with these bytes, newest first."""
        with self._read() as session:
            rows = session.scalars(
                select(ReleaseRow)
                .join(FileRow, FileRow.release_id == ReleaseRow.id)
                .join(BlobRow, FileRow.blob_id == BlobRow.id)
                .where(BlobRow.b3 == b3_raw(b3))
                .order_by(ReleaseRow.version.desc(), ReleaseRow.id.desc())
            )
            return tuple(_stored(session, row) for row in rows)

    def next_version(self, identity: str, model: str) -> int:
        """One more than the highest version this machine knows of a model."""
        with self._read() as session:
            return _highest_version(session, identity, model) + 1

    # -- blobs and where they lie --------------------------------------------------------------------------------

    def blob(self, b3: str) -> BlobRecord | None:
        """One blob with its torrent and every location recorded for it."""
        with self._read() as session:
            row = session.scalar(select(BlobRow).where(BlobRow.b3 == b3_raw(b3)))
            return None if row is None else _blob(session, row)

    def blobs(self) -> tuple[BlobRecord, ...]:
        """Every blob known, oldest first."""
        with self._read() as session:
            return tuple(_blob(session, row) for row in session.scalars(select(BlobRow).order_by(BlobRow.id)))

    def blobs_of_size(self, size: int) -> tuple[BlobRecord, ...]:
        """Blobs of exactly `size` bytes: the candidates for a file we were merely pointed at."""
        with self._read() as session:
            return tuple(_blob(session, row) for row in session.scalars(select(BlobRow).where(BlobRow.size == size)))

    def blocks(self, b3: str) -> tuple[Block, ...]:
        """The blocks recorded for a blob, in order."""
        with self._read() as session:
            rows = session.execute(
                select(BlockRow.ordinal, BlockRow.offset, BlockRow.size, BlockRow.digest)
                .join(BlobRow, BlockRow.blob_id == BlobRow.id)
                .where(BlobRow.b3 == b3_raw(b3))
                .order_by(BlockRow.ordinal)
            )
            return tuple(Block(index=i, offset=int(o), size=int(s), digest=_bytes(d)) for i, o, s, d in rows)

    def block_places(self, digests: Sequence[bytes]) -> dict[bytes, list[tuple[Path, int, int]]]:
        """Digest of a block → (path, offset, size) wherever a file of ours held such bytes when it was verified."""
        found: dict[bytes, list[tuple[Path, int, int]]] = {}
        with self._read() as session:
            for start in range(0, len(digests), AT_ONCE):
                rows = session.execute(
                    select(BlockRow.digest, LocationRow.path, BlockRow.offset, BlockRow.size)
                    .join(LocationRow, LocationRow.blob_id == BlockRow.blob_id)
                    .where(BlockRow.digest.in_(digests[start : start + AT_ONCE]))
                )
                for digest, path, offset, size in rows:
                    found.setdefault(_bytes(digest), []).append((_path(path), int(offset), int(size)))
        return found

    def set_location(self, b3: str, path: Path, stamp: Stamp, *, in_store: bool, verified_at: float) -> None:
        """Record that `path` held exactly this blob when it bore `stamp`."""
        with self._write() as session:
            blob_id = session.scalar(select(BlobRow.id).where(BlobRow.b3 == b3_raw(b3)))
            if blob_id is None:
                raise StoreError(f"the index doesn't know blob {b3}")
            _drop_location(session, path, but=blob_id)
            session.add(
                LocationRow(
                    blob_id=blob_id,
                    path=str(path),
                    in_store=in_store,
                    size=stamp.size,
                    mtime_ns=stamp.mtime_ns,
                    inode=stamp.inode,
                    device=stamp.device,
                    verified_at=verified_at,
                )
            )

    def drop_location(self, path: Path) -> None:
        """Forget a file that is gone or no longer holds its blob."""
        with self._write() as session:
            _drop_location(session, path)

    def location_at(self, path: Path) -> tuple[str, Location] | None:
        """(b3, location) recorded for one path."""
        with self._read() as session:
            row = session.execute(
                select(BlobRow.b3, LocationRow)
                .join(BlobRow, LocationRow.blob_id == BlobRow.id)
                .where(LocationRow.path == str(path))
            ).first()
            return None if row is None else (_digest(row[0]), _location(row[1]))

    # -- transfers -----------------------------------------------------------------------------------------------

    def start_partial(self, b3: str, manifest: str, *, now: float) -> None:
        """Note that a transfer of this blob has begun."""
        with self._write() as session:
            blob_id = session.scalar(select(BlobRow.id).where(BlobRow.b3 == b3_raw(b3)))
            release_id = session.scalar(select(ReleaseRow.id).where(ReleaseRow.manifest_digest == b3_raw(manifest)))
            if blob_id is None or release_id is None:
                raise StoreError(f"the index doesn't know blob {b3} of manifest {manifest}")
            if session.get(PartialRow, blob_id) is None:
                session.add(PartialRow(blob_id=blob_id, release_id=release_id, started_at=now))

    def end_partial(self, b3: str) -> None:
        """Forget a transfer: it is complete, or its folder is gone."""
        with self._write() as session:
            blob_id = session.scalar(select(BlobRow.id).where(BlobRow.b3 == b3_raw(b3)))
            session.execute(sa.delete(PartialRow).where(PartialRow.blob_id == blob_id))

    def partials(self) -> tuple[str, ...]:
        """The blobs (b3 text) whose transfer has begun and not ended."""
        with self._read() as session:
            rows = session.scalars(select(BlobRow.b3).join(PartialRow, PartialRow.blob_id == BlobRow.id))
            return tuple(_digest(raw) for raw in rows)

    # -- records of pulls (rows and rules: samara.registry.index_pulls) --------------------------------------------

    def add_pull_record(self, record: PullRecord) -> None:
        """Keep the record of a pull that has ended; the oldest are forgotten when there are too many."""
        with self._write() as session:
            index_pulls.add(session, record)

    def pull_records(self, limit: int, reference: str | None = None) -> tuple[PullRecord, ...]:
        """The newest records, newest first; with `reference` only of pulls that asked for it in any spelling."""
        with self._read() as session:
            return index_pulls.newest(session, limit, reference)

    # -- the index itself ----------------------------------------------------------------------------------------

    def counts(self) -> Counts:
        """How much the index holds."""
        with self._read() as session:
            return Counts(
                releases=session.scalar(select(sa.func.count()).select_from(ReleaseRow)) or 0,
                blobs=session.scalar(select(sa.func.count()).select_from(BlobRow)) or 0,
                blocks=session.scalar(select(sa.func.count()).select_from(BlockRow)) or 0,
                locations=session.scalar(select(sa.func.count()).select_from(LocationRow)) or 0,
            )

    def damage(self) -> tuple[str, ...]:
        """What SQLite itself finds wrong with the file (`PRAGMA integrity_check`); empty when sound."""
        with self._read() as session:
            rows = [str(row[0]) for row in session.execute(sa.text("PRAGMA integrity_check(20)"))]
            orphans = session.execute(sa.text("PRAGMA foreign_key_check")).all()
        found = [] if rows == ["ok"] else rows
        return (*found, *(f"row {row[1]} of {row[0]} points at nothing in {row[2]}" for row in orphans[:20]))

    # -- space: what needs what, and forgetting (rows and rules: samara.registry.holdings) -------------------------

    def holdings(self) -> Holdings:
        """Every release, where blobs lie and which transfers are noted, as of one moment."""
        with self._read() as session:
            rows = session.execute(
                select(BlobRow.b3, LocationRow)
                .join(LocationRow, LocationRow.blob_id == BlobRow.id)
                .order_by(LocationRow.id)
            )
            places: dict[str, tuple[Location, ...]] = {}
            for raw, row in rows:
                b3 = _digest(raw)
                places[b3] = (*places.get(b3, ()), _location(row))
            partials = session.scalars(select(BlobRow.b3).join(PartialRow, PartialRow.blob_id == BlobRow.id))
            return Holdings(
                releases=held_releases(session), locations=places, partials=frozenset(map(_digest, partials))
            )

    def forget_release(self, manifest: str) -> tuple[str, ...] | None:
        """Forget a release; the blobs (b3 text) that no release needs any more. None if it wasn't known.

        Their rows, files in place included, go with it. Names and bytes are the caller's to remove, after this.
        """
        with self._write() as session:
            return forget(session, manifest)

    def unless_needed(self, b3: str, remove: Callable[[], None]) -> bool:
        """Call `remove` if no release needs this blob; whether it was called.

        Nobody can record a release meanwhile: whoever pulls one either did so before, and the blob stays, or does so
        after, and finds no file.
        """
        with self._write() as session:
            if is_needed(session, b3):
                return False
            remove()
            return True

    # -- files that were merely found (`samara adopt`) --------------------------------------------------------------

    def add_found_blob(self, b3: str, sha256: str, size: int, layout: str, blocks: Sequence[Block]) -> None:
        """Record what a file of no known release holds, so that its blocks are found. `size`: bytes. Idempotent.

        It is forgotten with its last location, and described anew by the first release that has it.
        """
        with self._write() as session:
            if session.scalar(select(BlobRow.id).where(BlobRow.b3 == b3_raw(b3))) is None:
                _new_blob(session, b3, sha256, size, layout, blocks)

    def doubt_location(self, path: Path) -> None:
        """A file no longer holds its blob whole: it is nobody's copy any more, but remembered as the place to mend."""
        with self._write() as session:
            nothing = {"size": 0, "mtime_ns": 0, "inode": 0, "verified_at": 0.0}
            session.execute(sa.update(LocationRow).where(LocationRow.path == str(path)).values(nothing))

    def places_below(self, path: Path) -> tuple[Path, ...]:
        """The recorded locations outside the store that are `path` or lie below it, whether they exist or not."""
        prefix = str(path).rstrip("/\\") + os.sep
        with self._read() as session:
            rows = session.scalars(
                select(LocationRow.path)
                .where(sa.not_(LocationRow.in_store))
                .where(sa.or_(LocationRow.path == str(path), LocationRow.path.startswith(prefix, autoescape=True)))
                .order_by(LocationRow.path)
            )
            # SQLite's LIKE takes capitals and small letters for the same
            return tuple(_path(text) for text in rows if text == str(path) or text.startswith(prefix))

    @contextlib.contextmanager
    def _read(self) -> Iterator[Session]:
        with self._translated(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def _write(self) -> Iterator[Session]:
        # BEGIN IMMEDIATE: a transaction that starts by reading and then writes can't be refused half-way (SQLITE_BUSY)
        writer = self._engine.execution_options(samara_write=True)
        with self._translated(), Session(writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError:
            raise  # a bug of ours: what breaks a constraint is never handed in by anybody
        except exc.DBAPIError as error:
            told = self._store_error(error)
            if told is None:
                raise
            raise told from None
        except UnicodeEncodeError as error:
            raise UsageError(
                f"a path that is not UTF-8 can't be recorded: {str(error.object)[:200]!r}", next_step="rename it"
            ) from None
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
            # a row that is no value of ours: text where bytes belong, half a digest, signatures that are no JSON
            raise self._damaged(f"{type(error).__name__}: {error}") from error

    def _store_error(self, error: exc.DBAPIError) -> StoreError | DiskFullError | None:
        """What SQLite's own code means; None where it means a bug of ours."""
        text, code = str(error.orig), _code_of(error)
        if code == sqlite3.SQLITE_FULL:
            return DiskFullError(f"no room left for {self._name}", next_step="free some space and run it again")
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StoreError(
                f"the index {self._name} is locked by another process", next_step="wait for it to finish, or stop it"
            )
        if code in _UNWRITABLE:
            return StoreError(f"can't write the index {self._name} ({text})", next_step="check its permissions")
        if code == sqlite3.SQLITE_IOERR:
            return StoreError(f"can't use the index {self._name} ({text})", next_step="check its disk")
        # without a code: text in a row that is no UTF-8
        if code in _DAMAGED or (code is None and isinstance(error, exc.OperationalError)):
            return self._damaged(text)
        return None

    def _damaged(self, why: str) -> StoreError:
        if self._is_frozen:
            return StoreError(
                f"the index {self._name} is damaged, or another process changed it meanwhile ({why})",
                next_step="run it again",
            )
        return StoreError(
            f"the index {self._name} is damaged ({why})",
            next_step="move it away and pull or publish again: blobs on disk are found and checked, not fetched",
        )


def _sqlite_engine(path: Path, lock_wait: float, *, make: bool = True) -> sa.Engine:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": lock_wait})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we begin transactions ourselves, below
        if make:
            _use_wal(connection, lock_wait)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        write = connection.get_execution_options().get("samara_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _frozen_engine(path: Path) -> sa.Engine:
    """For a file on a disk or in a folder that we can't write: as it is now, without locks or a log."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    return sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
    )


def _is_up_to_date(engine: sa.Engine) -> bool:
    with engine.begin() as connection:
        return schema.is_up_to_date(connection)


def _log_holds_something(index: Path) -> bool:
    """Whether there are changes that are not in the file itself yet: without them it must not be read."""
    log = index.with_name(index.name + "-wal")
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


def _blob_row(session: Session, file: ReleaseFile) -> BlobRow:
    row = session.scalar(select(BlobRow).where(BlobRow.b3 == b3_raw(file.b3)))
    if row is None:
        return _new_blob(session, file.b3, file.sha256, file.size, file.layout, file.blocks)
    if not _is_in_a_release(session, row.id):  # found by `adopt`, cut as we saw fit: a release knows better
        row.sha256, row.size, row.layout = sha256_raw(file.sha256), file.size, file.layout
        session.execute(sa.delete(BlockRow).where(BlockRow.blob_id == row.id))
        _add_blocks(session, row, file.blocks)
    return row


def _torrent_id(session: Session, blob_id: int, file: ReleaseFile, torrents: Mapping[str, bytes]) -> int | None:
    data = torrents.get(file.b3)
    if file.torrent is None or data is None:
        return None
    v2 = bytes.fromhex(file.torrent.v2)
    row = session.scalar(select(TorrentRow).where(TorrentRow.blob_id == blob_id, TorrentRow.v2 == v2))
    if row is None:
        row = TorrentRow(blob_id=blob_id, v2=v2, data=data)
        session.add(row)
        session.flush()
    row.data = data
    return row.id


def _highest_version(session: Session, identity: str, model: str) -> int:
    highest = session.scalar(
        select(sa.func.max(ReleaseRow.version))
        .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity, ModelRow.name == model)
    )
    return int(highest or 0)


def _signatures(row: ReleaseRow) -> tuple[Signature, ...]:
    return tuple(Signature(keyid=_text(k), sig=bytes.fromhex(s)) for k, s in json.loads(row.signatures))


def _signatures_left(row: ReleaseRow) -> tuple[Signature, ...]:
    """The same, for who is about to write them anew: none where they rotted."""
    try:
        return _signatures(row)
    except (ValueError, TypeError):
        return ()


def _text(value: str) -> str:
    """A column's text; SQLite gives whatever the row holds, whatever the column's type says."""
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text belongs")
    return value


def _bytes(value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} where bytes belong")
    return value


def _digest(raw: bytes) -> str:
    if len(raw) != _DIGEST_BYTES:
        raise ValueError(f"a digest of {len(raw)} bytes")
    return b3_text(raw)


def _signatures_text(signatures: Sequence[Signature]) -> str:
    """The first signature of each key, as many as an envelope may have."""
    first: dict[str, str] = {}
    for one in signatures:
        first.setdefault(one.keyid, one.sig.hex())
    return json.dumps(list(first.items())[:MAX_SIGNATURES])


def _stored(session: Session, row: ReleaseRow) -> StoredRelease:
    torrents = session.scalars(
        select(TorrentRow.data)
        .join(FileRow, FileRow.torrent_id == TorrentRow.id)
        .where(FileRow.release_id == row.id)
        .order_by(FileRow.ordinal)
    )
    return StoredRelease(
        manifest=_digest(row.manifest_digest),
        envelope=Envelope(payload=_bytes(row.payload), signatures=_signatures(row)),
        torrents=tuple(dict.fromkeys(map(_bytes, torrents))),
    )


def _blob(session: Session, row: BlobRow) -> BlobRecord:
    locations = session.scalars(select(LocationRow).where(LocationRow.blob_id == row.id).order_by(LocationRow.id))
    torrents = session.scalars(select(TorrentRow.data).where(TorrentRow.blob_id == row.id).order_by(TorrentRow.id))
    paths: Sequence[str] = session.scalars(
        select(FileRow.path).where(FileRow.blob_id == row.id).order_by(FileRow.id).limit(1)
    ).all()
    return BlobRecord(
        b3=_digest(row.b3),
        sha256=sha256_text(row.sha256),
        size=int(row.size),
        layout=_text(row.layout),
        torrents=tuple(map(_bytes, torrents)),
        file_name=_text(paths[0]) if paths else None,
        locations=tuple(_location(found) for found in locations),
    )


def _location(row: LocationRow) -> Location:
    return Location(
        path=_path(row.path),
        stamp=Stamp(size=int(row.size), mtime_ns=int(row.mtime_ns), inode=int(row.inode), device=int(row.device)),
        in_store=row.in_store,
        verified_at=float(row.verified_at),
    )


def _path(text: str) -> Path:
    if "\0" in _text(text):
        raise ValueError("a path with a zero byte")
    return Path(text)


def _new_blob(
    session: Session, b3: str, sha256: str, size: int, layout: str, blocks: Sequence[Block]
) -> BlobRow:  # fmt: skip
    row = BlobRow(b3=b3_raw(b3), sha256=sha256_raw(sha256), size=size, layout=layout)
    session.add(row)
    session.flush()
    _add_blocks(session, row, blocks)
    return row


def _add_blocks(session: Session, row: BlobRow, blocks: Sequence[Block]) -> None:
    session.execute(
        sa.insert(BlockRow),
        [
            {"blob_id": row.id, "ordinal": b.index, "offset": b.offset, "size": b.size, "digest": b.digest}
            for b in blocks
        ],
    )


def _is_in_a_release(session: Session, blob_id: int) -> bool:
    return session.scalar(select(FileRow.id).where(FileRow.blob_id == blob_id).limit(1)) is not None


def _drop_location(session: Session, path: Path, *, but: int | None = None) -> None:
    """Forget a location, and with its last one a blob that was merely found; not blob `but`, which gets another."""
    blob_id = session.scalar(select(LocationRow.blob_id).where(LocationRow.path == str(path)))
    if blob_id is None:
        return
    session.execute(sa.delete(LocationRow).where(LocationRow.path == str(path)))
    elsewhere = session.scalar(select(LocationRow.id).where(LocationRow.blob_id == blob_id).limit(1))
    if blob_id == but or elsewhere is not None or _is_in_a_release(session, blob_id):
        return
    session.execute(sa.delete(BlockRow).where(BlockRow.blob_id == blob_id))
    session.execute(sa.delete(BlobRow).where(BlobRow.id == blob_id))
