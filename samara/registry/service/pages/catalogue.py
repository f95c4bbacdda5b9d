"""/: what there is here, searched and filtered by a plain form."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from samara.registry.search import MAX_OFFSET, SearchPage, SearchQuery, Sort
from samara.registry.service.pages.rendering import Pages, number_in
from samara.schemas.errors import UsageError

PER_PAGE = 20
FILTERS = ("architecture", "quantisation", "license")
KNOWN = ("q", *FILTERS, "publisher", "size", "sort")
_GB = 10**9


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeChoice:
    """A range of sizes to choose: bytes, both ends inclusive; None: open."""

    value: str
    label: str
    least: int | None = None
    most: int | None = None


SIZES = (
    SizeChoice(value="s", label="up to 1 GB", most=_GB),
    SizeChoice(value="m", label="1 to 4 GB", least=_GB, most=4 * _GB),
    SizeChoice(value="l", label="4 to 16 GB", least=4 * _GB, most=16 * _GB),
    SizeChoice(value="xl", label="over 16 GB", least=16 * _GB),
)
SORTS = ((Sort.RELEVANCE, "best match"), (Sort.NEWEST, "newest"), (Sort.NAME, "name"), (Sort.SIZE, "smallest"))


def answer(pages: Pages, request: Request) -> Response:
    """The catalogue. Raises UsageError for a query that can't be meant."""
    known = {name: request.query_params.get(name, "")[:300] for name in KNOWN}
    number = number_in(request, "page", most=MAX_OFFSET // PER_PAGE) or 1
    query = query_of(known, number)
    page = pages.service.listings.search(query)
    return pages.page(
        request,
        "catalogue.html",
        known=known,
        found=page,
        number=number,
        last_page=last_page(page),
        first=query.offset + 1,
        filters=FILTERS,
        sizes=SIZES,
        sorts=SORTS,
        is_filtered=any(known[name] for name in (*FILTERS, "publisher", "size")),
        is_searched=any(known.values()),
    )


def query_of(known: dict[str, str], number: int) -> SearchQuery:
    """What a filled-in form asks for. Raises UsageError."""
    size = next((one for one in SIZES if one.value == known["size"]), None)
    if known["size"] and size is None:
        raise UsageError("no such range of sizes", expected=", ".join(one.value for one in SIZES), actual=known["size"])
    try:
        sort = Sort(known["sort"] or Sort.RELEVANCE)
    except ValueError:
        raise UsageError("no such order", expected=", ".join(Sort), actual=repr(known["sort"][:40])) from None
    return SearchQuery(
        text=known["q"],
        architecture=known["architecture"] or None,
        quantisation=known["quantisation"] or None,
        license=known["license"] or None,
        publisher=known["publisher"] or None,
        min_size=size.least if size else None,
        max_size=size.most if size else None,
        sort=sort,
        limit=PER_PAGE,
        offset=(number - 1) * PER_PAGE,
    )


def last_page(page: SearchPage) -> int:
    """The last page that can be asked for."""
    return max(1, min(-(-page.total // PER_PAGE), MAX_OFFSET // PER_PAGE))
