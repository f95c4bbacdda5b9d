"""/announce and /scrape over `samara.registry.tracker`, as BitTorrent clients expect them (BEP 3, 7, 23, 31, 48).

Bare ASGI: thousands of announces a second leave no time for what a web framework does to a query string. Every answer,
a refusal too, is bencoded and has status 200: clients show a failure's reason only then.

Whose address is listed: the one that the request came from, as `limits.client_address` sees it. What a client claims
(`ip`, BEP 3) is believed of programs on the machines of the operator's own proxies alone, and only when those speak for
themselves.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import socket
import time
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from samara.registry.service.guard import ADDRESS
from samara.registry.service.limits import Buckets, client_address
from samara.registry.service.problems import RefusedError, problem
from samara.registry.service.service import Service
from samara.registry.service.wire_limits import is_within
from samara.registry.tracker.answers import announce_answer, failure, scrape_answer
from samara.registry.tracker.queries import parse_announce, parse_scrape
from samara.registry.tracker.values import Event
from samara.schemas.errors import MalformedError

RETRY_IN = 1  # minutes, for what isn't published here: who published at another instance is known within seconds
_FORWARDED = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via"})
_TYPE = (b"content-type", b"text/plain; charset=iso-8859-1")
_FRESH = (b"cache-control", b"no-store")


class TrackerPaths:
    """/announce and /scrape, answered before the framework looks for a route: that alone would cost twice as much as
    the answer. An ASGI middleware.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        buckets = Buckets(service.settings.rates.announces, time.monotonic)
        self._answers: Mapping[str, Callable[[Scope], bytes]] = {
            "/announce": Announces(service, buckets).answer,
            "/scrape": Scrapes(service, buckets).answer,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        answer = self._answers.get(scope["path"]) if scope["type"] == "http" else None
        if answer is None:
            await self._app(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"}:
            await problem(_only_get())(scope, receive, send)
        else:
            body = answer(scope)
            length = (b"content-length", b"%d" % len(body))
            await send({"type": "http.response.start", "status": 200, "headers": [_TYPE, length, _FRESH]})
            await send({"type": "http.response.body", "body": body})


class Announces:
    """Who is where: in, and who else is, out. `buckets`: how often anybody may ask."""

    def __init__(self, service: Service, buckets: Buckets) -> None:
        self._service = service
        self._tracker = service.tracker
        self._buckets = buckets
        outcomes = ("listed", "stopped", "unknown", "malformed", "limited")
        self._count = {outcome: service.metrics.announces.labels(outcome).inc for outcome in outcomes}

    def answer(self, scope: Scope) -> bytes:
        """The answer to one request."""
        host = _host(scope, self._service)
        wait = self._buckets.take(host)
        if wait:
            self._count["limited"]()
            return _too_many(wait)
        try:
            told = parse_announce(scope["query_string"])
            address = packed(host)
        except MalformedError as error:
            self._count["malformed"]()
            return failure(str(error))
        if told.ip is not None and self._may_claim(host, scope):
            address = told.ip
        found = self._tracker.announce(told, address, time.monotonic())
        if found is None:
            self._count["unknown"]()
            return failure("not published here", retry_in=RETRY_IN)
        self._count["stopped" if told.event is Event.STOPPED else "listed"]()
        return announce_answer(found, self._tracker.rules, address=address)

    def _may_claim(self, host: str, scope: Scope) -> bool:
        proxies = self._service.settings.proxies
        return is_within(host, proxies) and not any(name in _FORWARDED for name, _value in scope["headers"])


class Scrapes:
    """How swarms are."""

    def __init__(self, service: Service, buckets: Buckets) -> None:
        self._service = service
        self._tracker = service.tracker
        self._buckets = buckets

    def answer(self, scope: Scope) -> bytes:
        """The answer to one request."""
        wait = self._buckets.take(_host(scope, self._service))
        if wait:
            return _too_many(wait)
        try:
            return scrape_answer(self._tracker.scrape(parse_scrape(scope["query_string"])), self._tracker.rules)
        except MalformedError as error:
            return failure(str(error))


def _host(scope: Scope, service: Service) -> str:
    """Who asks; what is around the routes has usually found out already."""
    known: str | None = scope.get(ADDRESS)
    return client_address(scope, service.settings) if known is None else known


def _only_get() -> RefusedError:
    return RefusedError("only GET will do here", status=405, headers={"Allow": "GET, HEAD"})


def _too_many(wait: float) -> bytes:
    return failure(f"too many requests: wait {math.ceil(wait)} s", retry_in=math.ceil(wait / 60))


@functools.lru_cache(maxsize=4096)
def packed(host: str) -> bytes:
    """An IP address as 4 or 16 bytes; one that only wraps an IPv4 address (RFC 4291 §2.5.5.2) as that.

    Raises MalformedError.
    """
    try:
        return socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        pass
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        raise MalformedError("can't tell the address this comes from", actual=repr(host[:80])) from None
    return address.packed if address.ipv4_mapped is None else address.ipv4_mapped.packed
