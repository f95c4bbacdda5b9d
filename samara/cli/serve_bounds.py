"""The bounds of `samara serve` that an operator may set: how much one publisher, one address, one swarm may have.

Each option has SAMARA_SERVE_… beside it, as all of that command's. What isn't told stays as the rooms below have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from samara.schemas.errors import UsageError
from samara.schemas.sizes import parse_size

if TYPE_CHECKING:
    from samara.fetcher.intake import Limits
    from samara.registry.service.settings import Quotas, Rates
    from samara.registry.tracker import Rules

F = TypeVar("F", bound=Callable[..., Any])
MIB = 1 << 20
MAX_PUBLICATION = (MIB, 256 * MIB)  # as much as bodies may take in memory together (guard.UPLOADED)
MAX_STORED = (MIB, 1 << 50)
MAX_WORDS = 300  # characters of a contact or a title
_WORDS = f"1 to {MAX_WORDS} printable characters"
FETCHING = ("pull_at_once", "pull_waiting")  # of no use where nothing is fetched


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option that SAMARA_SERVE_… sets too."""
    told = names[0].removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=f"SAMARA_SERVE_{told}", show_envvar=True, **settings)


def _count(name: str, least: int, most: int, about: str) -> Callable[[F], F]:
    return option(name, type=click.IntRange(least, most), metavar="N", help=about)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    _count("--max-publishers", 1, 10_000_000, "Publishers in all.  [default: 100,000]"),
    _count("--max-publisher-releases", 1, 1_000_000, "Releases kept of one publisher.  [default: 10,000]"),
    _count("--max-publisher-tags", 1, 100_000, "Model tags in one publisher's catalog.  [default: 10,000]"),
    _count("--max-publisher-names", 0, 10_000, "Names that one publisher may claim.  [default: 4]"),
    option(
        "--max-publisher-bytes", metavar="SIZE",
        help="Manifests and torrents kept of one publisher, e.g. 4G; models' bytes aren't in it.  [default: 1 GiB]",
    ),
    option("--max-publication", metavar="SIZE", help="One publication, e.g. 128MiB.  [default: 64 MiB]"),
    _count("--publications", 0, 1_000_000, "Publications of one address a minute; 0: no limit.  [default: 30]"),
    _count("--reads", 0, 10_000_000, "Requests of one address a minute; 0: no limit.  [default: 1,200]"),
    _count("--announces", 0, 10_000_000, "Announces of one address a minute; 0: no limit.  [default: 600]"),
    _count("--connections", 1, 1_000_000_000, "Connections at a time.  [default: 4,096]"),
    _count("--connections-per-address", 1, 1_000_000, "Of these, of one address.  [default: 256]"),
    _count("--max-peers", 1, 10_000_000, "Peers that the tracker remembers, 0.7 kB each.  [default: 200,000]"),
    _count("--max-swarm-peers", 1, 1_000_000, "Of these, of one swarm.  [default: 10,000]"),
    _count("--pull-at-once", 1, 256, "Blobs that --pull-through fetches at a time.  [default: 8]"),
    _count("--pull-waiting", 0, 10_000, "Blobs that may wait for that.  [default: 64]"),
)  # fmt: skip


def bounds(function: F) -> F:
    """Give a command all of these options."""
    for one in reversed(_OPTIONS):
        function = one(function)
    return function


def quotas_of(told: dict[str, Any]) -> Quotas:
    """Raises UsageError for a size that can't be meant."""
    from samara.registry.service.settings import Quotas

    return replace(
        Quotas(),
        **_told(
            publishers=told["max_publishers"],
            releases=told["max_publisher_releases"],
            names=told["max_publisher_tags"],
            namespaces=told["max_publisher_names"],
            stored_bytes=_size(told, "max_publisher_bytes", MAX_STORED),
            publish_bytes=_size(told, "max_publication", MAX_PUBLICATION),
        ),
    )


def rates_of(told: dict[str, Any]) -> Rates:
    """Per minute and address."""
    from samara.registry.service.settings import Rates

    given = _told(reads=told["reads"], publishes=told["publications"], announces=told["announces"])
    return replace(Rates(), **given)


def connections_of(told: int | None) -> int:
    """As many as asked for, or as fit under the number of files that may be open, which is raised as far as it goes."""
    from samara.registry.service.wire_limits import WireLimits

    wanted = told or WireLimits().connections
    try:
        import resource
    except ImportError:  # Windows has no such bound
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + 512  # a connection and a file each, and everybody else's
    if soft != resource.RLIM_INFINITY and soft < needed:
        more = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    room = wanted if soft == resource.RLIM_INFINITY else max(16, (soft - 512) // 2)
    if told is not None and room < told:
        raise UsageError(
            f"{told} connections need more open files than this process may have", expected=f"≤ {room}",
            next_step="raise the limit (ulimit -n, LimitNOFILE=) or ask for fewer",
        )  # fmt: skip
    return min(wanted, room)


def per_address_of(told: dict[str, Any], connections: int) -> int:
    """Connections of one address, of so many in all. Raises UsageError."""
    from samara.registry.service.wire_limits import WireLimits

    wanted: int | None = told["connections_per_address"]
    if wanted is None:
        return min(WireLimits().per_address, connections)
    if wanted > connections:
        raise UsageError("more connections of one address than in all", expected=f"≤ {connections}", actual=wanted)
    return wanted


def tracker_rules_of(told: dict[str, Any]) -> Rules:
    """Raises UsageError."""
    from samara.registry.tracker import Rules

    minutes: int = told["announce_interval"]
    given = _told(peers=told["max_peers"], swarm_peers=told["max_swarm_peers"])
    return replace(Rules(interval=60 * minutes, min_interval=max(30, 60 * minutes // 6)), **given)


def fetch_limits_of(told: dict[str, Any]) -> Limits:
    """How much comes at once because somebody reads it."""
    from samara.fetcher.intake import Limits

    return replace(Limits(), **_told(for_readers=told["pull_at_once"], waiting=told["pull_waiting"]))


def contact_of(text: str | None) -> str | None:
    """Whom to write to. Raises UsageError."""
    return None if text is None else _line(text, "a contact", f"{_WORDS}, such as abuse@example.org")


def title_of(text: str) -> str:
    """What the registry is called. Raises UsageError."""
    return _line(text, "a title", _WORDS)


def _line(text: str, what: str, expected: str) -> str:
    told = " ".join(text.split())
    if not told or len(told) > MAX_WORDS or not told.isprintable():
        raise UsageError(f"not {what}", expected=expected, actual=repr(text[:80]))
    return told


def _told(**values: int | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _size(told: dict[str, Any], name: str, within: tuple[int, int]) -> int | None:
    if told[name] is None:
        return None
    size = parse_size(told[name])
    if not within[0] <= size <= within[1]:
        raise UsageError(
            f"--{name.replace('_', '-')} out of bounds", expected=f"{within[0]:,} to {within[1]:,} bytes",
            actual=f"{size:,}",
        )  # fmt: skip
    return size
