"""The stores that share a PostgreSQL database: which one a process works for, and all that there are.

What the database knows of models is everybody's: releases, blobs, blocks, torrents, what is listed. Where bytes lie,
which transfers have begun, records of pulls and trackers' counts are one store's each (`samara.registry.own_rows`).

`settle` tells a database whose process this is, once it is opened. A store that the database doesn't know yet takes
over what is true here of what nobody claimed, and of what was said by a store at the same path: files by their stamp,
which no other one bears; blobs of its own folder by their size, unverified until they are read. So an upgrade, a lost
file `store-id` and a restored backup find what is theirs again.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, undefer

from samara.registry import index_blobs
from samara.registry.home import Home
from samara.registry.index_columns import digest_of, path_of
from samara.registry.index_database import Database
from samara.registry.store import stamp_at
from samara.registry.store_id import StoreId, id_locked, new_id, next_id, read_id, seat_of, write_id
from samara.registry.tables import (
    BlobRow,
    LocationRow,
    PartialRow,
    PullRecordRow,
    PullReferenceRow,
    StoreRow,
)
from samara.schemas.digests import b3_hex
from samara.schemas.errors import SamaraError, StoreError
from samara.schemas.stamps import Stamp

SEEN_EVERY = 3600.0  # seconds between notes that a store is in use
UNCLAIMED = ""  # rows of before there were stores, which none has found on its disk yet
_PER_READ = 1000
_PLACE = cast(sa.Table, LocationRow.__table__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreStatus:
    """One of the stores. `host`, `path`: where it said that it was; times: UTC epoch seconds; `seen_at`: when it was
    last in use, to the hour; `locations`, `partials`: how many it has.
    """

    id: str
    host: str
    path: str
    first_seen: float
    seen_at: float
    locations: int
    partials: int


def settle(database: Database, home: Home, *, now: float) -> None:
    """Find out which store a process works for, make it known if it isn't, and let `database` be for it.

    Once in a boot of a machine this writes; else it only reads. `now`: UTC epoch seconds. Raises StoreError,
    DiskFullError.
    """
    if not database.is_shared:
        return
    own, here = read_id(home), seat_of(home)
    with database.read() as session:
        noted = _noted(session, own)
    if own is None or noted is None or (own.seat, noted.seat) != (here, here):
        own = _move_in(database, home, here, now=now)
    elif not 0 <= now - noted.seen_at < SEEN_EVERY:
        with contextlib.suppress(SamaraError), database.note() as session:  # who may only read is not kept from that
            _see(session, own, home, now=now)
    database.store = own.id


def settle_to_read(database: Database, home: Home, *, now: float) -> None:
    """The same for who may not be able to write: then a store that isn't known yet has nothing."""
    if not database.is_shared or not home.root.is_dir():
        return
    try:
        settle(database, home, now=now)
    except SamaraError:
        peek(database, home)


def peek(database: Database, home: Home) -> None:
    """The same for who changes nothing: what the file says is believed."""
    if database.is_shared:
        with contextlib.suppress(StoreError):
            own = read_id(home)
            database.store = UNCLAIMED if own is None else own.id


def every(session: Session) -> tuple[StoreStatus, ...]:
    """All stores that the database knows, the first one first."""
    places, transfers = _counted(session, LocationRow), _counted(session, PartialRow)
    return tuple(
        StoreStatus(
            id=row.id,
            host=row.host,
            path=row.path,
            first_seen=float(row.first_seen),
            seen_at=float(row.seen_at),
            locations=places.get(row.id, 0),
            partials=transfers.get(row.id, 0),
        )
        for row in session.scalars(select(StoreRow).order_by(StoreRow.first_seen, StoreRow.id))
    )


def unclaimed(session: Session) -> int:
    """How many locations are of no store."""
    return _counted(session, LocationRow).get(UNCLAIMED, 0)


def forget(session: Session, store: str) -> int:
    """Forget a store and all that is its own, or what is unclaimed; how many locations that were.

    Of blobs that were merely found nothing is left without a location. Models stay, and what its tracker counted: they
    are everybody's.
    """
    found = set(session.scalars(select(LocationRow.blob_id).where(LocationRow.store == store)))
    records = select(PullRecordRow.id).where(PullRecordRow.store == store)
    session.execute(sa.delete(PullReferenceRow).where(PullReferenceRow.record_id.in_(records)))
    gone = session.scalar(select(sa.func.count()).select_from(LocationRow).where(LocationRow.store == store)) or 0
    for table in (LocationRow, PartialRow, PullRecordRow):
        session.execute(sa.delete(table).where(table.store == store))
    session.execute(sa.delete(StoreRow).where(StoreRow.id == store))
    index_blobs.drop_unfound(session, sorted(found))
    return gone


