"""Searching in what a registry lists: by words, filters and facets. Reads only; `Listings.search` is how it is called.

Every word must be there, or begin one that is there. What ranks: a model that is called so, then one whose name begins
so, then one whose name has all the words, then the rest; of equals the newest. How often a description repeats a word
doesn't count, so nobody gains by repeating it. Both databases find and order the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from samara.registry.index_columns import text_of
from samara.registry.index_database import Database
from samara.registry.listing_words import have_words
from samara.registry.listings import Listing, Owner, listing_of
from samara.registry.search_words import words_of
from samara.registry.tables import ListingRow, ModelRow, NamespaceRow, PublisherRow, ReleaseRow
from samara.schemas.errors import UsageError
from samara.schemas.manifest import MAX_SIZE
from samara.schemas.references import is_identity

MAX_TEXT = 256  # characters
MAX_QUERY_WORDS = 16
MAX_LIMIT = 100  # models of one page
MAX_OFFSET = 10_000
MAX_TAGS = 10  # listings shown of one model
MAX_DESCRIPTION = 500  # characters of one, here
MAX_COUNTED = 50_000  # listings that totals and facets are counted over
MAX_VALUES = 50  # of one facet
FACETS = ("architecture", "quantisation", "license")


class Sort(StrEnum):
    """Which models come first."""

    RELEVANCE = "relevance"  # the newest, where no words are searched for
    NEWEST = "newest"
    NAME = "name"
    SIZE = "size"  # the smallest


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchQuery:
    """What is searched for. `publisher`: a namespace or an identity; sizes: bytes of a release. Raises UsageError."""

    text: str = ""
    architecture: str | None = None
    quantisation: str | None = None
    license: str | None = None
    publisher: str | None = None
    min_size: int | None = None
    max_size: int | None = None
    sort: Sort = Sort.RELEVANCE
    limit: int = 20
    offset: int = 0

    def __post_init__(self) -> None:
        for name in ("text", "architecture", "quantisation", "license", "publisher"):
            value = getattr(self, name)
            if value is not None and (
                len(value) > MAX_TEXT or any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)
            ):
                raise UsageError(
                    f"this {name} can't be searched for", expected=f"at most {MAX_TEXT} characters of UTF-8, none zero"
                )
        _check_number("limit", self.limit, 1, MAX_LIMIT)
        _check_number("offset", self.offset, 0, MAX_OFFSET)
        for name, size in (("min_size", self.min_size), ("max_size", self.max_size)):
            if size is not None:
                _check_number(name, size, 0, MAX_SIZE)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundModel:
    """A model with what was found of it: `listings`, the highest versions first, at most MAX_TAGS of `matching`, their
    descriptions cut short.
    """

    owner: Owner
    model: str
    listings: tuple[Listing, ...]
    matching: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FacetValue:
    """One value to filter by, and how many models it would leave."""

    value: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPage:
    """Some of the models found. `total`: all of them, or, unless `is_total`, at least so many.

    `facets`: name → its most frequent values, counted as if that facet itself weren't filtered by.
    """

    found: tuple[FoundModel, ...] = ()
    total: int = 0
    is_total: bool = True
    facets: dict[str, tuple[FacetValue, ...]] = field(default_factory=lambda: dict.fromkeys(FACETS, ()))


def search(database: Database, query: SearchQuery) -> SearchPage:
    """Everything that is listed, not withdrawn and fits. Raises StoreError."""
    words = words_of(query.text, MAX_QUERY_WORDS)
    if query.text.strip() and not words:
        return SearchPage()
    with database.read() as session:
        matched = _matched(session, query, words)
        total, is_total, facets = _counted(session, matched)
        for facet in FACETS:
            if getattr(query, facet) is not None:
                facets[facet] = _facet_without_itself(session, query, words, facet)
        found = _page(session, matched, query, words) if total > query.offset else ()
    return SearchPage(found=found, total=total, is_total=is_total, facets=facets)


def _check_number(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} is out of bounds", expected=f"{least} … {most}", actual=value)


def _matched(session: Session, query: SearchQuery, words: Sequence[str], *, without: str = "") -> sa.Select[Any]:
    """Every listing that fits; `without`: a facet that isn't filtered by."""
    wanted = cast(
        "sa.Select[Any]",
        select(
            ListingRow.id,
            ListingRow.model_id,
            ListingRow.version,
            ListingRow.listed_at,
            ListingRow.size,
            ListingRow.architecture,
            ListingRow.quantisation,
            ListingRow.license,
            ModelRow.name,
        )
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .where(ListingRow.retracted.is_(None)),
    )
    if words:
        wanted = wanted.where(have_words(ListingRow.__table__, words, session.get_bind().dialect.name))
    if query.publisher is not None:
        wanted = wanted.where(ModelRow.publisher_id.in_(_publisher(query.publisher)))
    for facet in FACETS:
        value = getattr(query, facet)
        if value is not None and facet != without:
            # people write q4_0 and LLAMA; a licence is compared as SPDX says, whatever its capitals
            column = getattr(ListingRow, facet)
            wanted = wanted.where(
                func.lower(column) == value.lower()
                if facet == "license"
                else column.in_({value, value.lower(), value.upper()})
            )
    if query.min_size is not None:
        wanted = wanted.where(ListingRow.size >= query.min_size)
    if query.max_size is not None:
        wanted = wanted.where(ListingRow.size <= query.max_size)
    return wanted


