"""Mirrors and a real swarm at once: no byte twice while both work, neither idle, each takes what the other can't."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mirror_kit import Asked, Manners, Source, serving
from support.pulls import Pull, options, pulled
from support.swarms import loopback, seeding
from support.world import MIB, PIECE, Shelf, assert_pulled, random_file, shelf, trusting_home

from samara.schemas.errors import NetworkError
from samara.schemas.events import FileReady, PullProgress

SIZE = 24 * MIB


def bytes_of(tmp_path: Path, size: int = SIZE) -> bytes:
    return random_file(tmp_path / "files" / "blob.bin", size, seed=1).read_bytes()


def published(tmp_path: Path, *sources: Source) -> Shelf:
    return shelf(tmp_path, [tmp_path / "files" / "blob.bin"], mirrors=tuple(source.url for source in sources))


@pytest.mark.parametrize(
    ("mirror_rate", "peer_rate"),
    [(1.0e6, 9_000_000), (3.0e6, 3_000_000), (2.0e6, 6_000_000)],
    ids=["fast-peer", "fast-mirror", "alike"],
)
def test_both_work_to_the_end_and_hardly_a_byte_comes_twice(
    tmp_path: Path, mirror_rate: float, peer_rate: int
) -> None:  # fmt: skip
    with serving(bytes_of(tmp_path), rate=mirror_rate) as served:
        shelved = published(tmp_path, served)
        home = trusting_home(tmp_path / "home", shelved)
        with seeding(shelved, up=peer_rate) as peer:
            done = pulled(home, shelved.file, options(peer.endpoint))
    came = done.bytes_from_peers + done.bytes_from_mirrors
    assert SIZE <= came <= SIZE + 6 * PIECE
    together = 3 * mirror_rate + peer_rate
    # each gives at least half of what its part of the speed would be
    assert done.bytes_from_mirrors > SIZE * 3 * mirror_rate / together / 2
    assert done.bytes_from_peers > SIZE * peer_rate / together / 2
    assert_pulled(home, shelved)


def test_peers_get_what_came_by_mirror(tmp_path: Path) -> None:
    """One pulls from a slow mirror; another one, who knows of no mirror, gets it from the first as it comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with serving(bytes_of(tmp_path), rate=1.5e6) as served:
        shelved = published(tmp_path, served)
        first_home = trusting_home(tmp_path / "first", shelved)
        second_home = trusting_home(tmp_path / "second", shelved)
        listening = replace(loopback(), listen=(f"127.0.0.1:{port}",))
        with Pull(first_home, shelved.file, options(swarm=listening)) as first:
            first.expect(PullProgress, lambda progress: progress.done > 0)
            how = options(("127.0.0.1", port), mirrors=False, give_up_after=5.0)
            with Pull(second_home, shelved.file, how) as second:
                second.expect(PullProgress, lambda progress: progress.from_peers >= SIZE // 4)
                assert not first.of(FileReady), "it gave while it was fetching"
                assert first.result().bytes_from_mirrors <= SIZE + PIECE
                with contextlib.suppress(NetworkError):  # if the first was gone before it gave the last pieces
                    second.result()
    assert_pulled(first_home, shelved)


def test_what_a_stuck_mirror_is_at_is_brought_by_peers(tmp_path: Path) -> None:
    """Long before the mirror's time is out."""

    def stuck(asked: Asked, usual: Manners) -> Manners:
        return replace(usual, stall_after=PIECE // 2)

    with serving(bytes_of(tmp_path)) as served:
        served.how = stuck
        shelved = published(tmp_path, served)
        home = trusting_home(tmp_path / "home", shelved)
        with seeding(shelved, up=12_000_000) as peer:
            started = time.monotonic()
            done = Pull(home, shelved.file, options(peer.endpoint, stall_timeout=120.0)).result(60.0)
            assert time.monotonic() - started < 60.0
    assert done.bytes_from_mirrors <= 3 * PIECE
    assert done.bytes_from_peers + done.bytes_from_mirrors <= SIZE + 3 * PIECE
    assert_pulled(home, shelved)


def test_what_a_crawling_peer_is_at_is_brought_by_mirrors(tmp_path: Path) -> None:
    """A peer that gives 2 kB/s would need two minutes for a piece."""
    with serving(bytes_of(tmp_path), rate=2e6) as served:
        shelved = published(tmp_path, served)
        home = trusting_home(tmp_path / "home", shelved)
        with seeding(shelved, up=2_000) as peer:
            started = time.monotonic()
            done = pulled(home, shelved.file, options(peer.endpoint))
            assert time.monotonic() - started < 30.0
    assert done.bytes_from_peers + done.bytes_from_mirrors <= SIZE + 12 * PIECE
    assert_pulled(home, shelved)


def test_a_peer_that_comes_while_a_server_without_ranges_is_read_shortens_it(tmp_path: Path) -> None:
    with serving(bytes_of(tmp_path), ranges=False, rate=1e6) as served:
        shelved = published(tmp_path, served)
        home = trusting_home(tmp_path / "home", shelved)
        with seeding(shelved, up=12_000_000) as peer:
            started = time.monotonic()
            done = pulled(home, shelved.file, options(peer.endpoint))
            assert time.monotonic() - started < 0.7 * SIZE / 1e6
    assert done.bytes_from_peers > SIZE // 2
    assert_pulled(home, shelved)


def test_a_mirror_that_fails_for_good_leaves_its_pieces_to_peers(tmp_path: Path) -> None:
    """What it was asked for was held back from peers: it has to be asked of them again."""
    data = bytes_of(tmp_path)

    def gone(asked: Asked, usual: Manners) -> Manners:
        return replace(usual, stall_after=2 * PIECE) if asked.number < 3 else replace(usual, status=410)

    with serving(data) as served:
        served.how = gone
        shelved = published(tmp_path, served)
        home = trusting_home(tmp_path / "home", shelved)
        with seeding(shelved, up=8_000_000) as peer:
            done = pulled(home, shelved.file, options(peer.endpoint, stall_timeout=0.5))
    assert done.bytes_from_peers + done.bytes_from_mirrors <= SIZE + 4 * PIECE
    assert_pulled(home, shelved)
