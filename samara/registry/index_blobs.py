"""Blobs in the index: their blocks, and the files that hold them, in the store or in place.

Queries of `samara.registry.index` on rows. Blobs and blocks are known to all that share a database; where files lie is
a matter of each store, and nothing here tells or changes another's (`samara.registry.own_rows`). A blob that no release
has was merely found (`samara adopt`): it is forgotten with its last location, and described anew by the first release
that has it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import cast

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.index_columns import bytes_of, digest_of, path_of, text_of
from samara.registry.own_rows import is_own, own_store
from samara.registry.records import BlobRecord, Location
from samara.registry.tables import BlobRow, BlockRow, FileRow, LocationRow, TorrentRow
from samara.schemas.digests import b3_raw, sha256_raw, sha256_text
from samara.schemas.errors import StoreError
from samara.schemas.manifest import Block, ReleaseFile
from samara.schemas.stamps import Stamp

_AT_ONCE = 500  # values in one question: SQLite takes a limited number


def by_digest(session: Session, b3: str) -> BlobRecord | None:
    """One blob with its torrents and every location recorded for it."""
    row = session.scalar(select(BlobRow).where(BlobRow.b3 == b3_raw(b3)))
    return None if row is None else _record(session, row)


def every(session: Session) -> tuple[BlobRecord, ...]:
    """Every blob known, oldest first."""
    return tuple(_record(session, row) for row in session.scalars(select(BlobRow).order_by(BlobRow.id)))


def of_size(session: Session, size: int) -> tuple[BlobRecord, ...]:
    """Blobs of exactly `size` bytes."""
    rows = session.scalars(select(BlobRow).where(BlobRow.size == size).order_by(BlobRow.id))
    return tuple(_record(session, row) for row in rows)


def blocks(session: Session, b3: str) -> tuple[Block, ...]:
    """The blocks recorded for a blob, in order."""
    rows = session.execute(
        select(BlockRow.ordinal, BlockRow.offset, BlockRow.size, BlockRow.digest)
        .join(BlobRow, BlockRow.blob_id == BlobRow.id)
        .where(BlobRow.b3 == b3_raw(b3))
        .order_by(BlockRow.ordinal)
    )
    return tuple(Block(index=i, offset=int(o), size=int(s), digest=bytes_of(d)) for i, o, s, d in rows)


def block_places(session: Session, digests: Sequence[bytes]) -> dict[bytes, list[tuple[Path, int, int]]]:
    """Digest of a block → (path, offset, size) wherever a file of ours held such bytes when it was verified."""
    found: dict[bytes, list[tuple[Path, int, int]]] = {}
    for start in range(0, len(digests), _AT_ONCE):
        rows = session.execute(
            select(BlockRow.digest, LocationRow.path, BlockRow.offset, BlockRow.size)
            .join(LocationRow, LocationRow.blob_id == BlockRow.blob_id)
            .where(BlockRow.digest.in_(digests[start : start + _AT_ONCE]), is_own(session, LocationRow.store))
        )
        for digest, path, offset, size in rows:
            found.setdefault(bytes_of(digest), []).append((path_of(path), int(offset), int(size)))
    return found


def blobs_of_files(session: Session, files: Sequence[ReleaseFile]) -> dict[str, int]:
    """`b3:…` → number of the blob of each of a release's files; made, or described by them, unless another release did
    so before. A release may have thousands, so they are asked for and written many at a time.
    """
    first: dict[str, ReleaseFile] = {}
    for file in files:
        first.setdefault(file.b3, file)
    known = _ids(session, list(first))
    described = _in_releases(session, list(known.values()))
    for b3, blob_id in known.items():
        if blob_id not in described:  # found by `adopt`, cut as we saw fit: a release knows better
            _describe(session, blob_id, first[b3])
    new = [file for b3, file in first.items() if b3 not in known]
    if new:
        blobs = [
            {"b3": b3_raw(one.b3), "sha256": sha256_raw(one.sha256), "size": one.size, "layout": one.layout}
            for one in new
        ]
        session.connection().execute(sa.insert(cast(sa.Table, BlobRow.__table__)), blobs)
        known |= _ids(session, [one.b3 for one in new])
        _add_blocks(session, [(known[one.b3], one.blocks) for one in new])
    return known


def add_found(session: Session, b3: str, sha256: str, size: int, layout: str, blocks: Sequence[Block]) -> None:
    """Record what a file of no known release holds. `size`: bytes."""
    if session.scalar(select(BlobRow.id).where(BlobRow.b3 == b3_raw(b3))) is None:
        _make(session, b3, sha256, size, layout, blocks)


def set_location(
    session: Session, b3: str, path: Path, stamp: Stamp, *, in_store: bool, verified_at: float
) -> None:  # fmt: skip
    """Record that `path` held exactly this blob when it bore `stamp`. StoreError for a blob that isn't known."""
    blob_id = session.scalar(select(BlobRow.id).where(BlobRow.b3 == b3_raw(b3)))
    if blob_id is None:
        raise StoreError(f"the index doesn't know blob {b3}")
    drop_location(session, path, but=blob_id)
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
            store=own_store(session),
        )
    )


