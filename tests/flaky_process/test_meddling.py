"""Somebody else has their hands in the store while a pull is under way: its folder goes, its bytes change."""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

import pytest
from process_kit import IN_FLIGHT, LINK, claimed, fetched, finish, has_done
from support.processes import Outcome, Process, pulling
from support.swarms import seeding
from support.world import MIB, PIECE, Shelf, assert_pulled, one_blob, partial_data, trusting_home

from samara.registry.home import Home

SIZE = 9 * MIB
BLOCK = 4 * MIB
GIVE_UP = 3  # seconds
SLOW = 1_500_000  # bytes per second: a record is written every three seconds

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there nobody may touch an open file")


def assert_the_disk_is_blamed(outcome: Outcome) -> None:
    """Not a peer: it ends at once, and says who was not it."""
    assert outcome.status == 9, outcome.stderr[-4000:]
    assert "by somebody else" in outcome.message
    assert outcome.named("source_rejected") == []


def overwrite(data: Path, offset: int, size: int) -> None:
    with data.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(size))


def wait_for_record(home: Home, published: Shelf, pull: Process) -> None:
    """Until some pieces are claimed."""
    while not len(claimed(home, published)):
        pull.expect("pull_progress")


def test_the_folder_of_the_transfer_is_deleted(tmp_path: Path) -> None:
    """What came can't be used any more; that is said, and the same command again starts anew."""
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=LINK) as peer:
        with pulling(home, shelved.file, "--peer", peer.text, "--give-up-after", GIVE_UP) as pull:
            pull.expect("pull_progress", has_done(SIZE // 4))
            shutil.rmtree(home.partials / shelved.only.b3_hex)
            first = pull.end()
        assert not home.blob(shelved.only.b3_hex).exists()
        finish(home, shelved, peer.text)
        assert peer.uploaded <= 2 * SIZE + IN_FLIGHT
    assert_the_disk_is_blamed(first)


@pytest.mark.parametrize(
    "recorded", [pytest.param(False, marks=pytest.mark.long), True], ids=["not-recorded", "recorded"]
)
def test_bytes_that_came_are_overwritten(tmp_path: Path, dice: random.Random, recorded: bool) -> None:
    """Its block is found wrong before anything is committed, and comes again."""
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with (
        seeding(shelved, up=SLOW) as peer,
        pulling(home, shelved.file, "--peer", peer.text) as pull,
    ):
        pull.expect("pull_progress", lambda line: line["verified"] >= BLOCK)
        if recorded:
            wait_for_record(home, shelved, pull)
        data = partial_data(home, shelved.only)
        there = list(claimed(home, shelved)) if recorded else [0]
        overwrite(data, dice.choice(there) * PIECE + dice.randrange(PIECE - 5000), 5000)
        outcome = pull.end()
        given = peer.uploaded
    assert outcome.status == 0, outcome.stderr[-4000:]
    assert_pulled(home, shelved)
    assert given - SIZE <= BLOCK + 2 * PIECE


@pytest.mark.parametrize("share", [pytest.param(0.0, marks=pytest.mark.long), 0.5])
def test_the_data_is_cut_short(tmp_path: Path, share: float) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=LINK) as peer:
        with pulling(home, shelved.file, "--peer", peer.text, "--give-up-after", GIVE_UP) as pull:
            had = pull.expect("pull_progress", has_done(SIZE // 2))["done"]
            data = partial_data(home, shelved.only)
            os.truncate(data, int(share * data.stat().st_size))
            first = pull.end()
        finish(home, shelved, peer.text)
        # what was cut away may have been up to what had come by then, and is fetched by whole blocks
        assert peer.uploaded - SIZE <= had + BLOCK + 2 * IN_FLIGHT
    assert_the_disk_is_blamed(first)


def test_bytes_are_overwritten_between_two_runs(tmp_path: Path, dice: random.Random) -> None:
    """The record claims them: it is believed until the end, and found out there."""
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=SLOW) as peer:
        with pulling(home, shelved.file, "--peer", peer.text) as pull:
            wait_for_record(home, shelved, pull)
            pull.close()
        there = list(claimed(home, shelved))
        overwrite(partial_data(home, shelved.only), dice.choice(there) * PIECE + dice.randrange(PIECE), 1)
        outcome = finish(home, shelved, peer.text)
        given = peer.uploaded
    assert fetched(outcome) > 0
    assert given - SIZE <= BLOCK + 2 * PIECE + IN_FLIGHT
