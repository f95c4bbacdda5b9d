"""Links that fail: whatever they do, the file arrives whole, little comes twice, and nothing is left over.

Each test runs on network namespaces, or through a proxy where there is no root (and there too with --long).
"""

from __future__ import annotations

import time

import pytest
from link_kit import CUT, KIB, LabLinks, MakeLinks, ends_well, has_begun, hold, long
from support.lab import NO_LAB, there_is_no_lab
from support.world import Shelf

from samara.registry.home import Home


@pytest.mark.parametrize("percent", [long(1), long(3), 10])
def test_packets_are_lost(make_links: MakeLinks, shelved: Shelf, home: Home, seed: int, percent: int) -> None:
    with make_links() as links, links.seeding(shelved.home) as seeder:
        links.lossy(percent, seed=seed)
        with links.pulling(home, shelved.file, "--peer", links.peer(seeder)) as pull:
            ends_well(pull, home, shelved, again=CUT)
        assert links.lost() > 0


@pytest.mark.parametrize("mbit", [long(2), 20, long(100), long(1000)])
def test_a_slow_link(make_links: MakeLinks, shelved: Shelf, home: Home, mbit: int) -> None:
    with make_links() as links, links.seeding(shelved.home) as seeder:
        links.slow(mbit)
        with links.pulling(home, shelved.file, "--peer", links.peer(seeder)) as pull:
            started = time.monotonic()
            ends_well(pull, home, shelved, again=CUT)
            # the cap was there: it can't have been faster, whatever else this machine had to do
            assert time.monotonic() - started > shelved.size * 8 / (mbit * 1e6) * 0.8


@pytest.mark.parametrize("seconds", [1, long(10), long(60)])
def test_the_link_goes_down_for_a_while(make_links: MakeLinks, shelved: Shelf, home: Home, seconds: int) -> None:
    with make_links() as links, links.seeding(shelved.home) as seeder:
        links.slow(8)
        with links.pulling(home, shelved.file, "--peer", links.peer(seeder)) as pull:
            pull.expect("pull_progress", has_begun)
            links.down()
            hold(seconds)
            links.up()
            ends_well(pull, home, shelved, again=CUT)


@pytest.mark.skipif(there_is_no_lab(), reason=NO_LAB)
@pytest.mark.long
def test_the_fetcher_gets_another_address(shelved: Shelf, home: Home) -> None:
    """Its connections are dead and nobody says so: they are made anew."""
    with LabLinks(1) as links, links.seeding(shelved.home) as seeder:
        links.slow(8)
        with links.pulling(home, shelved.file, "--peer", seeder.text, "--give-up-after", 40) as pull:
            pull.expect("pull_progress", has_begun)
            links.move_fetcher()
            ends_well(pull, home, shelved, again=CUT)


@pytest.mark.long
def test_a_router_forgets_the_connections(make_links: MakeLinks, shelved: Shelf, home: Home) -> None:
    """The address stays: whoever calls again must not be taken for the one that is still thought to be connected."""
    with make_links() as links, links.seeding(shelved.home) as seeder:
        links.slow(8)
        with links.pulling(home, shelved.file, "--peer", links.peer(seeder), "--give-up-after", 40) as pull:
            pull.expect("pull_progress", has_begun)
            links.forget()
            ends_well(pull, home, shelved, again=CUT)


def test_connections_are_reset_at_random_bytes(
    make_links: MakeLinks, shelved: Shelf, home: Home, seed: int
) -> None:  # fmt: skip
    with make_links() as links, links.seeding(shelved.home) as seeder:
        links.resetting(seed=seed)
        with links.pulling(home, shelved.file, "--peer", links.peer(seeder)) as pull:
            ended = ends_well(pull, home, shelved, again=10**9)
        assert links.resets() > 0
        assert ended.again <= links.resets() * CUT


def test_a_half_open_peer_beside_an_honest_one(make_links: MakeLinks, shelved: Shelf, home: Home) -> None:
    with (
        make_links(2) as links,
        links.seeding(shelved.home, 0) as mute,
        links.seeding(shelved.home, 1) as honest,
    ):  # fmt: skip
        links.slow(16)
        links.mute(0, after=300 * KIB)
        peers = ("--peer", links.peer(mute, 0), "--peer", links.peer(honest, 1))
        with links.pulling(home, shelved.file, *peers) as pull:
            ends_well(pull, home, shelved, again=CUT)


def test_a_half_open_peer_alone_speaks_again(make_links: MakeLinks, shelved: Shelf, home: Home) -> None:
    with make_links() as links, links.seeding(shelved.home) as seeder:
        links.slow(8)
        links.mute(0, after=600 * KIB)
        with links.pulling(home, shelved.file, "--peer", links.peer(seeder)) as pull:
            pull.expect("pull_progress", lambda _progress: links.has_muted())
            hold(3)
            links.clear()
            ends_well(pull, home, shelved, again=CUT)
