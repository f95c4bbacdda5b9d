"""What a seeder announces so that names are found without a server, and that it stays findable."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.dht import LIMIT, Network, alive, dht_network, expect, joined, member
from support.swarms import loopback

from samara.registry.home import Home
from samara.registry.trust.beacons import public_of_seed
from samara.schemas.bittorrent import small_torrent
from samara.schemas.errors import MalformedError
from samara.schemas.events import Event, Note, Warned
from samara.schemas.pointer import SALT, Pointer, pack_pointer, unpack_pointer
from samara.seeder.announce import (
    LOOK_WITHIN,
    MEND_AFTER,
    PUT_AGAIN,
    PUT_EVERY,
    Announcement,
    Announcer,
    SmallFile,
)
from samara.seeder.naming import fetch_small, find_catalog, find_pointer
from samara.seeder.seed import seed
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import ItemFound, ItemPut, PieceFailed, SwarmEvent

SEED = bytes(range(32))
PUBLIC = public_of_seed(SEED)


def bundle_of(size: int = 1000) -> SmallFile:
    return SmallFile(name="acme.metadata", data=os.urandom(size))


def infohash(file: SmallFile) -> str:
    return small_torrent(file.name, file.data).v2


def pointer_to(file: SmallFile, version: int = 1) -> Pointer:
    return Pointer(bundle=infohash(file), length=len(file.data), timestamp_version=version)


def driven(announcer: Announcer, clock: Callable[[], float]) -> Callable[[tuple[SwarmEvent, ...]], None]:
    """What a seeder's loop does with an announcer."""

    def then(events: tuple[SwarmEvent, ...]) -> None:
        for happened in events:
            announcer.handle(happened, clock())
        announcer.tick(clock())

    return then


def put_by(swarm: Swarm, announcer: Announcer, now: float, limit: float = LIMIT) -> None:
    """Let an announcer go on until its next put is stored."""
    announcer.tick(now)
    deadline = time.monotonic() + limit
    done = False
    while not done:
        assert time.monotonic() < deadline, f"nothing was stored within {limit} s"
        for happened in swarm.poll(0.1):
            announcer.handle(happened, now)
            done = done or isinstance(happened, ItemPut)
        announcer.tick(now)


# -- in a real DHT -----------------------------------------------------------------------------------------------------


def test_what_is_announced_is_found(network: Network, giver: Swarm, tmp_path: Path) -> None:
    bundle, told = bundle_of(200_000), threading.Event()
    beacon = os.urandom(32)
    announcer = Announcer(giver, tmp_path / "own", lambda event: told.set() if isinstance(event, Note) else None)
    announcer.update(Announcement(files=(bundle,), pointers=((beacon, pointer_to(bundle)),)))
    with alive(giver, driven(announcer, lambda: 0.0)):
        assert told.wait(30)
        network.wait_for_peers(infohash(bundle))
        with Swarm(network.options()) as swarm:
            found = find_catalog(swarm, public_of_seed(beacon), tmp_path / "fetch")
    assert found.data == bundle.data
    announcer.update(Announcement())


@pytest.mark.long
def test_a_pointer_that_changed_is_put_at_once(network: Network, giver: Swarm, tmp_path: Path) -> None:
    beacon, first, second = os.urandom(32), bundle_of(), bundle_of()
    announcer = Announcer(giver, tmp_path)
    for file, version in ((first, 1), (second, 2)):
        announcer.update(Announcement(pointers=((beacon, pointer_to(file, version)),)))
        put_by(giver, announcer, now=1.0)
        # read-only: a node that has gone would make the next look-up wait for it
        with joined(network.options(dht_read_only=True)) as finder:
            assert find_pointer(finder, public_of_seed(beacon)) == pointer_to(file, version)


def test_an_older_catalog_does_not_hide_a_newer(network: Network, giver: Swarm, tmp_path: Path) -> None:
    beacon, newer, older = os.urandom(32), bundle_of(), bundle_of()
    giver.put_item(beacon, pack_pointer(pointer_to(newer, 7)), SALT)
    expect(giver, ItemPut)
    told: list[Event] = []
    announcer = Announcer(giver, tmp_path, told.append)
    announcer.update(Announcement(pointers=((beacon, pointer_to(older, 6)),)))
    announcer.tick(0.0)
    announcer.handle(expect(giver, ItemFound, lambda item: item.authoritative), 0.1)
    announcer.tick(0.2)
    with joined(network.options()) as finder:
        assert find_pointer(finder, public_of_seed(beacon)).timestamp_version == 7
    assert [event for event in told if isinstance(event, Note) and "newer catalog" in event.message]


