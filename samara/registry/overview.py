"""What a registry holds as a whole, and what it knows of one publisher's catalog, for its pages. Used by `Listings`."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.index_columns import text_of
from samara.registry.tables import (
    BlobRow,
    CatalogRow,
    FileRow,
    ListingRow,
    LocationRow,
    ModelRow,
    NamespaceRow,
    PublisherRow,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """How much is listed here. Sizes are bytes; `here`: of the listed blobs those that a file of ours held whole when
    it was last verified. Nothing is looked at on disk.
    """

    publishers: int
    models: int
    names: int
    blobs: int
    size: int
    blobs_here: int
    size_here: int
    database: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogStamp:
    """Which catalog of a publisher is the newest here, and when it came (UTC epoch seconds)."""

    root_version: int
    timestamp_version: int
    accepted_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelNames:
    """A model that a publisher lists, and how many names it has, withdrawn ones too."""

    model: str
    names: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnersModels:
    """Some of a publisher's models by name; `total`: all of them."""

    models: tuple[ModelNames, ...]
    total: int


def owners_models(session: Session, identity: str, *, limit: int, offset: int) -> OwnersModels:
    """The models of a publisher in the order of their names, so many from the `offset`-th on."""
    listed = (
        select(ModelRow.name, sa.func.count().label("names"))
        .join(ListingRow, ListingRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity)
        .group_by(ModelRow.id, ModelRow.name)
    )
    total = session.scalar(select(sa.func.count()).select_from(listed.subquery())) or 0
    rows = session.execute(listed.order_by(ModelRow.name).limit(limit).offset(offset))
    return OwnersModels(
        models=tuple(ModelNames(model=text_of(name), names=names) for name, names in rows), total=total
    )  # fmt: skip


def overview(session: Session) -> Overview:
    """See `Overview`. Withdrawn releases don't count."""
    listed = (
        select(FileRow.blob_id)
        .join(ListingRow, ListingRow.release_id == FileRow.release_id)
        .where(ListingRow.retracted.is_(None))
    )
    blobs = select(sa.func.count(), sa.func.coalesce(sa.func.sum(BlobRow.size), 0)).where(BlobRow.id.in_(listed))
    whole = select(LocationRow.blob_id).where(LocationRow.size == BlobRow.size, LocationRow.blob_id == BlobRow.id)
    count, size = session.execute(blobs).one()
    here, size_here = session.execute(blobs.where(sa.exists(whole))).one()
    models, names = session.execute(
        select(sa.func.count(sa.distinct(ListingRow.model_id)), sa.func.count()).where(ListingRow.retracted.is_(None))
    ).one()
    return Overview(
        publishers=session.scalar(select(sa.func.count()).select_from(CatalogRow)) or 0,
        models=models,
        names=names,
        blobs=count,
        size=int(size),
        blobs_here=here,
        size_here=int(size_here),
        database={"postgresql": "PostgreSQL", "sqlite": "SQLite"}.get(session.get_bind().dialect.name, "another"),
    )


def namespaces(session: Session, identity: str) -> tuple[str, ...]:
    """Every name at this registry that is a publisher's own, the first one first."""
    found = session.scalars(
        select(NamespaceRow.name)
        .join(PublisherRow, NamespaceRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity)
        .order_by(NamespaceRow.claimed_at, NamespaceRow.name)
    )
    return tuple(map(text_of, found))


def catalog_stamp(session: Session, identity: str) -> CatalogStamp | None:
    """Which catalog of a publisher is the newest here."""
    row = session.execute(
        select(CatalogRow.root_version, CatalogRow.timestamp_version, CatalogRow.accepted_at)
        .join(PublisherRow, CatalogRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity)
    ).first()
    if row is None:
        return None
    return CatalogStamp(root_version=int(row[0]), timestamp_version=int(row[1]), accepted_at=float(row[2]))
