"""What the index holds, seen as space: which releases need which blobs, and how one is forgotten.

Queries of `samara.registry.index` on rows alone, so that a release whose manifest rotted can be listed and removed like
any other. Nothing here touches a file: the index forgets first, names and bytes go after it (`samara.fetcher.clean`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from samara.registry.index_columns import digest_of
from samara.registry.own_rows import is_own
from samara.registry.records import Location
from samara.registry.tables import (
    BlobRow,
    BlockRow,
    CatalogRow,
    EquivocationRow,
    FileRow,
    ListingRow,
    LocationRow,
    ModelRow,
    NamespaceRow,
    PartialRow,
    PublisherRow,
    ReleaseRow,
    SwarmSampleRow,
    TorrentRow,
)
from samara.schemas.digests import b3_raw, b3_text
from samara.schemas.errors import SamaraError
from samara.schemas.manifest import ReleaseFile, parse_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldFile:
    """One file of a release: its name there, its blob (b3 text), its size in bytes."""

    path: str
    b3: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldRelease:
    """A release as its rows tell it. `publisher_name`: its publisher's own word; `added_at`: UTC epoch seconds;
    `is_listed`: the registry of this machine lists it, and it wasn't withdrawn. `is_held_elsewhere`: another store that
    shares the database has bytes of it, or is pulling it.
    """

    manifest: str
    identity: str
    publisher_name: str
    model: str
    tag: str
    version: int
    added_at: float
    files: tuple[HeldFile, ...]
    is_listed: bool = False
    is_held_elsewhere: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Holdings:
    """Every release, oldest first; where blobs lie (by b3 text); blobs whose transfer is noted."""

    releases: tuple[HeldRelease, ...] = ()
    locations: Mapping[str, tuple[Location, ...]]
    partials: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Forgotten:
    """A release that was. `blobs` (b3 text): what nothing here needs now; `stays`: it is known on, for another store's
    sake.
    """

    blobs: tuple[str, ...]
    stays: bool = False


def held_releases(session: Session) -> tuple[HeldRelease, ...]:
    """Every release, oldest first."""
    files: dict[int, list[HeldFile]] = {}
    rows = session.execute(
        select(FileRow.release_id, FileRow.path, BlobRow.b3, BlobRow.size)
        .join(BlobRow, FileRow.blob_id == BlobRow.id)
        .order_by(FileRow.release_id, FileRow.ordinal)
    )
    for release_id, path, raw, size in rows:
        files.setdefault(release_id, []).append(HeldFile(path=path, b3=b3_text(raw), size=int(size)))
    listed = set(session.scalars(select(ListingRow.release_id).where(ListingRow.retracted.is_(None))))
    elsewhere = _held_elsewhere(session)
    found = session.execute(
        select(ReleaseRow, ModelRow.name, PublisherRow.identity, PublisherRow.name)
        .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .order_by(ReleaseRow.id)
    )
    return tuple(
        HeldRelease(
            manifest=b3_text(row.manifest_digest),
            identity=identity,
            publisher_name=name,
            model=model,
            tag=row.tag,
            version=int(row.version),
            added_at=float(row.added_at),
            files=tuple(files.get(row.id, ())),
            is_listed=row.id in listed,
            is_held_elsewhere=row.id in elsewhere,
        )
        for row, model, identity, name in found
    )


def is_needed(session: Session, b3: str, *, let_go: Collection[str] = ()) -> bool:
    """Whether a release has a file with these bytes.

    `let_go`: manifests of releases that this store has forgotten and others that share the database have not: they need
    a blob here only if this store has taken it up again.
    """
    need = (
        select(ReleaseRow.manifest_digest)
        .join(FileRow, FileRow.release_id == ReleaseRow.id)
        .join(BlobRow, FileRow.blob_id == BlobRow.id)
        .where(BlobRow.b3 == b3_raw(b3))
    )
    if not let_go:
        return session.scalar(need.limit(1)) is not None
    if not set(map(digest_of, session.scalars(need))) <= set(let_go):
        return True
    return any(
        session.scalar(
            select(table.blob_id)
            .join(BlobRow, table.blob_id == BlobRow.id)
            .where(BlobRow.b3 == b3_raw(b3), is_own(session, table.store))
            .limit(1)
        )
        is not None
        for table in (LocationRow, PartialRow)
    )


def forget(session: Session, manifest: str) -> Forgotten | None:
    """Remove a release and what only it needs. None: it wasn't known.

    If it is listed here, its names mean nothing any more until its publisher publishes again: whether that may be is
    the caller's to decide. If another store has bytes of it, only what this store knows of them is forgotten.
    """
    row = session.scalar(select(ReleaseRow).where(ReleaseRow.manifest_digest == b3_raw(manifest)))
    if row is None:
        return None
    if row.id in _held_elsewhere(session, row.id):
        return Forgotten(blobs=_let_go(session, row.id), stays=True)
    blobs = list(session.scalars(select(FileRow.blob_id).where(FileRow.release_id == row.id).distinct()))
    session.execute(sa.delete(ListingRow).where(ListingRow.release_id == row.id))
    session.execute(sa.delete(FileRow).where(FileRow.release_id == row.id))
    dropped = []
    for blob_id in blobs:
        heirs = session.scalars(
            select(ReleaseRow)
            .join(FileRow, FileRow.release_id == ReleaseRow.id)
            .where(FileRow.blob_id == blob_id)
            .order_by(ReleaseRow.id)
        ).all()
        blob = session.get_one(BlobRow, blob_id)
        if heirs:
            _leave_to(session, blob, row.id, heirs)
        else:
            dropped.append(b3_text(blob.b3))
            _drop(session, blob_id)
    session.execute(sa.delete(PartialRow).where(PartialRow.release_id == row.id))
    model_id = row.model_id
    session.execute(sa.delete(ReleaseRow).where(ReleaseRow.id == row.id))
    _drop_childless(session, model_id)
    return Forgotten(blobs=tuple(dropped))


def _held_elsewhere(session: Session, release_id: int | None = None) -> set[int]:
    """The releases (or whether this one is among them) of which another store has files, or a transfer."""
    if session.get_bind().dialect.name == "sqlite":
        return set()
    found: set[int] = set()
    for table in (LocationRow, PartialRow):
        held = (
            select(FileRow.release_id)
            .join(table, table.blob_id == FileRow.blob_id)
            .where(sa.not_(is_own(session, table.store)))
            .distinct()
        )
        found.update(session.scalars(held if release_id is None else held.where(FileRow.release_id == release_id)))
    return found


def _let_go(session: Session, release_id: int) -> tuple[str, ...]:
    """Forget where a release's blobs lie in this store, and its transfers, but for those that another release has."""
    others = aliased(FileRow)
    alone = (
        select(FileRow.blob_id)
        .where(FileRow.release_id == release_id)
        .where(sa.not_(sa.exists().where(others.blob_id == FileRow.blob_id, others.release_id != release_id)))
    )
    for table in (LocationRow, PartialRow):
        session.execute(sa.delete(table).where(table.blob_id.in_(alone), is_own(session, table.store)))
    return tuple(b3_text(raw) for raw in session.scalars(select(BlobRow.b3).where(BlobRow.id.in_(alone))))


