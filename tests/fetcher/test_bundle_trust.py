"""What a bundle's releases are worth: whose they are, whether they are current, and what an old one can't do."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from bundle_kit import (
    LATER,
    Told,
    again,
    changed,
    clock,
    exported,
    imported,
    nothing_left,
    relisted,
    repacked,
    two_files,
    unpacked,
    view,
    visible,
)
from support.pulls import options, pulled
from support.swarms import seeding
from support.world import NOW, QUICK, Shelf, assert_pulled, random_file, shelf, trusting_home

from samara.fetcher.bundle_export import export_bundle
from samara.fetcher.bundle_stream import BundleReader
from samara.fetcher.bundle_trust import Standing
from samara.fetcher.held import resolve_reference
from samara.fetcher.local import locate
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.catalog_client import CatalogClient
from samara.registry.trust.key_changes import renew_root, rotate_key
from samara.registry.trust.making import init_publisher
from samara.registry.trust.own_catalog import nothing, own_bundle, retraction, tagging
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.sources import BundleSource
from samara.schemas.bundle import pack_roots
from samara.schemas.errors import IntegrityError, MalformedError, NotFoundError, TrustError
from samara.schemas.metadata_bundle import pack_metadata, unpack_metadata
from samara.schemas.references import parse_reference


@pytest.fixture
def published(tmp_path: Path) -> Shelf:
    return two_files(tmp_path / "shelf")


@pytest.fixture
def home(tmp_path: Path, published: Shelf) -> Home:
    return trusting_home(tmp_path / "home", published)


@pytest.fixture
def bundle(tmp_path: Path, published: Shelf) -> Path:
    return exported(published, tmp_path / "tiny.tar.zst").path


def client(home: Home, published: Shelf) -> CatalogClient:
    return CatalogClient(TrustFolder(home.trust), published.publisher.identity)


def known_version(home: Home, published: Shelf) -> int:
    state = client(home, published).stored()
    return 0 if state is None else state.catalog.versions["timestamp"]


def pinned(published: Shelf) -> str:
    return f"acme/{published.release.model}@{published.release.digest}"


# -- whose -------------------------------------------------------------------------------------------------------------


def test_a_publisher_that_isnt_pinned_is_refused_with_the_command_to_type(
    tmp_path: Path, published: Shelf, bundle: Path
) -> None:
    home = Home(tmp_path / "stranger")
    with pytest.raises(TrustError, match="not trusted") as caught:
        imported(home, bundle)
    assert f"samara trust add acme --identity {published.publisher.identity}" in str(caught.value)
    assert visible(home) == {}
    assert nothing_left(home)


def test_a_namesake_is_not_taken_for_the_publisher(tmp_path: Path, bundle: Path) -> None:
    home = Home(tmp_path / "home")
    init_publisher(home, "acme", passphrase=None, recovery=None, now=NOW, kdf_rounds=QUICK)
    with pytest.raises(TrustError, match="ANOTHER PUBLISHER CALLS ITSELF acme"):
        imported(home, bundle)


def test_a_release_by_another_publisher_under_this_ones_metadata(
    tmp_path: Path, home: Home, bundle: Path, published: Shelf
) -> None:
    """The list, the metadata and the pin are acme's; the manifest was signed by somebody else's key."""
    other = shelf(tmp_path / "other", [random_file(tmp_path / "x.bin", 70_000, seed=9)], reference="acme/tiny:v1")
    strange = exported(other, tmp_path / "other.tar.zst").path
    identity = published.publisher.identity.encode()

    def graft(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        swapped = [(name.replace(other.publisher.identity, identity.decode()), data) for name, data in files]
        return [(swapped[0][0], swapped[0][1].replace(other.publisher.identity.encode(), identity)), *swapped[1:]]

    with pytest.raises(MalformedError, match="not what its list says"):
        imported(home, repacked(strange, tmp_path / "bad.tar.zst", graft))
    assert nothing_left(home)


def test_a_manifest_changed_after_signing(tmp_path: Path, home: Home, bundle: Path) -> None:
    """Its digest then is another one, so it is not the release that was listed."""

    def forge(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        at = next(at for at, (name, _) in enumerate(files) if name.startswith("releases/"))
        value = json.loads(files[at][1])
        payload = base64.b64decode(value["envelope"]["payload"]).replace(b'"version":1', b'"version":9')
        value["envelope"]["payload"] = base64.b64encode(payload).decode()
        files[at] = (files[at][0], json.dumps(value).encode())
        return relisted(files)

    with pytest.raises(MalformedError, match="not what its list says"):
        imported(home, repacked(bundle, tmp_path / "bad.tar.zst", forge))


def test_metadata_that_was_changed(tmp_path: Path, home: Home, bundle: Path) -> None:
    def forge(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        at = next(at for at, (name, _) in enumerate(files) if name.startswith("metadata/"))
        files[at] = (files[at][0], files[at][1].replace(b'"length":', b'"length": ', 1).replace(b": ", b":1", 1))
        return relisted(files)

    with pytest.raises((TrustError, MalformedError)):
        imported(home, repacked(bundle, tmp_path / "bad.tar.zst", forge))
    assert nothing_left(home)


# -- current -----------------------------------------------------------------------------------------------------------


def test_a_current_release_comes_in_with_its_catalog_and_names(home: Home, published: Shelf, bundle: Path) -> None:
    told = Told()
    done = imported(home, bundle, now=clock(timedelta(days=3, hours=1)), told=told)
    (release,) = done.releases
    assert (release.standing, release.reference) == (Standing.CURRENT, "acme/tiny:v1")
    assert_pulled(home, published)
    assert known_version(home, published) == 1
    assert told.warnings == []
    assert any("signed 3 days ago" in note for note in told.notes)
    with Index.open(home) as index:
        assert resolve_reference(home, index, parse_reference("acme/tiny:v1")).release == published.release
    assert [file.path.name for file in locate(home, "acme/tiny:v1").files] == ["weights-1.bin", "licence-1.txt"]


def test_a_tag_that_was_moved_to_the_release_gets_its_names_too(
    tmp_path: Path, home: Home, published: Shelf
) -> None:  # fmt: skip
    changed(published, tagging("tiny", "v1", "stable"))
    imported(home, exported(published, tmp_path / "tiny.tar.zst").path)
    for tag in ("v1", "stable"):
        assert all(view(home, published, file, tag=tag).is_file() for file in published.release.files)


def test_an_expired_catalog_is_refused_and_says_how_old_it_is(home: Home, published: Shelf, bundle: Path) -> None:
    with pytest.raises(TrustError, match=r"expired.*signed 400 days ago.*--allow-stale"):
        imported(home, bundle, now=clock(LATER))
    assert nothing_left(home)
    assert not home.blobs.exists()
    assert known_version(home, published) == 0


def test_an_expired_catalog_accepted_knowingly_is_recorded(home: Home, published: Shelf, bundle: Path) -> None:
    told = Told()
    done = imported(home, bundle, now=clock(LATER), allow_stale=True, told=told)
    assert_pulled(home, published)
    assert any("EXPIRED" in warning and "signed 400 days ago" in warning for warning in told.warnings)
    (accepted,) = client(home, published).seen().accepted
    assert accepted.source == str(bundle)
    assert "timestamp" in accepted.roles
    checked = done.publishers[0].checked
    assert checked is not None
    assert checked.stale == accepted.roles


# -- withdrawn ---------------------------------------------------------------------------------------------------------


def test_a_withdrawn_release_isnt_exported_by_its_name(tmp_path: Path, published: Shelf) -> None:
    changed(published, retraction("tiny", "v1", "wrong weights"))
    with pytest.raises(TrustError, match=f"wrong weights.*samara bundle export {pinned(published)}"):
        exported(published, tmp_path / "tiny.tar.zst")


def test_one_exported_by_its_digest_comes_in_with_a_warning_and_no_name(
    tmp_path: Path, home: Home, published: Shelf
) -> None:
    changed(published, retraction("tiny", "v1", "wrong weights"))
    told = Told()
    done = imported(home, exported(published, tmp_path / "tiny.tar.zst", pinned(published)).path, told=told)
    (release,) = done.releases
    assert (release.standing, release.reference) == (Standing.RETRACTED, pinned(published))
    assert any("wrong weights" in warning for warning in told.warnings)
    assert not home.models.exists()
    assert all(file.location.is_file() for file in release.files)


def test_one_withdrawn_since_it_was_exported_is_refused(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:  # fmt: skip
    changed(published, retraction("tiny", "v1", "wrong weights"))
    newer = exported(published, tmp_path / "newer.tar.zst", pinned(published)).path
    imported(home, newer)
    told = Told()
    with pytest.raises(TrustError, match="wrong weights"):
        imported(home, bundle, told=told)
    assert known_version(home, published) == 2


# -- an old bundle -----------------------------------------------------------------------------------------------------


def test_an_old_bundle_lowers_nothing_and_gets_no_name(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:  # fmt: skip
    second = again(tmp_path / "shelf", published, seed=2)
    newer = exported(second, tmp_path / "newer.tar.zst").path
    imported(home, newer)
    before = visible(home)
    told = Told()
    done = imported(home, bundle, told=told)
    (release,) = done.releases
    assert (release.standing, release.reference) == (Standing.OLDER, pinned(published))
    assert done.publishers[0].outdated
    assert known_version(home, published) == 2
    assert {path: data for path, data in visible(home).items() if not path.startswith("blobs/")} == {
        path: data for path, data in before.items() if not path.startswith("blobs/")
    }
    assert any("older than the one known here" in warning for warning in told.warnings)
    assert any("means a newer release by now (version 2; this one is 1)" in warning for warning in told.warnings)
    with Index.open(home) as index:
        assert resolve_reference(home, index, parse_reference("acme/tiny:v1")).release == second.release
        old = resolve_reference(home, index, parse_reference(pinned(published)))
        assert old.release == published.release


def test_an_old_bundle_beside_a_newer_catalog_whose_release_isnt_here(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:
    """The name means what isn't here: the old release must not slip into its place."""
    second = again(tmp_path / "shelf", published, seed=2)
    stripped = exported(second, tmp_path / "newer.tar.zst").path
    check = client(home, published)
    with BundleReader(stripped) as reader:
        metadata = unpack_metadata(reader.document(reader.index.members[0]))
    check.commit(check.check(BundleSource(metadata, "web"), now=clock()), now=clock(), source="web")
    imported(home, bundle)
    assert not home.models.exists()
    assert known_version(home, published) == 2


