"""POST /v1/publish: a publication in, what came of it out. Proving it is `samara.registry.publications`' business."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from anyio import CapacityLimiter, from_thread, to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from samara.registry.publications.accept import Accepted, Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.service.problems import RefusedError
from samara.registry.service.service import Service
from samara.registry.service.settings import Claims, Settings
from samara.schemas.errors import IntegrityError
from samara.schemas.publication import MEDIA_TYPE, unpack_publication
from samara.schemas.zstd_frame import FrameError, FrameFault, unpack_frame

Aside = Callable[[], AbstractContextManager[None]]

STATUSES = {
    Reason.UNPROVEN: 403,
    Reason.MALFORMED: 422,
    Reason.STALE: 409,
    Reason.EXPIRED: 403,
    Reason.EQUIVOCATION: 409,
    Reason.UNLISTED: 422,
    Reason.NAME_TAKEN: 409,
    Reason.NAME_REFUSED: 403,
    Reason.NOT_LISTED: 403,
    Reason.QUOTA: 507,
    Reason.MIRROR: 422,
    Reason.CONFLICT: 409,
    Reason.READ_ONLY: 403,
    Reason.BARRED: 403,
}
MAX_MISSING = 1000  # paths named in an answer
_AT_ONCE = 2  # publications proven at the same time: each may hold some hundred megabytes
_THREADS = 8  # of their own: two that prove, some that wait for the DNS of mirrors
_PATIENCE = 20.0  # seconds that one waits to be let in, and then for its turn


class Published(BaseModel):
    """What came of a publication. `missing`: names of the catalog whose release is not here; send those too."""

    model_config = ConfigDict(frozen=True)

    identity: str
    outcome: str = Field(examples=["verified", "unchanged"])
    root_version: int
    timestamp_version: int
    added: int
    listed: int
    changed: int
    names: list[str]
    missing: list[str]
    missing_count: int
    warnings: list[str]


class _RefusedPublicationError(RefusedError):
    """As a problem whose `reason` programs can go by."""

    def __init__(self, error: PublicationRefusedError) -> None:
        super().__init__(
            error.what, status=STATUSES[error.reason], expected=error.expected, actual=error.actual,
            next_step=error.next_step,
        )  # fmt: skip
        self._reason = error.reason

    def as_dict(self) -> dict[str, object]:
        told = {"error": PublicationRefusedError.__name__, "reason": self._reason.value}
        return {**super().as_dict(), **told}


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["publish"])
    inside, turn = asyncio.Semaphore(_THREADS), asyncio.Semaphore(_AT_ONCE)
    threads = CapacityLimiter(_THREADS)

    @router.post(
        "/v1/publish",
        summary="Publish a catalog and releases",
        response_model=Published,
        responses={201: {"model": Published}, 403: {}, 409: {}, 413: {}, 415: {}, 422: {}, 429: {}, 503: {}, 507: {}},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def publish(request: Request, response: Response) -> Published:
        """Takes what the TUF workflow proves, whole or not at all. No password: the signatures are the proof."""
        data = await _body(request, service.settings.quotas.publish_bytes)
        try:
            # whoever has a turn has a thread: one that waited for a thread would hold up those who have threads and,
            # back from their look-ups, wait for a turn
            async with _one_of(inside), _one_of(turn):
                encoding = request.headers.get("content-encoding")
                accepted = await to_thread.run_sync(
                    _accept, service, data, encoding, partial(_aside, turn), limiter=threads
                )  # fmt: skip
        except PublicationRefusedError as error:
            service.metrics.publishes.labels(error.reason.value).inc()
            raise _RefusedPublicationError(error) from None
        except IntegrityError:
            service.metrics.publishes.labels(Reason.MALFORMED.value).inc()
            raise
        outcome = "verified" if accepted.is_new or accepted.added else "unchanged"
        service.metrics.publishes.labels(outcome).inc()
        response.status_code = 201 if outcome == "verified" else 200
        return _told(accepted, outcome)

    return router


@asynccontextmanager
async def _one_of(places: asyncio.Semaphore) -> AsyncIterator[None]:
    """Waits in the loop: some dozen publications that waited in threads would leave none for anybody's reading."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await places.acquire()
    except TimeoutError:
        raise RefusedError("too many publications at once", status=503, headers={"Retry-After": "5"}) from None
    try:
        yield
    finally:
        places.release()