def _move_in(database: Database, home: Home, here: str, *, now: float) -> StoreId:
    """The file first, then the row: the seat of before is in the file, so that a kill in between changes nothing."""
    with id_locked(home):
        own = read_id(home)  # another process may have been here meanwhile
        with database.read() as session:
            noted = _noted(session, own)
        wanted = next_id(own, here, None if noted is None else noted.seat, fresh=new_id())
        if wanted != own:
            write_id(home, wanted)
        is_known = noted is not None and own is not None and wanted.id == own.id
        with database.note() if is_known else database.write() as session:
            _see(session, wanted, home, now=now)
            if not is_known:
                _take_over(session, home, wanted.id)
        return wanted


def _noted(session: Session, own: StoreId | None) -> StoreRow | None:
    return None if own is None else session.get(StoreRow, own.id)


def _see(session: Session, own: StoreId, home: Home, *, now: float) -> None:
    seen = {
        "seat": own.seat,
        "host": _plain(platform.node(), 255),
        "path": _plain(str(home.root), 4096),
        "seen_at": now,
    }
    made = insert(StoreRow).values(id=own.id, first_seen=now, **seen)
    session.execute(made.on_conflict_do_update(index_elements=[StoreRow.id], set_=seen))


def _plain(text: str, length: int) -> str:
    """A text for people that any database takes."""
    return text.encode(errors="replace").decode().replace("\0", "")[:length]


def _take_over(session: Session, home: Home, store: str) -> None:
    same_path = select(StoreRow.id).where(StoreRow.path == _plain(str(home.root), 4096), StoreRow.id != store)
    sources = [UNCLAIMED, *session.scalars(same_path)]
    for rows in _by_path(session, sources):
        chosen = _chosen(home, rows)
        if chosen is None:
            continue
        row, is_same = chosen
        values = {column.name: getattr(row, column.name) for column in _PLACE.columns if column.name != "id"}
        session.execute(insert(LocationRow).values({**values, "store": store}).on_conflict_do_nothing())
        if is_same:  # proven to be ours: it needn't be found by anybody else
            theirs = [one.id for one in rows if one.store == UNCLAIMED]
            session.execute(sa.delete(LocationRow).where(LocationRow.id.in_(theirs)))
    noted = session.execute(
        select(PartialRow.blob_id, BlobRow.b3, PartialRow.release_id, PartialRow.started_at)
        .join(BlobRow, PartialRow.blob_id == BlobRow.id)
        .where(PartialRow.store.in_(sources))
        .order_by(PartialRow.started_at.desc())
    ).all()
    for blob_id, b3, release_id, started_at in noted:
        if (home.partials / b3_hex(digest_of(b3))).is_dir():
            begun = {"blob_id": blob_id, "release_id": release_id, "started_at": started_at, "store": store}
            session.execute(insert(PartialRow).values(begun).on_conflict_do_nothing())
            session.execute(sa.delete(PartialRow).where(PartialRow.blob_id == blob_id, PartialRow.store == UNCLAIMED))


def _by_path(session: Session, sources: Sequence[str]) -> Iterator[list[LocationRow]]:
    """All locations of these stores, those of one path together, the one that was verified last first. Read some at a
    time: there may be many.
    """
    after = ""
    while True:
        some = select(LocationRow.path).where(LocationRow.path > after, LocationRow.store.in_(sources)).distinct()
        paths = session.scalars(some.order_by(LocationRow.path).limit(_PER_READ)).all()
        if not paths:
            return
        after = paths[-1]
        found: dict[str, list[LocationRow]] = {path: [] for path in paths}
        rows = session.scalars(
            select(LocationRow)
            .where(LocationRow.path.in_(paths), LocationRow.store.in_(sources))
            .order_by(LocationRow.verified_at.desc())
            .options(undefer(LocationRow.store))
        )
        for row in rows:
            found[row.path].append(row)
        yield from found.values()
        session.expunge_all()


def _chosen(home: Home, rows: Sequence[LocationRow]) -> tuple[LocationRow, bool] | None:
    """Of what is recorded for one path what is true here, and whether surely."""
    path = path_of(rows[0].path)
    is_ours = path.is_relative_to(home.blobs)
    rows = [row for row in rows if is_ours or not row.in_store]
    with contextlib.suppress(StoreError):
        here = stamp_at(path) if rows else None
        if here is None:
            return None
        for row in rows:
            if Stamp(size=row.size, mtime_ns=row.mtime_ns, inode=row.inode, device=row.device) == here:
                return row, True
        return next(((row, False) for row in rows if is_ours and row.in_store and row.size == here.size), None)
    return None


def _counted(session: Session, table: type[LocationRow] | type[PartialRow]) -> dict[str, int]:
    rows = session.execute(select(table.store, sa.func.count()).group_by(table.store))
    return {store: int(count) for store, count in rows}
