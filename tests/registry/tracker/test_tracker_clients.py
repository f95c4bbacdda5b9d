"""Plain BitTorrent clients and ours share blobs by a registry's .torrent and its tracker, knowing of nobody else."""

from __future__ import annotations

import hashlib
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from service_kit import listed_torrents, registry
from support.swarms import LISTEN_WITHIN, loopback
from support.waiting import eventually
from support.world import FIXTURES
from torrent_clients import HOST, Client, aria2, qbittorrent, rtorrent
from tracker_kit import announced, torrent_of

from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Rates, Settings
from samara.registry.tracker import Counts, Upkeep
from samara.registry.tracker.values import Torrent
from samara.schemas.bittorrent import parse_blob_torrent
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import Downloading, Finished

WITHIN = 90.0  # seconds; clients take their time
TINY = FIXTURES / "tiny.gguf"
CLIENTS = {"rtorrent": rtorrent, "qbittorrent": qbittorrent}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A blob that is listed by a registry, which doesn't have its bytes. `path`: where they are."""

    service: Service
    url: str
    torrent: Torrent
    canonical: bytes
    name: str
    path: Path

    @property
    def counts(self) -> Counts:
        """How its swarm is."""
        return self.service.tracker.counts(self.torrent.b3)

    def download_torrent(self, target: Path) -> Path:
        """As anybody gets it from the registry."""
        with urllib.request.urlopen(f"{self.url}/v1/torrents/{self.torrent.v2.hex()}.torrent", timeout=30) as answer:
            target.write_bytes(answer.read())
        return target


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """A registry that serves, at its own origin."""
    origin = f"http://{HOST}:{free_port()}"
    settings = Settings(origin=origin, rates=Rates(announces=0))
    with (
        registry(tmp_path_factory.mktemp("clients"), settings=settings) as service,
        Upkeep(service.tracker, service.listings),
        RunningServer(create_app(service), (HOST, int(origin.rpartition(":")[2]))),
    ):
        for location in next(blob for blob in service.index.blobs() if blob.size == TINY.stat().st_size).locations:
            service.index.drop_location(location.path)
        yield service, origin


@pytest.fixture
def published(serving: tuple[Service, str]) -> Published:
    """tiny.gguf, whose swarm is empty."""
    return listed(serving, TINY)


def listed(serving: tuple[Service, str], path: Path) -> Published:
    """The blob in a file, with no swarm yet."""
    service, url = serving
    everything = listed_torrents(service.index)
    service.tracker.publish([])
    service.tracker.publish([torrent_of(data, b3) for b3, data in everything.items()])
    b3 = next(one.b3 for one in service.listings.listed_blobs() if one.size == path.stat().st_size)
    data = everything[b3]
    parsed = parse_blob_torrent(data)
    return Published(
        service=service,
        url=url,
        torrent=torrent_of(data, b3),
        canonical=parsed.canonical,
        name=parsed.name,
        path=path,
    )


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for_bytes(path: Path, size: int, sha256: str) -> None:
    """Until a file is whole; clients make it long before it is."""

    def is_whole() -> bool:
        return path.exists() and path.stat().st_size == size and digest(path) == sha256

    eventually(is_whole, f"{path} didn't come", limit=WITHIN)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait_for(published: Published, seeders: int) -> None:
    eventually(lambda: published.counts.seeders >= seeders, f"no {seeders} seeders", limit=WITHIN)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_plain_client_fetches_what_ours_seeds(published: Published, tmp_path: Path, client: str) -> None:
    """From a .torrent of the registry's: it learns of the one who has the bytes from the tracker, and counts there."""
    run: Client = CLIENTS[client]
    torrent = published.download_torrent(tmp_path / "tiny.torrent")
    assert b"url-list" not in torrent.read_bytes(), "the registry would give the bytes itself"
    target = tmp_path / "target"
    target.mkdir()
    with Swarm(replace(loopback(), trackers=(f"{published.url}/announce",))) as seeder:
        seeder.wait_listening(LISTEN_WITHIN)
        name = seeder.add_seed(published.canonical, published.path, check_first=False)
        wait_for(published, 1)
        with run(torrent, target, tmp_path / "profile", free_port()):
            wait_for_bytes(target / published.name, published.path.stat().st_size, digest(published.path))
            wait_for(published, 2)
        assert seeder.status(name).uploaded >= published.path.stat().st_size
    assert published.counts.completed == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_ours_fetches_what_a_plain_client_seeds(published: Published, tmp_path: Path, client: str) -> None:
    """rtorrent knows v1 alone: whoever were told of it by the other infohash would be hung up on."""
    run: Client = CLIENTS[client]
    torrent = published.download_torrent(tmp_path / "tiny.torrent")
    target = tmp_path / "target"
    target.mkdir()
    shutil.copy(published.path, target / published.name)
    with (
        run(torrent, target, tmp_path / "profile", free_port()),
        Swarm(replace(loopback(), trackers=(f"{published.url}/announce",))) as leecher,
    ):
        wait_for(published, 1)
        leecher.wait_listening(LISTEN_WITHIN)
        got = tmp_path / "got"
        pieces = -(-published.path.stat().st_size // (256 * 1024))
        name = leecher.add_fetch(published.canonical, got, [False] * pieces)
        deadline = time.monotonic() + WITHIN
        finished = False
        while not finished:
            assert time.monotonic() < deadline, "nothing came"
            for happened in leecher.poll(0.2):
                if isinstance(happened, Downloading):
                    leecher.begin(name, ())
                finished = finished or isinstance(happened, Finished)
    assert digest(got) == digest(published.path)


def test_aria2_takes_the_bytes_from_the_registry_itself(serving: tuple[Service, str], tmp_path: Path) -> None:
    """aria2 1.36 drops empty keys when it reads a torrent (BEP 52 has one), so it computes another infohash than
    everybody else and no tracker can help it; it checks the bytes that a web seed gives by the torrent all the same.
    """
    here = listed(serving, FIXTURES / "tiny-q8_0.gguf")
    torrent = here.download_torrent(tmp_path / "tiny.torrent")
    assert b"url-list" in torrent.read_bytes()
    target = tmp_path / "target"
    target.mkdir()
    refused = announced(here.service, "unknown")
    with aria2(torrent, target, tmp_path / "profile", free_port()):
        wait_for_bytes(target / here.name, here.path.stat().st_size, digest(here.path))
    assert announced(here.service, "unknown") > refused
