"""A DHT of this machine's own: libtorrent nodes on loopback that know each other; sessions in it; a node that lies."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import libtorrent as lt

from samara.schemas.bittorrent import Bencodable, bdecode, bencode
from samara.schemas.endpoints import format_endpoint
from samara.schemas.errors import MalformedError
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_dht import dht_settings
from samara.seeder.swarm_events import SwarmEvent
from samara.seeder.swarm_options import SwarmOptions

NODES = 8
LIMIT = 30.0  # seconds that any one wait may take
LOOPBACK = "127.0.0.1"

E = TypeVar("E", bound=SwarmEvent)


class Network:
    """The nodes, and where they are."""

    def __init__(self) -> None:
        self._sessions: dict[str, Any] = {}

    @property
    def nodes(self) -> tuple[str, ...]:
        """HOST:PORT of each node, as `SwarmOptions.dht_nodes` takes them."""
        return tuple(self._sessions)

    def options(self, **changes: Any) -> SwarmOptions:
        """A session on a free port of loopback that knows one of the nodes and finds nobody in another way.

        Read-only: other tests needn't wait 15 s for its answers when it has gone. For one that only looks things up.
        """
        made = SwarmOptions(listen=(f"{LOOPBACK}:0",), dht_nodes=self.nodes[:1], dht_read_only=True)
        return replace(made.without_discovery(), **changes)

    def start(self, count: int) -> None:
        """Start so many nodes; returns when each knows all others."""
        for _ in range(count):
            session = _session()
            self._sessions[format_endpoint((LOOPBACK, _port(session)))] = session
        deadline = time.monotonic() + LIMIT
        strangers = dict(self._sessions)
        while strangers:
            assert time.monotonic() < deadline, f"the DHT's nodes don't know each other: {list(strangers)}"
            for session in strangers.values():
                for other in self._sessions.values():
                    if other is not session:
                        session.add_dht_node((LOOPBACK, _port(other)))
            for name, session in list(strangers.items()):
                if _size(session) >= len(self._sessions) - 1:
                    del strangers[name]

    def stop(self, *nodes: str) -> None:
        """Let these nodes vanish, with all they hold."""
        for node in nodes:
            del self._sessions[node]

    def wait_for_peers(self, v2_hex: str) -> set[tuple[str, int]]:
        """Wait until somebody has announced this torrent; who."""
        session = next(iter(self._sessions.values()))
        infohash = lt.sha1_hash(bytes.fromhex(v2_hex)[:20])
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            session.dht_get_peers(infohash)
            session.wait_for_alert(50)
            for alert in session.pop_alerts():
                if isinstance(alert, lt.dht_get_peers_reply_alert) and alert.info_hash == infohash and alert.peers():
                    return {(str(host), int(port)) for host, port in alert.peers()}
        raise AssertionError(f"nobody announced {v2_hex}")

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


@contextmanager
def member(network: Network) -> Iterator[Swarm]:
    """A session that takes its full part, so that it may put and announce. While a test goes on it should stay."""
    with joined(network.options(dht_read_only=False)) as swarm:
        yield swarm


@contextmanager
def joined(options: SwarmOptions) -> Iterator[Swarm]:
    """A session that knows a node of its DHT."""
    with Swarm(options) as swarm:
        wait_until(swarm, lambda: swarm.dht_size > 0)
        yield swarm


def expect(
    swarm: Swarm, kind: type[E], where: Callable[[E], bool] = lambda _event: True, *, limit: float = LIMIT
) -> E:  # fmt: skip
    """The next event of a kind that `where` says yes to."""
    deadline = time.monotonic() + limit
    seen: list[SwarmEvent] = []
    while time.monotonic() < deadline:
        events = swarm.poll(0.1)
        seen.extend(events)
        for happened in events:
            if isinstance(happened, kind) and where(happened):
                return happened
    raise AssertionError(f"no {kind.__name__} within {limit} s; seen: {seen[-10:]}")


def wait_until(swarm: Swarm, done: Callable[[], bool], *, limit: float = LIMIT) -> None:
    """Let a session live until something has come true."""
    deadline = time.monotonic() + limit
    while not done():
        assert time.monotonic() < deadline, "it never came true"
        swarm.poll(0.05)


@contextmanager
def alive(swarm: Swarm, then: Callable[[tuple[SwarmEvent, ...]], None] = lambda _events: None) -> Iterator[None]:
    """Let a session live in a thread of its own; `then` gets what happens, there."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def live() -> None:
        try:
            while not stop.is_set():
                then(swarm.poll(0.05))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LIMIT)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


@contextmanager
def single_node(answer: Mapping[str, Bencodable]) -> Iterator[str]:
    """A DHT node of one's own making that answers every `get` with these fields; its HOST:PORT."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((LOOPBACK, 0))
        server.settimeout(0.1)
        stop = threading.Event()
        thread = threading.Thread(target=_answer_all, args=(server, answer, stop), daemon=True)
        thread.start()
        try:
            yield format_endpoint(server.getsockname())
        finally:
            stop.set()
            thread.join(LIMIT)


def _answer_all(server: socket.socket, answer: Mapping[str, Bencodable], stop: threading.Event) -> None:
    own = os.urandom(20)
    while not stop.is_set():
        with contextlib.suppress(TimeoutError, MalformedError, KeyError):
            data, sender = server.recvfrom(2000)
            query = bdecode(data)
            if not isinstance(query, dict) or query[b"y"] != b"q":
                continue
            fields: dict[str, Bencodable] = {"id": own, "token": b"t", "nodes": b""}
            if query[b"q"] == b"get":
                fields.update(answer)
            transaction = query[b"t"]
            assert isinstance(transaction, bytes)
            server.sendto(bencode({"t": transaction, "y": "r", "r": fields}), sender)


def _session() -> Any:
    parameters = lt.session_params()
    settings: Any = {
        "listen_interfaces": f"{LOOPBACK}:0",
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "alert_mask": lt.alert_category.error | lt.alert_category.status | lt.alert_category.dht_operation,
        **dht_settings(((LOOPBACK, 1),), enabled=True),
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
