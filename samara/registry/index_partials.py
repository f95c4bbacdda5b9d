"""Transfers that have begun and not ended, as the index notes them; their truth lies in `partial/<b3>/`.

Queries of `samara.registry.index` on rows: on those of the own store alone.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.index_columns import digest_of
from samara.registry.own_rows import is_own, own_store
from samara.registry.tables import BlobRow, PartialRow, ReleaseRow
from samara.schemas.digests import b3_raw
from samara.schemas.errors import StoreError


def start(session: Session, b3: str, manifest: str, *, now: float) -> None:
    """Note a transfer, once. StoreError for a blob or release that isn't known."""
    blob_id = session.scalar(select(BlobRow.id).where(BlobRow.b3 == b3_raw(b3)))
    release_id = session.scalar(select(ReleaseRow.id).where(ReleaseRow.manifest_digest == b3_raw(manifest)))
    if blob_id is None or release_id is None:
        raise StoreError(f"the index doesn't know blob {b3} of manifest {manifest}")
    noted = select(PartialRow.blob_id).where(PartialRow.blob_id == blob_id, is_own(session, PartialRow.store))
    if session.scalar(noted) is None:
        session.add(PartialRow(blob_id=blob_id, release_id=release_id, started_at=now, store=own_store(session)))


def end(session: Session, b3: str) -> None:
    """Forget a transfer."""
    blob_id = session.scalar(select(BlobRow.id).where(BlobRow.b3 == b3_raw(b3)))
    session.execute(sa.delete(PartialRow).where(PartialRow.blob_id == blob_id, is_own(session, PartialRow.store)))


def every(session: Session) -> tuple[str, ...]:
    """The blobs (b3 text) of all of them."""
    rows = session.scalars(
        select(BlobRow.b3)
        .join(PartialRow, PartialRow.blob_id == BlobRow.id)
        .where(is_own(session, PartialRow.store))
        .order_by(BlobRow.id)
    )
    return tuple(map(digest_of, rows))
