"""Searching in what a registry lists: by words, filters and facets. Reads only; `Listings.search` is how it is called.

Every word must be there, or begin one that is there. What ranks: a model that is called so, then one whose name begins
so, then one whose name has all the words, then the rest; of equals the newest. How often a description repeats a word
doesn't count, so nobody gains by repeating it. Both databases find and order the same.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from samara.registry.index_columns import text_of
from samara.registry.index_database import Database
from samara.registry.listed_models import Listing, listing_of
from samara.registry.listed_publishers import Owner
from samara.registry.listing_words import numbers_with
from samara.registry.search_facts import Facts
from samara.registry.search_reading import MAX_SEARCHED, Known, Stamp, read_listed, stamp_of
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
MAX_VALUES = 50  # of one facet
MAX_KEPT = 64  # outcomes of searches: 80 kB each, and a byte for each listing
FACETS = ("architecture", "quantisation", "license")


_NUMBERS: sa.BindParameter[int] = sa.bindparam("numbers", expanding=True)
# what `listing_of` reads, without the texts that are long
_SHOWN: sa.Select[Any] = (
    select(
        *(c for c in ListingRow.__table__.columns if c.name not in {"description", "words"}),
        func.substr(ListingRow.description, 1, MAX_DESCRIPTION).label("description"),
        ModelRow.name, ModelRow.publisher_id, ReleaseRow.manifest_digest, ReleaseRow.created,
    )
    .join(ModelRow, ListingRow.model_id == ModelRow.id)
    .join(ReleaseRow, ListingRow.release_id == ReleaseRow.id)
    .where(ListingRow.id.in_(_NUMBERS), ListingRow.retracted.is_(None))
)  # fmt: skip
_NAMESPACES = (
    select(NamespaceRow.publisher_id, NamespaceRow.name)
    .where(NamespaceRow.publisher_id.in_(_NUMBERS))
    .order_by(NamespaceRow.claimed_at, NamespaceRow.name)
)
_PUBLISHERS = select(PublisherRow.id, PublisherRow.identity, PublisherRow.name).where(PublisherRow.id.in_(_NUMBERS))


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """What all pages of a search share. `models`: in order, as many as pages may show; `chosen`: see `Facts`."""

    models: array[int]
    total: int
    chosen: int
    facets: dict[str, tuple[FacetValue, ...]]


class Searches:
    """Searches in one database. The facts of all that is listed are kept, and brought up to date after each change of a
    listing; words are looked up in the database's full-text index. What the pages of a search share is kept. Safe to
    use from several threads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[object, _Outcome] = OrderedDict()
        self._known: Known | None = None
        self._reading = threading.Lock()
        self._lock = threading.Lock()

    def search(self, query: SearchQuery) -> SearchPage:
        """Everything that is listed, not withdrawn and fits. Raises StoreError."""
        words = words_of(query.text, MAX_QUERY_WORDS)
        if query.text.strip() and not words:
            return SearchPage()
        with self._database.read() as session:
            publisher = None if query.publisher is None else _publisher(session, query.publisher)
            if query.publisher is not None and publisher is None:
                return SearchPage()
            known = self._known_at(session, stamp_of(session))
            facts = known.facts
            key = (known.stamp, words, publisher, replace(query, text="", publisher=None, limit=1, offset=0))
            outcome = self._of_before(key)
            if outcome is None:
                outcome = _outcome(session, facts, query, words, publisher)
                self._keep(key, outcome)
            models = outcome.models[query.offset : query.offset + query.limit].tolist()
            found = _page(session, [facts.listings(model, outcome.chosen) for model in models])
        return SearchPage(
            found=found, total=outcome.total, is_total=len(facts) < MAX_SEARCHED, facets=dict(outcome.facets)
        )

    def _known_at(self, session: Session, stamp: Stamp) -> Known:
        """What is listed. One thread reads what changed; meanwhile the others go on with what was a moment ago."""
        known = self._known
        if known is not None and known.stamp == stamp:
            return known
        if not self._reading.acquire(blocking=known is None):
            assert known is not None
            return known
        try:
            if self._known is None or self._known.stamp != stamp:
                self._known = read_listed(session, stamp, self._known)
            return self._known
        finally:
            self._reading.release()

    def _of_before(self, key: object) -> _Outcome | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: object, outcome: _Outcome) -> None:
        with self._lock:
            self._kept[key] = outcome
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)


def _check_number(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} is out of bounds", expected=f"{least} … {most}", actual=value)


def _outcome(
    session: Session, facts: Facts, query: SearchQuery, words: Sequence[str], publisher: int | None
) -> _Outcome:  # fmt: skip
    """All that fits, in order and counted."""
    ids = numbers_with(session, words) if words else None

    def choose(without: str = "") -> int:
        values = [None if facet == without else getattr(query, facet) for facet in FACETS]
        return facts.choose(
            ids=ids, publisher=publisher, facets=values, exact=[facet != "license" for facet in FACETS],
            min_size=query.min_size, max_size=query.max_size,
        )  # fmt: skip

    chosen = choose()
    if query.sort is Sort.NAME:
        models = facts.by_name(chosen)
    elif query.sort is Sort.SIZE:
        models = facts.by_size(chosen)
    elif query.sort is Sort.RELEVANCE and words:
        models = facts.by_relevance(chosen, words)
    else:
        models = facts.newest(chosen)
    facets = {}
    for number, facet in enumerate(FACETS):
        among = chosen if getattr(query, facet) is None else choose(without=facet)
        counts = facts.count(number, among, MAX_VALUES)
        facets[facet] = tuple(FacetValue(value=value, count=count) for value, count in counts)
    return _Outcome(
        models=array("q", models[: MAX_OFFSET + MAX_LIMIT]), total=len(models), chosen=chosen, facets=facets
    )


def _publisher(session: Session, name: str) -> int | None:
    """The number of the publisher whose identity or namespace it is."""
    if is_identity(name):
        return session.scalar(select(PublisherRow.id).where(PublisherRow.identity == name))
    return session.scalar(select(NamespaceRow.publisher_id).where(NamespaceRow.name == name))


def _page(session: Session, models: Sequence[Sequence[int]]) -> tuple[FoundModel, ...]:
    """Models by the numbers of their listings that fit, the highest version first."""
    shown = [number for numbers in models for number in numbers[:MAX_TAGS]]
    if not shown:
        return ()
    connection = session.connection()  # rows as they come, by questions that are put together once
    rows = {row.id: row for row in connection.execute(_SHOWN, {"numbers": shown})}
    owners = _owners(connection, sorted({row.publisher_id for row in rows.values()}))
    found = []
    for numbers in models:
        some: list[Any] = [rows[number] for number in numbers[:MAX_TAGS] if number in rows]
        if some:
            owner = owners[some[0].publisher_id]
            listings = tuple(listing_of(owner, row, row.name, row.manifest_digest, row.created) for row in some)
            found.append(FoundModel(owner=owner, model=text_of(some[0].name), listings=listings, matching=len(numbers)))
    return tuple(found)


def _owners(connection: sa.Connection, numbers: Sequence[int]) -> dict[int, Owner]:
    """Publishers by their number."""
    names: dict[int, str] = {}
    for number, name in connection.execute(_NAMESPACES, {"numbers": numbers}):
        names.setdefault(number, name)
    return {
        number: Owner(identity=text_of(identity), name=text_of(name), namespace=names.get(number))
        for number, identity, name in connection.execute(_PUBLISHERS, {"numbers": numbers})
    }
