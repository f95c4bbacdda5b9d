"""Being found without a server: small files given to their swarms, pointers kept alive in the DHT.

Keeps to an `Announcement`: what is in it is given and pointed to, what is no longer in it is let go. Decides nothing
about what belongs in it. Driven by the loop of `samara.seeder.seed`; `handle` and `tick` take the time (seconds of a
clock that never goes back) as an argument.

A pointer is put again every half hour: nodes forget items after two hours (BEP 44). Before each put it is looked up, so
that of two machines with one beacon the one with the older catalog doesn't hide the newer.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from pathlib import Path

from samara.registry.durable import make_folder, write_durably
from samara.registry.trust.beacons import public_of_seed
from samara.schemas.bittorrent import SmallTorrent, info_bytes, small_torrent
from samara.schemas.errors import MalformedError, SamaraError
from samara.schemas.events import Note, OnEvent, Warned, ignore
from samara.schemas.pointer import SALT, Pointer, pack_pointer, unpack_pointer
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import DiskFailed, Downloading, ItemFound, ItemPut, PieceFailed, SwarmEvent
from samara.seeder.torrent import parse_small_info

PUT_EVERY = 1800.0  # seconds
PUT_AGAIN = (5.0, 15.0, 60.0, 300.0)  # seconds after a put that was stored nowhere; the last of them from then on
LOOK_WITHIN = 5.0  # seconds after which a put no longer waits for the look-up before it
ANSWER_WITHIN = 60.0  # seconds after which a put that nothing is heard of has failed
GIVEN_AT_ONCE = 16  # files written in one go: the loop has others to serve
MEND_AFTER = 10.0  # seconds after which a file that couldn't be given is written anew
_V2_DIGITS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallFile:
    """A file of at most 16 MiB, given under the infohash of `schemas.bittorrent.small_torrent`."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """What to give, and where to point to. `pointers`: each with the seed (32 bytes) of the beacon that signs it."""

    files: tuple[SmallFile, ...] = ()
    pointers: tuple[tuple[bytes, Pointer], ...] = field(default=(), repr=False)


class _Step(Enum):
    RESTING = "until its next put is due"
    LOOKING = "for what the DHT has"
    PUTTING = "until the DHT has answered"


@dataclass(kw_only=True, slots=True)
class _Beacon:
    seed: bytes = field(repr=False)
    pointer: Pointer
    step: _Step = _Step.RESTING
    until: float = float("-inf")
    failures: int = 0
    stored_once: bool = False
    nodes_at_put: int = 0


@dataclass(kw_only=True, slots=True)
class _Given:
    file: SmallFile
    torrent: SmallTorrent
    due_at: float = float("-inf")


class Announcer:
    """Keeps one session to one announcement. `folder` is its own: whatever else is in there is removed."""

    def __init__(self, swarm: Swarm, folder: Path, on_event: OnEvent = ignore) -> None:
        self._swarm = swarm
        self._folder = folder
        self._on_event = on_event
        self._files: dict[str, _Given] = {}
        self._missing: dict[str, None] = {}  # of the files, those not given yet
        self._beacons: dict[bytes, _Beacon] = {}

    def update(self, announcement: Announcement) -> None:
        """Announce this from now on; it takes effect at the next `tick`.

        Raises MalformedError for a file too large or with another than a plain name; then nothing has changed.
        """
        files = dict(_checked(file) for file in announcement.files)
        beacons = {public_of_seed(seed): _Beacon(seed=seed, pointer=pointer) for seed, pointer in announcement.pointers}
        for stale in self._files.keys() - files.keys():
            self._swarm.remove(stale)
        self._files = {v2: self._files.get(v2, given) for v2, given in files.items()}
        self._missing = dict.fromkeys(v2 for v2 in self._files if v2 not in self._swarm)
        for public, beacon in beacons.items():
            known = self._beacons.get(public)
            if known is not None and known.pointer == beacon.pointer:
                beacons[public] = known
        self._beacons = beacons
        self._sweep()

    def handle(self, happened: SwarmEvent, now: float) -> bool:
        """Take what happened; whether it was about something announced."""
        if isinstance(happened, ItemFound):
            return self._found(happened, now)
        if isinstance(happened, ItemPut):
            return self._stored(happened, now)
        given = self._files.get(happened.torrent)
        if given is None:
            return False
        if isinstance(happened, (PieceFailed, Downloading, DiskFailed)):
            self._on_event(Warned(message=f"{given.file.name} is damaged in {self._folder}: writing it anew"))
            self._let_go(happened.torrent, given, now)
        return True

    def tick(self, now: float) -> None:
        """Whatever is due."""
        due = (v2 for v2 in self._missing if now >= self._files[v2].due_at)
        for v2 in list(islice(due, GIVEN_AT_ONCE)):
            self._give(v2, self._files[v2], now)
        for public, beacon in self._beacons.items():
            self._advance(public, beacon, now)

    # -- files -----------------------------------------------------------------------------------------------------

    def _place(self, v2: str, given: _Given) -> Path:
        return self._folder / v2 / given.file.name

    def _give(self, v2: str, given: _Given, now: float) -> None:
        place = self._place(v2, given)
        try:
            if not _holds(place, given.file.data):
                make_folder(place.parent)
                write_durably(place, given.file.data)
            self._swarm.add_small_seed(given.torrent.data, place)
        except SamaraError as error:
            given.due_at = now + MEND_AFTER
            self._on_event(Warned(message=f"can't give {given.file.name} for now: {error}"))
        else:
            del self._missing[v2]

    def _let_go(self, v2: str, given: _Given, now: float) -> None:
        self._swarm.remove(v2)
        self._missing[v2] = None
        given.due_at = now + MEND_AFTER

    def _sweep(self) -> None:
        """Remove what is no longer announced, also what an earlier process left."""
        try:
            there = list(self._folder.iterdir())
        except OSError:
            return
        for folder in there:
            if len(folder.name) == _V2_DIGITS and folder.name not in self._files:
                shutil.rmtree(folder, ignore_errors=True)

    # -- pointers --------------------------------------------------------------------------------------------------

    def _advance(self, public: bytes, beacon: _Beacon, now: float) -> None:
        nodes = self._swarm.dht_size
        if beacon.step is _Step.RESTING and (now >= beacon.until or nodes * 2 < beacon.nodes_at_put):
            # when half of the nodes are gone, so may be those that held the item
            if nodes:
                beacon.step, beacon.until = _Step.LOOKING, now + LOOK_WITHIN
                self._swarm.get_item(public, SALT)
        elif beacon.step is _Step.LOOKING and now >= beacon.until:
            self._put(beacon, now)
        elif beacon.step is _Step.PUTTING and now >= beacon.until:
            self._stored_nowhere(beacon, now)

    def _found(self, found: ItemFound, now: float) -> bool:
        beacon = self._beacons.get(found.public)
        if beacon is None or found.salt != SALT:
            return False
        if beacon.step is _Step.LOOKING:
            newer = _version_of(found) > beacon.pointer.timestamp_version
            if newer:
                self._on_event(Note(message="a newer catalog of this publisher is announced elsewhere: leaving it so"))
                self._rest(beacon, now)
            elif found.authoritative:
                self._put(beacon, now)
        return True

    def _put(self, beacon: _Beacon, now: float) -> None:
        beacon.step, beacon.until = _Step.PUTTING, now + ANSWER_WITHIN
        self._swarm.put_item(beacon.seed, pack_pointer(beacon.pointer), SALT)

    def _stored(self, stored: ItemPut, now: float) -> bool:
        beacon = self._beacons.get(stored.public)
        if beacon is None or stored.salt != SALT:
            return False
        if beacon.step is _Step.PUTTING and stored.stored_on:
            if not beacon.stored_once:
                beacon.stored_once = True
                self._on_event(Note(message=f"announced in the DHT, on {stored.stored_on} nodes"))
            self._rest(beacon, now)
        elif beacon.step is _Step.PUTTING:
            self._stored_nowhere(beacon, now)
        return True

    def _rest(self, beacon: _Beacon, now: float) -> None:
        beacon.step, beacon.until = _Step.RESTING, now + PUT_EVERY
        beacon.failures, beacon.nodes_at_put = 0, self._swarm.dht_size

    def _stored_nowhere(self, beacon: _Beacon, now: float) -> None:
        beacon.step, beacon.until = _Step.RESTING, now + PUT_AGAIN[min(beacon.failures, len(PUT_AGAIN) - 1)]
        beacon.failures, beacon.nodes_at_put = beacon.failures + 1, 0


def _checked(file: SmallFile) -> tuple[str, _Given]:
    torrent = small_torrent(file.name, file.data)
    parse_small_info(info_bytes(torrent.data))  # nobody would take it under another than a plain name
    return torrent.v2, _Given(file=file, torrent=torrent)


def _holds(place: Path, data: bytes) -> bool:
    try:
        with place.open("rb") as file:
            return file.read(len(data) + 1) == data
    except OSError:
        return False


def _version_of(found: ItemFound) -> int:
    """The timestamp version of the pointer that was found; 0 if it was none."""
    try:
        return unpack_pointer(found.value).timestamp_version if found.value is not None else 0
    except MalformedError:
        return 0
