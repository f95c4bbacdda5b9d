"""Several machines on one PostgreSQL database: each knows its own files alone, whatever their paths; a copied
SAMARA_HOME becomes a store of its own; what was recorded before stores were told apart finds its owner. Real servers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from index_kit import ACME, FILES, WEIGHTS, signed

from samara.fetcher import clean
from samara.fetcher.housekeeping import Rules
from samara.registry import store_id, stores
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.schema import migrate, revision_of
from samara.registry.store import stamp_at
from samara.registry.store_id import StoreId, next_id, read_id
from samara.registry.swarm_samples import SwarmSample
from samara.registry.upkeep import forget_store, status, upgrade
from samara.schemas.digests import b3, b3_hex
from samara.schemas.errors import NotFoundError, StoreError, UsageError
from samara.schemas.pull_record import PullRecord
from samara.schemas.stamps import Stamp

WEIGHTS_B3 = b3(WEIGHTS)
PATH = Path("/var/lib/samara/blobs/ab/abcd")
HERE, THERE = (Stamp(size=len(WEIGHTS), mtime_ns=number, inode=number, device=1) for number in (1, 2))
HOUR = 3600.0


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def homes(tmp_path: Path, url: str) -> tuple[Home, Home]:
    return Home(tmp_path / "one", url), Home(tmp_path / "two", url)


def own_id(home: Home) -> str:
    found = read_id(home)
    assert found is not None
    return found.id


def put_blob(home: Home, content: bytes = WEIGHTS) -> Path:
    """A blob in the store, without a row."""
    path = home.blob(b3_hex(b3(content)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_known_blob(home: Home, index: Index, content: bytes = WEIGHTS) -> Path:
    path = put_blob(home, content)
    stamp = stamp_at(path)
    assert stamp is not None
    index.set_location(b3(content), path, stamp, in_store=True, verified_at=1.0)
    return path


def places(index: Index) -> list[tuple[Path, Stamp]]:
    blob = index.blob(WEIGHTS_B3)
    assert blob is not None
    return [(place.path, place.stamp) for place in blob.locations]


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        done = connection.exec_driver_sql(statement)
        rows = [tuple(row) for row in done] if done.returns_rows else []
    engine.dispose()
    return rows


class TestTheDecision:
    OWN = StoreId(id="a" * 32, seat="1" * 32, before="0" * 32)

    def test_a_store_that_stays_where_it_is_says_the_same(self) -> None:
        for noted in (self.OWN.seat, self.OWN.before, None):  # the same; killed before the row; another database
            assert next_id(self.OWN, self.OWN.seat, noted, fresh="f" * 32) == self.OWN

    def test_after_a_reboot_it_goes_on_from_where_the_database_is(self) -> None:
        for noted, before in ((self.OWN.seat, "1"), (self.OWN.before, "0"), (None, "1")):
            moved = next_id(self.OWN, "2" * 32, noted, fresh="f" * 32)
            assert moved == StoreId(id=self.OWN.id, seat="2" * 32, before=before * 32)

    def test_one_that_the_database_has_moved_on_from_is_a_copy(self) -> None:
        for here in (self.OWN.seat, "2" * 32):
            copy = next_id(self.OWN, here, "3" * 32, fresh="f" * 32)
            assert copy == StoreId(id="f" * 32, seat=here, before=here)

    def test_without_a_file_it_is_a_new_one(self) -> None:
        assert next_id(None, "2" * 32, None, fresh="f" * 32) == StoreId(id="f" * 32, seat="2" * 32, before="2" * 32)


class TestRowsOfTwo:
    def test_one_path_may_hold_a_blob_on_each(self, homes: tuple[Home, Home]) -> None:
        with Index.open(homes[0]) as one, Index.open(homes[1]) as two:
            signed().add_to(one)
            one.set_location(WEIGHTS_B3, PATH, HERE, in_store=True, verified_at=1.0)
            assert places(two) == []
            assert two.location_at(PATH) is None
            assert two.counts().locations == two.listings.overview().blobs_here == 0
            two.set_location(WEIGHTS_B3, PATH, THERE, in_store=True, verified_at=2.0)
            assert (places(one), places(two)) == ([(PATH, HERE)], [(PATH, THERE)])
            assert {index.holdings().locations[WEIGHTS_B3][0].stamp for index in (one, two)} == {HERE, THERE}
            two.doubt_location(PATH)
            assert places(one) == [(PATH, HERE)]
            two.drop_location(PATH)
            assert (places(one), places(two)) == ([(PATH, HERE)], [])
            block = one.blocks(WEIGHTS_B3)[0].digest
            assert (len(one.block_places([block])), two.block_places([block])) == (1, {})

    def test_files_in_place_and_transfers_and_records_are_each_ones_own(self, homes: tuple[Home, Home]) -> None:
        record = PullRecord(
            started="2026-01-02T03:04:05Z", ended="2026-01-02T03:04:06Z", references=("acme/tiny",), outcome="done"
        )
        with Index.open(homes[0]) as one, Index.open(homes[1]) as two:
            signed().add_to(one)
            one.set_location(WEIGHTS_B3, Path("/nas/model.gguf"), HERE, in_store=False, verified_at=1.0)
            assert (one.places_below(Path("/nas")), two.places_below(Path("/nas"))) == (
                (Path("/nas/model.gguf"),), (),
            )  # fmt: skip
            for index in (one, two):
                index.start_partial(WEIGHTS_B3, signed().digest, now=1.0)
            two.end_partial(WEIGHTS_B3)
            assert (one.partials(), two.partials()) == ((WEIGHTS_B3,), ())
            one.add_pull_record(record)
            assert (len(one.pull_records(10)), len(two.pull_records(10))) == (1, 0)

    def test_what_was_merely_found_is_known_until_the_last_one_forgets_it(self, homes: tuple[Home, Home]) -> None:
        blob = b3(b"found")
        with Index.open(homes[0]) as one, Index.open(homes[1]) as two:
            for index in (one, two):
                index.add_found_blob(blob, "sha256:" + "0" * 64, 5, "fixed-4MiB-v1", ())
                index.set_location(blob, Path("/found"), HERE, in_store=False, verified_at=1.0)
            two.drop_location(Path("/found"))
            assert one.blob(blob) is not None
            one.drop_location(Path("/found"))
            assert one.blob(blob) is None

    def test_counts_of_two_trackers_are_added_up(self, homes: tuple[Home, Home]) -> None:
        with Index.open(homes[0]) as one, Index.open(homes[1]) as two:
            signed().add_to(one)
            for index, seeders in ((one, 3), (two, 2), (two, 1)):  # of one's own the larger number counts
                sample = SwarmSample(at=300, seeders=seeders, leechers=1, completed=1)
                index.listings.add_samples([(WEIGHTS_B3, sample)], forget_before=0)
            assert one.listings.samples(WEIGHTS_B3, since=0) == (
                SwarmSample(at=300, seeders=5, leechers=2, completed=2),
            )  # fmt: skip


class TestRemoving:
    def test_one_lets_go_of_its_own_bytes_and_the_other_keeps_what_it_has(self, homes: tuple[Home, Home]) -> None:
        with Index.open(homes[0]) as one, Index.open(homes[1]) as two:
            signed().add_to(one)
            theirs, ours = put_known_blob(homes[0], one), put_known_blob(homes[1], two)
            done = clean.remove(homes[1], [f"samara:{ACME}/tiny:q8_0"])
            assert done.troubles == ()
            assert (theirs.exists(), ours.exists()) == (True, False)
            assert (len(places(one)), len(places(two))) == (1, 0)
            assert one.release(ACME, "tiny", "q8_0") is not None
            with pytest.raises(NotFoundError, match="another machine"):
                clean.remove(homes[1], [f"samara:{ACME}/tiny:q8_0"])
            pruned = clean.prune(homes[1], Rules(older_than=0.0), now=time.time(), dry_run=False)
            assert (pruned.plan.of("release"), pruned.troubles) == ((), ())
            # the last one that has it takes the release along
            clean.remove(homes[0], [f"samara:{ACME}/tiny:q8_0"])
            assert two.release(ACME, "tiny", "q8_0") is None
            assert not theirs.exists()

    def test_a_blob_that_was_taken_up_again_meanwhile_stays(self, homes: tuple[Home, Home]) -> None:
        with Index.open(homes[0]) as one, Index.open(homes[1]) as two:
            signed().add_to(one)
            put_known_blob(homes[0], one)
            put_known_blob(homes[1], two)
            gone = two.forget_release(signed().digest)
            assert gone is not None
            assert (gone.stays, set(gone.blobs)) == (True, set(map(b3, FILES.values())))
            two.start_partial(WEIGHTS_B3, signed().digest, now=1.0)
            assert not two.unless_needed(WEIGHTS_B3, lambda: pytest.fail("needed"), let_go=[signed().digest])
            two.end_partial(WEIGHTS_B3)
            assert two.unless_needed(WEIGHTS_B3, lambda: None, let_go=[signed().digest])
            assert not two.unless_needed(WEIGHTS_B3, lambda: pytest.fail("needed"))


class TestCopies:
    def test_a_copied_folder_becomes_a_store_of_its_own_and_the_first_one_stays(self, homes: tuple[Home, Home]) -> None:
        first, copy = homes
        with Index.open(first) as index:
            signed().add_to(index)
            put_known_blob(first, index)
        subprocess.run(["cp", "-a", first.root, copy.root], check=True)
        assert read_id(copy) is None, "the file says which one it was"
        with Index.open(copy) as index:
            assert places(index) == []
        assert own_id(copy) != own_id(first)
        with Index.open(first) as index:
            assert len(places(index)) == 1

    def test_a_disk_copied_block_by_block_is_found_out_by_where_it_is(
        self, homes: tuple[Home, Home], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Same inodes, another machine: hard links stand for the copied disk, a boot's number for the machine."""
        first, clone = homes
        boots = {first.root: "1", clone.root: "1"}
        monkeypatch.setattr(store_id, "seat_of", lambda home: boots[home.root] * 32)
        monkeypatch.setattr(stores, "seat_of", store_id.seat_of)
        Index.open(first).close()
        clone.root.mkdir()
        os.link(first.root / "store-id", clone.root / "store-id")
        before = own_id(first)
        assert own_id(clone) == before
        boots[first.root] = "2"  # both machines start
        boots[clone.root] = "3"
        Index.open(first).close()
        Index.open(clone).close()
        assert own_id(first) == before
        assert own_id(clone) != before
        boots[first.root] = "4"
        Index.open(first).close()
        assert own_id(first) == before
        assert len(execute(str(first.database), "SELECT id FROM stores")) == 2

    def test_one_that_runs_while_its_clone_starts_gets_another_id_and_keeps_its_files(
        self, homes: tuple[Home, Home], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As with a machine's snapshot: the clone's home is at the same path, on its own disk."""
        home, disk = homes[0], tmp_path / "clone"
        boot = "1"
        monkeypatch.setattr(stores, "seat_of", lambda _home: boot * 32)
        with Index.open(home) as running:
            signed().add_to(running)
            put_known_blob(home, running)
            before = own_id(home)
            aside = tmp_path / "aside"
            disk.mkdir()
            os.link(home.root / "store-id", disk / "store-id")
            home.root.rename(aside)
            disk.rename(home.root)
            boot = "2"
            Index.open(home).close()  # the clone
            assert own_id(home) == before
            home.root.rename(disk)
            aside.rename(home.root)
            boot = "1"
            running.keep_seat(home, now=time.time())
            assert own_id(home) != before
            assert len(places(running)) == 1

    def test_killed_between_file_and_row_it_is_the_same_store(
        self, homes: tuple[Home, Home], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = homes[0]
        boot = "1"
        monkeypatch.setattr(stores, "seat_of", lambda _home: boot * 32)
        Index.open(home).close()
        before = own_id(home)
        boot = "2"
        with monkeypatch.context() as patch:
            patch.setattr(stores, "_see", lambda *_a, **_k: (_ for _ in ()).throw(StoreError("killed")))
            with pytest.raises(StoreError, match="killed"):
                Index.open(home)
        found = read_id(home)
        assert found == StoreId(id=before, seat="2" * 32, before="1" * 32)
        Index.open(home).close()
        assert own_id(home) == before
        boot = "3"
        Index.open(home).close()
        assert own_id(home) == before

    def test_a_home_whose_file_is_lost_finds_what_is_proven_to_be_its_own(self, homes: tuple[Home, Home]) -> None:
        home, other = homes
        with Index.open(home) as index:
            signed().add_to(index)
            kept = put_known_blob(home, index)
            index.start_partial(WEIGHTS_B3, signed().digest, now=1.0)
        (home.partials / b3_hex(WEIGHTS_B3)).mkdir(parents=True)
        for damage in (lambda: (home.root / "store-id").unlink(), lambda: (home.root / "store-id").write_bytes(b"\0")):
            damage()
            before = {one for (one,) in execute(str(home.database), "SELECT id FROM stores")}
            with Index.open(home) as index:
                assert [path for path, _ in places(index)] == [kept]
                assert index.partials() == (WEIGHTS_B3,)
            assert own_id(home) not in before
        with Index.open(other) as index:
            assert (places(index), index.partials()) == ([], ())

    def test_blobs_restored_into_their_place_are_known_and_unverified(self, homes: tuple[Home, Home]) -> None:
        home = homes[0]
        with Index.open(home) as index:
            signed().add_to(index)
            blob = put_known_blob(home, index)
        aside = home.root.with_name("backup")
        shutil.copytree(home.root, aside)
        shutil.rmtree(home.root)
        shutil.copytree(aside, home.root)
        os.utime(blob)
        found = stamp_at(blob)
        with Index.open(home) as index:
            ((path, stamp),) = places(index)
        assert (path, stamp.size) == (blob, len(WEIGHTS))
        assert stamp != found

    def test_a_copied_home_with_its_own_sqlite_index_goes_on_working(self, tmp_path: Path) -> None:
        first, copy = Home(tmp_path / "one"), Home(tmp_path / "two")
        with Index.open(first) as index:
            signed().add_to(index)
            index.set_location(WEIGHTS_B3, PATH, HERE, in_store=False, verified_at=1.0)
        assert not (first.root / "store-id").exists(), "an SQLite file needs none"
        shutil.copytree(first.root, copy.root)
        with Index.open(copy) as index:
            assert places(index) == [(PATH, HERE)]


class TestWhatWasThereBefore:
    """A database of revision 0003, where a path stood for all machines."""

    @pytest.fixture
    def old(self, homes: tuple[Home, Home]) -> tuple[Home, Home]:
        with Index.open(homes[0]) as index:
            signed().add_to(index)
            put_known_blob(homes[0], index)
            index.set_location(WEIGHTS_B3, Path("/gone/model.gguf"), THERE, in_store=False, verified_at=1.0)
            index.start_partial(WEIGHTS_B3, signed().digest, now=1.0)
        (homes[0].partials / b3_hex(WEIGHTS_B3)).mkdir(parents=True)
        engine = sa.create_engine(str(homes[0].database))
        with engine.begin() as connection:
            while revision_of(connection) != "0003":
                migrate(connection, to="-1")
        with engine.begin() as connection:
            assert "store" not in {one["name"] for one in sa.inspect(connection).get_columns("locations")}
            migrate(connection)
        engine.dispose()
        return homes

    def test_who_upgrades_claims_what_is_its_own(self, old: tuple[Home, Home]) -> None:
        upgrade(old[0], now=time.time())
        assert forget_store(old[1], "unclaimed", now=time.time()).locations == 1
        with Index.open(old[0]) as index:
            assert [path for path, _ in places(index)] == [old[0].blob(b3_hex(WEIGHTS_B3))]
            assert index.partials() == (WEIGHTS_B3,)

    def test_it_belongs_to_who_has_the_file(self, old: tuple[Home, Home]) -> None:
        found = status(old[1])
        assert found is not None
        assert (found.unclaimed, found.stores) == (2, ())
        with Index.open(old[1]) as index:
            assert (places(index), index.partials()) == ([], ())
        with Index.open(old[0]) as index:
            assert [path for path, _ in places(index)] == [old[0].blob(b3_hex(WEIGHTS_B3))]
            assert index.partials() == (WEIGHTS_B3,)
        found = status(old[0])
        assert found is not None
        assert found.unclaimed == 1
        assert forget_store(old[0], "unclaimed", now=time.time()).locations == 1
        with Index.open(old[0]) as index:
            assert len(places(index)) == 1


class TestKnowingThem:
    def test_status_names_all_and_this_one_and_changes_nothing(self, homes: tuple[Home, Home], tmp_path: Path) -> None:
        for home in homes:
            Index.open(home).close()
        found = status(homes[1])
        assert found is not None
        assert [one.path for one in found.stores] == [str(home.root) for home in homes]
        assert found.store == found.stores[1].id == own_id(homes[1])
        stranger = Home(tmp_path / "three", homes[0].database)
        told = status(stranger)
        assert told is not None
        assert (told.store, len(told.stores), stranger.root.exists()) == (None, 2, False)

    def test_a_store_that_is_gone_is_forgotten_and_one_that_works_is_not(self, homes: tuple[Home, Home]) -> None:
        with Index.open(homes[0]) as one, Index.open(homes[1]) as two:
            signed().add_to(one)
            for index in (one, two):
                index.set_location(WEIGHTS_B3, PATH, HERE, in_store=True, verified_at=1.0)
            dead, now = own_id(homes[1]), time.time()
            with pytest.raises(UsageError, match="own store"):
                forget_store(homes[1], dead, now=now)
            with pytest.raises(UsageError, match="in use lately"):
                forget_store(homes[0], dead, now=now)
            for unknown in ("", "0" * 32):
                with pytest.raises(NotFoundError):
                    forget_store(homes[0], unknown, now=now)
            assert forget_store(homes[0], dead[:6], now=now + 3 * HOUR).locations == 1
            assert (len(places(one)), places(two)) == (1, [])
            # who works on all the same is known again by its next sign of life
            two.keep_seat(homes[1], now=now)
            assert own_id(homes[1]) == dead
            assert len(execute(str(homes[0].database), "SELECT id FROM stores")) == 2

    def test_a_sign_of_life_is_written_once_an_hour(self, homes: tuple[Home, Home]) -> None:
        with Index.open(homes[0]) as index:
            (seen,) = execute(str(homes[0].database), "SELECT seen_at FROM stores")[0]
            assert isinstance(seen, float)
            for later, expected in ((10.0, 0.0), (2 * HOUR, 2 * HOUR), (-HOUR, -HOUR)):  # a clock that was set back too
                index.keep_seat(homes[0], now=seen + later)
                assert execute(str(homes[0].database), "SELECT seen_at FROM stores") == [(seen + expected,)]

    def test_who_can_write_nothing_reads_on(self, homes: tuple[Home, Home], monkeypatch: pytest.MonkeyPatch) -> None:
        with Index.open(homes[0]) as index:
            signed().add_to(index)
            index.set_location(WEIGHTS_B3, PATH, HERE, in_store=True, verified_at=1.0)

        def refuse(_home: Home, _wanted: StoreId) -> None:
            raise StoreError("read-only")

        monkeypatch.setattr(stores, "seat_of", lambda _home: "9" * 32)
        monkeypatch.setattr(stores, "write_id", refuse)
        opened = Index.open_existing(homes[0])
        assert opened is not None
        with opened:
            assert places(opened) == [(PATH, HERE)]
        with pytest.raises(StoreError, match="read-only"):
            Index.open(homes[0])


def test_a_file_is_of_one_store_and_asking_makes_none(tmp_path: Path) -> None:
    home = Home(tmp_path / "none")
    with pytest.raises(UsageError, match="of one store alone"):
        forget_store(home, "unclaimed", now=time.time())
    assert not home.root.exists()
