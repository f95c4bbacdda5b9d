"""The records of pulls that the index keeps: the newest ones, within a number and a sum of bytes.

Queries of `samara.registry.index` on rows: on those of the own store, and of before there were any. What a record says:
`samara.schemas.pull_record`.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.own_rows import is_own, own_store
from samara.registry.tables import PullRecordRow, PullReferenceRow
from samara.schemas.errors import MalformedError
from samara.schemas.pull_record import PullRecord, as_recorded, tidy

KEPT_RECORDS = 1000
KEPT_BYTES = 64 << 20  # many peers make a long record: a thousand of the longest would be gigabytes


def add(session: Session, record: PullRecord) -> None:
    """Keep a record, and forget the oldest ones that there is no room for beside it."""
    tidied = tidy(record)
    document = tidied.as_json()
    row = PullRecordRow(size=len(document), document=document, store=own_store(session))
    session.add(row)
    session.flush()
    session.add_all(PullReferenceRow(record_id=row.id, reference=one) for one in tidied.references)
    session.flush()
    own = is_own(session, PullRecordRow.store)
    sizes = session.execute(select(PullRecordRow.id, PullRecordRow.size).where(own).order_by(PullRecordRow.id.desc()))
    last = last_kept((int(number), int(size)) for number, size in sizes)
    older = select(PullRecordRow.id).where(own, PullRecordRow.id < last)
    session.execute(sa.delete(PullReferenceRow).where(PullReferenceRow.record_id.in_(older)))
    session.execute(sa.delete(PullRecordRow).where(own, PullRecordRow.id < last))


def newest(session: Session, limit: int, reference: str | None) -> tuple[PullRecord, ...]:
    """At most `limit` records, newest first; with `reference` only those of it. ValueError for a row that rotted."""
    shown = sa.or_(is_own(session, PullRecordRow.store), PullRecordRow.store == "")
    wanted = select(PullRecordRow.document).where(shown).order_by(PullRecordRow.id.desc()).limit(limit)
    if reference is not None:
        wanted = wanted.join(PullReferenceRow, PullReferenceRow.record_id == PullRecordRow.id).where(
            PullReferenceRow.reference == as_recorded(reference)
        )
    return tuple(_record(document) for document in session.scalars(wanted))


def last_kept(newest_first: Iterable[tuple[int, int]]) -> int:
    """(id, bytes) of each record, newest first → the id of the oldest that is kept. The newest one always is. Pure."""
    last, total = 0, 0
    for count, (number, size) in enumerate(newest_first):
        total += size
        if count and (count >= KEPT_RECORDS or total > KEPT_BYTES):
            break
        last = number
    return last


def _record(document: bytes) -> PullRecord:
    try:
        return PullRecord.from_json(document)
    except MalformedError as error:
        raise ValueError(str(error)) from None
