"""What can be seeded and why something can't, from what the index says and the files' stamps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.world import Shelf, one_blob, random_file

from samara.registry.index import Index
from samara.registry.records import BlobRecord, Location
from samara.registry.store import stamp_at
from samara.seeder.seed import TRUSTED_FOR, seedable

NOW = 1_000_000_000.0


@pytest.fixture
def shelved(tmp_path: Path) -> Shelf:
    return one_blob(tmp_path, 300_000)


@pytest.fixture
def blob(shelved: Shelf) -> BlobRecord:
    with Index.open(shelved.home) as index:
        found = index.blob(shelved.only.b3)
    assert found is not None
    (place,) = found.locations
    return replace(found, locations=(replace(place, verified_at=NOW),))


def place_at(path: Path, *, in_store: bool) -> Location:
    stamp = stamp_at(path)
    assert stamp is not None
    return Location(path=path, stamp=stamp, in_store=in_store, verified_at=NOW)


def test_a_whole_file_is_seeded_where_it_lies(blob: BlobRecord, shelved: Shelf) -> None:
    (seed,), troubles = seedable([blob], now=NOW)
    assert (seed.path, seed.size, seed.name, seed.check_first) == (shelved.source, shelved.size, "blob.bin", False)
    assert troubles == ()


def test_the_stores_own_copy_comes_first(blob: BlobRecord, tmp_path: Path) -> None:
    ours = place_at(random_file(tmp_path / "store" / "blob", 300_000, seed=1), in_store=True)
    (seed,), _ = seedable([replace(blob, locations=(*blob.locations, ours))], now=NOW)
    assert seed.path == ours.path


def test_what_was_verified_long_ago_is_checked_first(blob: BlobRecord) -> None:
    assert not seedable([blob], now=NOW + TRUSTED_FOR)[0][0].check_first
    assert seedable([blob], now=NOW + TRUSTED_FOR + 1)[0][0].check_first


def test_what_runs_is_given_back_as_it_is_while_its_file_is_untouched(blob: BlobRecord, shelved: Shelf) -> None:
    (seed,), _ = seedable([blob], now=NOW)
    running = {blob.b3: seed}
    (again,), _ = seedable([blob], running=running, now=NOW + 2 * TRUSTED_FOR)
    assert again is seed
    shelved.source.touch()
    assert seedable([blob], running=running, now=NOW)[0] == ()


def test_a_changed_or_lost_file_is_a_trouble_with_a_next_step(blob: BlobRecord, shelved: Shelf) -> None:
    with shelved.source.open("ab") as file:
        file.write(b"more")
    for _ in range(2):
        seeds, (trouble,) = seedable([blob], now=NOW)
        assert seeds == ()
        assert str(shelved.source) in trouble
        assert "samara " in trouble
        shelved.source.unlink(missing_ok=True)


def test_a_blob_that_never_was_here_is_no_trouble(blob: BlobRecord) -> None:
    assert seedable([replace(blob, locations=())], now=NOW) == ((), ())


def test_a_blob_without_a_torrent_travels_inline(blob: BlobRecord) -> None:
    assert seedable([replace(blob, torrents=())], now=NOW) == ((), ())


def test_only_what_was_asked_for(blob: BlobRecord) -> None:
    assert seedable([blob], frozenset({"b3:" + "0" * 64}), now=NOW) == ((), ())
    assert len(seedable([blob], frozenset({blob.b3}), now=NOW)[0]) == 1


def test_a_damaged_torrent_is_never_announced(blob: BlobRecord, tmp_path: Path) -> None:
    assert blob.torrent is not None
    seeds, (trouble,) = seedable([replace(blob, torrents=(blob.torrent[:-3],))], now=NOW)
    assert seeds == ()
    assert "samara audit" in trouble
    other = one_blob(tmp_path / "other", 300_000, seed=2)
    seeds, (trouble,) = seedable([replace(blob, torrents=(other.torrent,))], now=NOW)
    assert seeds == ()
    assert "another blob's torrent" in trouble
