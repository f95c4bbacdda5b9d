"""What every request passes before a route sees it: its address, how often it comes, how large its body is; and the
header fields that every answer gets. An ASGI middleware; answers by itself what it refuses.

/announce and /scrape pass through: trackers answer in bencode, and count by themselves.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any
from urllib.parse import unquote_to_bytes

from samara.registry.service.limits import Buckets, Grant, client_address, rate_headers
from samara.registry.service.problems import RefusedError, problem
from samara.registry.service.service import Service
from samara.registry.service.wire_limits import client_of

MAX_PATH = 4096  # bytes, as sent
MAX_QUERY = 8192
MAX_BODY = 1 << 20  # of whatever isn't a publication
BODY_TIME = 1800.0  # seconds for a body as a whole; the server's pace bounds it from below
UPLOADS_PER_CLIENT = 2  # bodies of publications on their way at once
UPLOADED = 256 << 20  # bytes of such bodies, which are held in memory
PUBLISH = "/v1/publish"
ADDRESS = "samara.address"  # in a scope: who asks
TRACKER_PATHS = frozenset({"/announce", "/scrape"})
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_SECURITY = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        b"Accept-Ranges, Content-Length, Content-Range, ETag, RateLimit, RateLimit-Policy, Retry-After",
    ),
)
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, HEAD"),
    (b"access-control-allow-headers", b"Range, If-Range, If-None-Match, If-Match"),
    (b"access-control-max-age", b"86400"),
)


class Guard:
    """Around the application's routes."""

    def __init__(self, app: Any, service: Service) -> None:
        self._app = app
        self._service = service
        rates = service.settings.rates
        self._reads = Buckets(rates.reads, service.clock)
        self._publishes = Buckets(rates.publishes, service.clock)
        self._uploads: Counter[str] = Counter()
        self._held = Held(UPLOADED)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As an ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        address = scope[ADDRESS] = client_address(scope, self._service.settings)
        if scope["path"] in TRACKER_PATHS:
            await self._app(scope, receive, send)
            return
        is_publish = scope["path"] == PUBLISH and scope["method"] == "POST"
        name, buckets = ("publishes", self._publishes) if is_publish else ("reads", self._reads)
        grant = buckets.ask(address)
        added = dict(_SECURITY)
        if buckets.per_minute:
            added |= {key.lower().encode(): text.encode() for key, text in rate_headers(name, buckets, grant).items()}
        is_open = scope["path"].startswith("/v1/") and not is_publish and scope["method"] in {"GET", "HEAD", "OPTIONS"}
        if is_open:
            added |= dict(_CORS)

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                present = {key.lower() for key, _ in message.get("headers", ())}
                more = [(key, value) for key, value in added.items() if key not in present]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        try:
            check_target(scope)
            _check_rate(grant, buckets.per_minute)
            if is_open and scope["method"] == "OPTIONS" and scope["path"] != PUBLISH:
                await _preflight(sending)
                return
            limit = self._service.settings.quotas.publish_bytes if is_publish else MAX_BODY
            _check_head(scope, limit, codings={"zstd"} if is_publish else set())
        except RefusedError as error:
            if not is_publish:  # a page of another site is to learn why: it is nothing but that
                added |= dict(_CORS)
            await problem(error)(scope, receive, sending)
            return
        if is_publish:
            await self._upload(scope, receive, sending, client_of(address))
        else:
            await self._app(scope, _Body(receive, MAX_BODY, None), sending)

    async def _upload(self, scope: Any, receive: Any, send: Any, client: str) -> None:
        if self._uploads[client] >= UPLOADS_PER_CLIENT:
            await problem(_busy())(scope, receive, send)
            return
        self._uploads[client] += 1
        body = _Body(receive, self._service.settings.quotas.publish_bytes, self._held)
        try:
            await self._app(scope, body, send)
        finally:
            body.release()
            self._uploads[client] -= 1
            if not self._uploads[client]:
                del self._uploads[client]


class Held:
    """How much of bodies is in memory, of `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0


class _Body:
    """`receive` that counts: 413 beyond `limit` bytes, 408 when it takes too long, 503 when all bodies together are too
    much to hold.
    """

    def __init__(self, receive: Any, limit: int, held: Held | None) -> None:
        self._receive = receive
        self._limit = limit
        self._held = held
        self._size = 0
        self._ended = False
        self._until = asyncio.get_running_loop().time() + BODY_TIME

    async def __call__(self) -> Any:
        if self._ended:  # nothing but the client's leaving is to come: that may take long
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise RefusedError("the body took too long", status=408, expected=f"≤ {BODY_TIME:.0f} s") from None
        size = len(message.get("body", b""))
        self._size += size
        if self._held is not None:
            self._held.size += size
            if self._held.size > self._held.limit:
                raise _busy()
        if self._size > self._limit:
            raise too_large(self._limit)
        self._ended = not message.get("more_body", False)
        return message

    def release(self) -> None:
        """Nothing of it is held any more."""
        if self._held is not None:
            self._held.size -= self._size
            self._size = 0


def check_target(scope: Any) -> None:
    """Refuse a path that could mean two things, or nothing. Raises RefusedError (400, 414)."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    if len(raw) > MAX_PATH or len(scope.get("query_string", b"")) > MAX_QUERY:
        raise RefusedError("the address is too long", status=414, expected=f"≤ {MAX_PATH} and {MAX_QUERY} bytes")
    if not raw.startswith(b"/"):
        raise _bad_path("it must begin with /")
    if _BAD_PERCENT.search(raw):
        raise _bad_path("a % without two hex digits")
    try:
        path = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise _bad_path("it is not UTF-8") from None
    if _CONTROL.search(path):
        raise _bad_path("a control character or backslash")
    parts = path.split("/")[1:]
    if any(part in {".", ".."} for part in parts) or "" in parts[:-1]:
        raise _bad_path("an empty part, . or ..")


def too_large(limit: int) -> RefusedError:
    """413."""
    return RefusedError("the body is too large", status=413, expected=f"≤ {limit} bytes")


def _busy() -> RefusedError:
    return RefusedError("too many publications on their way", status=503, headers={"Retry-After": "5"})


def _bad_path(why: str) -> RefusedError:
    return RefusedError(f"not a path of this service: {why}", status=400)


def _check_rate(grant: Grant, per_minute: int) -> None:
    if grant.wait:
        raise RefusedError(
            "too many requests", status=429, expected=f"at most {per_minute} in a minute",
            next_step=f"wait {max(1, round(grant.wait))} s",
        )  # fmt: skip


def _check_head(scope: Any, limit: int, *, codings: set[str]) -> None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"content-length" and int(value) > limit:  # digits: the parser saw to that
            raise too_large(limit)
        if name == b"content-encoding" and value.decode("latin-1").strip().lower() not in {"identity", *codings}:
            raise RefusedError(
                "a content encoding that isn't taken", status=415, expected=" or ".join(sorted({*codings, "identity"})),
                headers={"Accept-Encoding": ", ".join(sorted({*codings, "identity"}))},
            )  # fmt: skip


async def _preflight(send: Any) -> None:
    headers = [*_PREFLIGHT, (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 204, "headers": headers[:-1]})
    await send({"type": "http.response.body", "body": b""})