def drop_location(session: Session, path: Path, *, but: int | None = None) -> None:
    """Forget a location, and with its last one a blob that was merely found; not blob `but`, which gets another."""
    here = sa.and_(LocationRow.path == str(path), is_own(session, LocationRow.store))
    blob_id = session.scalar(select(LocationRow.blob_id).where(here))
    if blob_id is None:
        return
    session.execute(sa.delete(LocationRow).where(here))
    if blob_id != but:
        drop_unfound(session, [blob_id])


def drop_unfound(session: Session, blob_ids: Sequence[int]) -> None:
    """Forget those of these blobs that were merely found, and lie nowhere now, in no store."""
    in_releases = _in_releases(session, blob_ids)
    for blob_id in blob_ids:
        elsewhere = session.scalar(select(LocationRow.id).where(LocationRow.blob_id == blob_id).limit(1))
        if elsewhere is None and blob_id not in in_releases:
            session.execute(sa.delete(BlockRow).where(BlockRow.blob_id == blob_id))
            session.execute(sa.delete(BlobRow).where(BlobRow.id == blob_id))


def doubt_location(session: Session, path: Path) -> None:
    """Let the recorded stamp be one that no file has."""
    nothing = {"size": 0, "mtime_ns": 0, "inode": 0, "verified_at": 0.0}
    here = sa.and_(LocationRow.path == str(path), is_own(session, LocationRow.store))
    session.execute(sa.update(LocationRow).where(here).values(nothing))


def location_at(session: Session, path: Path) -> tuple[str, Location] | None:
    """(b3, location) recorded for one path."""
    row = session.execute(
        select(BlobRow.b3, LocationRow)
        .join(BlobRow, LocationRow.blob_id == BlobRow.id)
        .where(LocationRow.path == str(path), is_own(session, LocationRow.store))
    ).first()
    return None if row is None else (digest_of(row[0]), _location(row[1]))


def locations(session: Session) -> dict[str, tuple[Location, ...]]:
    """b3 text of a blob → every location recorded for it."""
    rows = session.execute(
        select(BlobRow.b3, LocationRow)
        .join(LocationRow, LocationRow.blob_id == BlobRow.id)
        .where(is_own(session, LocationRow.store))
        .order_by(LocationRow.id)
    )
    places: dict[str, list[Location]] = {}
    for raw, row in rows:
        places.setdefault(digest_of(raw), []).append(_location(row))
    return {b3: tuple(found) for b3, found in places.items()}


def places_below(session: Session, path: Path) -> tuple[Path, ...]:
    """The recorded locations outside the store that are `path` or lie below it."""
    prefix = str(path).rstrip("/\\") + os.sep
    rows = session.scalars(
        select(LocationRow.path)
        .where(sa.not_(LocationRow.in_store), is_own(session, LocationRow.store))
        .where(sa.or_(LocationRow.path == str(path), LocationRow.path.startswith(prefix, autoescape=True)))
        .order_by(LocationRow.path)
    )
    # SQLite's LIKE takes capitals and small letters for the same
    return tuple(path_of(text) for text in rows if text == str(path) or text.startswith(prefix))


