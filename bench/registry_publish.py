"""Publishing a release of 16,384 blocks (64 GiB) at a registry, through HTTP, proven and durable: milliseconds.

    python bench/registry_publish.py [--rounds N] [--blocks N] [--json FILE]

Beside it the same for a release of one block: the ratio is what the blocks cost. "cpu" is processor time of server and
client together, on a busy machine the figure to look at. The manifest, torrent and signatures are real; only the bytes
they describe don't exist, which no registry asks for. Each round publishes another release.
"""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import zstandard
from measure import bench, machine, report

from samara.registry.home import Home
from samara.registry.http import HttpClient
from samara.registry.index import Index
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Rates, Settings
from samara.registry.trust.making import init_publisher
from samara.registry.trust.own_catalog import listing, update_catalog
from samara.registry.trust.publishers import Publisher
from samara.registry.trust.signing import sign_payload
from samara.schemas.bittorrent import (
    TorrentHashes,
    blob_file_name,
    hybrid_torrent,
    info_bytes,
    infohashes,
    piece_count,
    piece_length_for,
    pieces_root_of_layer,
)
from samara.schemas.manifest import BlockEntry, FileEntry, Predicate, PublisherEntry, TorrentEntry, build_payload
from samara.schemas.networks import NetworkPolicy
from samara.schemas.publication import MEDIA_TYPE, Publication, pack_publication
from samara.schemas.release_file import ReleaseBundle
from samara.seeder.publish import entry_of

BLOCK = 4 << 20


def release(publisher: Publisher, version: int, blocks: int) -> ReleaseBundle:
    """A signed release of one file that nobody has."""
    size = blocks * BLOCK
    name = os.urandom(32).hex()
    piece = piece_length_for(size)
    layer = os.urandom(32 * piece_count(size, piece))
    hashes = TorrentHashes(
        size=size,
        piece_length=piece,
        pieces_root=pieces_root_of_layer(layer, piece),
        v1_pieces=os.urandom(20 * piece_count(size, piece)),
        v2_layer=layer,
    )
    torrent = hybrid_torrent(blob_file_name(name, gguf=False), hashes)
    v1, v2 = infohashes(info_bytes(torrent))
    digests = [f"b3:{name}"] if blocks == 1 else [f"b3:{os.urandom(32).hex()}" for _ in range(blocks)]
    entry = FileEntry(
        path="weights.bin",
        size=size,
        role="weights",
        layout="fixed-4MiB-v1",
        blocks=[BlockEntry(size=BLOCK, b3=digest) for digest in digests],
        torrent=TorrentEntry(v1=v1, v2=v2, piece_length=piece, pieces_root=hashes.pieces_root.hex()),
    )
    predicate = Predicate(
        publisher=PublisherEntry(identity=publisher.identity, name=publisher.name),
        model="big",
        tag=f"v{version}",
        version=version,
        created="2026-01-02T03:04:05Z",
        files=[entry],
    )
    payload = build_payload(predicate, [(f"b3:{name}", f"sha256:{hashlib.sha256(name.encode()).hexdigest()}")])
    envelope = sign_payload(payload, publisher.online_keys(None))
    return ReleaseBundle(roots=(), envelope=envelope, torrents=(torrent,))


def publications(home: Home, publisher: Publisher, rounds: int, blocks: int, *, first: int) -> list[bytes]:
    """One after the other, each with a new catalog, packed as `samara push` sends them."""
    found = []
    for version in range(first, first + rounds):
        bundle = release(publisher, version, blocks)
        state = update_catalog(
            home, publisher, listing(entry_of(bundle)), signers=publisher.online_keys(None), now=datetime.now(UTC)
        )
        packed = pack_publication(Publication(metadata=state.bundle, releases=(bundle,)))
        found.append(zstandard.ZstdCompressor(level=6).compress(packed))
    return found


def seconds_of(client: HttpClient, url: str, bodies: list[bytes]) -> tuple[list[float], list[float]]:
    """Of each publication, from the first byte sent to the answer read; and of the processor."""
    found, busy = [], []
    headers = {"Content-Type": MEDIA_TYPE, "Content-Encoding": "zstd"}
    for body in bodies:
        started, begun = time.monotonic(), time.process_time()
        reply = client.post(f"{url}/v1/publish", body, headers, vouched=True)
        found.append(time.monotonic() - started)
        busy.append(time.process_time() - begun)
        assert reply.status == 201, reply.body
    return found, busy


def main() -> None:
    with bench(__doc__, preset="", rounds=5, blocks=16384) as (folder, options):
        author = Home(folder / "author")
        publisher = init_publisher(
            author, "acme", passphrase=None, recovery=None, now=datetime.now(UTC), kdf_rounds=1
        )  # fmt: skip
        small = publications(author, publisher, options.rounds, 1, first=1)
        large = publications(author, publisher, options.rounds, options.blocks, first=1 + options.rounds)
        with tempfile.TemporaryDirectory(dir=folder) as home, Index.open(Home(Path(home))) as index:
            settings = Settings(origin="http://127.0.0.1:8642", rates=Rates(reads=0, publishes=0, announces=0))
            service = Service(home=Home(Path(home)), index=index, settings=settings)
            gc.collect()
            gc.freeze()  # as `samara serve` does
            with RunningServer(create_app(service)) as server, HttpClient(NetworkPolicy()) as client:
                one, _ = seconds_of(client, server.url, small)
                many, busy = seconds_of(client, server.url, large)
        result = {
            "machine": machine(),
            "load_average": round(os.getloadavg()[0], 1),  # of others at work, whom wall seconds depend on
            "blocks": options.blocks,
            "body_bytes": len(large[0]),
            "one_block_ms": round(median(one) * 1000, 1),
            "all_blocks_ms": round(median(many) * 1000, 1),
            "worst_ms": round(max(many) * 1000, 1),
            "cpu_ms": round(median(busy) * 1000, 1),
            "ratio": round(median(many) / median(one), 2),
        }
        report(result, [(name, str(value)) for name, value in result.items() if name != "machine"], options.json)


if __name__ == "__main__":
    main()
