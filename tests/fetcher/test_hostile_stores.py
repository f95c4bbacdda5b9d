"""What a pull finds where it wants to work: half pieces, links, pipes, other people's claims, files that change."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.pulls import options, pulled
from support.swarms import seeding
from support.world import (
    MIB,
    NOW,
    PIECE,
    Shelf,
    assert_pulled,
    flip,
    one_blob,
    partial_data,
    random_file,
    shelf,
    trusting_home,
)

from samara.fetcher.local import locate
from samara.fetcher.pull import pull
from samara.fetcher.verify import verify
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.pins import TrustFolder
from samara.schemas.errors import IntegrityError, UsageError
from samara.schemas.references import parse_reference
from samara.schemas.stamps import Stamp
from samara.seeder.hashing import FileHashes, hash_file
from samara.seeder.publish import Description, publish


@pytest.fixture
def published(tmp_path: Path) -> Shelf:
    """A release of one blob of eight pieces."""
    return one_blob(tmp_path, size=2 * MIB)


@pytest.fixture
def home(tmp_path: Path, published: Shelf) -> Home:
    """A puller's home."""
    return trusting_home(tmp_path / "puller", published)


def hole(data: Path, _good: bytes) -> None:
    """Nothing but a hole as long as the blob."""
    data.touch()
    os.truncate(data, 2 * MIB)