def _record(session: Session, row: BlobRow) -> BlobRecord:
    places = session.scalars(
        select(LocationRow)
        .where(LocationRow.blob_id == row.id, is_own(session, LocationRow.store))
        .order_by(LocationRow.id)
    )
    torrents = session.scalars(select(TorrentRow.data).where(TorrentRow.blob_id == row.id).order_by(TorrentRow.id))
    paths: Sequence[str] = session.scalars(
        select(FileRow.path).where(FileRow.blob_id == row.id).order_by(FileRow.id).limit(1)
    ).all()
    return BlobRecord(
        b3=digest_of(row.b3),
        sha256=sha256_text(row.sha256),
        size=int(row.size),
        layout=text_of(row.layout),
        torrents=tuple(map(bytes_of, torrents)),
        file_name=text_of(paths[0]) if paths else None,
        locations=tuple(map(_location, places)),
    )


def _location(row: LocationRow) -> Location:
    return Location(
        path=path_of(row.path),
        stamp=Stamp(size=int(row.size), mtime_ns=int(row.mtime_ns), inode=int(row.inode), device=int(row.device)),
        in_store=row.in_store,
        verified_at=float(row.verified_at),
    )


def _make(session: Session, b3: str, sha256: str, size: int, layout: str, blocks: Sequence[Block]) -> None:
    row = BlobRow(b3=b3_raw(b3), sha256=sha256_raw(sha256), size=size, layout=layout)
    session.add(row)
    session.flush()
    _add_blocks(session, [(row.id, blocks)])


def _describe(session: Session, blob_id: int, file: ReleaseFile) -> None:
    row = session.get_one(BlobRow, blob_id)
    row.sha256, row.size, row.layout = sha256_raw(file.sha256), file.size, file.layout
    session.execute(sa.delete(BlockRow).where(BlockRow.blob_id == blob_id))
    _add_blocks(session, [(blob_id, file.blocks)])


def _add_blocks(session: Session, blobs: Sequence[tuple[int, Sequence[Block]]]) -> None:
    rows = [(blob_id, b.index, b.offset, b.size, b.digest) for blob_id, blocks in blobs for b in blocks]
    if not rows:
        return
    # as their index is ordered: so each of its pages is written once, not read and written again for block after block
    rows.sort(key=itemgetter(4))
    # by the driver itself: of 16,384 blocks SQLAlchemy's bookkeeping would take longer than all else
    connection = session.connection()
    mark = {"qmark": "?"}.get(connection.dialect.paramstyle, "%s")
    values = ", ".join([mark] * 5)
    connection.exec_driver_sql(
        f'INSERT INTO blocks (blob_id, ordinal, "offset", size, digest) VALUES ({values})',  # noqa: S608
        rows,
    )


def _ids(session: Session, digests: Sequence[str]) -> dict[str, int]:
    """`b3:…` → number, of those that are known."""
    found: dict[str, int] = {}
    for start in range(0, len(digests), _AT_ONCE):
        asked = [b3_raw(one) for one in digests[start : start + _AT_ONCE]]
        rows = session.execute(select(BlobRow.b3, BlobRow.id).where(BlobRow.b3.in_(asked)))
        found.update({digest_of(b3): int(number) for b3, number in rows})
    return found


def _in_releases(session: Session, blob_ids: Sequence[int]) -> set[int]:
    """Of these blobs those that a release has."""
    found: set[int] = set()
    for start in range(0, len(blob_ids), _AT_ONCE):
        asked = blob_ids[start : start + _AT_ONCE]
        found.update(session.scalars(select(FileRow.blob_id).where(FileRow.blob_id.in_(asked)).distinct()))
    return found
