"""How swarms were over time: what trackers counted, kept for charts. Queries of `samara.registry.listings` on rows.

Several instances may share a database, each with a tracker of its own: of one instance's counts for a moment the larger
ones stand, and what several instances counted is added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.own_rows import own_store
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
        row = session.get(SwarmSampleRow, (blob_id, sample.at, own_store(session)))
        if row is None:
            row = SwarmSampleRow(
                blob_id=blob_id, at=sample.at, store=own_store(session), seeders=0, leechers=0, completed=0
            )
            session.add(row)
        row.seeders = max(row.seeders, sample.seeders)
        row.leechers = max(row.leechers, sample.leechers)
        row.completed = max(row.completed, sample.completed)


def samples(session: Session, b3: str, *, since: int) -> tuple[SwarmSample, ...]:
    """See `Listings.samples`."""
    rows = session.execute(
        select(
            SwarmSampleRow.at,
            sa.func.sum(SwarmSampleRow.seeders),
            sa.func.sum(SwarmSampleRow.leechers),
            sa.func.sum(SwarmSampleRow.completed),
        )
        .join(BlobRow, SwarmSampleRow.blob_id == BlobRow.id)
        .where(BlobRow.b3 == b3_raw(b3), SwarmSampleRow.at >= since)
        .group_by(SwarmSampleRow.at)
        .order_by(SwarmSampleRow.at)
    )
    return tuple(
        SwarmSample(at=int(at), seeders=int(seeders), leechers=int(leechers), completed=int(completed))
        for at, seeders, leechers, completed in rows
    )
