"""Errors as problem+json (RFC 9457): our error tree → HTTP statuses. What isn't ours is a 500 that says nothing."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

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
RETRY_AFTER = 5  # seconds, with 503


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


def problem(error: SamaraError) -> JSONResponse:
    """An error of ours as an answer."""
    if isinstance(error, RefusedError):
        return problem_of(error.status, error, headers=error.headers)
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    return problem_of(status, error, headers={"Retry-After": str(RETRY_AFTER)} if status == 503 else {})


def problem_of(status: int, error: SamaraError, *, headers: dict[str, str]) -> JSONResponse:
    """An error with a status of one's own choice."""
    body: dict[str, object] = {"type": "about:blank", "title": error.what, "status": status, "detail": str(error)}
    body |= {name: value for name, value in error.as_dict().items() if value is not None and name not in {"message"}}
    return JSONResponse(body, status_code=status, headers=headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Let `app` answer every error of ours as a problem."""

    async def answer(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, SamaraError)
        return problem(error)

    app.add_exception_handler(SamaraError, answer)