def _publisher(name: str) -> sa.Select[Any]:
    if is_identity(name):
        return select(PublisherRow.id).where(PublisherRow.identity == name)
    return select(NamespaceRow.publisher_id).where(NamespaceRow.name == name)


def _counted(session: Session, matched: sa.Select[Any]) -> tuple[int, bool, dict[str, tuple[FacetValue, ...]]]:
    """(models, whether these are all, facets)."""
    some = matched.limit(MAX_COUNTED).cte("matched")
    models, listings = func.count(some.c.model_id.distinct()), func.count()
    parts = [select(sa.literal("").label("facet"), sa.cast(listings, sa.Text).label("value"), models.label("models"))]
    parts[0] = parts[0].select_from(some)
    parts += [select(sa.literal(facet), *_values(some, facet)) for facet in FACETS]
    found: dict[str, list[FacetValue]] = {facet: [] for facet in FACETS}
    total, is_total = 0, True
    for facet, value, count in session.execute(sa.union_all(*parts)):
        if facet:
            found[facet].append(FacetValue(value=text_of(value), count=int(count)))
        else:
            total, is_total = int(count), int(value) < MAX_COUNTED
    return total, is_total, {facet: _in_order(values) for facet, values in found.items()}


def _facet_without_itself(
    session: Session, query: SearchQuery, words: Sequence[str], facet: str
) -> tuple[FacetValue, ...]:
    some = _matched(session, query, words, without=facet).limit(MAX_COUNTED).cte("matched")
    rows = session.execute(select(*_values(some, facet)))
    return _in_order(FacetValue(value=text_of(value), count=int(count)) for value, count in rows)


def _values(some: sa.CTE, facet: str) -> tuple[sa.Column[Any], sa.Column[Any]]:
    """A facet's most frequent values and their models."""
    models = func.count(some.c.model_id.distinct()).label("models")
    value = some.c[facet].label("value")
    top = (
        select(value, models)
        .where(some.c[facet].is_not(None))
        .group_by(some.c[facet])
        .order_by(models.desc(), some.c[facet])
        .limit(MAX_VALUES)
        .subquery()
    )
    return cast("tuple[sa.Column[Any], sa.Column[Any]]", (top.c.value, top.c.models))


def _in_order(values: Iterable[FacetValue]) -> tuple[FacetValue, ...]:
    return tuple(sorted(values, key=lambda one: (-one.count, one.value)))