@pytest.mark.long
def test_an_item_outlives_every_node_that_held_it(tmp_path: Path) -> None:
    with dht_network() as network, member(network) as swarm:
        old = network.nodes
        bundle = bundle_of()
        announcer = Announcer(swarm, tmp_path)
        announcer.update(Announcement(pointers=((SEED, pointer_to(bundle)),)))
        put_by(swarm, announcer, now=0.0)
        network.start(8)
        network.stop(*old[1:])  # the session knows only the first, through which it finds the new ones
        # a look-up and a put, which both wait 15 s for nodes that don't answer any more
        put_by(swarm, announcer, now=PUT_EVERY + LOOK_WITHIN, limit=3 * LIMIT)
        network.stop(old[0])
        with joined(network.options()) as finder:
            assert find_pointer(finder, PUBLIC) == pointer_to(bundle)


def test_seed_announces(network: Network, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    bundle, beacon = bundle_of(), os.urandom(32)
    stop, told = threading.Event(), threading.Event()
    asked: list[int] = []

    def announcements() -> Announcement:
        asked.append(1)
        return Announcement(files=(bundle,), pointers=((beacon, pointer_to(bundle)),))

    def take(event: Event) -> None:
        if isinstance(event, Note) and "announced in the DHT" in event.message:
            told.set()

    options = network.options(dht_read_only=False)
    thread = threading.Thread(
        target=seed, args=(home, options), kwargs={"stop": stop, "announcements": announcements, "on_event": take}
    )
    thread.start()
    try:
        assert told.wait(60)
        network.wait_for_peers(infohash(bundle))
        with Swarm(network.options()) as swarm:
            assert find_catalog(swarm, public_of_seed(beacon), tmp_path / "fetch").data == bundle.data
    finally:
        stop.set()
        thread.join(60)
    assert asked
    assert not thread.is_alive()


# -- files -------------------------------------------------------------------------------------------------------------


def test_what_is_no_longer_announced_is_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    leftover = folder / ("ab" * 32)
    leftover.mkdir(parents=True)
    old, new = bundle_of(), bundle_of()
    with Swarm(loopback()) as swarm:
        announcer = Announcer(swarm, folder)
        announcer.update(Announcement(files=(old,)))
        announcer.tick(0.0)
        assert [path.name for path in folder.iterdir()] == [infohash(old)]
        announcer.update(Announcement(files=(new,)))
        announcer.tick(0.0)
        assert [path.name for path in folder.iterdir()] == [infohash(new)]
        assert infohash(new) in swarm
        assert infohash(old) not in swarm


def test_a_file_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    file = bundle_of()
    for _ in range(2):
        with Swarm(loopback()) as swarm:
            announcer = Announcer(swarm, tmp_path)
            announcer.update(Announcement(files=(file,)))
            announcer.tick(0.0)
            place = tmp_path / infohash(file) / file.name
            before = place.stat()
    assert place.stat().st_ino == before.st_ino
    assert place.stat().st_mtime_ns == before.st_mtime_ns


def test_a_damaged_file_is_never_given_and_is_mended(tmp_path: Path) -> None:
    file, told = bundle_of(), list[Event]()
    with Swarm(loopback()) as swarm, Swarm(loopback()) as other:
        announcer = Announcer(swarm, tmp_path / "own", told.append)
        announcer.update(Announcement(files=(file,)))
        announcer.tick(0.0)
        place = tmp_path / "own" / infohash(file) / file.name
        place.write_bytes(bytes(1000))
        host, _, port = swarm.wait_listening(30)[0].rpartition(":")
        other.add_small_fetch(infohash(file), tmp_path / "fetch", peers=[(host, int(port))])
        with alive(other):
            announcer.handle(expect(swarm, PieceFailed), 0.0)
            assert infohash(file) not in swarm
            announcer.tick(MEND_AFTER)
        assert place.read_bytes() == file.data
        other.remove(infohash(file))
        with alive(swarm):
            assert fetch_small(other, infohash(file), tmp_path / "again", peers=[(host, int(port))]).data == file.data
    assert [event for event in told if isinstance(event, Warned)]


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "x" * 300])
def test_a_file_nobody_would_take_is_not_written(tmp_path: Path, name: str) -> None:
    with Swarm(loopback()) as swarm, pytest.raises(MalformedError):
        Announcer(swarm, tmp_path / "own").update(Announcement(files=(SmallFile(name=name, data=b"x"),)))
    assert list(tmp_path.iterdir()) == []


