"""Items in a DHT of eight real nodes, and what a node that lies can't do."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.dht import Network, dht_network, expect, joined, single_node, wait_until

from samara.cli.network import swarm_options
from samara.registry.trust.beacons import public_of_seed
from samara.schemas.bittorrent import Bencodable, bencode
from samara.schemas.endpoints import parse_endpoint
from samara.schemas.errors import MalformedError, UsageError
from samara.schemas.pointer import SALT
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_dht import MAX_ITEM_BYTES, listen_for
from samara.seeder.swarm_events import ItemFound, ItemPut
from samara.seeder.swarm_options import SwarmOptions

SEED = bytes(range(32))
PUBLIC = public_of_seed(SEED)


def found(swarm: Swarm, public: bytes) -> ItemFound:
    swarm.get_item(public, SALT)
    return expect(swarm, ItemFound, lambda item: item.public == public and item.authoritative)


def test_what_one_session_puts_another_finds(network: Network, giver: Swarm) -> None:
    with joined(network.options()) as finder:
        assert giver.put_item(SEED, b"first", SALT) == PUBLIC
        assert expect(giver, ItemPut).stored_on >= 8
        first = found(finder, PUBLIC)
        giver.put_item(SEED, b"x" * MAX_ITEM_BYTES, SALT)
        assert expect(giver, ItemPut).stored_on >= 8
        second = found(finder, PUBLIC)
    assert first.value == b"first"
    assert second.value == b"x" * MAX_ITEM_BYTES
    assert second.seq > first.seq


def test_an_item_that_is_absent_and_one_of_another_key_or_salt_are_not_found(network: Network, giver: Swarm) -> None:
    giver.put_item(bytes(32), b"mine", b"another salt")
    expect(giver, ItemPut)
    with joined(network.options()) as swarm:
        for public in (public_of_seed(bytes(32)), public_of_seed(b"\1" * 32)):
            nothing = found(swarm, public)
            assert nothing.value is None
            assert nothing.seq == 0


@pytest.mark.parametrize("size", [0, MAX_ITEM_BYTES + 1])
def test_a_value_that_no_node_would_take_is_not_put(network: Network, size: int) -> None:
    with joined(network.options()) as swarm, pytest.raises(MalformedError, match="too large, or empty"):
        swarm.put_item(SEED, bytes(size), SALT)


def answer(value: Bencodable, *, key: bytes = SEED, says: bytes = PUBLIC, salt: bytes = SALT) -> dict[str, Bencodable]:
    """What a node says of an item: `value` signed by `key`, said to be by `says`."""
    signed = b"4:salt%d:%s3:seqi7e1:v%s" % (len(salt), salt, bencode(value))
    signature = Ed25519PrivateKey.from_private_bytes(key).sign(signed)
    return {"k": says, "seq": 7, "sig": signature, "v": value}


def test_a_node_that_tells_the_truth_is_believed() -> None:
    with single_node(answer(b"signed")) as node, joined(SwarmOptions(dht_nodes=(node,)).without_discovery()) as swarm:
        assert found(swarm, PUBLIC).value == b"signed"


FORGED: dict[str, dict[str, Bencodable]] = {
    "signed by another key": answer(b"forged", key=b"\1" * 32),
    "another key's item": answer(b"forged", key=b"\1" * 32, says=public_of_seed(b"\1" * 32)),
    "signed for another salt": answer(b"forged", salt=b"samara/2"),
    "changed after it was signed": {**answer(b"signed"), "v": b"forged"},
    "with a later number than was signed": {**answer(b"signed"), "seq": 8},
    "too large": answer(bytes(MAX_ITEM_BYTES + 1)),
    "a list": answer([b"a", b"b"]),
    "a number": answer(5),
    "empty": answer(b""),
}


@pytest.mark.parametrize("lie", FORGED.values(), ids=FORGED.keys())
def test_a_node_that_lies_is_not_believed(lie: dict[str, Bencodable]) -> None:
    with single_node(lie) as node, joined(SwarmOptions(dht_nodes=(node,)).without_discovery()) as swarm:
        swarm.get_item(PUBLIC, SALT)
        last = expect(swarm, ItemFound, lambda item: item.authoritative or item.value is not None)
    assert last.value is None


def test_a_session_that_listens_everywhere_takes_part_in_a_dht_on_loopback(network: Network) -> None:
    with joined(SwarmOptions(dht_nodes=network.nodes[:1]).without_discovery()) as swarm:
        assert swarm.dht_size > 0


def test_a_node_that_starts_late_is_found() -> None:
    with dht_network(1) as network:
        (place,) = network.nodes
        network.stop(place)
        with Swarm(SwarmOptions(listen=("127.0.0.1:0",), dht_nodes=(place,)).without_discovery()) as swarm:
            swarm.poll(0.1)
            assert swarm.dht_size == 0
            with Swarm(SwarmOptions(listen=(place,), dht_nodes=("127.0.0.1:1",)).without_discovery()):
                wait_until(swarm, lambda: swarm.dht_size > 0)


def test_a_read_only_session_is_not_waited_for_when_it_has_gone() -> None:
    with dht_network() as network:
        with joined(network.options()) as visitor:
            found(visitor, PUBLIC)
        with joined(network.options()) as swarm:
            started = time.monotonic()
            found(swarm, PUBLIC)
            assert time.monotonic() - started < 10  # 15 s is what libtorrent waits for one


def test_a_node_whose_name_has_no_address_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"can't find the address of the DHT node nosuch\.invalid:6881"):
        Swarm(SwarmOptions(listen=("127.0.0.1:0",), dht_nodes=("nosuch.invalid:6881",)))


def test_nodes_are_endpoints_and_need_a_dht() -> None:
    with pytest.raises(UsageError, match="not an endpoint"):
        SwarmOptions(dht_nodes=("nowhere",))
    with pytest.raises(UsageError, match="without DHT"):
        SwarmOptions(dht=False, dht_nodes=("127.0.0.1:1",))


def test_without_discovery_only_a_given_dht_stays() -> None:
    assert not SwarmOptions().without_discovery().dht
    given = SwarmOptions(dht_nodes=("127.0.0.1:1",))
    assert given.without_discovery().dht
    assert not given.without_discovery().lan
    assert not given.without_discovery().port_mapping
    assert not given.mirrors_only().dht


def test_loopback_is_listened_on_only_for_a_dht_of_this_machine() -> None:
    everywhere = ("0.0.0.0:0", "[::]:0")
    here, there = parse_endpoint("127.0.0.1:1"), parse_endpoint("192.0.2.1:1")
    assert listen_for(everywhere, [here]) == (*everywhere, "127.0.0.1:0")
    assert listen_for(everywhere, [here, there]) == everywhere
    assert listen_for(("127.0.0.2:5", "eth0:6"), [here]) == ("127.0.0.2:5", "eth0:6")
    assert listen_for((), [here]) == ()


def options(**changes: object) -> SwarmOptions:
    """What the command line makes of its options."""
    plain = dict.fromkeys(("no_discovery", "no_dht", "no_lan", "no_upnp", "small"), False)
    given: Any = {"listen": (), "dht_nodes": (), "up": None, "down": None, **plain, **changes}
    return swarm_options(**given)


def test_the_command_line_names_nodes() -> None:
    made = options(dht_nodes=("127.0.0.1:1",), no_discovery=True)
    assert (made.dht, made.lan, made.port_mapping, made.dht_nodes) == (True, False, False, ("127.0.0.1:1",))
    with pytest.raises(UsageError, match="--no-dht and --dht-node"):
        options(dht_nodes=("127.0.0.1:1",), no_dht=True)
