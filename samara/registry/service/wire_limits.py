"""How much of a connection a client may ask for: numbers, and the arithmetic of who is too slow. Opens nothing.

A slow client costs a connection and perhaps an open file for as long as it likes, so each phase of a request has a
pace that it must keep up. Who is cut off loses nothing: blobs go on by Range.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address

from samara.schemas.networks import Network

IPV6_HOST_BITS = 64  # one customer has at least a /64: addresses in it are one client


@dataclass(frozen=True, kw_only=True, slots=True)
class WireLimits:
    """Bounds of connections. Times are seconds, sizes bytes.

    `head_bytes`, `head_count`, `head_time`: a request's line and headers, their number, how long they may take to come,
    counted from their first byte or the connection's start. `keep_alive`: rest between two requests. `pace_bytes` must
    move within `pace_time`, of a request's body as of an answer that waits to be taken. `connections`, in all and
    `per_address` (not for `trusted`, the web servers in front). `pipelined`: requests sent before the answer to the
    first. `drain_time`: how long a body may go on that was refused by its head. `stop_time`: how long running answers
    may take once the service is asked to stop.
    """

    head_bytes: int = 32 * 1024
    head_count: int = 100
    head_time: float = 10.0
    keep_alive: float = 20.0
    pace_bytes: int = 16 * 1024
    pace_time: float = 30.0
    connections: int = 4096
    per_address: int = 256
    trusted: tuple[Network, ...] = ()
    pipelined: int = 16
    drain_time: float = 5.0
    stop_time: float = 10.0


@dataclass(slots=True)
class Pace:
    """Watches whether something moves. `since`, `moved`: where the current window began."""

    since: float
    moved: int

    def keeps_up(self, moved: int, now: float, limits: WireLimits) -> bool:
        """Whether `moved` (all bytes so far) is enough by `now`; starts another window whenever it is."""
        if moved - self.moved >= limits.pace_bytes:
            self.since, self.moved = now, moved
            return True
        return now - self.since < limits.pace_time


def client_of(address: str) -> str:
    """The client behind an IP address: for IPv6 its /64, IPv4 also where the kernel wraps it as ::ffff:a.b.c.d."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{ip_address(int(parsed) >> IPV6_HOST_BITS << IPV6_HOST_BITS)}/{128 - IPV6_HOST_BITS}"


def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an IP address (as text) lies in one of the networks."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        return any(parsed.ipv4_mapped in network for network in networks)
    return any(parsed in network for network in networks)


class Crowd:
    """Who is connected. For the one thread that serves."""

    def __init__(self, limits: WireLimits) -> None:
        self._limits = limits
        self._by_client: Counter[str] = Counter()
        self.count = 0

    def enter(self, address: str) -> bool:
        """Let a connection in, or say no. Who came in must `leave`."""
        client = client_of(address)
        too_many = self._by_client[client] >= self._limits.per_address
        if self.count >= self._limits.connections or (too_many and not is_within(address, self._limits.trusted)):
            if not self._by_client[client]:
                del self._by_client[client]
            return False
        self._by_client[client] += 1
        self.count += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that came in is over."""
        client = client_of(address)
        self.count -= 1
        self._by_client[client] -= 1
        if self._by_client[client] <= 0:
            del self._by_client[client]
