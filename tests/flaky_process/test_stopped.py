"""SIGSTOP and SIGCONT, as a laptop's lid and a debugger do it: of the one who pulls, and of the one who gives."""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path

import pytest
from process_kit import IN_FLIGHT, LINK, fetched, finish, has_begun, hold
from support.processes import pulling, seed_process
from support.swarms import seeding
from support.world import MIB, assert_pulled, one_blob, trusting_home

SIZE = 8 * MIB
GIVE_UP = 3  # seconds

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP and SIGKILL")


@pytest.mark.parametrize("seconds", [2 * GIVE_UP, pytest.param(20 * GIVE_UP, marks=pytest.mark.long)])
def test_who_was_stopped_longer_than_it_has_patience_goes_on(tmp_path: Path, seconds: float) -> None:
    """The time in which it stood still is no silence of the others."""
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with (
        seeding(shelved, up=LINK) as peer,
        pulling(home, shelved.file, "--peer", peer.text, "--give-up-after", GIVE_UP) as pull,
    ):
        pull.expect("pull_progress", has_begun)
        pull.send(signal.SIGSTOP)
        hold(seconds)
        pull.send(signal.SIGCONT)
        outcome = pull.end()
        given = peer.uploaded
    assert outcome.status == 0, outcome.stderr[-4000:]
    assert_pulled(home, shelved)
    assert given - SIZE <= IN_FLIGHT


def test_stopped_again_and_again_at_random_times(tmp_path: Path, dice: random.Random) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=LINK) as peer, pulling(home, shelved.file, "--peer", peer.text) as pull:
        for _ in range(6):
            hold(dice.uniform(0.0, 0.4))
            pull.send(signal.SIGSTOP)
            hold(dice.uniform(0.0, 0.4))
            pull.send(signal.SIGCONT)
        outcome = pull.end()
        given = peer.uploaded
    assert outcome.status == 0, outcome.stderr[-4000:]
    assert_pulled(home, shelved)
    assert given == fetched(outcome) == SIZE


@pytest.mark.long
def test_a_seeder_that_stands_still_for_a_while(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with (
        seed_process(shelved.home, "--up", str(LINK)) as seeder,
        pulling(home, shelved.file, "--peer", seeder.text) as pull,
    ):
        pull.expect("pull_progress", has_begun)
        seeder.process.send(signal.SIGSTOP)
        hold(GIVE_UP)
        seeder.process.send(signal.SIGCONT)
        outcome = pull.end()
    assert outcome.status == 0, outcome.stderr[-4000:]
    assert_pulled(home, shelved)
    assert fetched(outcome) - SIZE <= IN_FLIGHT


def test_a_seeder_that_stands_still_for_too_long_costs_only_a_new_start(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with seed_process(shelved.home, "--up", str(LINK)) as seeder:
        with pulling(home, shelved.file, "--peer", seeder.text, "--give-up-after", GIVE_UP) as pull:
            pull.expect("pull_progress", has_begun)
            seeder.process.send(signal.SIGSTOP)
            gave_up = pull.end()
        assert gave_up.status == 4, gave_up.stderr[-4000:]
        assert f"nothing came for {GIVE_UP} s" in gave_up.message
        assert gave_up.result["next_step"] == "everything fetched so far is kept: run the same command again later"
        had = max(line["done"] for line in gave_up.named("pull_progress"))
        seeder.process.send(signal.SIGCONT)
        outcome = finish(home, shelved, seeder.text)
    assert outcome.result["bytes_reused"] >= had > 0
    assert outcome.result["bytes_reused"] + fetched(outcome) == SIZE
