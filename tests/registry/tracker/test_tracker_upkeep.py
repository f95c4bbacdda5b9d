"""What is done for a tracker beside announces: following what is published, forgetting, recording how swarms were."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from service_kit import listed_torrents, registry
from support.waiting import eventually
from tracker_kit import ip4, told, torrent_of

from samara.registry.index import Index
from samara.registry.service.service import Service
from samara.registry.swarm_samples import SwarmSample
from samara.registry.tracker import Counts, Rules, Tracker, Upkeep
from samara.registry.tracker.health import FORGET_EVERY, KEPT, MAX_WAITING, STEP, HealthRecorder
from samara.registry.tracker.published import Published
from samara.registry.tracker.values import Event, Torrent
from samara.schemas.errors import SamaraError, StoreError

START = 1_800_000_000 // STEP * STEP  # UTC epoch seconds


def published(service: Service) -> list[Torrent]:
    return [torrent_of(data, b3) for b3, data in listed_torrents(service.index).items()]


def test_every_listed_torrent_is_followed_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry(tmp_path) as service:
        following = Published(service.listings)
        found = following.changed()
        assert found is not None
        assert set(found) == set(published(service))
        assert following.changed() is None
        monkeypatch.setattr(following, "_state", None)
        monkeypatch.setattr("samara.registry.tracker.published._read", None)  # would raise
        assert following.changed() == found


def test_many_torrents_are_read_a_part_at_a_time(tmp_path: Path) -> None:
    with registry(tmp_path) as service:
        following = Published(service.listings, at_once=2)
        sizes = []
        while (found := following.changed()) is not None:
            sizes.append(len(found))
            assert following.is_behind == (len(found) < len(published(service)))
    assert sizes == [*range(2, sizes[-1], 2), sizes[-1]]
    assert len(sizes) >= 2


def test_a_damaged_torrent_is_left_out_alone(tmp_path: Path) -> None:
    with registry(tmp_path) as service:
        before = Published(service.listings).changed()
        with closing(sqlite3.connect(service.home.index)) as database, database:
            database.execute("UPDATE torrents SET data = X'00' WHERE id = (SELECT min(id) FROM torrents)")
        after = Published(service.listings).changed()
    assert before is not None
    assert after is not None
    assert len(after) == len(before) - 1


def test_samples_are_taken_at_each_step_and_completed_ones_count_in_theirs(tmp_path: Path) -> None:
    with registry(tmp_path) as service:
        one = published(service)[0]
        tracker = Tracker()
        tracker.publish([one])
        health = HealthRecorder(service.listings)
        tracker.announce(told(one, who=1, whole=True), ip4(1), 0.0)
        for number, now in enumerate((START + 3, START + STEP - 1, START + STEP, START + 2 * STEP + 7)):
            if health.is_due(now):
                health.take(tracker.all_counts(), now)
            who = 10 + number
            tracker.announce(told(one, who=who), ip4(who), 0.0)
            tracker.announce(told(one, who=who, whole=True, event=Event.COMPLETED), ip4(who), 0.0)
        assert health.record(START + 3 * STEP, 3.0 * STEP) == 3
        assert service.listings.samples(one.b3, since=0) == (
            SwarmSample(at=START, seeders=1, leechers=0, completed=0),
            SwarmSample(at=START + STEP, seeders=3, leechers=0, completed=2),
            SwarmSample(at=START + 2 * STEP, seeders=4, leechers=0, completed=1),
        )
        later = START + KEPT + 2 * STEP
        health.take(tracker.all_counts(), later)
        health.record(later, KEPT + 2.0 * STEP)
        assert [row.at for row in service.listings.samples(one.b3, since=0)] == [START + 2 * STEP, later]


def test_a_clock_that_is_ahead_for_some_hours_forgets_nothing(tmp_path: Path) -> None:
    with registry(tmp_path) as service:
        one = published(service)[0]
        health = HealthRecorder(service.listings)
        counts = {one.b3: Counts(seeders=1, leechers=0, completed=0)}

        def recorded(now: float, elapsed: float) -> list[int]:
            health.take(counts, now)
            health.record(now, elapsed)
            return [row.at for row in service.listings.samples(one.b3, since=0)]

        year = 4 * KEPT
        assert recorded(START, 7.0) == [START]
        assert recorded(START + year, 7.0 + STEP) == [START, START + year]
        assert recorded(START + year + STEP, 7.0 + 2 * STEP) == [START, START + year, START + year + STEP]
        assert recorded(START + 2 * STEP, 7.0 + 3 * STEP)[:2] == [START, START + 2 * STEP]
        assert recorded(START + 2 * STEP + FORGET_EVERY, 7.0 + 3 * STEP + FORGET_EVERY)[0] == START
        assert START not in recorded(START + KEPT + STEP, 7.0 + KEPT + 2 * STEP)


def test_samples_wait_for_a_database_that_is_gone(tmp_path: Path) -> None:
    with registry(tmp_path) as service:
        one = published(service)[0]
        with impatient(service) as index:
            health = HealthRecorder(index.listings)
            health.take({one.b3: Counts(seeders=1, leechers=2, completed=0)}, START)
            with locked(service.home.index), pytest.raises(StoreError):
                health.record(START, 0.0)
            assert health.waiting == 1
            assert service.listings.samples(one.b3, since=0) == ()
            assert health.record(START, 0.0) == 1
        assert len(service.listings.samples(one.b3, since=0)) == 1


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else writes, and goes on and on."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


@contextmanager
def impatient(service: Service) -> Iterator[Index]:
    """The service's index, by one that doesn't wait long for others who write."""
    index = Index.open_existing(service.home, lock_wait=0.1)
    assert index is not None
    with index:
        yield index


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    with registry(tmp_path) as service:
        health = HealthRecorder(service.listings)
        swarms = {f"b3:{number:064x}": Counts(seeders=1, leechers=0, completed=0) for number in range(1000)}
        for step in range(2 * MAX_WAITING // 1000):
            health.take(swarms, START + step * STEP)
        assert health.waiting == MAX_WAITING


def test_the_thread_does_it_all_and_survives_trouble(tmp_path: Path) -> None:
    """Publishing meanwhile, a database that refuses and comes back, an end that records what was."""
    with registry(tmp_path) as service:
        tracker = Tracker(Rules(interval=60, min_interval=30))
        one = published(service)[0]
        troubles: list[SamaraError] = []
        now = [float(START)]
        with (
            impatient(service) as index,
            Upkeep(tracker, index.listings, clock=lambda: now[0], on_trouble=troubles.append, look_every=0.02),
        ):
            assert tracker.totals().published == len(published(service))
            tracker.announce(told(one, who=1), ip4(1), time.monotonic())
            with locked(service.home.index):
                now[0] += STEP
                eventually(lambda: bool(troubles))
            assert len(troubles) == 1
            tracker.announce(told(one, who=2), ip4(2), time.monotonic())
        assert [thread.name for thread in threading.enumerate() if thread.name == "tracker-upkeep"] == []
        rows = service.listings.samples(one.b3, since=0)
        assert rows[-1] == SwarmSample(at=START + STEP, seeders=0, leechers=2, completed=0)


def test_upkeep_forgets_who_was_silent(tmp_path: Path) -> None:
    with registry(tmp_path) as service:
        tracker = Tracker(Rules(interval=60, min_interval=30))
        upkeep = Upkeep(tracker, service.listings)
        upkeep.look()
        tracker.announce(told(published(service)[0]), ip4(1), 1000.0)
        upkeep.step(START, 1100.0)
        assert tracker.totals().peers == 1
        upkeep.step(START, 1131.0)
        assert tracker.totals().peers == 0
