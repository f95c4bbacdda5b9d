"""What all answers of the Hub's routes have: CORS headers, refusals in the Hub's form, preflights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from fastapi import APIRouter, Request
from fastapi.responses import Response

from samara.registry.barred import BarredError
from samara.registry.service.hub.problems import HubError, answer, taken_down
from samara.registry.service.logs import note
from samara.registry.service.problems import problem
from samara.schemas.errors import SamaraError

P = ParamSpec("P")

# Pages of other origins load models too (transformers.js): what they may see of an answer. Reading needs no permission.
EXPOSED = (
    "Accept-Ranges, Content-Length, Content-Range, ETag, Link, Location, X-Error-Code, X-Error-Message, "
    "X-Linked-Etag, X-Linked-Size, X-Repo-Commit"
)
CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": EXPOSED}
_PREFLIGHT = {
    **CORS,
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match, If-None-Match, If-Range, Range, User-Agent",
    "Access-Control-Max-Age": "86400",
}
FRESH = "no-cache"  # what a name means changes with every release: kept, but asked about each time


def answered(handler: Callable[P, Response]) -> Callable[P, Response]:
    """A handler whose errors are answers in the Hub's form, and all of whose answers other origins may read."""

    @functools.wraps(handler)
    def respond(*args: P.args, **kwargs: P.kwargs) -> Response:
        return readable(attempt(lambda: handler(*args, **kwargs)))

    return respond


def attempt(make: Callable[[], Response]) -> Response:
    """An answer, or the error as one."""
    try:
        return make()
    except HubError as error:
        return answer(error)
    except BarredError as error:
        note(f"taken down: {error.what}")
        return answer(taken_down(error.what))
    except SamaraError as error:
        return problem(error)


def readable(response: Response) -> Response:
    """The same for pages of any origin."""
    for name, value in CORS.items():
        response.headers[name] = value
    return response


def allow_preflights(router: APIRouter, *paths: str) -> None:
    """Answer what browsers ask before they ask."""

    def preflight(_request: Request) -> Response:
        return Response(status_code=204, headers=_PREFLIGHT)

    for path in paths:
        router.add_api_route(
            path, preflight, methods=["OPTIONS"], include_in_schema=False, response_class=Response, response_model=None
        )