def _drop(session: Session, blob_id: int) -> None:
    """A blob that no release has: its files in place are forgotten with it, not touched."""
    for table in (SwarmSampleRow, PartialRow, LocationRow, BlockRow, TorrentRow):
        session.execute(sa.delete(table).where(table.blob_id == blob_id))
    session.execute(sa.delete(BlobRow).where(BlobRow.id == blob_id))


def _leave_to(session: Session, blob: BlobRow, release_id: int, heirs: Sequence[ReleaseRow]) -> None:
    """A blob that others have too: nothing of it may rest on the word of the release that goes."""
    kept = select(FileRow.torrent_id).where(FileRow.blob_id == blob.id, FileRow.torrent_id.is_not(None))
    session.execute(sa.delete(TorrentRow).where(TorrentRow.blob_id == blob.id, TorrentRow.id.not_in(kept)))
    session.execute(
        sa.update(PartialRow)
        .where(PartialRow.blob_id == blob.id, PartialRow.release_id == release_id)
        .values(release_id=heirs[0].id)
    )
    descriptions = [file for heir in heirs if (file := _description(heir, blob.b3)) is not None]
    if not descriptions:
        return
    recorded = (blob.layout, _blocks(session, blob.id))
    if recorded in [(file.layout, _blocks_of(file)) for file in descriptions]:
        return
    blob.layout = descriptions[0].layout
    session.execute(sa.delete(BlockRow).where(BlockRow.blob_id == blob.id))
    session.execute(
        sa.insert(BlockRow),
        [
            {"blob_id": blob.id, "ordinal": b.index, "offset": b.offset, "size": b.size, "digest": b.digest}
            for b in descriptions[0].blocks
        ],
    )


def _description(row: ReleaseRow, b3: bytes) -> ReleaseFile | None:
    """How a release describes a blob; None where its manifest rotted, which `audit` finds."""
    try:
        files = parse_manifest(row.payload).files
    except (SamaraError, TypeError):
        return None
    return next((file for file in files if b3_raw(file.b3) == b3), None)


def _blocks(session: Session, blob_id: int) -> list[tuple[int, int, bytes]]:
    rows = session.execute(
        select(BlockRow.offset, BlockRow.size, BlockRow.digest)
        .where(BlockRow.blob_id == blob_id)
        .order_by(BlockRow.ordinal)
    )
    return [(int(offset), int(size), digest) for offset, size, digest in rows]


def _blocks_of(file: ReleaseFile) -> list[tuple[int, int, bytes]]:
    return [(block.offset, block.size, block.digest) for block in file.blocks]


def _drop_childless(session: Session, model_id: int) -> None:
    """A model without releases, and a publisher without models, are no longer known here; pins lie elsewhere.

    A publisher that has a catalog here stays: what it has proven to this registry, and whose names are its own, must
    outlive its last model.
    """
    if session.scalar(select(ReleaseRow.id).where(ReleaseRow.model_id == model_id).limit(1)) is not None:
        return
    publisher_id = session.get_one(ModelRow, model_id).publisher_id
    session.execute(sa.delete(ModelRow).where(ModelRow.id == model_id))
    kept = (ModelRow, CatalogRow, NamespaceRow, EquivocationRow)
    if not any(session.scalar(select(sa.exists().where(table.publisher_id == publisher_id))) for table in kept):
        session.execute(sa.delete(PublisherRow).where(PublisherRow.id == publisher_id))
