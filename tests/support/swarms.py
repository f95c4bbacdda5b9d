"""Seeders and liars: real libtorrent sessions in this process, on loopback, with rate caps that hold there too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from samara.schemas.endpoints import parse_endpoint
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_options import SwarmOptions
from support.world import Shelf

LISTEN_WITHIN = 30.0  # seconds
HONEST = "127.0.0.1"
LIAR = "127.0.0.2"  # libtorrent bans by address


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A session that gives one shelf's blobs."""

    swarm: Swarm
    names: tuple[str, ...]
    endpoint: tuple[str, int]

    @property
    def text(self) -> str:
        """HOST:PORT."""
        return f"{self.endpoint[0]}:{self.endpoint[1]}"

    @property
    def uploaded(self) -> int:
        """Payload bytes given so far."""
        return sum(self.swarm.status(name).uploaded for name in self.names)


def loopback(host: str = HONEST, *, up: int = 0, down: int = 0) -> SwarmOptions:
    """A session on a free port of `host` that finds nobody by itself. Caps in bytes per second."""
    return SwarmOptions(listen=(f"{host}:0",), upload_limit=up, download_limit=down).without_discovery()


@contextmanager
def seeding(published: Shelf, *, up: int = 0, host: str = HONEST, check_first: bool = False) -> Iterator[Peer]:
    """Give every blob of `published` from where it lies."""
    with Swarm(loopback(host, up=up)) as swarm:
        places = {file.b3: source for file, source in zip(published.release.files, published.sources, strict=True)}
        names = tuple(
            swarm.add_seed(torrent, places[b3], check_first=check_first) for b3, torrent in published.torrents.items()
        )
        yield Peer(swarm=swarm, names=names, endpoint=_endpoint(swarm))


@contextmanager
def lying(published: Shelf, bytes_at: Path, *, up: int = 0, host: str = LIAR) -> Iterator[Peer]:
    """Claim every piece of the blob while holding other bytes: `have_pieces` is believed, nothing is checked."""
    with Swarm(loopback(host, up=up)) as swarm:
        name = swarm.add_fetch(published.torrent, bytes_at, [True] * published.only.piece_count)
        swarm.begin(name, ())
        # it would come back from 127.0.0.1, where the honest ones are, and get them banned with it
        swarm._session.apply_settings({"seeding_outgoing_connections": False})
        yield Peer(swarm=swarm, names=(name,), endpoint=_endpoint(swarm))


@contextmanager
def seeding_part(published: Shelf, pieces: int) -> Iterator[Peer]:
    """Give the first `pieces` pieces of the blob and no more."""
    with Swarm(loopback()) as swarm:
        have = [number < pieces for number in range(published.only.piece_count)]
        name = swarm.add_fetch(published.torrent, published.source, have)
        swarm.begin(name, ())
        yield Peer(swarm=swarm, names=(name,), endpoint=_endpoint(swarm))


def _endpoint(swarm: Swarm) -> tuple[str, int]:
    return parse_endpoint(swarm.wait_listening(LISTEN_WITHIN)[0])
