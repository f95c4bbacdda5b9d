"""Publishers who lie, readers who ask for too much, records that rot: no wrong byte gets to the end of anything."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from support.followers import free_ports, node
from support.mirrors import mirror
from support.registries import (
    Provided,
    asking,
    list_shelf,
    mirroring,
    provided,
    pulling_through,
    registry_home,
    withdraw,
)
from support.swarms import seeding
from support.world import MIB, Shelf, flip, one_blob, partial_data, random_file, shelf

from samara.fetcher.coming import Coming, Reader
from samara.fetcher.intake import Limits
from samara.registry.index import Index
from samara.registry.positioned import read_at
from samara.registry.tables import CatalogRow, ListingRow
from samara.schemas.errors import NetworkError, StoreError
from samara.schemas.metadata_bundle import pack_metadata
from samara.seeder.hashing import FileHashes, hash_file

SIZE = 8 * MIB
WAIT = 30.0


def brought(registry: Provided, b3: str) -> Reader:
    """A contested blob, as soon as it is given: until then every reader is told to come again."""
    pause = threading.Event()
    for _ in range(600):
        with contextlib.suppress(StoreError):
            return registry.bring(b3)
        pause.wait(0.05)
    raise AssertionError("it is never given")


def test_who_describes_anothers_blob_wrongly_gets_no_byte_of_his_to_anybody(tmp_path: Path) -> None:
    """Strangers listed it first, with blocks and torrents of other bytes, and give these too."""
    acme = one_blob(tmp_path / "acme", SIZE, seed=1)
    evil = liar(tmp_path / "evil", acme)
    worse = liar(tmp_path / "worse", acme, size=SIZE + 5)
    with (
        seeding(evil) as bad,
        seeding(worse) as bad_too,
        seeding(acme) as good,
        registry_home(tmp_path / "registry", evil, worse, acme) as (home, index),
        provided(
            home, index, pulling_through(asking(bad.endpoint, bad_too.endpoint, good.endpoint))
        ) as registry,
    ):  # fmt: skip
        assert index.listings.manifests_of(acme.only.b3)[0][1] == evil.release.digest
        assert registry.providing.bringer is not None
        assert registry.providing.bringer.is_contested(acme.only.b3)
        arriving = brought(registry, acme.only.b3)
        assert arriving.size == SIZE
        assert arriving.wait(SIZE - 1, WAIT) == SIZE
        assert home.blob(acme.only.b3_hex).read_bytes() == acme.source.read_bytes()
        assert bad.uploaded > 0, "the stranger's was never tried"
        registry.until(lambda status: not status.coming)
        assert not registry.providing.bringer.is_contested(acme.only.b3)
        given = (bad.uploaded, bad_too.uploaded)
        home.blob(acme.only.b3_hex).unlink()  # somebody removed it: by now it is known who lied
        again = registry.bring(acme.only.b3)
        assert again.wait(SIZE - 1, WAIT) == SIZE
        assert (bad.uploaded, bad_too.uploaded) == given


def test_who_lists_anothers_blob_with_a_swarm_of_nobody_costs_its_patience_once(tmp_path: Path) -> None:
    """Of another size, with a torrent that nobody has: the next description has its turn in the same breath."""
    acme = one_blob(tmp_path / "acme", SIZE, seed=1)
    evil = liar(tmp_path / "evil", acme, size=SIZE + 5)
    with (
        seeding(acme) as good,
        registry_home(tmp_path / "registry", evil, acme) as (home, index),
        provided(home, index, mirroring(asking(good.endpoint, give_up_after=1.0))) as registry,
    ):
        status = registry.until(lambda status: status.here == 1 and not status.coming)
        assert (status.failures, status.failed) == (1, ())
        assert not [event for event in registry.events if "can't mirror" in str(event)], "not in the same breath"
        assert home.blob(acme.only.b3_hex).read_bytes() == acme.source.read_bytes()


def test_a_description_that_drips_must_let_the_next_one_have_its_turn(tmp_path: Path) -> None:
    acme = one_blob(tmp_path / "acme", SIZE, seed=1)
    evil = liar(tmp_path / "evil", acme)
    with (
        seeding(evil, up=40_000) as bad,
        seeding(acme) as good,
        registry_home(tmp_path / "registry", evil, acme) as (home, index),
        pytest.MonkeyPatch.context() as patch,
        provided(home, index, mirroring(asking(bad.endpoint, good.endpoint))) as registry,
    ):
        patch.setattr("samara.fetcher.intake_loop.LOOKED_OVER", 3.0)
        registry.until(lambda status: status.here == 1 and not status.coming)
        assert bad.uploaded > 0
        assert home.blob(acme.only.b3_hex).read_bytes() == acme.source.read_bytes()


def test_over_http_a_contested_blob_is_never_promised_a_wrong_length(tmp_path: Path) -> None:
    acme = one_blob(tmp_path / "acme", SIZE, seed=1)
    evil = liar(tmp_path / "evil", acme, size=SIZE - 5)
    (port,) = free_ports(1)
    with seeding(evil) as bad, seeding(acme, up=6 * MIB) as good:
        options = pulling_through(asking(bad.endpoint, good.endpoint))
        with node(tmp_path / "registry", port, options, evil, acme) as registry:
            path = f"/v1/blobs/{acme.only.b3_hex}"
            answers = [ask(registry.url, "HEAD", path), ask(registry.url, "GET", path, Range=f"bytes={SIZE - 9}-")]
            assert [one[0] for one in answers] == [503, 503]
            pause = threading.Event()
            for _ in range(600):
                status, data = ask(registry.url, "GET", path)
                if status != 503:
                    break
                pause.wait(0.05)
            assert (status, data == acme.source.read_bytes()) == (200, True)


def ask(url: str, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    """One request."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_catalog_in_the_index_that_was_meddled_with_brings_nothing(tmp_path: Path) -> None:
    """Its publisher has withdrawn it; who can write the database makes it listed again, but can't sign that."""
    published = one_blob(tmp_path, SIZE)
    with seeding(published) as seeder, registry_home(tmp_path / "registry", published) as (home, index):
        withdraw(index, published)
        _unwithdraw(index, published.publisher.identity)
        with provided(home, index, pulling_through(asking(seeder.endpoint))) as registry:
            assert registry.providing.bringer is not None
            with pytest.raises(StoreError, match="not signed"):
                registry.bring(published.only.b3)
            with pytest.raises(StoreError, match="not signed"):
                registry.providing.bringer.bring(published.only.b3, SIZE).wait(0, WAIT)
        assert seeder.uploaded == 0


