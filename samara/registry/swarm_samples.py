"""How swarms were over time: what a tracker counted, kept for charts. Queries of `samara.registry.listings` on rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.tables import BlobRow, SwarmSampleRow
from samara.schemas.digests import b3_raw


@dataclass(frozen=True, kw_only=True, slots=True)
class SwarmSample:
    """A swarm at one moment (UTC epoch seconds)."""

    at: int
    seeders: int
    leechers: int
    completed: int


def add_samples(session: Session, samples: Sequence[tuple[str, SwarmSample]], *, forget_before: int) -> None:
    """See `Listings.add_samples`."""
    if forget_before > 0:
        session.execute(sa.delete(SwarmSampleRow).where(SwarmSampleRow.at < forget_before))
    for b3, sample in samples:
        blob_id = session.scalar(select(BlobRow.id).where(BlobRow.b3 == b3_raw(b3)))
        if blob_id is None:
            continue
        row = session.get(SwarmSampleRow, (blob_id, sample.at))
        if row is None:
            row = SwarmSampleRow(blob_id=blob_id, at=sample.at, seeders=0, leechers=0, completed=0)
            session.add(row)
        row.seeders = max(row.seeders, sample.seeders)
        row.leechers = max(row.leechers, sample.leechers)
        row.completed = max(row.completed, sample.completed)


def samples(session: Session, b3: str, *, since: int) -> tuple[SwarmSample, ...]:
    """See `Listings.samples`."""
    rows = session.scalars(
        select(SwarmSampleRow)
        .join(BlobRow, SwarmSampleRow.blob_id == BlobRow.id)
        .where(BlobRow.b3 == b3_raw(b3), SwarmSampleRow.at >= since)
        .order_by(SwarmSampleRow.at)
    )
    return tuple(
        SwarmSample(at=int(row.at), seeders=row.seeders, leechers=row.leechers, completed=row.completed) for row in rows
    )
