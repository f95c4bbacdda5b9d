"""Searching in what a registry lists: by words, filters and facets. Reads only; `Listings.search` is how it is called.

Every word must be there, or begin one that is there. What ranks: a model that is called so, then one whose name begins
so, then one whose name has all the words, then the rest; of equals the newest. How often a description repeats a word
doesn't count, so nobody gains by repeating it. Both databases find and order the same.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from operator import itemgetter
from typing import Any, TypeVar, cast

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

T = TypeVar("T")


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
class _Wanted:
    """A query less its text and its page. `publisher`: the number of a row."""

    query: SearchQuery
    words: tuple[str, ...]
    publisher: int | None


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
        self._kept: OrderedDict[object, Any] = OrderedDict()
        self._stamp: object = None
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
            wanted = _Wanted(query=replace(query, text="", limit=1, offset=0), words=words, publisher=publisher)
            stamp = _stamp(session)
            outcome = self._once(wanted, stamp, lambda: _outcome(session, wanted))
            facets = dict(outcome.facets)
            for facet in FACETS:
                if getattr(query, facet) is not None:
                    facets[facet] = self._facet_without_itself(session, stamp, wanted, facet)
            models = outcome.models[query.offset : query.offset + query.limit].tolist()
            found = _page(session, wanted, models) if models else ()
        return SearchPage(found=found, total=outcome.total, is_total=outcome.is_total, facets=facets)

    def _facet_without_itself(
        self, session: Session, stamp: object, wanted: _Wanted, facet: str
    ) -> tuple[FacetValue, ...]:  # fmt: skip
        without: dict[str, Any] = {facet: None}
        wider = replace(wanted, query=replace(wanted.query, **without, sort=Sort.NEWEST))
        return self._once((wider, facet), stamp, lambda: _facet(*_columns_of(session, wider, facet)))

    def _once(self, key: object, stamp: object, make: Callable[[], T]) -> T:
        """What was made for `key` since the last change, else what `make` makes."""
        with self._lock:
            if stamp != self._stamp:
                self._kept.clear()
                self._stamp = stamp
            if key in self._kept:
                self._kept.move_to_end(key)
                return cast(T, self._kept[key])
        made = make()
        with self._lock:
            if stamp == self._stamp:
                self._kept[key] = made
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        return made


def _check_number(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} is out of bounds", expected=f"{least} … {most}", actual=value)


def _stamp(session: Session) -> tuple[object, ...]:
    """Another one after every change of a listing: whoever changes what one means says when (`listed_at`)."""
    at = ListingRow.listed_at
    return tuple(session.execute(select(func.count(), func.max(ListingRow.id), func.max(at), func.sum(at))).one())


def _outcome(session: Session, wanted: _Wanted) -> _Outcome:
    """All that fits, in order and counted."""
    models, listed, sizes, names, *values = _columns_of(session, wanted, "listed_at", "size", "name", *FACETS)
    ordered = _in_order(models, listed, sizes, names, sort=wanted.query.sort, words=wanted.words)
    return _Outcome(
        models=array("q", ordered[: MAX_OFFSET + MAX_LIMIT]),
        total=len(ordered),
        is_total=len(models) < MAX_COUNTED,
        facets={facet: _facet(models, of_facet) for facet, of_facet in zip(FACETS, values, strict=True)},
    )


def _columns_of(session: Session, wanted: _Wanted, *names: str) -> list[tuple[Any, ...]]:
    """The models and these columns of every listing that fits; of more than are counted, of the latest."""
    chosen = [ModelRow.name if name == "name" else getattr(ListingRow, name) for name in names]
    found = session.connection().execute(  # plain rows: there may be many
        select(ListingRow.model_id, *chosen)
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .where(*_conditions(session, wanted))
        .order_by(ListingRow.id.desc())
        .limit(MAX_COUNTED)
    )
    return list(zip(*found.all(), strict=True)) or [()] * (1 + len(names))


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
    spaced, whole = name.replace("-", " ").replace("_", " ").replace(".", " "), " ".join(words)
    if spaced == whole:
        return 0
    if spaced.startswith(whole):
        return 1
    return 2 if all(word in spaced for word in words) else 3


def _facet(models: Sequence[int], values: Sequence[str | None]) -> tuple[FacetValue, ...]:
    """The most frequent values with their models counted, the most frequent first."""
    counts = Counter(map(itemgetter(0), set(zip(values, models, strict=True))))
    first = sorted(
        ((value, count) for value, count in counts.items() if value is not None), key=lambda one: (-one[1], one[0])
    )[:MAX_VALUES]
    return tuple(FacetValue(value=value, count=count) for value, count in first)


def _conditions(session: Session, wanted: _Wanted) -> list[sa.ColumnElement[bool]]:
    """What a listing that fits fulfils, over listings and models."""
    query = wanted.query
    fits: list[sa.ColumnElement[bool]] = [ListingRow.retracted.is_(None)]
    if wanted.words:
        fits.append(have_words(wanted.words, session.get_bind().dialect.name))
    if wanted.publisher is not None:
        fits.append(ModelRow.publisher_id == wanted.publisher)
    for column, value in ((ListingRow.architecture, query.architecture), (ListingRow.quantisation, query.quantisation)):
        if value is not None:  # people write q4_0 and LLAMA
            fits.append(column.in_({value, value.lower(), value.upper()}))
    if query.license is not None:  # capitals don't matter (SPDX)
        fits.append(func.lower(ListingRow.license) == query.license.lower())
    if query.min_size is not None:
        fits.append(ListingRow.size >= query.min_size)
    if query.max_size is not None:
        fits.append(ListingRow.size <= query.max_size)
    return fits


def _publisher(session: Session, name: str) -> int | None:
    """The number of the publisher whose identity or namespace it is."""
    if is_identity(name):
        return session.scalar(select(PublisherRow.id).where(PublisherRow.identity == name))
    return session.scalar(select(NamespaceRow.publisher_id).where(NamespaceRow.name == name))


def _page(session: Session, wanted: _Wanted, models: Sequence[int]) -> tuple[FoundModel, ...]:
    """These models in their order, with what fits of each."""
    newest_first = (ListingRow.version.desc(), ListingRow.id.desc())
    tags = (
        select(
            ListingRow.id,
            func.row_number().over(partition_by=ListingRow.model_id, order_by=newest_first).label("rank"),
            func.count().over(partition_by=ListingRow.model_id).label("matching"),
        )
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .where(ListingRow.model_id.in_(models), *_conditions(session, wanted))
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