def test_what_rotted_in_a_half_download_is_not_handed_on(tmp_path: Path) -> None:
    """A record claims a block as proven; since then a bit of it has turned over."""
    published = one_blob(tmp_path, 2 * SIZE)
    data = published.source.read_bytes()
    with registry_home(tmp_path / "registry", published) as (home, index):
        with (
            seeding(published, up=6 * MIB) as seeder,
            provided(home, index, pulling_through(asking(seeder.endpoint))) as registry,
        ):
            assert registry.bring(published.only.b3).wait(0, WAIT) > 0
        flip(partial_data(home, published.only), 1000)
        with (
            seeding(published) as seeder,
            provided(home, index, pulling_through(asking(seeder.endpoint))) as registry,
        ):
            arriving = registry.bring(published.only.b3)
            at = 0
            while at < arriving.size:
                proven = arriving.wait(at, WAIT)
                assert proven > at
                fd = arriving.open()
                assert read_at(fd, proven - at, at) == data[at:proven]
                os.close(fd)
                at = proven


def test_only_so_many_wait_and_mirrors_of_this_registry_are_not_asked(tmp_path: Path) -> None:
    origin = "http://127.0.0.1:1"
    shelves = [
        one_blob(tmp_path / f"{number}", 100_000, seed=number, mirrors=(f"{origin}/v1/blobs/x",)) for number in range(4)
    ]
    options = pulling_through(
        asking(("127.0.0.1", 9), give_up_after=1.5), origin=origin, limits=Limits(for_readers=1, waiting=1)
    )
    with registry_home(tmp_path / "registry") as (home, index):
        for published in shelves:
            list_shelf(index, published)
        with provided(home, index, options) as registry:
            first = registry.bring(shelves[0].only.b3)
            registry.until(lambda status: any(one.b3 == shelves[0].only.b3 for one in status.coming))
            _until_begun(registry.providing._intake.coming, shelves[0].only.b3)
            second = registry.bring(shelves[1].only.b3)
            with pytest.raises(StoreError, match="too many"):
                registry.bring(shelves[2].only.b3)
            with pytest.raises(NetworkError) as ended:
                first.wait(0, WAIT)
            assert origin not in str(ended.value), "it asked itself"
            with pytest.raises(NetworkError):
                second.wait(0, WAIT)
            with pytest.raises(NetworkError):  # at once: it rests
                registry.bring(shelves[1].only.b3).wait(0, WAIT)


def test_a_mirror_brings_it_where_there_are_no_peers(tmp_path: Path) -> None:
    """A mirror that lies for a part of the file, and one that doesn't."""
    source = random_file(tmp_path / "files" / "blob.bin", SIZE, seed=5)
    with mirror(source.parent) as bad, mirror(source.parent) as good:
        bad.wrong_from = 0
        published = shelf(tmp_path, [source], mirrors=(bad.of(source.name), good.of(source.name)))
        with (
            registry_home(tmp_path / "registry", published) as (home, index),
            provided(home, index, pulling_through(asking(peer_to_peer=False))) as registry,
        ):
            assert registry.bring(published.only.b3).wait(SIZE - 1, WAIT) == SIZE
            status = registry.until(lambda status: not status.coming)
            assert (status.from_peers, status.rejected_sources) == (0, 1)
            assert status.from_mirrors >= SIZE
        assert home.blob(published.only.b3_hex).read_bytes() == source.read_bytes()


def liar(root: Path, victim: Shelf, *, size: int | None = None) -> Shelf:
    """A publisher whose manifest names the victim's blob and describes other bytes."""
    other = random_file(root / "files" / "blob.bin", size or victim.only.size, seed=2)

    def lying(*arguments: Any, **keywords: Any) -> FileHashes:
        return replace(hash_file(*arguments, **keywords), b3=bytes.fromhex(victim.only.b3_hex))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samara.seeder.publish.hash_file", lying)
        return shelf(root, [other], reference="evil/blob:v1")


def _unwithdraw(index: Index, identity: str) -> None:
    bundle = index.listings.metadata(identity)
    assert bundle is not None
    targets = json.loads(bundle.targets)
    for entry in targets["signed"]["targets"].values():
        del entry["custom"]["samara"]["retracted"]
    changed = pack_metadata(replace(bundle, targets=json.dumps(targets).encode()))
    with index.database.write() as session:
        session.execute(sa.update(CatalogRow).values(bundle=changed))
        session.execute(sa.update(ListingRow).values(retracted=None))


def _until_begun(coming: Any, b3: str) -> None:
    pause = threading.Event()
    for _ in range(1000):
        found: list[Coming] = [one for one, running in coming() if one.b3 == b3 and running is not None]
        if found:
            return
        pause.wait(0.02)
    raise AssertionError("it never began")
