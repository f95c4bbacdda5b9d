"""GET /api/models: what there is, by the search that the registry's own API has.

`search`, `author` and `filter` (a licence as "license:…", "gguf", any other as a word) restrict what is found; sorting
by what nobody counts here (downloads, likes) is sorting by relevance. Pages are linked to each other as the Hub does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from samara.registry.search import MAX_LIMIT, MAX_OFFSET, FoundModel, SearchQuery, Sort
from samara.registry.service.hub import answers
from samara.registry.service.hub.requests import base_url, number
from samara.registry.service.hub.shared import FRESH, allow_preflights, answered
from samara.registry.service.service import Service

_MODELS = "/api/models"
_LICENCE = "license:"
_MAX_FILTERS = 16
_SORTS = {"lastModified": Sort.NEWEST, "createdAt": Sort.NEWEST, "id": Sort.NAME, "mainSize": Sort.SIZE}


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    @router.get(_MODELS)
    @answered
    def models(request: Request) -> Response:
        """Models, not withdrawn. Query: search, author, filter, sort, limit, cursor; Link to the next."""
        fields = request.query_params
        filters = fields.getlist("filter")[:_MAX_FILTERS]
        limit = max(1, number(fields.get("limit"), "limit", default=MAX_LIMIT, most=MAX_LIMIT))
        first = number(fields.get("cursor"), "cursor", default=0, most=MAX_OFFSET)
        page = service.listings.search(query_of(fields, filters, limit=limit, first=first))
        response = JSONResponse(
            [_card(found) for found in page.found if "gguf" not in filters or _is_gguf(found)],
            headers={"Cache-Control": FRESH},
        )
        if first + limit < page.total and first + limit <= MAX_OFFSET:
            kept = [(name, value) for name, value in fields.multi_items() if name != "cursor"]
            base = base_url(service.settings.origin, request.headers, request.url.scheme)
            more = urlencode([*kept, ("cursor", str(first + limit))])
            response.headers["Link"] = f'<{base}{_MODELS}?{more}>; rel="next"'
        return response

    allow_preflights(router, _MODELS)
    return router


def query_of(fields: Mapping[str, str], filters: Sequence[str], *, limit: int, first: int) -> SearchQuery:
    """What is searched for. Raises UsageError."""
    licences = [text.removeprefix(_LICENCE) for text in filters if text.startswith(_LICENCE)]
    words = [text for text in filters if text != "gguf" and not text.startswith(_LICENCE)]
    return SearchQuery(
        text=" ".join([fields.get("search", ""), *words]).strip(),
        publisher=fields.get("author") or None,
        license=licences[0] if licences else None,
        sort=_SORTS.get(fields.get("sort", ""), Sort.RELEVANCE),
        limit=limit,
        offset=first,
    )


def _card(found: FoundModel) -> answers.Json:
    return answers.model_card(f"{found.owner.slug}/{found.model}", found.listings)


def _is_gguf(found: FoundModel) -> bool:
    return any(one.architecture is not None for one in found.listings)