def _page(
    session: Session, matched: sa.Select[Any], query: SearchQuery, words: Sequence[str]
) -> tuple[FoundModel, ...]:  # fmt: skip
    every = matched.cte("matched")
    keys = _keys(every, query, words, session.get_bind().dialect.name)
    page = (
        select(every.c.model_id, func.row_number().over(order_by=keys).label("place"))
        .group_by(every.c.model_id, every.c.name)
        .order_by(*keys)
        .limit(query.limit)
        .offset(query.offset)
        .cte("page")
    )
    newest_first = (every.c.version.desc(), every.c.id.desc())
    tags = (
        select(
            every.c.id,
            page.c.place,
            func.row_number().over(partition_by=every.c.model_id, order_by=newest_first).label("rank"),
            func.count().over(partition_by=every.c.model_id).label("matching"),
        )
        .join(page, page.c.model_id == every.c.model_id)
        .subquery()
    )
    rows = session.execute(
        _columns()
        .add_columns(tags.c.matching)
        .join(tags, tags.c.id == ListingRow.id)
        .where(tags.c.rank <= MAX_TAGS)
        .order_by(tags.c.place, tags.c.rank)
    ).all()
    owners = _owners(session, {row.publisher_id for row in rows})
    models: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        models[row.model_id].append(row)
    return tuple(
        FoundModel(
            owner=owners[some[0].publisher_id],
            model=text_of(some[0].name),
            listings=tuple(
                listing_of(owners[row.publisher_id], row, row.name, row.manifest_digest, row.created) for row in some
            ),
            matching=int(some[0].matching),
        )
        for some in models.values()
    )


def _keys(every: sa.CTE, query: SearchQuery, words: Sequence[str], dialect: str) -> list[sa.ColumnElement[Any]]:
    """What models are sorted by. Names are compared byte by byte, as SQLite does, whatever the server's language."""
    newest: list[sa.ColumnElement[Any]] = [func.max(every.c.listed_at).desc(), every.c.model_id.desc()]
    name = every.c.name.collate("C") if dialect == "postgresql" else every.c.name
    if query.sort is Sort.NAME:
        return [name, *newest]
    if query.sort is Sort.SIZE:
        return [func.min(every.c.size), *newest]
    if query.sort is Sort.NEWEST or not words:
        return newest
    spaced: sa.ColumnElement[Any] = every.c.name
    for mark in "-_.":
        spaced = func.replace(spaced, mark, " ")
    whole = " ".join(words)
    score = sa.case(
        (spaced == whole, 0),
        (spaced.startswith(whole), 1),
        (sa.and_(*(spaced.contains(word) for word in words)), 2),
        else_=3,
    )
    return [score, *newest]


def _columns() -> sa.Select[Any]:
    """What `listing_of` reads, without the texts that are long."""
    short = func.substr(ListingRow.description, 1, MAX_DESCRIPTION).label("description")
    wanted = [
        getattr(ListingRow, c.name) for c in ListingRow.__table__.columns if c.name not in {"description", "words"}
    ]
    return (
        select(*wanted, short, ModelRow.name, ModelRow.publisher_id, ReleaseRow.manifest_digest, ReleaseRow.created)
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .join(ReleaseRow, ListingRow.release_id == ReleaseRow.id)
    )


def _owners(session: Session, numbers: set[int]) -> dict[int, Owner]:
    """Publishers by their number."""
    names: dict[int, str] = {}
    claimed = session.execute(
        select(NamespaceRow.publisher_id, NamespaceRow.name)
        .where(NamespaceRow.publisher_id.in_(numbers))
        .order_by(NamespaceRow.claimed_at, NamespaceRow.name)
    )
    for number, name in claimed:
        names.setdefault(number, name)
    rows = session.execute(
        select(PublisherRow.id, PublisherRow.identity, PublisherRow.name).where(PublisherRow.id.in_(numbers))
    )
    return {
        number: Owner(identity=text_of(identity), name=text_of(name), namespace=names.get(number))
        for number, identity, name in rows
    }
