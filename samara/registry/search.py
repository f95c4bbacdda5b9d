"""Searching in what a registry lists: by words, filters and facets. Reads only; `Listings.search` is how it is called.

Every word must be there, or begin one that is there. What ranks: a model that is called so, then one whose name begins
so, then one whose name has all the words, then the rest; of equals the newest. How often a description repeats a word
doesn't count, so nobody gains by repeating it. Both databases find and order the same.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

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
MAX_KEPT = 64  # outcomes of searches, of at most 80 kB each
FACETS = ("architecture", "quantisation", "license")

_SPACED = str.maketrans("-_.", "   ")


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
    """What all pages of a search share. `models`: ids in order, as many as pages may show."""

    models: array[int]
    total: int
    is_total: bool
    facets: dict[str, tuple[FacetValue, ...]]


class Searches:
    """Searches in one database. What many pages share is kept until a listing changes: what finds much, and takes
    longest, is asked most. Safe to use from several threads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._outcomes: OrderedDict[SearchQuery, _Outcome] = OrderedDict()
        self._stamp: object = None
        self._lock = threading.Lock()

    def search(self, query: SearchQuery) -> SearchPage:
        """Everything that is listed, not withdrawn and fits. Raises StoreError."""
        words = words_of(query.text, MAX_QUERY_WORDS)
        if query.text.strip() and not words:
            return SearchPage()
        with self._database.read() as session:
            stamp = _stamp(session)
            key = replace(query, text=" ".join(words), limit=1, offset=0)
            outcome = self._kept(key, stamp)
            if outcome is None:
                outcome = _outcome(session, query, words)
                self._keep(key, stamp, outcome)
            models = outcome.models[query.offset : query.offset + query.limit].tolist()
            found = _page(session, query, words, models) if models else ()
        return SearchPage(found=found, total=outcome.total, is_total=outcome.is_total, facets=dict(outcome.facets))

    def _kept(self, key: SearchQuery, stamp: object) -> _Outcome | None:
        with self._lock:
            if stamp != self._stamp:
                return None
            found = self._outcomes.get(key)
            if found is not None:
                self._outcomes.move_to_end(key)
            return found

    def _keep(self, key: SearchQuery, stamp: object, outcome: _Outcome) -> None:
        with self._lock:
            if stamp != self._stamp:
                self._outcomes.clear()
                self._stamp = stamp
            self._outcomes[key] = outcome
            while len(self._outcomes) > MAX_KEPT:
                self._outcomes.popitem(last=False)


def _check_number(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} is out of bounds", expected=f"{least} … {most}", actual=value)


def _stamp(session: Session) -> tuple[object, ...]:
    """Another one after every change of a listing: whoever changes what one means says when (`listed_at`)."""
    at = ListingRow.listed_at
    return tuple(session.execute(select(func.count(), func.max(ListingRow.id), func.max(at), func.sum(at))).one())


def _outcome(session: Session, query: SearchQuery, words: Sequence[str]) -> _Outcome:
    """All that fits, in order and counted. Of more listings than are counted, the latest."""
    fitting = _conditions(session, query, words)
    rows = session.execute(
        select(
            ListingRow.model_id, ListingRow.listed_at, ListingRow.size, ModelRow.name,
            *(getattr(ListingRow, facet) for facet in FACETS),
        )
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .where(*fitting)
        .order_by(ListingRow.id.desc())
        .limit(MAX_COUNTED)
    ).all()  # fmt: skip
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * (4 + len(FACETS))
    facets = {facet: _facet(columns[0], columns[4 + at]) for at, facet in enumerate(FACETS)}
    for facet in FACETS:
        if getattr(query, facet) is not None:
            facets[facet] = _facet_without_itself(session, query, words, facet)
    models = _in_order(columns[0], columns[1], columns[2], columns[3], sort=query.sort, words=words)
    return _Outcome(
        models=array("q", models[: MAX_OFFSET + MAX_LIMIT]),
        total=len(models),
        is_total=len(rows) < MAX_COUNTED,
        facets=facets,
    )


