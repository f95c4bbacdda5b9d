"""/v1/search and /v1/models: finding models, and what their names mean. JSON; `pages` shows the same to people."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from blake3 import blake3
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from samara.registry.listed_publishers import Owner
from samara.registry.listings import Listings
from samara.registry.search import MAX_LIMIT, MAX_OFFSET, MAX_TEXT, SearchQuery, Sort
from samara.registry.service.byte_ranges import Wanted, part_of
from samara.registry.service.model_views import (
    ModelDetails,
    ReleaseDetails,
    SearchView,
    model_details,
    release_details,
    search_view,
)
from samara.registry.service.service import Service
from samara.schemas.errors import NotFoundError
from samara.schemas.manifest import MAX_SIZE
from samara.schemas.references import is_identity, is_name

MAX_SHOWN = 1000  # tags of a model, and as many of its releases

OwnerName = Annotated[str, Path(max_length=64, description="A namespace of this registry, or an identity")]
ModelName = Annotated[str, Path(max_length=64)]
Value = Annotated[str | None, Query(min_length=1, max_length=MAX_TEXT)]
Size = Annotated[int | None, Query(ge=0, le=MAX_SIZE, description="Bytes of a whole release")]


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["models"])
    listings = service.listings

    @router.get(
        "/v1/search", summary="Search models", response_model=SearchView, responses={304: {}, 400: {}, 503: {}}
    )  # fmt: skip
    def search(
        request: Request,
        q: Annotated[str, Query(max_length=MAX_TEXT, description="Words; each must be there, or begin one")] = "",
        architecture: Value = None,
        quantisation: Value = None,
        license: Value = None,  # noqa: A002  (the parameter's name)
        publisher: Annotated[
            str | None, Query(min_length=1, max_length=64, description="A namespace or an identity")
        ] = None,
        min_size: Size = None,
        max_size: Size = None,
        sort: Sort = Sort.RELEVANCE,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 20,
        offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
    ) -> Response:
        """What is listed and not withdrawn, one entry for each model. `Link` names the pages before and after."""
        query = SearchQuery(
            text=q, architecture=architecture, quantisation=quantisation, license=license, publisher=publisher,
            min_size=min_size, max_size=max_size, sort=sort, limit=limit, offset=offset,
        )  # fmt: skip
        page = listings.search(query)
        link = links(query, page.total)
        return _answer(request, search_view(page, limit=limit, offset=offset), {"Link": link} if link else {})

    @router.get(
        "/v1/models/{owner}/{model}", summary="A model", response_model=ModelDetails, responses={304: {}, 404: {}}
    )
    def model(request: Request, owner: OwnerName, model: ModelName) -> Response:
        """What its names mean now, withdrawn ones too, and the releases that are kept here."""
        who = _owner(listings, owner, model)
        names = listings.model(who, model)[:MAX_SHOWN]
        if not names:
            raise _unknown(f"{owner}/{model}")
        return _answer(request, model_details(names, listings.history(who, model)[:MAX_SHOWN]))

    @router.get(
        "/v1/models/{owner}/{model}/releases/{tag}",
        summary="What a name means now",
        response_model=ReleaseDetails,
        responses={304: {}, 404: {}, 503: {}},
    )
    def release(request: Request, owner: OwnerName, model: ModelName, tag: ModelName) -> Response:
        """The release's files, and where its signed manifest, its torrents and its bytes are to be had here."""
        listing = listings.listing(_owner(listings, owner, model, tag), model, tag)
        found = None if listing is None else service.manifests.release(listing.manifest)
        if listing is None or found is None:
            raise _unknown(f"{owner}/{model}:{tag}")
        return _answer(request, release_details(listing, found))

    return router


def links(query: SearchQuery, total: int) -> str | None:
    """The Link header's value (RFC 8288) for the pages beside one; None where there is only one."""
    wanted: dict[str, object] = {
        "q": query.text, "architecture": query.architecture, "quantisation": query.quantisation,
        "license": query.license, "publisher": query.publisher, "min_size": query.min_size,
        "max_size": query.max_size, "sort": str(query.sort), "limit": query.limit,
    }  # fmt: skip
    given = {name: value for name, value in wanted.items() if value not in {None, ""}}
    beside = []
    if query.offset > 0:
        beside += [("first", 0), ("prev", max(0, query.offset - query.limit))]
    if query.offset + query.limit < min(total, MAX_OFFSET + 1):
        beside.append(("next", query.offset + query.limit))
    found = [f'</v1/search?{urlencode({**given, "offset": offset})}>; rel="{rel}"' for rel, offset in beside]
    return ", ".join(found) or None


def _answer(request: Request, view: BaseModel, headers: dict[str, str] | None = None) -> Response:
    """JSON with an ETag of its own; 304 for who has it already."""
    body = view.model_dump_json().encode()
    etag = blake3(body).hexdigest()[:32]
    head = {"ETag": f'"{etag}"', "Cache-Control": "no-cache", **(headers or {})}
    wanted = Wanted(method=request.method, if_none_match=request.headers.getlist("if-none-match"))
    if part_of(wanted, etag=etag, size=len(body)).status == 304:
        return Response(status_code=304, headers=head)
    return Response(body, media_type="application/json", headers=head)


def _owner(listings: Listings, owner: str, *names: str) -> Owner:
    """Whoever is called so; NotFoundError if nobody, or if one of `names` can't be anything's name."""
    found = listings.owner(owner) if is_identity(owner) or is_name(owner) else None
    if found is None or not all(map(is_name, names)):
        raise _unknown("/".join((owner, *names)))
    return found


def _unknown(name: str) -> NotFoundError:
    return NotFoundError("nothing of this name is listed here", actual=repr(name[:200]), next_step="see /v1/search")
