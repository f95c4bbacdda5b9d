"""Errors for people: a page in plain words for browsers. Everybody else gets the problem (RFC 9457) itself."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import Response

from samara.registry.barred import BarredError
from samara.registry.service import problems
from samara.registry.service.pages.rendering import Pages
from samara.registry.service.service import Service
from samara.schemas.errors import SamaraError

FOR_MACHINES = ("/v1/", "/api/", "/announce", "/scrape", "/healthz", "/readyz", "/metrics")
Handler = Callable[[Pages, Request], Response]


def answered(pages: Pages, handler: Handler) -> Callable[[Request], Response]:
    """A handler whose errors are pages where a browser asked."""

    def handle(request: Request) -> Response:
        try:
            return handler(pages, request)
        except SamaraError as error:
            problem = problems.problem(error, contact=pages.service.settings.contact)
            page = _page(pages, request, problem.status_code, problems.public(error))
            if page is None:
                return problem
            page.headers.update({name: problem.headers[name] for name in ("Retry-After",) if name in problem.headers})
            return page

    return handle


def error_page(service: Service, request: Request, error: problems.RefusedError) -> Response | None:
    """The page for a request that no route took; None if whoever asked is no browser. Asks no database."""
    page = _page(Pages(service), request, error.status, error)
    if page is not None:
        page.headers.update(error.headers)
    return page


def wants_html(request: Request) -> bool:
    """Whether a person will read the answer: browsers ask for text/html by name, tools don't."""
    if request.url.path.startswith(FOR_MACHINES):
        return False
    return "text/html" in request.headers.get("accept", "")[:1024].lower()


def _page(pages: Pages, request: Request, status: int, error: SamaraError) -> Response | None:
    if not wants_html(request):
        return None
    title = "Taken down" if isinstance(error, BarredError) else HTTPStatus(status).phrase
    page = pages.page(request, "error.html", status=status, code=status, title=title, error=error)
    page.headers["Cache-Control"] = "no-store"  # as of every problem
    return page
