"""The index: what it keeps, in SQLite and in PostgreSQL; real SQLite files, several of them open at once, some of them
locked, full, read-only or damaged. What is PostgreSQL's own: test_postgres_index.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from index_kit import ACME, FILES, MALLORY, WEIGHTS, closed_to_writers, signed, unprivileged
from trust_kit import torrent_of

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.records import Location
from samara.registry.tables import HEAD
from samara.schemas.digests import b3
from samara.schemas.envelope import MAX_SIGNATURES, Signature
from samara.schemas.errors import DiskFullError, ExitCode, SamaraError, StoreError, UsageError
from samara.schemas.stamps import Stamp

BLOB = b3(WEIGHTS)
STAMP = Stamp(size=len(WEIGHTS), mtime_ns=2**62, inode=2**62 + 1, device=2**62 + 2)


on_both = pytest.mark.parametrize("home", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """With an SQLite file, and for tests that are `on_both` also with a PostgreSQL database."""
    is_postgres = getattr(request, "param", "sqlite") == "postgresql"
    return Home(tmp_path / "home", request.getfixturevalue("postgres_url") if is_postgres else None)


@pytest.fixture
def index(home: Home) -> Iterator[Index]:
    with Index.open(home) as opened:
        yield opened


@pytest.fixture
def filled(index: Index) -> Index:
    signed().add_to(index)
    return index


def refused(home: Home, *, lock_wait: float = 0.0) -> SamaraError:
    """The error that opening gives."""
    with pytest.raises(SamaraError) as caught:
        Index.open(home, lock_wait=lock_wait)
    assert caught.value.next_step
    return caught.value


@on_both
class TestReleases:
    def test_a_release_comes_back_byte_for_byte(self, index: Index) -> None:
        made = signed()
        made.add_to(index)
        stored = index.release(ACME, "tiny", "q8_0")
        assert stored is not None
        assert (stored.manifest, stored.envelope) == (made.digest, made.envelope)
        assert stored.torrents == tuple(made.torrents.values())
        assert index.release_by_digest(made.digest) == stored
        assert index.releases() == (stored,)
        assert index.releases_of_blob(BLOB) == (stored,)

    def test_its_blobs_and_blocks_come_back_too(self, index: Index) -> None:
        large = signed({"model.bin": bytes(9_000_000)})
        large.add_to(index)
        (file,) = large.release.files
        blob = index.blob(file.b3)
        assert blob is not None
        assert (blob.b3, blob.sha256, blob.size, blob.layout) == (file.b3, file.sha256, file.size, file.layout)
        assert (blob.torrent, blob.file_name, blob.locations) == (large.torrents[file.b3], "model.bin", ())
        assert index.blocks(file.b3) == file.blocks
        assert len(file.blocks) == 3
        assert index.blobs() == index.blobs_of_size(9_000_000) == (blob,)
        assert index.blobs_of_size(1) == ()

    def test_it_is_still_there_when_opened_again(self, home: Home) -> None:
        with Index.open(home) as first:
            signed().add_to(first)
            stored = first.releases()
        with Index.open(home) as second:
            assert second.releases() == stored

    def test_adding_it_again_changes_nothing(self, filled: Index) -> None:
        before = (filled.releases(), filled.blobs(), filled.counts())
        signed().add_to(filled, now=99.0)
        assert (filled.releases(), filled.blobs(), filled.counts()) == before

    def test_what_nobody_added_is_not_there(self, filled: Index) -> None:
        assert filled.release(ACME, "tiny", "q4_0") is None
        assert filled.release(ACME, "small", "q8_0") is None
        assert filled.release(MALLORY, "tiny", "q8_0") is None
        assert filled.release_by_digest(b3(b"?")) is None
        assert filled.releases_of_blob(b3(b"?")) == ()
        assert filled.blob(b3(b"?")) is None
        assert filled.blocks(b3(b"?")) == ()

    def test_a_tag_means_its_highest_version_whatever_came_last(self, index: Index) -> None:
        for version in (1, 3, 2):
            signed(version=version).add_to(index)
        newest = index.release(ACME, "tiny", "q8_0")
        assert newest is not None
        assert newest.manifest == signed(version=3).digest
        assert [stored.manifest for stored in index.releases_of_blob(BLOB)] == [
            signed(version=version).digest for version in (3, 2, 1)
        ]

    def test_of_two_with_one_version_the_later_one_counts(self, index: Index) -> None:
        signed().add_to(index)
        later = signed(description="again")
        later.add_to(index)
        found = index.release(ACME, "tiny", "q8_0")
        assert found is not None
        assert found.manifest == later.digest

    def test_the_next_version_is_counted_for_each_model_of_each_publisher(self, index: Index) -> None:
        assert index.next_version(ACME, "tiny") == 1
        signed(version=7, tag="old").add_to(index)
        signed(version=3, model="small").add_to(index)
        assert index.next_version(ACME, "tiny") == 8
        assert index.next_version(ACME, "small") == 4
        assert index.next_version(MALLORY, "tiny") == 1

    def test_who_publishes_is_told_when_the_version_was_taken_meanwhile(self, index: Index) -> None:
        first, second = signed(), signed(description="the other")
        assert index.next_version(ACME, "tiny") == first.release.version
        index.add_release(first.release, first.envelope, first.torrents, now=1.0, must_be_newest=True)
        index.add_release(first.release, first.envelope, first.torrents, now=1.0, must_be_newest=True)
        with pytest.raises(StoreError, match="at the same time") as caught:
            index.add_release(second.release, second.envelope, second.torrents, now=1.0, must_be_newest=True)
        assert caught.value.next_step == "run it again"
        assert [stored.manifest for stored in index.releases()] == [first.digest]

    def test_two_publishers_may_have_the_same_names_and_the_same_bytes(self, index: Index) -> None:
        ours, theirs = signed(), signed(identity=MALLORY)
        ours.add_to(index)
        theirs.add_to(index)
        assert index.counts().blobs == len(FILES)
        for who, made in ((ACME, ours), (MALLORY, theirs)):
            found = index.release(who, "tiny", "q8_0")
            assert found is not None
            assert found.manifest == made.digest

    def test_one_blob_under_two_paths_is_one_blob(self, index: Index) -> None:
        signed({"a.gguf": WEIGHTS, "b.gguf": WEIGHTS}).add_to(index)
        assert index.counts().blobs == 1
        assert len(index.releases()[0].torrents) == 1


@on_both
class TestWhatARepeatedReleaseBrings:
    OLD, NEW = Signature(keyid="01" * 32, sig=b"old"), Signature(keyid="02" * 32, sig=b"new")

    def signatures(self, index: Index) -> tuple[Signature, ...]:
        (stored,) = index.releases()
        return stored.envelope.signatures

    def test_a_release_signed_again_after_a_rotation_has_the_new_signature_first(self, index: Index) -> None:
        signed().signed_by(self.OLD).add_to(index)
        signed().signed_by(self.NEW).add_to(index)
        assert self.signatures(index) == (self.NEW, self.OLD)

    def test_a_newly_checked_signature_replaces_the_same_keys_old_one(self, index: Index) -> None:
        spoilt = Signature(keyid=self.OLD.keyid, sig=b"spoilt")
        signed().signed_by(spoilt, self.NEW).add_to(index)
        signed().signed_by(self.OLD).add_to(index)
        assert self.signatures(index) == (self.OLD, self.NEW)

    def test_there_are_never_more_signatures_than_an_envelope_may_have(self, index: Index) -> None:
        for start in (0, MAX_SIGNATURES):
            many = [Signature(keyid=f"{start + i:064x}", sig=b"x") for i in range(MAX_SIGNATURES)]
            signed().signed_by(*many).add_to(index)
        assert self.signatures(index) == tuple(many)

    def test_a_torrent_that_was_missing_is_added(self, index: Index) -> None:
        made = signed()
        index.add_release(made.release, made.envelope, {}, now=1.0)
        assert index.releases()[0].torrents == ()
        made.add_to(index)
        assert index.releases()[0].torrents == tuple(made.torrents.values())

    def test_no_publishers_torrent_stands_in_for_anothers(self, index: Index) -> None:
        """A torrent is only its publisher's word: a wrong one must not make somebody else's release unusable."""
        liar = signed(identity=MALLORY, torrents={BLOB: torrent_of(WEIGHTS, gguf=False)})
        honest = signed()
        liar.add_to(index)
        honest.add_to(index)
        found = index.release(ACME, "tiny", "q8_0")
        assert found is not None
        assert set(found.torrents) == set(honest.torrents.values())
        blob = index.blob(BLOB)
        assert blob is not None
        assert blob.torrents == (liar.torrents[BLOB], honest.torrents[BLOB])


@on_both
class TestLocations:
    def test_a_location_comes_back_with_its_stamp(self, filled: Index, tmp_path: Path) -> None:
        path = tmp_path / "Ünï côdé" / "model.gguf"
        filled.set_location(BLOB, path, STAMP, in_store=True, verified_at=12.5)
        expected = Location(path=path, stamp=STAMP, in_store=True, verified_at=12.5)
        found = filled.location_at(path)
        assert found == (BLOB, expected)
        assert found[1].stamp.device == STAMP.device
        blob = filled.blob(BLOB)
        assert blob is not None
        assert blob.locations == (expected,)

    def test_a_path_holds_one_blob_the_last_one_said(self, filled: Index, tmp_path: Path) -> None:
        other = b3(FILES["doc/licence.txt"])
        for blob in (other, BLOB, BLOB):
            filled.set_location(blob, tmp_path, STAMP, in_store=False, verified_at=1.0)
        assert filled.counts().locations == 1
        found = filled.location_at(tmp_path)
        assert found is not None
        assert found[0] == BLOB

    def test_a_blob_may_lie_in_many_places(self, filled: Index, tmp_path: Path) -> None:
        for name in "abc":
            filled.set_location(BLOB, tmp_path / name, STAMP, in_store=False, verified_at=1.0)
        filled.drop_location(tmp_path / "b")
        filled.drop_location(tmp_path / "never there")
        blob = filled.blob(BLOB)
        assert blob is not None
        assert [place.path.name for place in blob.locations] == ["a", "c"]
        assert filled.location_at(tmp_path / "b") is None

    def test_only_known_blobs_have_locations(self, filled: Index, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="doesn't know blob"):
            filled.set_location(b3(b"?"), tmp_path, STAMP, in_store=False, verified_at=1.0)

    def test_a_path_that_is_not_utf8_is_refused_not_mangled(self, filled: Index) -> None:
        path = Path(os.fsdecode(b"/models/caf\xe9.gguf"))
        with pytest.raises(UsageError, match="not UTF-8"):
            filled.set_location(BLOB, path, STAMP, in_store=False, verified_at=1.0)
        with pytest.raises(UsageError, match="not UTF-8"):
            filled.location_at(path)


@on_both
class TestPartials:
    def test_a_transfer_is_noted_once_until_it_ends(self, filled: Index) -> None:
        filled.start_partial(BLOB, signed().digest, now=1.0)
        filled.start_partial(BLOB, signed().digest, now=2.0)
        assert filled.partials() == (BLOB,)
        filled.end_partial(BLOB)
        filled.end_partial(BLOB)
        assert filled.partials() == ()

    def test_only_of_a_known_blob_and_release(self, filled: Index) -> None:
        for blob, manifest in ((b3(b"?"), signed().digest), (BLOB, b3(b"?"))):
            with pytest.raises(StoreError, match="doesn't know"):
                filled.start_partial(blob, manifest, now=1.0)
        assert filled.partials() == ()


class TestOpening:
    def test_a_machine_that_has_nothing_yet_has_no_index(self, home: Home) -> None:
        assert Index.open_existing(home) is None
        assert not home.root.exists()
        Index.open(home).close()
        opened = Index.open_existing(home)
        assert opened is not None
        opened.close()

    def test_a_new_index_is_empty_sound_and_in_wal_mode(self, index: Index, home: Home) -> None:
        assert index.damage() == ()
        counts = index.counts()
        assert (counts.releases, counts.blobs, counts.blocks, counts.locations) == (0, 0, 0, 0)
        with contextlib.closing(sqlite3.connect(home.index)) as plain:
            assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_a_file_of_no_bytes_is_a_new_index(self, home: Home) -> None:
        home.prepare()
        home.index.touch()
        Index.open(home).close()
        assert home.index.stat().st_size > 0

    def test_an_index_from_a_newer_version_is_refused_and_left_alone(self, home: Home, filled: Index) -> None:
        sql(home, "UPDATE alembic_version SET version_num = '9999'")
        error = refused(home)
        assert error.exit_code is ExitCode.STORE
        assert "newer version of samara" in str(error)
        assert (error.expected, error.actual) == (f"schema {HEAD} or older", "9999")
        sql(home, f"UPDATE alembic_version SET version_num = '{HEAD}'")
        with Index.open(home) as again:
            assert again.releases() == filled.releases()

    def test_somebody_elses_database_is_refused_and_left_alone(self, home: Home) -> None:
        home.prepare()
        sql(home, "CREATE TABLE recipes (name TEXT)")
        assert "somebody else's tables" in str(refused(home))
        assert rows(home, "SELECT name FROM sqlite_master") == [("recipes",)]

    @pytest.mark.parametrize("content", [b"not a database\n" * 100, b"SQLite format 3\0" + bytes(84), b"\xff" * 8192])
    def test_a_file_that_is_no_database_is_called_damaged(self, home: Home, content: bytes) -> None:
        home.prepare()
        home.index.write_bytes(content)
        error = refused(home)
        assert error.exit_code is ExitCode.STORE
        assert "damaged" in str(error)
        assert "move it away" in str(error)
        assert home.index.read_bytes() == content

    def test_a_folder_where_the_index_should_be_is_refused(self, home: Home) -> None:
        home.index.mkdir(parents=True)
        assert refused(home).exit_code is ExitCode.STORE

    def test_a_home_that_is_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "SAMARA_HOME" in str(refused(Home(tmp_path / "file")))
        assert "SAMARA_HOME" in str(refused(Home(tmp_path / "file" / "below")))


class TestOpeningToRead:
    def test_it_waits_for_no_writer(self, home: Home, filled: Index) -> None:
        with holding_the_write_lock(home), existing(home) as index:
            assert index.counts().releases == 1

    def test_it_can_write_too(self, home: Home, filled: Index) -> None:
        with existing(home) as index:
            signed(version=2).add_to(index)
        assert filled.counts().releases == 2

    def test_one_from_a_newer_version_is_refused(self, home: Home, filled: Index) -> None:
        sql(home, "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(StoreError, match="newer version"):
            Index.open_existing(home)

    def test_one_without_a_schema_gets_it(self, home: Home) -> None:
        home.prepare()
        home.index.touch()
        with existing(home) as index:
            assert index.counts().releases == 0

    if sys.platform != "win32":  # it has other permissions

        def test_in_a_folder_that_may_not_be_written(self, reachable: Path) -> None:
            home = Home(reachable / "home % ?#")
            with Index.open(home) as index:
                signed().add_to(index)
            with closed_to_writers(home), unprivileged(), existing(home) as index:
                assert index.counts().releases == 1
                assert index.damage() == ()
                with pytest.raises(StoreError, match="can't write the index"):
                    signed(version=2).add_to(index)
            assert sorted(path.name for path in home.root.iterdir()) == ["index.sqlite3"]

        def test_there_it_sees_what_a_writer_has_just_recorded(self, reachable: Path) -> None:
            home = Home(reachable / "home")
            with Index.open(home) as writer:
                signed().add_to(writer)
                with closed_to_writers(home), unprivileged(), existing(home) as index:
                    assert index.counts().releases == 1

        def test_a_log_that_cannot_be_read_is_not_left_out(self, reachable: Path) -> None:
            home = Home(reachable / "home")
            with Index.open(home) as writer:
                signed().add_to(writer)
                log = home.index.with_name("index.sqlite3-wal")
                kept = log.read_bytes()
            log.write_bytes(kept)
            with closed_to_writers(home), unprivileged(), pytest.raises(StoreError, match="can't write the index"):
                Index.open_existing(home)


class TestRowsThatAreNoValues:
    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE releases SET signatures = 'no json'",
            "UPDATE releases SET signatures = '[[1, 2]]'",
            "UPDATE releases SET signatures = '[5]'",
            "UPDATE releases SET payload = 'text'",
            "UPDATE releases SET manifest_digest = x'00'",
            "UPDATE releases SET signatures = CAST(x'ff' AS TEXT)",
        ],
    )
    def test_a_release_is_called_damaged(self, home: Home, filled: Index, change: str) -> None:
        sql(home, change)
        with pytest.raises(StoreError, match="is damaged"):
            filled.releases()

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE blobs SET b3 = x'00' WHERE id = 1",
            "UPDATE blobs SET size = 'many'",
            "UPDATE blobs SET layout = x'00'",
            "UPDATE torrents SET data = 'text'",
            "UPDATE locations SET path = CAST(x'2f00' AS TEXT)",
            "UPDATE locations SET mtime_ns = 'then'",
            "UPDATE locations SET verified_at = 'then'",
        ],
    )
    def test_a_blob_is_called_damaged(self, home: Home, filled: Index, tmp_path: Path, change: str) -> None:
        filled.set_location(BLOB, tmp_path, STAMP, in_store=False, verified_at=1.0)
        sql(home, change)
        with pytest.raises(StoreError, match="is damaged"):
            filled.blobs()

    def test_rotten_signatures_are_mended_by_the_same_release(self, home: Home, filled: Index) -> None:
        before = filled.releases()
        sql(home, "UPDATE releases SET signatures = 'no json'")
        signed().add_to(filled)
        assert filled.releases() == before

    def test_a_broken_constraint_is_a_bug_and_not_called_damage(self, home: Home, filled: Index) -> None:
        sql(home, "CREATE TRIGGER no BEFORE INSERT ON releases BEGIN SELECT RAISE(ABORT, 'database is locked'); END")
        with pytest.raises(sa.exc.IntegrityError):
            signed(version=2).add_to(filled)

    def test_a_table_named_full_is_not_a_full_disk(self, home: Home, filled: Index) -> None:
        sql(home, "ALTER TABLE blobs RENAME TO full")
        with pytest.raises(StoreError, match="is damaged"):
            filled.blobs()


class TestDamage:
    @pytest.fixture
    def large(self, home: Home) -> Home:
        """An index of some hundred pages, all of them in the file."""
        with Index.open(home) as index:
            add_much(index)
        sql(home, "PRAGMA wal_checkpoint(TRUNCATE)")
        return home

    def test_ones_written_over_its_middle_are_noticed(self, large: Home) -> None:
        size = large.index.stat().st_size
        with large.index.open("r+b") as file:
            file.seek(size // 2)
            file.write(b"\xff" * (size // 4))
        assert signs_of_damage(large)

    def test_an_index_cut_short_is_noticed(self, large: Home) -> None:
        with large.index.open("r+b") as file:
            file.truncate(large.index.stat().st_size // 2)
        assert signs_of_damage(large)

    def test_a_row_that_points_at_nothing_is_found(self, home: Home, filled: Index) -> None:
        assert filled.damage() == ()
        sql(home, "DELETE FROM blobs WHERE id = 1")
        assert any("points at nothing in blobs" in line for line in filled.damage())


class TestLocks:
    def test_a_locked_index_is_waited_for_and_then_refused_clearly(self, home: Home, filled: Index) -> None:
        with holding_the_write_lock(home):
            error = refused(home, lock_wait=0.05)
        assert error.exit_code is ExitCode.STORE
        assert "locked by another process" in str(error)
        Index.open(home, lock_wait=0.0).close()

    def test_a_new_file_that_another_process_is_making_is_waited_for_too(self, home: Home) -> None:
        home.prepare()
        with holding_the_write_lock(home):
            assert "locked by another process" in str(refused(home, lock_wait=0.05))
        Index.open(home, lock_wait=0.0).close()

    def test_readers_go_on_while_somebody_writes(self, home: Home, filled: Index) -> None:
        with holding_the_write_lock(home):
            assert filled.counts().releases == 1
            assert filled.release(ACME, "tiny", "q8_0") is not None

    def test_a_writer_waits_for_another_one(self, home: Home, index: Index) -> None:
        with holding_the_write_lock(home) as lock:
            writer = threading.Thread(target=signed().add_to, args=(index,))
            writer.start()
            lock.close()
            writer.join(timeout=30)
        assert index.counts().releases == 1

    @on_both
    def test_several_threads_may_write_at_once(self, index: Index) -> None:
        made = [signed(model=f"m{number}") for number in range(8)]
        writers = [threading.Thread(target=one.add_to, args=(index,)) for one in made]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(timeout=30)
        assert {stored.manifest for stored in index.releases()} == {one.digest for one in made}
        assert index.counts().blobs == len(FILES)

    if sys.platform != "win32":  # it has no fork

        @pytest.mark.long
        def test_processes_that_make_the_index_at_the_same_moment_all_succeed(self, tmp_path: Path) -> None:
            driver = Path(__file__).with_name("index_race_driver.py")
            homes = [tmp_path / str(number) for number in range(8)]
            done = subprocess.run(
                [sys.executable, driver, "4", "open", *homes], capture_output=True, text=True, check=False, timeout=120
            )
            assert (done.returncode, done.stderr) == (0, "")
            with Index.open(Home(tmp_path / "0")) as index:
                assert index.damage() == ()


class TestNoRoom:
    def test_a_full_disk_says_so_and_what_was_recorded_stays(self, home: Home) -> None:
        with no_more_pages(), Index.open(home) as index:
            signed().add_to(index)
            with pytest.raises(DiskFullError, match="no room left") as caught:
                add_much(index)
            assert caught.value.exit_code is ExitCode.DISK_FULL
            assert caught.value.next_step
            recorded = index.releases()
            assert recorded
            assert index.damage() == ()
        with Index.open(home) as index:
            assert index.releases() == recorded
            signed(model="another").add_to(index)
            assert index.damage() == ()

    if sys.platform != "win32":  # it has other permissions

        def test_an_index_that_may_not_be_written_can_be_read(self, reachable: Path) -> None:
            home = Home(reachable / "home")
            with Index.open(home) as index:
                signed().add_to(index)
            home.root.chmod(0o777)  # the folder is anybody's, the index is not
            home.index.chmod(0o444)
            with unprivileged(), Index.open(home) as index:
                assert index.counts().releases == 1
                with pytest.raises(StoreError, match="can't write the index") as caught:
                    signed(version=2).add_to(index)
            assert caught.value.exit_code is ExitCode.STORE
            assert "permissions" in str(caught.value)

        def test_a_home_that_may_not_be_written_is_refused(self, reachable: Path) -> None:
            home = Home(reachable / "home")
            home.root.mkdir(mode=0o555)
            with unprivileged():
                error = refused(home)
            assert error.exit_code is ExitCode.STORE
            assert "can't write to" in str(error)

        def test_a_home_that_may_not_be_made_is_refused(self, reachable: Path) -> None:
            reachable.chmod(0o555)
            with unprivileged():
                assert "can't create" in str(refused(Home(reachable / "home")))
            reachable.chmod(0o755)


def sql(home: Home, statement: str) -> None:
    """Change an index behind its back."""
    with contextlib.closing(sqlite3.connect(home.index, isolation_level=None)) as plain:
        plain.execute(statement)


def existing(home: Home) -> Index:
    """The index, opened to read; nothing is waited for."""
    index = Index.open_existing(home, lock_wait=0.0)
    assert index is not None
    return index


def add_much(index: Index) -> None:
    """Four million bytes."""
    for number in range(10):
        signed(model=f"m{number}").signed_by(Signature(keyid="ab" * 32, sig=bytes(200_000))).add_to(index)


def signs_of_damage(home: Home) -> str:
    """What opening, checking or reading a damaged index says; it must say something, and nothing but StoreError."""
    try:
        with Index.open(home) as index:
            found = index.damage()
            index.releases()
            index.blobs()
    except StoreError as error:
        assert "is damaged" in str(error)
        return str(error)
    return "; ".join(found)


def rows(home: Home, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(home.index)) as plain:
        return plain.execute(query).fetchall()


@contextlib.contextmanager
def holding_the_write_lock(home: Home) -> Iterator[sqlite3.Connection]:
    """Another connection that has begun to write and takes its time."""
    with contextlib.closing(sqlite3.connect(home.index, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


@contextlib.contextmanager
def no_more_pages() -> Iterator[None]:
    """Every SQLite database opened meanwhile is on a disk with 400 kB of room."""

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 100")

    sa.event.listen(sa.Engine, "connect", limit)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "connect", limit)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users can reach, as they can't reach tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
