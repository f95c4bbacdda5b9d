"""Which addresses a libtorrent session talks to, and which count against its caps.

libtorrent refuses blocked addresses itself, whoever calls whom, and trackers too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import libtorrent as lt

from samara.schemas.networks import Network

_BLOCKED = 1  # in libtorrent's address filter
_EVERYONE = (
    ("0.0.0.0", "255.255.255.255"),  # noqa: S104
    ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
)


def keep_within(session: Any, networks: Iterable[Network]) -> None:
    """Nobody outside these networks is talked to."""
    allowed = lt.ip_filter()
    for first, last in _EVERYONE:
        allowed.add_rule(first, last, _BLOCKED)
    for network in networks:
        allowed.add_rule(str(network.network_address), str(network.broadcast_address), 0)
    session.set_ip_filter(allowed)


def block(session: Any, address: str) -> None:
    """Talk no more to an address."""
    _set_rule(session, address, _BLOCKED)


def unblock(session: Any, address: str) -> None:
    """Talk to a blocked address again."""
    _set_rule(session, address, 0)


def cap_local_peers_too(session: Any) -> None:
    """By default libtorrent exempts loopback and LAN from its caps: put every address into the global peer class."""
    everyone = lt.ip_filter()
    for first, last in _EVERYONE:
        everyone.add_rule(first, last, 1 << session.global_peer_class_id)
    session.set_peer_class_filter(everyone)


def _set_rule(session: Any, address: str, rule: int) -> None:
    rules = session.get_ip_filter()
    rules.add_rule(address, address, rule)
    session.set_ip_filter(rules)
