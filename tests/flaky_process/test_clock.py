"""Clocks that jump: while bytes come, between two runs, past a catalog's expiry and back."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_kit import LINK, fetched, has_begun
from support.clocks import DAY, HOUR, Clock
from support.processes import Outcome, Process, started
from support.swarms import Peer, seeding
from support.world import MIB, Shelf, assert_pulled, leftovers, one_blob, trusting_home

from samara.registry.home import Home

SIZE = 8 * MIB
GIVE_UP = 3  # seconds


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@contextlib.contextmanager
def pulling_by(clock: Clock, home: Home, source: object, peer: Peer) -> Iterator[Process]:
    how = ("--listen", "127.0.0.1:0", "--no-discovery", "--give-up-after", GIVE_UP, "--json")
    with started(home, "pull", source, "--peer", peer.text, *how, wrap=clock.wrap) as process:
        yield process


def pulled_by(clock: Clock, home: Home, source: object, peer: Peer) -> Outcome:
    with pulling_by(clock, home, source, peer) as process:
        return process.end()


@pytest.fixture
def shelved(tmp_path: Path) -> Shelf:
    return one_blob(tmp_path / "shelf", SIZE)


@pytest.mark.parametrize("jump", [5 * HOUR, pytest.param(-5 * HOUR, marks=pytest.mark.long), 400 * DAY])
def test_the_clock_jumps_while_bytes_come(tmp_path: Path, shelved: Shelf, clock: Clock, jump: int) -> None:
    """Patience, checkpoints and rates go by the time that passes, not by the clock."""
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=LINK) as peer, pulling_by(clock, home, shelved.file, peer) as pull:
        pull.expect("pull_progress", has_begun)
        clock.set(jump)
        outcome = pull.end()
        given = peer.uploaded
    assert outcome.status == 0, outcome.stderr[-4000:]
    assert_pulled(home, shelved)
    assert given == fetched(outcome) == SIZE
    assert outcome.result["seconds"] < 3600


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP and SIGKILL")
def test_who_lives_in_another_time_takes_nothing_away(tmp_path: Path, shelved: Shelf, clock: Clock) -> None:
    """A second process that thinks it is next year sweeps what is old; a transfer under way is not."""
    home = trusting_home(tmp_path / "home", shelved)
    late = Clock(tmp_path / "late", 370 * DAY)
    with seeding(shelved, up=LINK) as peer, pulling_by(clock, home, shelved.file, peer) as pull:
        pull.expect("pull_progress", has_begun)
        pull.send(signal.SIGSTOP)  # it keeps its lock: so the other one surely finds it taken
        with pulling_by(late, home, shelved.file, peer) as other:
            other.expect("waiting_for_other")
            pull.send(signal.SIGCONT)
            outcomes = [pull.end(), other.end()]
        given = peer.uploaded
    assert [outcome.status for outcome in outcomes] == [0, 0], outcomes[0].stderr + outcomes[1].stderr
    assert_pulled(home, shelved)
    assert given == SIZE


def test_a_clock_that_is_wrong_fools_nobody_about_what_is_current(tmp_path: Path, shelved: Shelf, clock: Clock) -> None:
    """Expired by a clock that is ahead; current when it is right; and a clock set back makes nothing current."""
    metadata = tmp_path / "metadata"
    publish_catalog(shelved, metadata)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        with started(home, "trust", "sources", "acme", "--add", metadata) as adding:
            assert adding.end().status == 0
        clock.set(40 * DAY)
        ahead = pulled_by(clock, home, shelved.reference, peer)
        assert ahead.status == 6, ahead.stderr
        assert "expired" in ahead.message
        assert leftovers(home) == []
        assert not home.blob(shelved.only.b3_hex).exists()
        clock.set(29 * DAY)
        right = pulled_by(clock, home, shelved.reference, peer)
        assert right.status == 0, right.stderr
        assert_pulled(home, shelved)
        clock.set(-400 * DAY)
        back = pulled_by(clock, home, shelved.reference, peer)
        assert back.status == 0, back.stderr
        assert_pulled(home, shelved)


def publish_catalog(shelved: Shelf, folder: Path) -> None:
    """Lay out the publisher's signed metadata as a folder that can be asked."""
    with started(shelved.home, "publisher", "metadata", "acme", folder) as writing:
        outcome = writing.end()
    assert outcome.status == 0, outcome.stderr
