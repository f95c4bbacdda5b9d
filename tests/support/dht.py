"""A DHT of this machine's own: libtorrent nodes on loopback that know each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libtorrent as lt

from samara.schemas.endpoints import format_endpoint
from samara.seeder.swarm_dht import dht_settings

NODES = 8
LIMIT = 30.0  # seconds that any one wait may take


class Network:
    """The nodes, and where they are."""

    def __init__(self) -> None:
        self._sessions: dict[str, Any] = {}

    @property
    def nodes(self) -> tuple[str, ...]:
        """HOST:PORT of each node, as `SwarmOptions.dht_nodes` takes them."""
        return tuple(self._sessions)

    def start(self, count: int) -> None:
        """Start so many nodes; returns when each knows all others."""
        for _ in range(count):
            session = _session()
            self._sessions[format_endpoint(("127.0.0.1", _port(session)))] = session
        deadline = time.monotonic() + LIMIT
        strangers = dict(self._sessions)
        while strangers:
            assert time.monotonic() < deadline, f"the DHT's nodes don't know each other: {list(strangers)}"
            for session in strangers.values():
                for other in self._sessions.values():
                    if other is not session:
                        session.add_dht_node(("127.0.0.1", _port(other)))
            for name, session in list(strangers.items()):
                if _size(session) >= len(self._sessions) - 1:
                    del strangers[name]

    def stop(self, *nodes: str) -> None:
        """Let these nodes vanish, with all they hold."""
        for node in nodes:
            del self._sessions[node]

    def close(self) -> None:
        """Stop every node."""
        self._sessions.clear()


@contextmanager
def dht_network(count: int = NODES) -> Iterator[Network]:
    """A DHT of `count` nodes until the block ends."""
    network = Network()
    try:
        network.start(count)
        yield network
    finally:
        network.close()


def _session() -> Any:
    parameters = lt.session_params()
    settings: Any = {
        "listen_interfaces": "127.0.0.1:0",
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "alert_mask": lt.alert_category.error | lt.alert_category.status,
        **dht_settings((("127.0.0.1", 1),), enabled=True),
    }
    parameters.settings = settings
    return lt.session(parameters)


def _port(session: Any) -> int:
    deadline = time.monotonic() + LIMIT
    while not (port := int(session.listen_port())):
        assert time.monotonic() < deadline, "a DHT node doesn't listen"
        session.wait_for_alert(100)
        session.pop_alerts()
    return port


def _size(session: Any) -> int:
    """How many nodes a session knows."""
    session.post_session_stats()
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        session.wait_for_alert(100)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.session_stats_alert):
                return int(alert.values["dht.dht_nodes"])
    raise AssertionError("a DHT node doesn't answer")