def _in_order(
    models: Sequence[int], listed: Sequence[float], sizes: Sequence[int], names: Sequence[str], *,
    sort: Sort, words: Sequence[str],
) -> list[int]:  # fmt: skip
    """Different models, the first one first. All are of one length, one element for each listing."""
    if sort is Sort.NAME:
        return list(dict.fromkeys(model for _, model in sorted(zip(names, models, strict=True))))
    if sort is Sort.SIZE:
        return list(dict.fromkeys(model for _, model in sorted(zip(sizes, models, strict=True))))
    newest = list(dict.fromkeys(model for _, model in sorted(zip(listed, models, strict=True), reverse=True)))
    if sort is Sort.NEWEST or not words:
        return newest
    scores = {model: _score(name, words) for model, name in dict(zip(models, names, strict=True)).items()}
    return sorted(newest, key=scores.__getitem__)


def _score(name: str, words: Sequence[str]) -> int:
    """How well a model's name is what was asked for; less is better."""
    spaced, whole = name.translate(_SPACED), " ".join(words)
    if spaced == whole:
        return 0
    if spaced.startswith(whole):
        return 1
    return 2 if all(word in spaced for word in words) else 3


def _facet(models: Sequence[int], values: Sequence[str | None]) -> tuple[FacetValue, ...]:
    """The most frequent values with their models counted, the most frequent first."""
    counts = Counter(value for value, _ in set(zip(values, models, strict=True)) if value is not None)
    first = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MAX_VALUES]
    return tuple(FacetValue(value=value, count=count) for value, count in first)


def _facet_without_itself(
    session: Session, query: SearchQuery, words: Sequence[str], facet: str
) -> tuple[FacetValue, ...]:
    without: dict[str, Any] = {facet: None}
    rows = session.execute(
        select(ListingRow.model_id, getattr(ListingRow, facet))
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .where(*_conditions(session, replace(query, **without), words))
        .order_by(ListingRow.id.desc())
        .limit(MAX_COUNTED)
    ).all()
    return _facet([row[0] for row in rows], [row[1] for row in rows])


def _conditions(session: Session, query: SearchQuery, words: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """What a listing that fits fulfils, over listings and models."""
    wanted: list[sa.ColumnElement[bool]] = [ListingRow.retracted.is_(None)]
    if words:
        wanted.append(have_words(words, session.get_bind().dialect.name))
    if query.publisher is not None:
        wanted.append(ModelRow.publisher_id.in_(_publisher(query.publisher)))
    for column, value in ((ListingRow.architecture, query.architecture), (ListingRow.quantisation, query.quantisation)):
        if value is not None:  # people write q4_0 and LLAMA
            wanted.append(column.in_({value, value.lower(), value.upper()}))
    if query.license is not None:  # capitals don't matter (SPDX)
        wanted.append(func.lower(ListingRow.license) == query.license.lower())
    if query.min_size is not None:
        wanted.append(ListingRow.size >= query.min_size)
    if query.max_size is not None:
        wanted.append(ListingRow.size <= query.max_size)
    return wanted


def _publisher(name: str) -> sa.Select[Any]:
    if is_identity(name):
        return select(PublisherRow.id).where(PublisherRow.identity == name)
    return select(NamespaceRow.publisher_id).where(NamespaceRow.name == name)


def _page(
    session: Session, query: SearchQuery, words: Sequence[str], models: Sequence[int]
) -> tuple[FoundModel, ...]:  # fmt: skip
    """These models in their order, with what fits of each."""
    newest_first = (ListingRow.version.desc(), ListingRow.id.desc())
    tags = (
        select(
            ListingRow.id,
            func.row_number().over(partition_by=ListingRow.model_id, order_by=newest_first).label("rank"),
            func.count().over(partition_by=ListingRow.model_id).label("matching"),
        )
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .where(ListingRow.model_id.in_(models), *_conditions(session, query, words))
        .subquery()
    )
    rows = session.execute(
        _columns()
        .add_columns(tags.c.matching)
        .join(tags, tags.c.id == ListingRow.id)
        .where(tags.c.rank <= MAX_TAGS)
        .order_by(tags.c.rank)
    ).all()
    owners = _owners(session, {row.publisher_id for row in rows})
    of_model: dict[int, list[Any]] = {model: [] for model in models}
    for row in rows:
        of_model[row.model_id].append(row)
    return tuple(
        FoundModel(
            owner=owners[some[0].publisher_id],
            model=text_of(some[0].name),
            listings=tuple(
                listing_of(owners[row.publisher_id], row, row.name, row.manifest_digest, row.created) for row in some
            ),
            matching=int(some[0].matching),
        )
        for some in of_model.values()
        if some
    )


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
