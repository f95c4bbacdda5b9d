"""Registries on loopback that follow each other, all in this process: tracker, fetching, service, server of each."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from samara.fetcher.providing import ProvideOptions
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Rates, Settings
from samara.registry.tracker import Tracker, Upkeep
from support.registries import Provided, provided, registry_home
from support.world import Shelf


@dataclass(frozen=True, kw_only=True)
class Node:
    """A running registry."""

    url: str
    home: Home
    index: Index
    service: Service
    fetching: Provided

    def requests(self, status: int) -> float:
        """How many requests for blobs it has answered so."""
        counted = self.service.metrics.requests
        return float(
            sum(
                counted.labels(route=route, status=str(status))._value.get()
                for route in ("/v1/blobs/{digest}", "/v1/blobs/{digest}/{name}")
            )
        )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on: addresses must be known before the registries that name each other run."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


@contextlib.contextmanager
def node(folder: Path, port: int, options: ProvideOptions, *published: Shelf) -> Iterator[Node]:
    """A registry at that port that lists these."""
    url = f"http://127.0.0.1:{port}"
    with registry_home(folder, *published) as (home, index), contextlib.ExitStack() as stack:
        tracker = Tracker()
        stack.enter_context(Upkeep(tracker, index.listings))
        fetching = stack.enter_context(
            provided(home, index, options, peers_of=lambda v2, _v1: tracker.peers(v2))
        )  # fmt: skip
        service = Service(
            home=home,
            index=index,
            settings=Settings(origin=url, rates=Rates(reads=0, announces=0), serves_all=True),
            tracker=tracker,
            bringer=fetching.providing.bringer,
            keeper=fetching.providing.keeper,
        )
        stack.enter_context(RunningServer(create_app(service), ("127.0.0.1", port)))
        yield Node(url=url, home=home, index=index, service=service, fetching=fetching)
