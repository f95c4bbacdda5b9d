"""A damaged index changes nothing that is trusted: it is refused with one clear error, or its loss costs no bytes."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from pathlib import Path

import pytest
from support.pulls import Pull, options, pulled
from support.swarms import seeding
from support.world import MIB, Shelf, assert_pulled, one_blob, trusting_home

from samara.fetcher.local import locate
from samara.fetcher.verify import verify
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, SamaraError
from samara.schemas.events import Warned

SIZE = MIB


@pytest.fixture
def shelved(tmp_path: Path) -> Shelf:
    return one_blob(tmp_path / "shelf", SIZE)


@pytest.fixture
def home(tmp_path: Path, shelved: Shelf) -> Home:
    """A home that has pulled the release."""
    made = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        pulled(made, shelved.file, options(peer.endpoint))
    return made


def change(home: Home, table: str, column: str) -> None:
    """Turn over one bit in the middle of a stored value."""
    with contextlib.closing(sqlite3.connect(home.index)) as connection, connection:
        ((row, value),) = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
        middle = len(value) // 2
        damaged = value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (damaged, row))


@pytest.mark.parametrize(("table", "column"), [("releases", "payload"), ("torrents", "data")])
def test_a_changed_value_is_not_believed(home: Home, shelved: Shelf, table: str, column: str) -> None:
    change(home, table, column)
    for use in (lambda: locate(home, shelved.reference), lambda: verify(home, shelved.reference)):
        with pytest.raises(SamaraError) as caught:
            use()
        assert caught.value.exit_code in {ExitCode.INTEGRITY, ExitCode.TRUST}
    assert Pull(home, shelved.pinned, options()).error().exit_code in {ExitCode.INTEGRITY, ExitCode.TRUST}


@pytest.mark.parametrize(("table", "column"), [("releases", "payload"), ("torrents", "data")])
def test_pulling_the_release_file_again_mends_a_changed_value(
    home: Home, shelved: Shelf, table: str, column: str
) -> None:
    change(home, table, column)
    done = pulled(home, shelved.file, options())
    assert done.bytes_reused == SIZE
    assert locate(home, shelved.reference).files[0].path.read_bytes() == shelved.source.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9], ids=["emptied", "cut-early", "cut-late"])
def test_a_cut_index_is_refused_and_losing_it_costs_no_bytes(home: Home, shelved: Shelf, share: float) -> None:
    size = home.index.stat().st_size
    with home.index.open("r+b") as file:
        file.truncate(int(size * share))
    for extra in ("-wal", "-shm"):
        home.index.with_name(home.index.name + extra).unlink(missing_ok=True)
    if share:
        error = Pull(home, shelved.file, options()).error()
        assert error.exit_code is ExitCode.STORE
        assert "damaged" in str(error)
        assert "move it away" in str(error)
        home.index.rename(home.index.with_name("away"))
    pull = Pull(home, shelved.file, options())
    assert pull.result().bytes_reused == SIZE
    assert not pull.of(Warned)
    home.index.with_name("away").unlink(missing_ok=True)
    assert_pulled(home, shelved)


def test_a_bit_flipped_anywhere_in_the_index_file_is_never_a_crash(home: Home, shelved: Shelf, tmp_path: Path) -> None:
    """Each time every use either works on right bytes or says what is wrong."""
    whole = home.index.read_bytes()
    generator = random.Random(20260102)
    refused = 0
    for offset in [*range(16, 100, 12), *(generator.randrange(100, len(whole)) for _ in range(40))]:
        home.index.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x08]) + whole[offset + 1 :])
        for extra in ("-wal", "-shm"):
            home.index.with_name(home.index.name + extra).unlink(missing_ok=True)
        try:
            found = locate(home, shelved.reference).files[0].path
        except SamaraError:
            refused += 1
        else:
            assert found.read_bytes() == shelved.source.read_bytes()
        with contextlib.suppress(SamaraError):
            done = pulled(home, shelved.file, options())
            assert done.files[0].location.read_bytes() == shelved.source.read_bytes()
    assert refused, "not one of them hit anything"


def test_a_blob_that_a_kill_left_writable_is_sealed_by_the_next_pull(home: Home, shelved: Shelf) -> None:
    """Also where the index vouches for it: `verify PATH` may have recorded it in between."""
    (blob,) = home.blobs.glob("*/*")
    blob.chmod(0o644)
    pulled(home, shelved.file, options())
    assert blob.stat().st_mode & 0o222 == 0


def test_a_place_that_cannot_be_looked_at_is_said(home: Home, shelved: Shelf) -> None:
    (blob,) = home.blobs.glob("*/*")
    blob.unlink()
    blob.symlink_to(blob)
    for use in (lambda: locate(home, shelved.reference), lambda: verify(home, shelved.reference)):
        with pytest.raises(SamaraError, match="can't use") as caught:
            use()
        assert caught.value.exit_code is ExitCode.STORE
