"""What the tests of the DHT share: eight nodes on loopback, and a session that takes part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.dht import Network, dht_network, member

from samara.seeder.swarm import Swarm


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with dht_network() as made:
        yield made


@pytest.fixture(scope="module")
def giver(network: Network) -> Iterator[Swarm]:
    with member(network) as swarm:
        yield swarm
