"""Manifests byte for byte, envelopes, release files, torrents: each proves itself to who fetched it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import libtorrent as lt
import pytest
import zstandard
from blake3 import blake3
from service_kit import ORIGIN
from serving_kit import World, world

from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.trust.release import inspect_release
from samara.schemas.bittorrent import bdecode
from samara.schemas.envelope import parse_envelope, strict_json
from samara.schemas.networks import parse_networks
from samara.schemas.release_file import unpack_release


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("api_blobs")) as found:
        yield found


class TestManifests:
    def test_its_digest_is_its_name(self, served: World) -> None:
        digest = served.release("tiny", "q8_0").digest[3:]
        got = served.ask(f"/v1/manifests/{digest}")
        assert blake3(got.body).hexdigest() == digest
        assert got.headers["content-type"] == "application/vnd.in-toto+json"
        assert got.headers["etag"] == f'"{digest}"'
        assert got.headers["vary"] == "Accept-Encoding"
        assert "immutable" in got.headers["cache-control"]
        assert served.ask(f"/v1/manifests/{digest}", headers={"If-None-Match": f'"{digest}"'}).status == 304

    def test_who_takes_zstd_gets_it_under_a_tag_of_its_own(self, served: World) -> None:
        digest = served.release("tiny", "q8_0").digest[3:]
        got = served.ask(f"/v1/manifests/{digest}", headers={"Accept-Encoding": "gzip, zstd;q=0.9"})
        assert got.headers["content-encoding"] == "zstd"
        assert got.headers["etag"] == f'"{digest}-zstd"'
        unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(got.body)
        assert blake3(unpacked).hexdigest() == digest
        plain = served.ask(f"/v1/manifests/{digest}", headers={"Accept-Encoding": "zstd;q=0, identity"})
        assert "content-encoding" not in plain.headers

    def test_the_envelope_has_the_same_payload_and_its_signatures(self, served: World) -> None:
        digest = served.release("tiny", "f16").digest[3:]
        got = served.ask(f"/v1/envelopes/{digest}")
        envelope = parse_envelope(strict_json(got.body, "envelope"))
        assert blake3(envelope.payload).hexdigest() == digest
        assert envelope.signatures
        assert got.headers["etag"] == f'"{blake3(got.body).hexdigest()}"'
        assert "immutable" not in got.headers["cache-control"], "it may gain signatures"

    def test_a_release_file_is_enough_to_verify_by_the_identity_alone(self, served: World) -> None:
        release = served.release("tiny", "q8_0")
        got = served.ask(f"/v1/releases/{release.digest[3:]}.samara")
        bundle = unpack_release(got.body)
        inspected = inspect_release(bundle)
        assert inspected.problem is None
        assert inspected.release.digest == release.digest
        assert inspected.chain is not None and inspected.chain.identity == release.identity
        assert len(bundle.torrents) == sum(file.torrent is not None for file in release.files)
        assert got.headers["content-disposition"] == 'attachment; filename="tiny-q8_0.samara"'

    @pytest.mark.parametrize("kind", ["manifests/{}", "envelopes/{}", "releases/{}.samara", "torrents/{}.torrent"])
    def test_what_nobody_published_here_is_404(self, served: World, kind: str) -> None:
        assert served.ask("/v1/" + kind.format("0" * 64)).status == 404
        assert served.ask("/v1/" + kind.format("0" * 63)).status == 422
        assert served.ask("/v1/" + kind.format("A" * 64)).status == 422


class TestTorrents:
    def test_its_infohash_is_its_name_and_its_addresses_are_ours(self, served: World) -> None:
        file = served.file("tiny", "f16")
        assert file.torrent is not None
        got = served.ask(f"/v1/torrents/{file.torrent.v2}.torrent")
        info = lt.torrent_info(got.body)
        assert str(info.info_hashes().v2) == file.torrent.v2
        assert str(info.info_hashes().v1) == file.torrent.v1
        seed = f"{ORIGIN}/v1/blobs/{file.b3_hex}/{file.b3_hex}.gguf"
        parts = bdecode(got.body)
        assert isinstance(parts, dict)
        assert parts[b"announce"] == f"{ORIGIN}/announce".encode()
        assert parts[b"announce-list"] == [[parts[b"announce"]]]
        assert parts[b"url-list"] == [seed.encode()]
        assert set(parts) <= {b"announce", b"announce-list", b"info", b"piece layers", b"url-list"}
        assert blake3(served.ask(seed.removeprefix(ORIGIN)).body).hexdigest() == file.b3_hex

    def test_bytes_that_are_not_here_are_not_promised(self, served: World) -> None:
        file = served.file("tiny", "q8_0", "extra.bin")
        assert file.torrent is not None
        place = served.place(file)
        data = place.read_bytes()
        place.unlink()
        parts = bdecode(served.ask(f"/v1/torrents/{file.torrent.v2}.torrent").body)
        assert isinstance(parts, dict) and b"url-list" not in parts
        place.write_bytes(data)


class TestOperations:
    def test_it_lives_and_is_ready(self, served: World) -> None:
        assert served.ask("/healthz").body == b"ok\n"
        ready = served.ask("/readyz")
        assert (ready.status, ready.body) == (200, b"ready\n")
        assert ready.headers["cache-control"] == "no-store"

    def test_a_full_disk_is_not_ready(self, served: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("samara.registry.service.operations.MIN_FREE", 1 << 62)
        got = served.ask("/readyz")
        assert got.status == 503
        assert "disk is full" in json.loads(got.body)["title"]
        assert got.headers["retry-after"] == "5"

    def test_metrics_count_what_happened(self, served: World) -> None:
        file = served.file("blob", "v1")

        def value(name: str) -> float:
            lines = served.ask("/metrics").body.decode().splitlines()
            return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0.0)

        counter = 'samara_blob_bytes_total{source="disk"}'
        before = value(counter)
        served.ask(f"/v1/blobs/{file.b3_hex}", headers={"Range": "bytes=0-999"})
        assert value(counter) - before == 1000
        served.ask("/v1/nothing/at/all")
        assert value('samara_requests_total{route="/v1/blobs/{digest}",status="206"}') >= 1
        assert value('samara_requests_total{route="(none)",status="404"}') >= 1
        assert value("samara_database_up") == 1
        assert value("samara_names_listed") == 4

    def test_metrics_are_not_for_everybody(self, served: World) -> None:
        settings = served.service.settings
        far = replace(settings, proxies=parse_networks("127.0.0.1"), watchers=parse_networks("198.51.100.0/24"))
        with RunningServer(create_app(replace(served.service, settings=far))) as server:
            asking = replace(served, server=server)
            assert asking.ask("/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status == 403
            assert asking.ask("/metrics", headers={"X-Forwarded-For": "198.51.100.9"}).status == 200
            assert asking.ask("/metrics").status == 200

    def test_the_last_audit_is_told(self, served: World) -> None:
        from samara.registry.last_audit import FILE_NAME, audit_of, read_last_audit, write_last_audit

        home = served.service.home
        write_last_audit(home, audit_of(["error", "error", "note"], at=5.0, outcome="findings", blocks_read=True))
        told = served.ask("/metrics").body.decode()
        assert 'samara_last_audit_findings{level="error"} 2.0' in told
        assert "samara_last_audit_clean 0.0" in told
        for rubbish in (b"", b"[]", b"{", b'{"at": "x"}', b"\xff", b"[" * 5000):
            (home.root / FILE_NAME).write_bytes(rubbish)
            assert read_last_audit(home) is None
        assert served.ask("/metrics").status == 200

    def test_a_database_that_goes_away_is_503_and_comes_back(self, served: World) -> None:
        path = served.service.home.index
        aside = path.with_name("aside")
        served.service.index.close()
        path.rename(aside)
        path.mkdir()
        try:
            assert served.ask("/readyz").status == 503
            assert served.ask("/healthz").status == 200
            assert served.ask("/v1/publishers").status == 503
            assert "samara_database_up 0.0" in served.ask("/metrics").body.decode()
        finally:
            path.rmdir()
            aside.rename(path)
        assert served.ask("/readyz").status == 200
        assert served.ask("/v1/publishers").status == 200