def test_seeds_of_beacons_are_not_printed(tmp_path: Path) -> None:
    assert "pointers" not in repr(Announcement(pointers=((SEED, pointer_to(bundle_of())),)))


# -- when to put, by a session that says what it is told -------------------------------------------------------------


class Scripted(Swarm):
    """A DHT as large as it is told, that counts what it is asked."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.looked = 0
        self.puts: list[Pointer] = []

    @property
    def dht_size(self) -> int:
        return self.nodes

    def get_item(self, public32: bytes, salt: bytes) -> None:
        self.looked += 1

    def put_item(self, seed32: bytes, value: bytes, salt: bytes) -> bytes:
        self.puts.append(unpack_pointer(value))
        return public_of_seed(seed32)

    def __contains__(self, name: object) -> bool:
        return False


def absent() -> ItemFound:
    return ItemFound(public=PUBLIC, salt=SALT, value=None, seq=0, authoritative=True)


def stored(nodes: int) -> ItemPut:
    return ItemPut(public=PUBLIC, salt=SALT, stored_on=nodes)


def scripted(tmp_path: Path, nodes: int = 8) -> tuple[Scripted, Announcer]:
    swarm = Scripted(nodes)
    announcer = Announcer(swarm, tmp_path)
    announcer.update(Announcement(pointers=((SEED, pointer_to(bundle_of())),)))
    return swarm, announcer


def go(announcer: Announcer, now: float, nodes: int) -> None:
    """One put, answered at once."""
    announcer.tick(now)
    announcer.handle(absent(), now)
    announcer.handle(stored(nodes), now)


def test_a_pointer_waits_for_nodes(tmp_path: Path) -> None:
    swarm, announcer = scripted(tmp_path, nodes=0)
    announcer.tick(0.0)
    assert swarm.looked == 0
    swarm.nodes = 3
    go(announcer, 1.0, nodes=3)
    assert len(swarm.puts) == 1


def test_a_pointer_is_put_again_every_half_hour(tmp_path: Path) -> None:
    swarm, announcer = scripted(tmp_path)
    go(announcer, 0.0, nodes=8)
    announcer.tick(PUT_EVERY - 1)
    assert swarm.looked == 1
    go(announcer, PUT_EVERY, nodes=8)
    assert len(swarm.puts) == 2


def test_a_put_that_was_stored_nowhere_is_tried_again_soon_and_ever_later(tmp_path: Path) -> None:
    swarm, announcer = scripted(tmp_path)
    now = 0.0
    for tries, pause in enumerate((*PUT_AGAIN, PUT_AGAIN[-1]), start=1):
        go(announcer, now, nodes=0)
        assert len(swarm.puts) == tries
        announcer.tick(now + pause - 0.1)
        assert swarm.looked == tries
        now += pause


def test_a_look_up_that_is_never_answered_does_not_hold_up_the_put(tmp_path: Path) -> None:
    swarm, announcer = scripted(tmp_path)
    announcer.tick(0.0)
    announcer.tick(LOOK_WITHIN)
    assert len(swarm.puts) == 1


def test_when_half_of_the_nodes_are_gone_it_is_put_again(tmp_path: Path) -> None:
    swarm, announcer = scripted(tmp_path)
    go(announcer, 0.0, nodes=8)
    swarm.nodes = 3
    go(announcer, 10.0, nodes=3)
    go(announcer, 20.0, nodes=3)
    assert len(swarm.puts) == 2


def test_an_update_without_a_change_puts_nothing(tmp_path: Path) -> None:
    swarm, bundle = Scripted(8), bundle_of()
    announcer = Announcer(swarm, tmp_path)
    for _ in range(2):
        announcer.update(Announcement(pointers=((SEED, pointer_to(bundle)),)))
        go(announcer, 0.0, nodes=8)
    assert len(swarm.puts) == 1