def half_a_piece(data: Path, good: bytes) -> None:
    """A start too short to prove."""
    data.write_bytes(good[: PIECE // 2])


def rubbish(data: Path, _good: bytes) -> None:
    """Bytes of something else."""
    data.write_bytes(os.urandom(2 * MIB))


def too_long(data: Path, good: bytes) -> None:
    """More than the blob has."""
    data.write_bytes(good + b"more")


def link_away(data: Path, _good: bytes) -> None:
    """A link to a file that isn't ours."""
    data.symlink_to(data.parent.parent.parent.parent / "precious")


def pipe(data: Path, _good: bytes) -> None:
    """A pipe that nobody writes to."""
    os.mkfifo(data)


@pytest.mark.parametrize("plant", [hole, half_a_piece, rubbish, too_long, link_away, pipe])
def test_whatever_lies_in_the_partial_the_pull_ends_whole(
    published: Shelf, home: Home, tmp_path: Path, plant: Callable[[Path, bytes], None]
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"not ours")
    data = partial_data(home, published.only)
    data.parent.mkdir(parents=True)
    plant(data, published.source.read_bytes())
    with seeding(published) as peer:
        pulled(home, published.file, options(peer.endpoint))
    assert_pulled(home, published)
    assert precious.read_bytes() == b"not ours"


def test_a_partial_folder_that_is_a_link_is_not_followed(published: Shelf, home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = partial_data(home, published.only).parent
    folder.parent.mkdir(parents=True)
    folder.symlink_to(elsewhere)
    with seeding(published) as peer:
        pulled(home, published.file, options(peer.endpoint))
    assert_pulled(home, published)
    assert list(elsewhere.iterdir()) == []


def test_a_view_folder_that_is_a_link_is_not_followed(published: Shelf, home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    home.models.mkdir(parents=True)
    (home.models / "acme").symlink_to(elsewhere)
    with seeding(published) as peer:
        pulled(home, published.file, options(peer.endpoint))
    assert_pulled(home, published)
    assert list(elsewhere.iterdir()) == []


def test_a_blob_of_one_bad_piece_is_mended(tmp_path: Path) -> None:
    published = one_blob(tmp_path, size=100_000)
    home = trusting_home(tmp_path / "puller", published)
    with seeding(published) as peer:
        pulled(home, published.file, options(peer.endpoint))
        blob = home.blob(published.only.b3_hex)
        flip(blob, 7)
        with Index.open(home) as index:
            index.drop_location(blob)
        pulled(home, published.file, options(peer.endpoint))
    assert_pulled(home, published)


def test_a_damaged_inline_file_is_written_again(tmp_path: Path) -> None:
    small = tmp_path / "files" / "LICENSE"
    small.parent.mkdir()
    small.write_bytes(b"do what you like\n")
    published = shelf(tmp_path, [small])
    home = trusting_home(tmp_path / "puller", published)
    pulled(home, published.file, options())
    blob = home.blob(published.only.b3_hex)
    blob.chmod(0o644)
    blob.write_bytes(b"do what i like!!\n")
    pulled(home, published.file, options())
    assert blob.read_bytes() == b"do what you like\n"


def test_a_folder_inside_the_store_is_no_place_to_put_files(published: Shelf, home: Home) -> None:
    with pytest.raises(UsageError, match="inside the store"):
        pulled(home, published.file, options(("127.0.0.1", 9), to=home.blobs))


def test_files_from_an_owners_own_file_are_not_tied_to_it(published: Shelf, tmp_path: Path) -> None:
    # the publisher pulls its own release: the blob is here, in place
    pulled(published.home, published.file, options(to=tmp_path / "out"))
    given = tmp_path / "out" / "blob.bin"
    assert given.read_bytes() == published.source.read_bytes()
    assert not given.samefile(published.source)


def test_an_owners_file_that_changes_during_the_pull_is_never_called_verified(tmp_path: Path) -> None:
    one = random_file(tmp_path / "files" / "one.bin", MIB, seed=1)
    two = random_file(tmp_path / "files" / "two.bin", MIB, seed=2)
    published = shelf(tmp_path, [one, two])
    home = trusting_home(tmp_path / "puller", published)
    mine = tmp_path / "nas" / "one.bin"
    mine.parent.mkdir()
    mine.write_bytes(one.read_bytes())
    with seeding(published) as peer:
        pulled(home, published.file, options(peer.endpoint))
    # now only in place: the store's copy is gone, the owner's own is recorded
    blob = home.blob(published.release.files[0].b3_hex)
    blob.unlink()
    other = home.blob(published.release.files[1].b3_hex)
    other.unlink()
    with Index.open(home) as index:
        index.set_location(
            published.release.files[0].b3, mine, Stamp.of(mine.stat()), in_store=False, verified_at=0.0
        )  # fmt: skip

    def edit(_event: object) -> None:
        if type(_event).__name__ == "PullPlanned":
            mine.write_bytes(b"EVIL" + one.read_bytes()[4:])

    with seeding(published) as peer, pytest.raises(IntegrityError, match="changed while"):
        pull(home, str(published.file), options(peer.endpoint, to=tmp_path / "out"), on_event=edit)


def test_a_liars_claims_about_a_blob_do_not_reach_others(tmp_path: Path) -> None:
    """A pinned but malicious publisher signs acme's blob with blocks and a torrent of other bytes."""
    acme = one_blob(tmp_path / "acme", size=5 * MIB, seed=1)
    other = random_file(tmp_path / "evil" / "blob.bin", 5 * MIB, seed=2)

    def lying(*arguments: Any, **keywords: Any) -> FileHashes:
        return replace(hash_file(*arguments, **keywords), b3=bytes.fromhex(acme.only.b3_hex))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samara.seeder.publish.hash_file", lying)
        evil = shelf(tmp_path / "evil", [other], reference="evil/blob:v1")
    home = trusting_home(tmp_path / "puller", acme)

    TrustFolder(home.trust).add("evil", evil.publisher.identity, now=NOW)
    with seeding(evil) as peer, pytest.raises(IntegrityError, match="contradicts itself"):
        pulled(home, evil.file, options(peer.endpoint))
    assert not partial_data(home, acme.only).exists()
    with seeding(acme) as peer:
        pulled(home, acme.file, options(peer.endpoint))
    assert home.blob(acme.only.b3_hex).read_bytes() == acme.source.read_bytes()

    assert locate(home, "acme/blob:v1").files[0].path.read_bytes() == acme.source.read_bytes()
    assert verify(home, str(home.blob(acme.only.b3_hex)))[0].ok


def test_publishing_over_the_model_itself_is_refused(tmp_path: Path, published: Shelf) -> None:
    model = random_file(tmp_path / "model.bin", 100_000, seed=3)
    before = model.read_bytes()

    with pytest.raises(UsageError):
        publish(
            published.home, [model], parse_reference("acme/q:v1"), published.publisher, description=Description(),
            output=model,
        )  # fmt: skip
    assert model.read_bytes() == before
