"""Errors as problem+json (RFC 9457): our error tree → HTTP statuses. What isn't ours is a 500 that says nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from samara.registry.barred import BarredError
from samara.registry.service.logs import note
from samara.schemas.errors import (
    DiskFullError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    SamaraError,
    StoreError,
    TrustError,
    UsageError,
)

STATUSES: tuple[tuple[type[SamaraError], int], ...] = (  # the first that fits
    (UsageError, 400),
    (TrustError, 403),
    (NotFoundError, 404),
    (IntegrityError, 422),
    (DiskFullError, 507),
    (StoreError, 503),
    (NetworkError, 502),
)
_trouble = logging.getLogger("samara.serve")
_UNKNOWN = {404: "there is nothing at this address", 405: "this address doesn't take that method"}
RETRY_AFTER = 5  # seconds, with 503 and 507
_NOT_TOLD = {"message", "exit_code"}  # said already; of commands, not of services


class RefusedError(SamaraError):
    """A request that can't be granted, with its own status, and headers to go with it."""

    def __init__(
        self,
        what: str,
        *,
        status: int,
        expected: object = None,
        actual: object = None,
        next_step: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(what, expected=expected, actual=actual, next_step=next_step)
        self.status = status
        self.headers = headers or {}


def problem(error: SamaraError, *, contact: str | None = None) -> JSONResponse:
    """An error of ours as an answer. `contact`: the operator's, told to whom what was taken down concerns."""
    reason = "taken down" if isinstance(error, BarredError) else error.as_dict().get("reason")
    if reason is not None:
        note(f"{reason}: {error.what}" + (f" ({error.actual})" if error.actual else ""))
    if isinstance(error, RefusedError):
        about = contact if reason == "barred" else None
        return problem_of(error.status, error, headers=error.headers, contact=about)
    if isinstance(error, BarredError):
        return problem_of(410, error, headers={}, contact=contact)
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    if status not in {503, 507}:
        return problem_of(status, error, headers={})
    _trouble.warning("%s", error)
    return problem_of(status, public(error), headers={"Retry-After": str(RETRY_AFTER)})


def public(error: SamaraError) -> SamaraError:
    """The error as strangers may hear of it: this machine's own troubles name paths, hosts and users."""
    if isinstance(error, DiskFullError):
        return DiskFullError(
            "this registry has no room left", next_step="try again later; its operator has to free some space"
        )
    if isinstance(error, StoreError):
        return StoreError("this registry can't answer that at the moment", next_step="try again later")
    return error


def problem_of(
    status: int, error: SamaraError, *, headers: dict[str, str], contact: str | None = None
) -> JSONResponse:  # fmt: skip
    """An error with a status of one's own choice. 404 and 410 may be kept without being told so (RFC 9110 §15.1): what
    is published a moment later, or let back in, must not stay away for who has a cache in front.
    """
    body: dict[str, object] = {"type": "about:blank", "title": error.what, "status": status, "detail": str(error)}
    body |= {name: value for name, value in error.as_dict().items() if value is not None and name not in _NOT_TOLD}
    if contact is not None:
        body["contact"] = contact
    headers = {"Cache-Control": "no-store", **headers}
    return JSONResponse(body, status_code=status, headers=headers, media_type="application/problem+json")


def _allowing(headers: dict[str, str]) -> dict[str, str]:
    """HEAD has routes of its own beside those of GET, which Starlette's Allow doesn't tell (RFC 9110 §10.2.1)."""
    methods = headers.get("Allow", "").split(", ")
    return headers | {"Allow": ", ".join([*methods, "HEAD"])} if "GET" in methods and "HEAD" not in methods else headers


def install(
    app: FastAPI,
    on_unknown: Callable[[Request, RefusedError], Response | None] | None = None,
    *,
    contact: str | None = None,
) -> None:
    """Let `app` answer every error as a problem: ours, requests that don't fit a route, unknown routes.

    `on_unknown`: for who would rather see a page; None where that doesn't fit. `contact`: see `problem`.
    """

    async def answer(_request: Request, error: Exception) -> Response:
        assert isinstance(error, SamaraError)
        return problem(error, contact=contact)

    async def unfit(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0] if error.errors() else {"loc": (), "msg": "not understood"}
        place = " ".join(str(part) for part in first["loc"])[:80]
        return problem(RefusedError(f"{place or 'the request'}: {str(first['msg'])[:200]}", status=422))

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        refused = RefusedError(
            _UNKNOWN.get(error.status_code, str(error.detail)[:200]),
            status=error.status_code,
            headers=_allowing(dict(error.headers or {})),
        )
        return (on_unknown(request, refused) if on_unknown is not None else None) or problem(refused)

    app.add_exception_handler(SamaraError, answer)
    app.add_exception_handler(RequestValidationError, unfit)
    app.add_exception_handler(HTTPException, unknown)
