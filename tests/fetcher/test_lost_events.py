"""libtorrent's queue of alerts is bounded: a pull that hears only part of what happened still ends, whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from support.pulls import options, pulled
from support.swarms import seeding
from support.world import MIB, assert_pulled, one_blob, trusting_home

from samara.seeder.profiles import PROFILES
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import EventsLost


def test_a_pull_whose_events_are_lost_still_ends_whole(tmp_path: Path) -> None:
    published = one_blob(tmp_path, size=48 * MIB)
    home = trusting_home(tmp_path / "puller", published)
    deaf = replace(PROFILES["fast"], settings=MappingProxyType({**PROFILES["fast"].settings, "alert_queue_size": 4}))
    with seeding(published) as peer:
        how = options(peer.endpoint)
        pulled(home, published.file, replace(how, swarm=replace(how.swarm, profile=deaf)))
    assert_pulled(home, published)


def test_a_queue_that_overflowed_says_so(tmp_path: Path) -> None:
    published = one_blob(tmp_path, size=48 * MIB)
    deaf = replace(PROFILES["fast"], settings=MappingProxyType({**PROFILES["fast"].settings, "alert_queue_size": 4}))
    with seeding(published) as peer, Swarm(replace(options().swarm, profile=deaf)) as swarm:
        name = swarm.add_fetch(published.torrent, tmp_path / "data", [False] * published.only.piece_count)
        swarm.begin(name, [peer.endpoint])
        assert any(isinstance(event, EventsLost) for _ in range(1000) for event in swarm.poll(0.1))
