"""What a registry lists as a whole, and how much of it is here. A query of `samara.registry.listings` on rows."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.own_rows import is_own
from samara.registry.tables import (
    BlobRow,
    CatalogRow,
    FileRow,
    ListingRow,
    LocationRow,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """How much is listed here. Sizes are bytes; `here`: of the listed blobs those that a file of this store's held
    whole when it was last verified. Nothing is looked at on disk.
    """

    publishers: int
    models: int
    names: int
    blobs: int
    size: int
    blobs_here: int
    size_here: int
    database: str


def overview(session: Session) -> Overview:
    """See `Overview`. Withdrawn releases don't count."""
    listed = (
        select(FileRow.blob_id)
        .join(ListingRow, ListingRow.release_id == FileRow.release_id)
        .where(ListingRow.retracted.is_(None))
    )
    blobs = select(sa.func.count(), sa.func.coalesce(sa.func.sum(BlobRow.size), 0)).where(BlobRow.id.in_(listed))
    whole = select(LocationRow.blob_id).where(
        LocationRow.size == BlobRow.size, LocationRow.blob_id == BlobRow.id, is_own(session, LocationRow.store)
    )
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
