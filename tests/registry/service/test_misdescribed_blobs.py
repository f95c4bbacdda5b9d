"""Anybody may list anybody's blob and say of it what they like, also before its publisher: what is here is given."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from catalog_kit import Edition, raw_entry
from service_kit import ORIGIN, author
from serving_kit import UNLIMITED, World
from support.world import random_file
from trust_kit import line_of, torrent_of

from samara.registry.index import Index
from samara.registry.publications.accept import Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.own import list_own
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Settings
from samara.registry.trust.signing import sign_payload
from samara.schemas.bittorrent import blob_file_name, hybrid_torrent, parse_blob_torrent
from samara.schemas.digests import b3, b3_hex
from samara.schemas.manifest import BlockEntry, FileEntry, Predicate, PublisherEntry, TorrentEntry, build_payload
from samara.schemas.publication import Publication
from samara.schemas.release_file import ReleaseBundle

LIARS = 20  # more than are asked what a blob is
SIZE = 700_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A registry where liars listed a blob, of other sizes and under other names, before its publisher did."""
    folder = tmp_path_factory.mktemp("misdescribed")
    acme = author(folder, "acme")
    whole = random_file(folder / "honest.bin", SIZE, seed=5)
    now = datetime.now(UTC).replace(microsecond=0)
    with Index.open(acme.home) as index:
        accept(index, lies(b3(whole.read_bytes()), now), Rules(claims=ClaimRules(origin=ORIGIN)), now=now)
        acme.publish("blob:v1", [whole])
        list_own(acme.home, index, now=datetime.now(UTC))
        service = Service(home=acme.home, index=index, settings=Settings(origin=ORIGIN, rates=UNLIMITED))
        app = create_app(service)
        with RunningServer(app) as server:
            yield World(service=service, server=server, app=app)


def lies(digest: str, now: datetime) -> Publication:
    """Signed releases that all say of one blob what isn't so."""
    line = line_of(1)
    entries, releases = {}, []
    for version in range(1, LIARS + 1):
        other = bytes(version) * 100
        hashes = parse_blob_torrent(torrent_of(other, gguf=False)).hashes
        torrent = parse_blob_torrent(hybrid_torrent(blob_file_name(b3_hex(digest), gguf=False), hashes))
        file = FileEntry(
            path=f"lie-{version}.bin", size=len(other), role="other", layout="fixed-4MiB-v1",
            blocks=[BlockEntry(size=len(other) - 1, b3=b3(other[1:])), BlockEntry(size=1, b3=b3(other[:1]))],
            torrent=TorrentEntry(
                v1=torrent.v1, v2=torrent.v2, piece_length=hashes.piece_length, pieces_root=hashes.pieces_root.hex()
            ),
        )  # fmt: skip
        predicate = Predicate(
            publisher=PublisherEntry(identity=line.identity, name="liar"), model="lie", tag=f"v{version}",
            version=version, created="2026-01-02T03:04:05Z", files=[file],
        )  # fmt: skip
        payload = build_payload(predicate, [(digest, "sha256:" + "00" * 32)])
        entries[f"lie/v{version}"] = raw_entry(payload, version=version)
        envelope = sign_payload(payload, line.online_keys)
        releases.append(ReleaseBundle(roots=(), envelope=envelope, torrents=(torrent.canonical,)))
    return Publication(metadata=Edition(line=line, entries=entries, signed=now).bundle, releases=tuple(releases))


def test_its_bytes_are_given(served: World) -> None:
    file = served.file()
    got = served.ask(f"/v1/blobs/{file.b3_hex}")
    assert (got.status, b3(got.body)) == (200, file.b3)
    assert served.ask(f"/v1/blobs/{file.b3_hex}", headers={"Range": f"bytes={SIZE - 10}-"}).body == got.body[-10:]


def test_also_under_the_name_that_its_publisher_gives_it(served: World) -> None:
    file = served.file()
    assert served.ask(f"/v1/blobs/{file.b3_hex}/honest.bin").status == 200
    for name in ("HONEST.bin", "onest.bin", "%25", "honest%2Fbin", "_onest.bin"):
        assert served.ask(f"/v1/blobs/{file.b3_hex}/{name}").status == 404


def test_and_by_pages_the_hub_and_its_own_torrent(served: World) -> None:
    file, (owner,) = served.file(), [one for one in served.service.listings.owners() if one.namespace == "acme"]
    assert b3(served.ask(f"/{owner.slug}/blob/resolve/v1/honest.bin").body) == file.b3
    assert served.ask(f"/{owner.slug}/blob").status == 200
    assert file.torrent is not None
    assert b"url-list" in served.ask(f"/v1/torrents/{file.torrent.v2}.torrent").body


def test_no_liars_manifest_is_read_for_it(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty of the largest would take half a minute."""
    file = served.file()

    def unread(_digest: str) -> None:
        raise AssertionError("a manifest was read")

    monkeypatch.setattr(type(served.service.manifests), "release", lambda _self, digest: unread(digest))
    assert served.ask(f"/v1/blobs/{file.b3_hex}", method="HEAD").status == 200
