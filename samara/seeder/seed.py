"""Seeding: every blob that is whole here goes to its swarm, in place, for as long as the process runs.

Picks up new blobs by itself (a pull or publish in another process), lets go of files that changed, and never writes to
anything it seeds. Which files may be seeded is decided by `seedable`, from recorded stamps; torrents out of the index
are parsed strictly again, so a damaged index can't make it announce something else.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.progress import reporting
from samara.registry.records import BlobRecord
from samara.registry.store import stamp_at, whole_copy
from samara.registry.sweep import sweep
from samara.registry.trust.keys import AskPassphrase
from samara.schemas.bittorrent import parse_blob_torrent
from samara.schemas.digests import b3_hex, b3_text
from samara.schemas.errors import MalformedError, NotFoundError, SamaraError, StoreError
from samara.schemas.events import HashProgress, Listening, Note, OnEvent, SeedRow, SeedTable, Warned, ignore
from samara.seeder.announce import Announcement, Announcer
from samara.seeder.announcements import Announcements
from samara.seeder.gguf_facts import describe
from samara.seeder.hashing import hash_file
from samara.seeder.source_file import open_source
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import (
    DiskFailed,
    Downloading,
    ListenFailed,
    ListeningOn,
    PeerBanned,
    PieceFailed,
    SwarmEvent,
    TrackerFailed,
)
from samara.seeder.swarm_options import SwarmOptions

TABLE_EVERY = 1.0  # seconds between SeedTable events
RESCAN_EVERY = 2.0  # seconds between looks at the index
REST = 60.0  # seconds before a file that couldn't be read is tried again
ANNOUNCED = "announced"  # the folder, in the home, of the small files that are given
TRUSTED_FOR = 7 * 86400  # seconds after which an untouched file's pieces are hashed again before they are given


@dataclass(frozen=True, kw_only=True, slots=True)
class Seed:
    """One blob to give: its torrent and the untouched file that holds it."""

    b3: str
    torrent: bytes
    path: Path
    size: int
    name: str
    check_first: bool


def seedable(
    blobs: Iterable[BlobRecord],
    only: frozenset[str] | None = None,
    *,
    running: Mapping[str, Seed] = MappingProxyType({}),
    now: float,
) -> tuple[tuple[Seed, ...], tuple[str, ...]]:
    """(what can be seeded, why something can't). `only`: the blobs (b3 text) to consider, all when None.

    `running`: what is being seeded already, by b3 text; where its file is untouched it is given back as it is.
    """
    seeds: list[Seed] = []
    troubles: list[str] = []
    for blob in blobs:
        if (only is not None and blob.b3 not in only) or blob.torrent is None:
            continue
        place = whole_copy(blob)
        if place is None:
            if blob.locations:
                troubles.append(_why_not(blob.locations[0].path))
            continue
        already = running.get(blob.b3)
        if already is not None and already.path == place.path:
            seeds.append(already)
            continue
        try:
            torrent = parse_blob_torrent(blob.torrent)
        except MalformedError as error:
            troubles.append(f"the torrent of {blob.b3} in the index is damaged ({error}) — run: samara audit")
            continue
        if not torrent.name.startswith(b3_hex(blob.b3)) or torrent.hashes.size != blob.size:
            troubles.append(f"the index has another blob's torrent for {blob.b3} — run: samara audit")
            continue
        name = blob.file_name or torrent.name
        seeds.append(
            Seed(
                b3=blob.b3,
                torrent=torrent.canonical,
                path=place.path,
                size=blob.size,
                name=name,
                check_first=now - place.verified_at > TRUSTED_FOR,
            )
        )
    return tuple(seeds), tuple(troubles)


def _why_not(path: Path) -> str:
    """Why the file at `path` is no longer one to seed."""
    try:
        stamp_at(path)
    except StoreError as error:
        return f"not seeding from {path}: {error}"
    return f"{path} is gone or changed since it was verified — run: samara verify {path}"


def seed(
    home: Home,
    options: SwarmOptions | None = None,
    *,
    paths: Sequence[Path] = (),
    ask: AskPassphrase | None = None,
    ask_later: AskPassphrase | None = None,
    stop: threading.Event | None = None,
    announcements: Callable[[], Announcement] | None = None,
    on_event: OnEvent = ignore,
) -> SeedTable:
    """Seed until `stop` is set; what was given is returned. With `paths` (files, or folders of them) only their blobs.

    Without `stop` it runs until an exception ends it, such as Ctrl-C's. `announcements` is asked at every look at the
    index what else to give and to point to, so that names can be found without a server; by default that is all that
    this machine knows of publishers. `ask` opens the keys of its own at the start; `ask_later`, which must not wait for
    a person, those of publishers that come later.

    Raises NotFoundError when nothing here can be seeded or a path is no known blob, NetworkError when the session
    can't listen.
    """
    stop = stop or threading.Event()
    sweep(home, now=time.time())
    with Index.open(home) as index:
        try:
            only = _blobs_at(index, paths, stop, on_event) if paths else None
        except _StoppedError:
            return SeedTable(rows=())
        with Swarm(options or SwarmOptions()) as swarm:
            for endpoint in swarm.wait_listening(10.0):
                on_event(Listening(endpoint=endpoint))
            announcer = Announcer(swarm, home.root / ANNOUNCED, on_event)
            told = announcements or Announcements(home, index, ask=ask, ask_later=ask_later, on_event=on_event)
            return _Seeder(index, swarm, only, on_event, announcer, told).run(stop)


class _Seeder:
    """What is being seeded now, kept equal to what the index says can be."""

    def __init__(
        self,
        index: Index,
        swarm: Swarm,
        only: frozenset[str] | None,
        on_event: OnEvent,
        announcer: Announcer | None = None,
        announcements: Callable[[], Announcement] | None = None,
    ) -> None:
        self._announcer = announcer
        self._announcements = announcements
        self._announced: Announcement | None = None
        self._index = index
        self._swarm = swarm
        self._only = only
        self._on_event = on_event
        self._seeds: dict[str, Seed] = {}
        self._complained: set[str] = set()
        self._failed_trackers: set[str] = set()
        self._resting: dict[str, float] = {}

    def run(self, stop: threading.Event) -> SeedTable:
        self._rescan()
        self._announce()
        if not self._seeds:
            self._on_event(Note(message="nothing is whole here yet; waiting for a pull or publish to finish"))
        next_table = next_scan = time.monotonic()
        while not stop.is_set():
            for happened in self._swarm.poll(0.25):
                self._handle(happened)
            now = time.monotonic()
            if now >= next_scan:
                self._rescan()
                self._announce()
                next_scan = now + RESCAN_EVERY
            if self._announcer is not None:
                self._announcer.tick(now)
            if now >= next_table:
                self._on_event(self._table())
                next_table = now + TABLE_EVERY
        return self._table()

    def _rescan(self) -> None:
        running = {item.b3: item for item in self._seeds.values()}
        found, troubles = seedable(self._index.blobs(), self._only, running=running, now=time.time())
        for trouble in troubles:
            self._complain(trouble)
        wanted = {item.b3: item for item in found}
        for name, item in list(self._seeds.items()):
            if item.b3 not in wanted or wanted[item.b3].path != item.path:
                self._remove(name)
        now = time.monotonic()
        still = {item.b3 for item in self._seeds.values()}
        for item in found:
            if item.b3 not in still and self._resting.get(item.b3, now) <= now:
                self._seeds[self._swarm.add_seed(item.torrent, item.path, check_first=item.check_first)] = item

    def _announce(self) -> None:
        """What is announced, kept equal to what should be."""
        if self._announcer is None or self._announcements is None:
            return
        try:
            wanted = self._announcements()
            if wanted != self._announced:
                self._announcer.update(wanted)
                self._announced = wanted
        except SamaraError as error:
            self._complain(f"what was announced stays as it was: {error}")

    def _handle(self, happened: SwarmEvent) -> None:
        if self._announcer is not None and self._announcer.handle(happened, time.monotonic()):
            return
        item = self._seeds.get(happened.torrent)
        if isinstance(happened, ListeningOn):  # an address that came later, such as another network's
            self._on_event(Listening(endpoint=happened.endpoint))
        elif isinstance(happened, ListenFailed) and happened.was_chosen:
            self._complain(str(happened.as_error()))
        elif isinstance(happened, PeerBanned):
            self._on_event(Note(message=f"banned {happened.endpoint}: it sent wrong bytes"))
        elif isinstance(happened, TrackerFailed):
            if happened.url not in self._failed_trackers:  # once: it is asked for every blob, and in other words
                self._failed_trackers.add(happened.url)
                self._on_event(Warned(message=f"tracker {happened.url}: {happened.reason}"))
        elif item is not None and isinstance(happened, (PieceFailed, Downloading)):
            self._remove(happened.torrent)
            self._resting[item.b3] = time.monotonic() + REST
            with contextlib.suppress(StoreError):  # busy with a long write: then it is found again after the rest
                self._index.drop_location(item.path)
            self._complain(
                f"{item.path} no longer holds what was verified, although nothing seems to have changed it: "
                f"not seeding it — run: samara verify {item.path}"
            )
        elif item is not None and isinstance(happened, DiskFailed):
            self._remove(happened.torrent)
            self._resting[item.b3] = time.monotonic() + REST
            self._complain(f"stopped seeding {item.path} for a while: {happened.message}")

    def _remove(self, name: str) -> None:
        self._swarm.remove(name)
        del self._seeds[name]

    def _complain(self, trouble: str) -> None:
        if trouble not in self._complained:
            self._complained.add(trouble)
            self._on_event(Warned(message=trouble))

    def _table(self) -> SeedTable:
        rows = []
        for name, item in self._seeds.items():
            status = self._swarm.status(name)
            rows.append(
                SeedRow(
                    blob=item.b3,
                    path=item.name,
                    size=item.size,
                    peers=status.peers,
                    up_rate=status.up_rate,
                    uploaded=status.uploaded,
                )
            )
        return SeedTable(rows=tuple(rows))


class _StoppedError(Exception):
    """`stop` was set while a file was being read."""


def _blobs_at(index: Index, paths: Sequence[Path], stop: threading.Event, on_event: OnEvent) -> frozenset[str]:
    found: set[str] = set()
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112  (Path.is_dir raises for some paths that can't be)
            found.update(_blobs_in(index, path, stop, on_event))
            continue
        b3 = _blob_at(index, path.absolute(), stop, on_event)
        if b3 is None:
            raise NotFoundError(
                f"{path} is no blob of a release known here", next_step="publish it, or pull its release first"
            )
        found.add(b3)
    if not found:
        raise NotFoundError("none of these files is a blob of a release known here", next_step="publish them first")
    return frozenset(found)


def _blobs_in(index: Index, folder: Path, stop: threading.Event, on_event: OnEvent) -> Iterator[str]:
    """The blobs in a folder; a file there that can't be read is no reason not to seed the others."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            b3 = _blob_at(index, file.absolute(), stop, on_event)
        except SamaraError as error:
            on_event(Warned(message=f"left out: {error}"))
        else:
            if b3 is not None:
                yield b3


def _blob_at(index: Index, file: Path, stop: threading.Event, on_event: OnEvent) -> str | None:
    """The blob in a file: as recorded if the stamp is the same, else by reading it, if any blob has its size."""
    stamp = stamp_at(file)
    known = index.location_at(file)
    if known is not None and stamp == known[1].stamp:
        return known[0] if _is_released(index, known[0]) else None
    if stamp is not None and not any(blob.is_released for blob in index.blobs_of_size(stamp.size)):
        return None
    with open_source(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        report = reporting(HashProgress, file.name, size, on_event)

        def reading(done: int) -> None:
            if stop.is_set():
                raise _StoppedError
            report(done)

        hashes = hash_file(file, describe(opened, size).block_sizes, fd=opened.fileno(), on_progress=reading)
    b3 = b3_text(hashes.b3)
    if not _is_released(index, b3):
        return None
    index.set_location(b3, file, hashes.stamp, in_store=False, verified_at=time.time())
    return b3


def _is_released(index: Index, b3: str) -> bool:
    blob = index.blob(b3)
    return blob is not None and blob.is_released
