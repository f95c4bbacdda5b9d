"""What a machine tells others of publishers: everything it knows, pointers only where it holds the beacon."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.world import MIB, NOW, QUICK, Shelf, one_blob, random_file, shelf

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.catalog_client import CatalogClient
from samara.registry.trust.identity import ROOT_V1_NAME, infohash_of
from samara.registry.trust.key_changes import rotate_key
from samara.registry.trust.making import init_publisher
from samara.registry.trust.own_catalog import own_catalog
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import load_publisher
from samara.registry.trust.sources import BundleSource
from samara.schemas.bittorrent import small_torrent
from samara.schemas.events import Event, Note, Warned
from samara.schemas.metadata_bundle import pack_metadata
from samara.seeder.announce import Announcement
from samara.seeder.announcements import Announcements


def infohashes(announcement: Announcement) -> set[str]:
    return {small_torrent(file.name, file.data).v2 for file in announcement.files}


def again(root: Path, published: Shelf) -> Shelf:
    """A second release by the same publisher."""
    return shelf(
        root,
        [random_file(root / "files" / "more.bin", MIB, seed=9)],
        reference="acme/blob:v2",
        publisher=published.publisher,
    )


def bundle_of(published: Shelf) -> str:
    state = own_catalog(load_publisher(published.home, "acme"))
    assert state is not None
    return small_torrent(f"{published.publisher.identity}.metadata", pack_metadata(state.bundle)).v2


def test_a_publisher_tells_all_and_points_to_it(tmp_path: Path) -> None:
    published = one_blob(tmp_path, MIB)
    with Index.open(published.home) as index:
        told = Announcements(published.home, index, ask=None, on_event=lambda _: None)()
    assert infohash_of(published.publisher.identity) in infohashes(told)
    assert bundle_of(published) in infohashes(told)
    assert {file.name for file in told.files} == {
        ROOT_V1_NAME,
        f"{published.publisher.identity}.metadata",
        f"{published.release.digest.removeprefix('b3:')}.release.json",
    }
    ((_, pointer),) = told.pointers
    assert pointer.bundle == bundle_of(published)


def test_it_is_the_same_object_until_something_changes(tmp_path: Path) -> None:
    published = one_blob(tmp_path, MIB)
    with Index.open(published.home) as index:
        tell = Announcements(published.home, index, ask=None, on_event=lambda _: None)
        first = tell()
        assert tell() is first
        again(tmp_path, published)
        assert tell() is not first


def test_the_catalog_before_is_given_on_while_somebody_may_hear_of_it(tmp_path: Path) -> None:
    published = one_blob(tmp_path, MIB)
    with Index.open(published.home) as index:
        tell = Announcements(published.home, index, ask=None, on_event=lambda _: None)
        tell()
        old = bundle_of(published)
        again(tmp_path, published)
        told = tell()
    assert {old, bundle_of(published)} <= infohashes(told)
    assert [pointer.bundle for _, pointer in told.pointers] == [bundle_of(published)]


def test_who_only_follows_carries_it_on_without_pointing(tmp_path: Path) -> None:
    published = one_blob(tmp_path, MIB)
    home = Home(tmp_path / "nas")
    trust = TrustFolder(home.trust)
    trust.add("acme", published.publisher.identity, now=NOW)
    state = own_catalog(load_publisher(published.home, "acme"))
    assert state is not None
    client = CatalogClient(trust, published.publisher.identity)
    client.commit(client.check(BundleSource(state.bundle, "x"), now=NOW), now=NOW, source="x")
    with Index.open(home) as index:
        told = Announcements(home, index, ask=None, on_event=lambda _: None)()
    assert bundle_of(published) in infohashes(told)
    assert told.pointers == ()


def test_after_a_rotation_the_old_beacon_points_on_too(tmp_path: Path) -> None:
    published = one_blob(tmp_path, MIB)
    rotate_key(published.home, load_publisher(published.home, "acme"), "beacon", ask=None, now=NOW)
    with Index.open(published.home) as index:
        told = Announcements(published.home, index, ask=None, on_event=lambda _: None)()
    assert len(told.pointers) == 2
    assert len({pointer.bundle for _, pointer in told.pointers}) == 1


def test_a_beacon_that_cannot_be_opened_is_said_and_the_rest_told(tmp_path: Path) -> None:
    home = Home(tmp_path / "publisher")
    publisher = init_publisher(home, "acme", passphrase="x", recovery=None, now=NOW, kdf_rounds=QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samara.registry.trust.publishers.load_key", _opened_with("x"))
        shelf(tmp_path, [random_file(tmp_path / "a.bin", MIB, seed=1)], publisher=publisher)
    heard: list[Event] = []
    with Index.open(home) as index:
        told = Announcements(home, index, ask=lambda _: None, on_event=heard.append)()
    assert told.pointers == ()
    assert told.files
    assert any(isinstance(event, Warned) and "found by its name" in event.message for event in heard)


def test_a_catalog_past_half_of_its_time_is_signed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = one_blob(tmp_path, MIB)
    before = bundle_of(published)
    monkeypatch.setattr("samara.registry.trust.own_catalog.refresh_due", lambda _catalog, _now: True)
    heard: list[Event] = []
    with Index.open(published.home) as index:
        Announcements(published.home, index, ask=None, on_event=heard.append)()
    assert bundle_of(published) != before
    assert any(isinstance(event, Note) and "signed the catalog of acme again" in event.message for event in heard)


def _opened_with(passphrase: str):  # type: ignore[no-untyped-def]
    from samara.registry.trust.keys import load_key

    return lambda path, _ask, *, what: load_key(path, lambda _: passphrase, what=what)
