"""Floods: whatever strangers announce, memory stays bounded, honest peers stay known, and answers stay cheap."""

from __future__ import annotations

import gc
import sys
from random import Random
from types import ModuleType

import pytest
from tracker_kit import ip4, ip6, peer_id, told, torrent, tracker

from samara.registry.tracker import Rules, Tracker
from samara.registry.tracker.values import Announce, Event

FLOOD = 100_000
BYTES_OF_A_PEER = 1500  # of memory, all told; with an IPv6 address, which costs the most


@pytest.mark.long
def test_a_hundred_thousand_announces_keep_memory_bounded(dice: Random) -> None:
    """Of ever new peers, from everywhere, for published torrents and others."""
    torrents = [torrent(number) for number in range(50)]
    made = tracker(*torrents, rules=Rules(peers=4000, swarm_peers=500))
    half = 0
    for number in range(FLOOD):
        _stranger(dice, made, number)
        if number == FLOOD // 2:
            half = memory_of(made)
    assert made.totals().peers <= 4000
    assert memory_of(made) < 1.1 * half, "it grows with the flood"
    assert half < 4000 * BYTES_OF_A_PEER


def memory_of(root: object) -> int:
    """Bytes of an object and all that it holds, each once."""
    seen: set[int] = set()
    waiting: list[object] = [root]
    size = 0
    while waiting:
        here = waiting.pop()
        if id(here) in seen or isinstance(here, (type, ModuleType)):
            continue
        seen.add(id(here))
        size += sys.getsizeof(here)
        waiting += gc.get_referents(here)
    return size


def _stranger(dice: Random, made: Tracker, number: int) -> None:
    known = dice.random() < 0.9
    announce = told(
        torrent(dice.randrange(50) if known else 1000 + number),
        who=number,
        port=1024 + dice.randrange(60_000),
        whole=dice.random() < 0.5,
        event=dice.choice([None, Event.STARTED, Event.COMPLETED]),
        key=dice.randbytes(dice.randrange(20)),
        v2=dice.random() < 0.5,
    )
    address = ip4(dice.randrange(1 << 24)) if dice.random() < 0.5 else ip6(dice.randrange(1 << 24), number % 65_536)
    made.announce(announce, address, number / 100)


def test_honest_peers_outlive_floods_from_one_site() -> None:
    """One IPv4 address, one IPv6 site with every network in it: each has its share, however it varies the rest."""
    made = tracker()
    for who in range(50):
        made.announce(told(who=who), ip4(who), 0.0)
    for number in range(20_000):
        made.announce(told(who=1000 + number, port=2000 + number), ip4(999), 1.0)
        made.announce(told(who=50_000 + number), ip6(7, number % 65_536, number), 1.0)
    rules = made.rules
    assert made.totals().peers == 50 + rules.per_address + rules.per_net48
    assert {host for host, _port in made.peers(torrent().v2.hex(), most=10_000)} >= {
        f"10.0.0.{who}" for who in range(50)
    }


def test_a_peer_id_that_travels_is_one_peer() -> None:
    made = tracker()
    for number in range(5000):
        made.announce(told(who=1, port=2000 + number), ip4(number), 0.0)
        made.announce(told(who=1, port=2000 + number), ip6(number), 0.0)
    assert made.totals().peers == 1


def test_nobody_takes_another_ones_place_without_its_key() -> None:
    made = tracker()
    made.announce(told(who=1, key=b"secret"), ip4(1), 0.0)
    for number in range(100):
        guess = Announce(
            infohash=torrent().v1, peer_id=peer_id(1), port=6881, is_whole=False, event=Event.STOPPED,
            key=b"guess %d" % number,
        )  # fmt: skip
        made.announce(guess, ip4(2), 0.0)
        made.announce(told(who=1, key=b"guess %d" % number, port=7000), ip4(2), 0.0)
    assert ("10.0.0.1", 6881) in made.peers(torrent().v2.hex())
    assert made.totals().peers == 2


def test_withdrawing_everything_leaves_nothing(dice: Random) -> None:
    torrents = [torrent(number) for number in range(50)]
    made = tracker(*torrents)
    for number in range(5000):
        _stranger(dice, made, number)
    assert made.totals().peers > 3000
    made.publish(torrents[:1])
    assert made.totals().peers == made.counts(torrents[0].b3).peers
    made.publish([])
    assert made.totals() == type(made.totals())(swarms=0, peers=0, published=0)
    assert made.all_counts() == {}