def test_the_old_bundle_without_its_catalog_is_no_way_round(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:
    """Whoever carries it takes the catalog out and puts the roots in its place."""
    second = again(tmp_path / "shelf", published, seed=2)
    imported(home, exported(second, tmp_path / "newer.tar.zst").path)
    names = visible(home)
    told = Told()
    done = imported(home, without_catalog(bundle, tmp_path / "bare.tar.zst", published), told=told)
    assert done.releases[0].standing is Standing.OLDER
    assert any("freshness not checked" in note for note in told.notes)
    assert any("means a newer release" in warning for warning in told.warnings)
    assert {k: v for k, v in visible(home).items() if k.startswith("models/")} == {
        k: v for k, v in names.items() if k.startswith("models/")
    }


def test_marking_an_old_release_as_pinned_gains_nothing(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:  # fmt: skip
    second = again(tmp_path / "shelf", published, seed=2)
    imported(home, exported(second, tmp_path / "newer.tar.zst").path)
    forged = repacked(bundle, tmp_path / "forged.tar.zst", lambda files: relisted(files, pinned=True))
    done = imported(home, forged)
    assert done.releases[0].standing is Standing.OLDER
    assert view(home, second, second.only).samefile(home.blob(second.only.b3_hex))


def test_an_old_bundle_is_held_against_the_age_of_the_newer_catalog(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:
    second = again(tmp_path / "shelf", published, seed=2)
    imported(home, exported(second, tmp_path / "newer.tar.zst").path)
    with pytest.raises(TrustError, match="expired"):
        imported(home, bundle, now=clock(LATER))
    imported(home, bundle, now=clock(LATER), allow_stale=True)
    assert known_version(home, published) == 2
    assert len(client(home, published).seen().accepted) == 1


def test_two_catalogs_of_one_version_are_equivocation(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:  # fmt: skip
    """A stolen online key, or two machines that published apart: neither is taken."""
    catalog = published.publisher.folder / "catalog"
    kept = catalog.read_bytes()
    changed(published, nothing)
    imported(home, exported(published, tmp_path / "one.tar.zst").path)
    catalog.write_bytes(kept)
    changed(published, nothing, now=clock(timedelta(hours=5)))
    with pytest.raises(TrustError, match="two different catalogs"):
        imported(home, exported(published, tmp_path / "other.tar.zst").path)
    evidence = home.trust / published.publisher.identity / "equivocation"
    assert len(list(evidence.iterdir())) == 2


# -- after the publisher's keys changed ------------------------------------------------------------------------------


def rotated(published: Shelf) -> Shelf:
    """The same shelf with a new online key; what it lists is signed anew."""
    done = rotate_key(published.home, published.publisher, "online", ask=None, now=clock())
    return replace(published, publisher=done.publisher)


def test_a_bundle_from_before_a_rotation_doesnt_undo_it(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:  # fmt: skip
    """Its metadata is signed by a retired key; its release is one that the new key's catalog still lists."""
    newer = exported(rotated(published), tmp_path / "newer.tar.zst").path
    imported(home, newer)
    roots = TrustFolder(home.trust).stored_chain(published.publisher.identity)
    assert roots is not None
    assert roots.version == 2
    version = known_version(home, published)
    done = imported(home, bundle)
    assert done.publishers[0].outdated
    assert done.releases[0].standing is Standing.CURRENT
    assert known_version(home, published) == version
    assert TrustFolder(home.trust).stored_chain(published.publisher.identity) == roots


def test_a_bundle_from_after_a_rotation_brings_the_new_keys(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:  # fmt: skip
    imported(home, bundle)
    newer = exported(rotated(published), tmp_path / "newer.tar.zst").path
    done = imported(home, newer)
    assert not done.publishers[0].outdated
    chain = TrustFolder(home.trust).stored_chain(published.publisher.identity)
    assert chain is not None
    assert chain.version == 2


def test_a_replaced_release_by_a_retired_key_is_refused(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:  # fmt: skip
    """Nothing tells it from what a thief of the retired key signs: neither the catalog nor a key of today."""
    second = again(tmp_path / "shelf", rotated(published), seed=2)
    imported(home, exported(second, tmp_path / "newer.tar.zst").path)
    before = visible(home)
    with pytest.raises(TrustError, match="retired"):
        imported(home, bundle)
    assert visible(home) == before


def test_metadata_signed_by_nobody_known_is_not_taken_for_an_old_one(
    tmp_path: Path, home: Home, published: Shelf
) -> None:
    """Only with fewer roots than are known can it be from before a rotation."""
    newer = exported(rotated(published), tmp_path / "newer.tar.zst").path
    imported(home, newer)

    def forge(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        at = next(at for at, (name, _) in enumerate(files) if name.startswith("metadata/"))
        metadata = unpack_metadata(files[at][1])
        timestamp = metadata.timestamp.replace(b'"version":2', b'"version":7')
        files[at] = (files[at][0], pack_metadata(replace(metadata, timestamp=timestamp)))
        return relisted(files)

    with pytest.raises(TrustError):
        imported(home, repacked(newer, tmp_path / "bad.tar.zst", forge))


def test_equivocation_is_not_taken_for_a_bundle_from_before_a_new_root(
    tmp_path: Path, home: Home, published: Shelf
) -> None:
    """Fewer roots, and another catalog of a version that is known, by a key that is still good."""
    catalog = published.publisher.folder / "catalog"
    kept = catalog.read_bytes()
    changed(published, nothing, now=clock(timedelta(hours=1)))
    other = exported(published, tmp_path / "other.tar.zst").path
    catalog.write_bytes(kept)
    renew_root(published.home, published.publisher, ask=None, now=clock())
    imported(home, exported(published, tmp_path / "one.tar.zst").path)
    with pytest.raises(TrustError, match="two different catalogs"):
        imported(home, other)


# -- without a catalog -------------------------------------------------------------------------------------------------


def without_catalog(bundle: Path, target: Path, published: Shelf) -> Path:
    """The bundle as a machine would have made it that knew no catalog of this publisher."""
    identity = published.publisher.identity
    roots = pack_roots(published.publisher.chain.roots)

    def strip(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        size = next(len(data) for name, data in files if name.startswith("metadata/"))
        listed = files[0][1].replace(b"metadata/", b"roots/").replace(b'"size":%d' % size, b'"size":%d' % len(roots))
        kept = [file for file in files[1:] if not file[0].startswith("metadata/")]
        return [(files[0][0], listed), (f"roots/{identity}", roots), *kept]

    return repacked(bundle, target, strip)


def test_a_machine_without_the_catalog_exports_the_roots(tmp_path: Path, home: Home, published: Shelf) -> None:
    with seeding(published) as peer:
        pulled(home, published.file, options(peer.endpoint))
    made = export_bundle(home, ["acme/tiny:v1"], tmp_path / "bare.tar.zst")
    assert [str(member.kind) for member in made.index.members] == ["roots", "releases", "blobs"]
    other = trusting_home(tmp_path / "other", published)
    told = Told()
    done = imported(other, made.path, told=told)
    assert done.releases[0].standing is Standing.UNCHECKED
    assert any("freshness not checked" in note for note in told.notes)
    assert_pulled(other, published)
    assert known_version(other, published) == 0
    assert TrustFolder(other.trust).stored_chain(published.publisher.identity) is not None


def test_without_any_catalog_the_newest_release_keeps_the_name(
    tmp_path: Path, home: Home, published: Shelf, bundle: Path
) -> None:
    second = again(tmp_path / "shelf", published, seed=2)
    newer = exported(second, tmp_path / "newer.tar.zst").path
    imported(home, without_catalog(newer, tmp_path / "newer-bare.tar.zst", second))
    assert view(home, second, second.only).is_file()
    imported(home, without_catalog(bundle, tmp_path / "older-bare.tar.zst", published))
    assert not any(view(home, published, file).exists() for file in published.release.files)


def test_roots_of_another_publisher(tmp_path: Path, home: Home, published: Shelf, bundle: Path) -> None:
    stranger = init_publisher(Home(tmp_path / "s"), "acme", passphrase=None, recovery=None, now=NOW, kdf_rounds=QUICK)
    bad = without_catalog(bundle, tmp_path / "bad.tar.zst", published)
    roots = pack_roots(stranger.chain.roots)
    assert len(roots) == len(dict(unpacked(bad))[f"roots/{published.publisher.identity}"])
    swapped = repacked(
        bad, tmp_path / "worse.tar.zst",
        lambda files: [(n, roots if n.startswith("roots/") else d) for n, d in files],
    )  # fmt: skip
    with pytest.raises(TrustError):
        imported(home, swapped)
    assert nothing_left(home)
    assert TrustFolder(home.trust).stored_chain(published.publisher.identity) is None


# -- exporting by name -------------------------------------------------------------------------------------------------


def test_a_name_that_means_something_else_by_now_isnt_exported(tmp_path: Path, home: Home, published: Shelf, bundle: Path) -> None:  # fmt: skip  # noqa: E501
    imported(home, bundle)
    second = again(tmp_path / "shelf", published, seed=2)
    check = client(home, published)
    mine = own_bundle(second.publisher)
    assert mine is not None
    check.commit(check.check(BundleSource(mine, "web"), now=clock()), now=clock(), source="web")
    with pytest.raises(NotFoundError, match=f"samara bundle export {pinned(published)}"):
        export_bundle(home, ["acme/tiny:v1"], tmp_path / "out.tar.zst")
    made = export_bundle(home, [pinned(published)], tmp_path / "out.tar.zst")
    assert [one.pinned for one in made.index.releases] == [True]


def test_wrong_bytes_in_a_torrent_of_the_release(tmp_path: Path, home: Home, bundle: Path) -> None:
    def forge(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        at = next(at for at, (name, _) in enumerate(files) if name.startswith("releases/"))
        value = json.loads(files[at][1])
        torrent = bytearray(base64.b64decode(value["torrents"][0]))
        torrent[torrent.index(b"6:pieces") + 40] ^= 1
        value["torrents"][0] = base64.b64encode(torrent).decode()
        files[at] = (files[at][0], json.dumps(value).encode())
        return relisted(files)

    with pytest.raises(IntegrityError):
        imported(home, repacked(bundle, tmp_path / "bad.tar.zst", forge))
    assert nothing_left(home)