@contextmanager
def _aside(turn: asyncio.Semaphore) -> Iterator[None]:
    """In a publication's thread: others may have its turn meanwhile. Who names a slow DNS waits for it alone."""
    from_thread.run_sync(turn.release)
    try:
        yield
    finally:
        from_thread.run(turn.acquire)


def rules_of(settings: Settings) -> Rules:
    """The operator's settings as the rules of `accept`."""
    quotas = settings.quotas
    return Rules(
        claims=ClaimRules(
            origin=settings.origin,
            is_open=settings.claims is Claims.OPEN,
            listed=settings.namespaces,
            at_most=quotas.namespaces,
        ),
        policy=settings.policy,
        releases=quotas.releases,
        stored_bytes=quotas.stored_bytes,
        publishers=quotas.publishers,
        listed=quotas.names,
        read_bytes=quotas.publish_bytes,
    )


async def _body(request: Request, limit: int) -> bytes:
    """The body, as it came, of at most `limit` bytes. The middleware bounds it too; this one knows publications."""
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != MEDIA_TYPE:
        raise RefusedError("not a publication", status=415, expected=MEDIA_TYPE, actual=repr(media[:80]))
    data = bytearray()
    try:
        async for piece in request.stream():
            data += piece
            if len(data) > limit:
                raise _too_large(limit)
    except ClientDisconnect:
        raise RefusedError("the publication ended before its end", status=400) from None
    return bytes(data)


def _accept(service: Service, data: bytes, encoding: str | None, aside: Aside) -> Accepted:
    settings = service.settings
    if not settings.accepts_publishes:
        raise PublicationRefusedError(Reason.READ_ONLY, "this registry takes no publications")
    publication = unpack_publication(
        _decoded(data, encoding, settings.quotas.publish_bytes), limit=settings.quotas.publish_bytes
    )
    rules = replace(rules_of(settings), aside=aside)
    now = datetime.fromtimestamp(service.clock(), UTC)
    accepted = accept(service.index, publication, rules, now=now)
    if accepted.changed:
        service.published(accepted.identity, now.timestamp())
    return accepted


def _decoded(data: bytes, encoding: str | None, limit: int) -> bytes:
    """The body without its Content-Encoding (RFC 9110 §8.4)."""
    if encoding is None or encoding.strip().lower() == "identity":
        return data
    if encoding.strip().lower() != "zstd":
        raise RefusedError("a content encoding that isn't known", status=415, expected="zstd or identity")
    try:
        return bytes(unpack_frame(data, limit))
    except FrameError as error:
        if error.fault is FrameFault.TOO_LARGE:
            raise _too_large(limit) from None
        if error.fault is FrameFault.DAMAGED:
            raise RefusedError(f"the body is not zstd ({error.what})", status=400) from None
        raise RefusedError("the body is not one whole zstd frame", status=400) from None


def _too_large(limit: int) -> RefusedError:
    return RefusedError(
        "the publication is too large", status=413, expected=f"≤ {limit} bytes",
        next_step="send the releases in several publications of the same catalog",
    )  # fmt: skip


def _told(accepted: Accepted, outcome: str) -> Published:
    return Published(
        identity=accepted.identity,
        outcome=outcome,
        root_version=accepted.root_version,
        timestamp_version=accepted.timestamp_version,
        added=accepted.added,
        listed=accepted.listed,
        changed=accepted.changed,
        names=list(accepted.names),
        missing=list(accepted.missing[:MAX_MISSING]),
        missing_count=len(accepted.missing),
        warnings=list(accepted.warnings),
    )
