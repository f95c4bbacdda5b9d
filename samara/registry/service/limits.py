"""Who asks, and how often one may: client addresses, token buckets, the RateLimit header fields. Opens nothing.

Sources: draft-ietf-httpapi-ratelimit-headers (RateLimit, RateLimit-Policy), RFC 6585 (429).
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from samara.registry.service.settings import Settings
from samara.registry.service.wire_limits import client_of, is_within

WINDOW = 60  # seconds that a quota is for
MAX_CLIENTS = 50_000  # addresses remembered; about 10 MB
MAX_HOPS = 16  # addresses looked at in X-Forwarded-For


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """`wait`: seconds until a request would be granted, 0.0 if this one is; `remaining` requests; `reset`: seconds
    until there are more: the whole quota, or a quarter of it where none is left.
    """

    wait: float
    remaining: int
    reset: int


class Buckets:
    """`per_minute` requests for each client, bursts of as many. 0: no limit. For several threads.

    A client is an IPv4 address or the /64 of an IPv6 one. So many clients are remembered; who asked longest ago is
    forgotten first.
    """

    def __init__(
        self, per_minute: int, clock: Callable[[], float], *, max_clients: int = MAX_CLIENTS
    ) -> None:  # fmt: skip
        self.per_minute = per_minute
        self._clock = clock
        self._max = max_clients
        self._rate = per_minute / WINDOW
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client → tokens, when
        self._lock = threading.Lock()

    def take(self, address: str) -> float:
        """0.0 if granted, else seconds to wait."""
        return self.ask(address).wait if self.per_minute else 0.0

    def ask(self, address: str) -> Grant:
        """The same, with what is left."""
        if not self.per_minute:
            return Grant(wait=0.0, remaining=0, reset=0)
        client = address if ":" not in address else client_of(address)
        now = self._clock()
        with self._lock:
            tokens, then = self._buckets.pop(client, (float(self.per_minute), now))
            tokens = min(self.per_minute, tokens + max(0.0, now - then) * self._rate)
            granted = tokens >= 1.0
            if granted:
                tokens -= 1.0
            self._buckets[client] = (tokens, now)
            if len(self._buckets) > self._max:
                self._buckets.popitem(last=False)
        return Grant(
            wait=0.0 if granted else (1.0 - tokens) / self._rate,
            remaining=int(tokens),
            # clients rest for as long as this says, with all their threads at once (huggingface_hub): too short, and
            # they come back to nothing again; too long, and they rest for nothing
            reset=math.ceil(((self.per_minute if tokens >= 1.0 else self.per_minute / 4) - tokens) / self._rate),
        )

    def __len__(self) -> int:
        return len(self._buckets)


def rate_headers(policy: str, buckets: Buckets, grant: Grant) -> dict[str, str]:
    """RateLimit-Policy and RateLimit, and Retry-After for who has to wait."""
    headers = {
        "RateLimit-Policy": f'"{policy}";q={buckets.per_minute};w={WINDOW}',
        "RateLimit": f'"{policy}";r={grant.remaining};t={grant.reset}',
    }
    return headers | ({"Retry-After": str(max(1, math.ceil(grant.wait)))} if grant.wait else {})


def client_address(scope: Mapping[str, Any], settings: Settings) -> str:
    """The address of who asks. X-Forwarded-For is believed as far back as `settings.proxies` wrote it, no further."""
    client = scope.get("client")
    peer = str(client[0]) if client else ""
    if not settings.proxies or not is_within(peer, settings.proxies):
        return peer
    forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    address = peer
    for hop in reversed(forwarded.decode("latin-1").split(",")[-MAX_HOPS:]):
        text = hop.strip()
        try:
            address = str(ip_address(text))
        except ValueError:
            return address
        if not is_within(address, settings.proxies):
            return address
    return address
