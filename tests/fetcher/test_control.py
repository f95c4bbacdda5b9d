"""Pausing, resuming and cancelling pulls from elsewhere; schedules; one cap for peers and mirrors together."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from support.mirrors import mirror
from support.processes import pulling, samara
from support.pulls import options
from support.swarms import seeding
from support.world import MIB, PIECE, Shelf, assert_pulled, one_blob, partial_data, trusting_home

from samara.fetcher.control import LOOK_EVERY, Control, ControlFiles
from samara.fetcher.governor import TokenBucket
from samara.fetcher.mirrors.direct import Direct
from samara.fetcher.mirrors.pool import MirrorPool
from samara.registry.home import Home
from samara.registry.http import HttpClient
from samara.schemas.errors import ExitCode, InterruptedByUser
from samara.schemas.events import Event, Note
from samara.schemas.networks import NetworkPolicy
from samara.schemas.schedule import parse_schedule

SIZE = 8 * MIB
SLOW = 1_500_000  # bytes per second
REFERENCE = "acme/blob:v1"


@pytest.fixture
def shelved(tmp_path: Path) -> Shelf:
    return one_blob(tmp_path / "shelf", SIZE)


@pytest.mark.parametrize("of", [(), (REFERENCE,)])
def test_a_paused_pull_stands_still_and_goes_on(tmp_path: Path, shelved: Shelf, of: tuple[str, ...]) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=SLOW) as peer, pulling(home, shelved.file, "--peer", peer.text) as pull:
        pull.expect("pull_progress", lambda line: line["done"] >= MIB)
        assert samara(home, "pause", *of, "--json").result == {"paused": [*(of or ["all"])]}
        pull.expect("note", lambda line: "paused" in line["message"])
        for _ in range(4):  # what had come is still being written
            stood_at = pull.expect("pull_progress")["done"]
        for _ in range(8):  # two seconds of progress, at which nothing comes
            line = pull.expect("pull_progress")
        assert line["done"] <= stood_at + 2 * PIECE  # what was in flight
        assert line["done"] < SIZE
        assert samara(home, "resume", *of, "--json").result == {"resumed": True, "paused": []}
        ended = pull.end()
    assert ended.status == 0, ended.stderr[-2000:]
    assert_pulled(home, shelved)


def test_another_reference_that_is_paused_holds_up_nobody(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    samara(home, "pause", "acme/other:v1")
    with seeding(shelved) as peer, pulling(home, shelved.file, "--peer", peer.text) as pull:
        assert pull.end().status == 0
    listed = samara(home, "pause", "--list", "--json").result
    assert listed == {"paused": ["acme/other:v1"]}


def test_a_pull_that_begins_while_paused_waits(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    samara(home, "pause")
    with seeding(shelved, up=SLOW) as peer, pulling(home, shelved.file, "--peer", peer.text) as pull:
        pull.expect("note", lambda line: "paused" in line["message"])
        for _ in range(4):
            line = pull.expect("pull_progress")
        assert line["done"] < SIZE // 2
        samara(home, "resume")
        assert pull.end().status == 0
    assert_pulled(home, shelved)


def test_a_cancelled_pull_keeps_what_came(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=SLOW) as peer:
        with pulling(home, shelved.file, "--peer", peer.text) as pull:
            pull.expect("pull_progress", lambda line: line["done"] >= MIB)
            samara(home, "cancel", REFERENCE)
            ended = pull.end()
        assert ended.status == ExitCode.INTERRUPTED
        assert "samara cancel" in ended.message
        assert partial_data(home, shelved.only).with_name("record").exists()
        with pulling(home, shelved.file, "--peer", peer.text) as again:  # said once: a later pull isn't meant
            whole = again.end()
    assert whole.status == 0
    assert whole.result["bytes_reused"] >= MIB
    assert whole.result["bytes_from_peers"] <= SIZE - MIB + 2 * PIECE
    assert_pulled(home, shelved)


def test_resuming_what_was_not_paused_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert samara(home, "resume", "--json").result == {"resumed": False, "paused": []}


def test_peers_and_mirrors_share_one_cap(tmp_path: Path) -> None:
    with mirror(tmp_path / "shelf" / "files") as served:
        shelved = one_blob(tmp_path / "shelf", SIZE, mirrors=(served.of("blob.bin"),))
        home = trusting_home(tmp_path / "home", shelved)
        with seeding(shelved) as peer, pulling(home, shelved.file, "--peer", peer.text, "--limit-rate", "2M") as pull:
            ended = pull.end()
    assert ended.status == 0
    # a burst at the beginning and what is in flight when the cap is divided may come sooner
    assert ended.result["seconds"] > 0.6 * SIZE / 2e6
    assert_pulled(home, shelved)


class Loopless:
    """A control that is looked at by hand, at a wall clock that is set by hand."""

    def __init__(self, home: Home, schedule: str) -> None:
        self.clock = datetime(2026, 1, 5, 7, 59)  # noqa: DTZ001  (a wall clock), a Monday
        self.notes: list[str] = []
        self.bucket = TokenBucket(0)
        self.pool = MirrorPool(lambda: HttpClient(NetworkPolicy()))
        self._now = 0.0
        self._control = Control(
            home,
            (REFERENCE,),
            options(schedule=parse_schedule(schedule)),
            self.bucket,
            self._hear,
            local_time=lambda: self.clock,
        )

    def look(self) -> bool:
        self._now += LOOK_EVERY
        return self._control.look(Direct(self.pool.wait), self.pool, self._now, came=(0, 0))

    def _hear(self, event: Event) -> None:
        assert isinstance(event, Note)
        self.notes.append(event.message)


def test_a_schedule_holds_up_and_lets_go(tmp_path: Path) -> None:
    control = Loopless(Home(tmp_path), "08:00-18:00=off,else=full")
    assert not control.look()
    control.clock = control.clock.replace(hour=8, minute=0)
    assert control.look()
    assert control.look()
    control.clock = control.clock.replace(hour=18, minute=0)
    assert not control.look()
    assert control.notes == ["held up by --schedule until Mon 18:00", "going on"]


def test_a_schedule_caps_mirrors_too(tmp_path: Path) -> None:
    control = Loopless(Home(tmp_path), "08:00-18:00=100k,else=full")
    assert not control.look()
    assert control.bucket.wait_for(10**6) == 0.0
    control.clock = control.clock.replace(hour=9)
    assert not control.look()
    control.bucket.wait_for(10**6)
    assert control.bucket.wait_for(10**6) > 10.0


def test_cancel_is_heard_once_and_only_by_those_under_way(tmp_path: Path) -> None:
    home = Home(tmp_path)
    files = ControlFiles(home)
    files.cancel(None)
    control = Loopless(home, "22:00-23:00=100k,else=full")
    assert not control.look()  # it began later
    files.cancel("acme/other:v1")
    assert not control.look()
    files.cancel(REFERENCE)
    with pytest.raises(InterruptedByUser):
        control.look()
