"""A blob that isn't here is brought while it is read: real swarms on loopback, readers in threads."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.registries import asking, provided, pulling_through, registry_home
from support.swarms import lying, seeding, seeding_part
from support.world import MIB, PIECE, flipped_copy, one_blob

from samara.fetcher.partial import Partial
from samara.registry.positioned import read_at
from samara.registry.service.ports import Arriving
from samara.schemas.errors import DiskFullError, NetworkError, NotFoundError, StoreError

SIZE = 8 * MIB
WAIT = 30.0


def read_all(arriving: Arriving, *, at: int = 0) -> bytes:
    """Everything from `at` on, as it comes; each part is looked at as soon as it may be."""
    found = bytearray()
    fd = None
    try:
        while at < arriving.size:
            proven = arriving.wait(at, WAIT)
            assert proven > at, f"nothing beyond {at} within {WAIT} s"
            fd = arriving.open() if fd is None else fd
            while at < proven:
                data = read_at(fd, min(1 << 16, proven - at), at)
                found += data
                at += len(data)
    finally:
        if fd is not None:
            os.close(fd)
        arriving.close()
    return bytes(found)


def test_a_blob_is_read_while_it_comes_and_is_in_the_store_afterwards(tmp_path: Path) -> None:
    published = one_blob(tmp_path, 2 * SIZE)
    data = published.source.read_bytes()
    with seeding(published, up=6 * MIB) as seeder, registry_home(tmp_path / "registry", published) as (home, index):
        with provided(home, index, pulling_through(asking(seeder.endpoint))) as registry:
            arriving = registry.bring(published.only.b3)
            assert arriving.wait(0, WAIT) > 0
            assert not home.blob(published.only.b3_hex).exists(), "it was whole before anybody could read a part"
            assert read_all(arriving) == data
            registry.until(lambda status: not status.coming)
        assert home.blob(published.only.b3_hex).read_bytes() == data
        assert not list(home.partials.iterdir())
        assert index.partials() == ()


def test_what_is_not_listed_is_not_brought(tmp_path: Path) -> None:
    with (
        registry_home(tmp_path / "registry") as (home, index),
        provided(home, index, pulling_through(asking())) as registry,
        pytest.raises(NotFoundError),
    ):
        registry.bring("b3:" + 64 * "a")


def test_ten_readers_of_one_blob_are_one_fetch(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    data = published.source.read_bytes()
    with seeding(published, up=8 * MIB) as seeder, registry_home(tmp_path / "registry", published) as (home, index):
        with provided(home, index, pulling_through(asking(seeder.endpoint))) as registry:
            with ThreadPoolExecutor(10) as pool:
                found = list(pool.map(lambda _n: read_all(registry.bring(published.only.b3)), range(10)))
            assert all(one == data for one in found)
            registry.until(lambda status: not status.coming)
            assert registry.status().brought == 1
        assert seeder.uploaded < 1.5 * SIZE


def test_a_liar_among_the_peers_gets_no_byte_to_a_reader(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    data = published.source.read_bytes()
    wrong = flipped_copy(published.source, tmp_path / "wrong" / "blob.bin", range(100, SIZE, PIECE))
    with (
        seeding(published, up=2 * MIB) as honest,
        lying(published, wrong, up=8 * MIB) as liar,
        registry_home(tmp_path / "registry", published) as (home, index),
        provided(home, index, pulling_through(asking(liar.endpoint, honest.endpoint))) as registry,
    ):
        assert read_all(registry.bring(published.only.b3)) == data
        assert liar.uploaded > 0, "the liar was never asked"


def test_only_a_liar_and_the_reader_gets_an_error_not_a_byte(tmp_path: Path) -> None:
    published = one_blob(tmp_path, 2 * MIB)
    wrong = flipped_copy(published.source, tmp_path / "wrong" / "blob.bin", range(100, 2 * MIB, PIECE))
    with (
        lying(published, wrong) as liar,
        registry_home(tmp_path / "registry", published) as (home, index),
        provided(home, index, pulling_through(asking(liar.endpoint, give_up_after=2.0))) as registry,
    ):
        arriving = registry.bring(published.only.b3)
        with pytest.raises(NetworkError):
            assert arriving.wait(0, WAIT) == 0


def test_nobody_has_it_and_every_reader_is_told_then_it_can_be_begun_again(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    data = published.source.read_bytes()
    half = SIZE // PIECE // 2
    with registry_home(tmp_path / "registry", published) as (home, index):
        peers: list[tuple[str, int]] = []
        options = pulling_through(asking(give_up_after=1.0))
        with provided(home, index, options, peers_of=lambda _v2, _v1: tuple(peers)) as registry:
            with seeding_part(published, half) as peer:
                peers.append(peer.endpoint)
                readers = [registry.bring(published.only.b3) for _ in range(3)]
                with ThreadPoolExecutor(3) as pool:
                    endings = [pool.submit(read_all, one) for one in readers]
                assert all(isinstance(ending.exception(), NetworkError) for ending in endings)
            registry.until(lambda status: not status.coming)
            peers.clear()
            threading.Event().wait(0.1)  # as long as it rests
            with seeding(published) as peer:
                peers.append(peer.endpoint)
                assert read_all(registry.bring(published.only.b3)) == data
                assert peer.uploaded < 0.75 * SIZE, "what had come was fetched again"


def test_the_end_can_be_had_before_the_middle(tmp_path: Path) -> None:
    published = one_blob(tmp_path, 32 * MIB)
    at = 24 * MIB + 1000
    with (
        seeding(published, up=4 * MIB) as seeder,
        registry_home(tmp_path / "registry", published) as (home, index),
        provided(home, index, pulling_through(asking(seeder.endpoint))) as registry,
    ):
        arriving = registry.bring(published.only.b3)
        arriving.wait(0, WAIT)
        assert arriving.wait_range(at, at + 50_000, WAIT)
        assert arriving.wait(0, 0) < at, "the front had come as far: nothing was given precedence"
        fd = arriving.open()
        with published.source.open("rb") as file:
            file.seek(at)
            assert read_at(fd, 50_000, at) == file.read(50_000)
        os.close(fd)
        arriving.close()


def test_the_last_block_waits_for_the_whole_to_be_proven(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    last = published.only.blocks[-1]
    with (
        seeding(published) as seeder,
        registry_home(tmp_path / "registry", published) as (home, index),
        provided(home, index, pulling_through(asking(seeder.endpoint))) as registry,
    ):
        arriving = registry.bring(published.only.b3)
        assert arriving.wait_range(last.offset, last.end, WAIT)
        assert home.blob(published.only.b3_hex).exists()
        arriving.close()


def test_a_reader_goes_away_and_the_fetch_goes_on(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with seeding(published, up=8 * MIB) as seeder, registry_home(tmp_path / "registry", published) as (home, index):
        with provided(home, index, pulling_through(asking(seeder.endpoint))) as registry:
            arriving = registry.bring(published.only.b3)
            arriving.wait(0, WAIT)
            arriving.close()
            arriving.close()
            registry.until(lambda status: status.brought == 1 and not status.coming)
        assert home.blob(published.only.b3_hex).read_bytes() == published.source.read_bytes()


def test_the_seeder_goes_and_comes_back_and_the_reader_gets_everything(tmp_path: Path) -> None:
    published = one_blob(tmp_path, 2 * SIZE)
    data = published.source.read_bytes()
    peers: list[tuple[str, int]] = []
    with registry_home(tmp_path / "registry", published) as (home, index):
        options = pulling_through(asking())
        with (
            provided(home, index, options, peers_of=lambda _v2, _v1: tuple(peers)) as registry,
            ThreadPoolExecutor(1) as pool,
        ):
            with seeding(published, up=4 * MIB) as seeder:
                peers.append(seeder.endpoint)
                arriving = registry.bring(published.only.b3)
                reading = pool.submit(read_all, arriving)
                arriving.wait(0, WAIT)
            assert not reading.done()
            peers.clear()
            with seeding(published) as seeder:
                peers.append(seeder.endpoint)
                assert reading.result(WAIT) == data


def test_more_than_the_quota_is_refused_before_a_byte_comes(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with seeding(published) as seeder, registry_home(tmp_path / "registry", published) as (home, index):
        options = pulling_through(asking(seeder.endpoint), quota=SIZE - 1)
        with provided(home, index, options) as registry:
            arriving = registry.bring(published.only.b3)
            with pytest.raises(DiskFullError, match="larger than the quota"):
                arriving.wait(0, WAIT)
            assert not home.partials.exists() or not list(home.partials.iterdir())
        assert seeder.uploaded == 0


def test_stopping_ends_readers_and_keeps_what_came(tmp_path: Path) -> None:
    published = one_blob(tmp_path, 2 * SIZE)
    data = published.source.read_bytes()
    with seeding(published, up=4 * MIB) as seeder, registry_home(tmp_path / "registry", published) as (home, index):
        with provided(home, index, pulling_through(asking(seeder.endpoint, checkpoint_seconds=999.0))) as registry:
            arriving = registry.bring(published.only.b3)
            assert arriving.wait(0, WAIT) > 0
        with pytest.raises(StoreError):
            arriving.wait(2 * SIZE - 1, WAIT)
        assert published.only.torrent is not None
        partial = Partial(home, published.only.b3_hex, published.only.torrent.v2)
        claims = partial.load(pieces=published.only.piece_count, blocks=len(published.only.blocks))
        assert claims is not None, "what had come wasn't recorded"
        assert len(claims.pieces) * PIECE >= 4 * MIB
        before = seeder.uploaded
        seeder.swarm.limit(up=0)
        with provided(home, index, pulling_through(asking(seeder.endpoint))) as registry:
            assert read_all(registry.bring(published.only.b3)) == data
        assert seeder.uploaded - before < 1.8 * SIZE, "what had come was fetched again"


def test_what_was_brought_is_given_to_others(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with (
        seeding(published) as seeder,
        registry_home(tmp_path / "registry", published) as (home, index),
        provided(home, index, pulling_through(asking(seeder.endpoint))) as registry,
    ):
        read_all(registry.bring(published.only.b3))
        registry.until(lambda status: status.seeding == 1)
