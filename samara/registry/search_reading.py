"""What is listed, from the database into memory (`search_facts`): at first all of it, then what changed. Reads only.

Whoever changes what a listing means says when (`listed_at`). So what changed is mostly what is later than all that was
known; where clocks went back or something was removed, the numbers of all listings and their times are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from samara.registry.search_facts import Facts, Row
from samara.registry.tables import ListingRow, ModelRow

MAX_SEARCHED = 200_000  # listings; of more, the latest
_AT_ONCE = 500  # values in one question: SQLite takes a limited number

# microseconds, without what is the same for decades: whole numbers have the same sum in whichever order
_TIME = sa.cast(ListingRow.listed_at * 1_000_000, sa.BigInteger).op("&")(sa.literal(0xFFFFFFFF, sa.BigInteger))
# each of the latest by its own question: a look into an index, not at all of it
_STAMP = select(
    func.count(),
    select(func.max(ListingRow.id)).scalar_subquery(),
    select(func.max(ListingRow.listed_at)).scalar_subquery(),
    func.sum(_TIME),
).select_from(ListingRow)
_ROWS = select(
    ListingRow.id, _TIME, ListingRow.retracted.is_(None), ListingRow.model_id, ModelRow.publisher_id, ModelRow.name,
    ListingRow.version, ListingRow.listed_at, ListingRow.size, ListingRow.architecture, ListingRow.quantisation,
    ListingRow.license,
).join(ModelRow, ListingRow.model_id == ModelRow.id)  # fmt: skip
_ALL = _ROWS.order_by(ListingRow.id.desc()).limit(MAX_SEARCHED)
_LATER = _ROWS.where(sa.or_(ListingRow.listed_at > sa.bindparam("at"), ListingRow.id > sa.bindparam("number")))
_SOME = _ROWS.where(ListingRow.id.in_(sa.bindparam("numbers", expanding=True)))
_TIMES = select(ListingRow.id, _TIME)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Another one after every change of a listing. `listings`: how many there are, withdrawn ones too; `number`, `at`:
    of the latest; `times`: their sum. Cheap.
    """

    listings: int
    number: int
    at: float
    times: int


@dataclass(frozen=True, slots=True)
class Known:
    """What is listed, as of one moment. `times`: of every listing, withdrawn ones too, by its number."""

    stamp: Stamp
    facts: Facts
    times: dict[int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    """Listings that were read. `rows`: of those that aren't withdrawn."""

    times: dict[int, int]
    rows: list[Row]


def stamp_of(session: Session) -> Stamp:
    """Of what is listed now."""
    count, number, at, times = session.connection().execute(_STAMP).one()
    return Stamp(listings=count, number=number or 0, at=at or 0.0, times=int(times or 0))


def read_listed(session: Session, stamp: Stamp, before: Known | None) -> Known:
    """What is listed now. `before`: of any moment before; what didn't change since isn't read."""
    if before is None or max(stamp.listings, before.stamp.listings) >= MAX_SEARCHED:
        return _all(session, stamp)
    later = _read(session, _LATER, at=before.stamp.at, number=before.stamp.number)
    times = before.times | later.times
    if len(times) == stamp.listings and sum(times.values()) == stamp.times:
        return Known(stamp, before.facts.after(later.rows, later.times.keys()), times)
    times = {number: int(time) for number, time in session.connection().execute(_TIMES)}
    changed = [number for number, time in times.items() if before.times.get(number) != time]
    if len(changed) > len(times) // 4:
        return _all(session, stamp)
    rows: list[Row] = []
    for start in range(0, len(changed), _AT_ONCE):
        rows += _read(session, _SOME, numbers=changed[start : start + _AT_ONCE]).rows
    gone = before.times.keys() - times.keys()
    return Known(stamp, before.facts.after(rows, {*changed, *gone}), times)


def _all(session: Session, stamp: Stamp) -> Known:
    """All anew; of more than are searched, the latest."""
    read = _read(session, _ALL)
    return Known(stamp, Facts.of(read.rows), read.times)


def _read(session: Session, question: sa.Select[Any], **values: object) -> _Read:
    times: dict[int, int] = {}
    rows: list[Row] = []
    for number, time, is_current, *fields in session.connection().execute(question, values):
        times[number] = time
        if is_current:
            rows.append(_row(number, *fields))
    return _Read(times, rows)


def _row(
    number: int, model: int, publisher: int, name: str, version: int, at: float, size: int, *facets: str | None
) -> Row:  # fmt: skip
    return Row(
        id=number, model=model, publisher=publisher, name=name, version=version, listed_at=at, size=size, facets=facets
    )
