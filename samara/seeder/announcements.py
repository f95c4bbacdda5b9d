"""What this machine can tell others of publishers: root version 1, metadata bundle and release objects, for every
publisher whose catalog it knows; and, where it holds a beacon, the pointer that makes a name findable (BEP 44).

A machine that only pulled carries the metadata on like any other bytes: nobody has to trust it for that. Own catalogs
are signed again at half of their time, when the online key can be opened without asking.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.catalog_client import CatalogState
from samara.registry.trust.identity import ROOT_V1_NAME
from samara.registry.trust.keys import AskPassphrase, SecretKey
from samara.registry.trust.known import KnownCatalogs
from samara.registry.trust.own_catalog import renew_catalog
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import ONLINE_ROLES, Publisher, list_publishers, load_publisher
from samara.schemas.bittorrent import MAX_SMALL_FILE, small_torrent
from samara.schemas.digests import b3_hex
from samara.schemas.errors import SamaraError
from samara.schemas.events import Note, OnEvent, Warned
from samara.schemas.metadata_bundle import pack_metadata
from samara.schemas.pointer import Pointer
from samara.schemas.release_file import ReleaseBundle, pack_release_object, release_object_name, release_torrent
from samara.seeder.announce import Announcement, SmallFile

KEPT = 7200.0  # seconds that a pointer to an older catalog may still be found (BEP 44)
MOST_KEPT = 4  # catalogs of one publisher given at once
REFRESH_TRY_EVERY = 3600.0  # seconds between tries to sign a catalog again that is past half of its time
NOTHING = Announcement(files=(), pointers=())


class Announcements:
    """Gives the Announcement of the moment; the same object as long as nothing has changed. From one thread.

    `ask`: for passphrases of online and beacon keys, asked once for each publisher, at the first call. `ask_later`: of
    publishers that came after it; it must not wait for a person, as all seeding would.
    """

    def __init__(
        self,
        home: Home,
        index: Index,
        *,
        ask: AskPassphrase | None,
        ask_later: AskPassphrase | None = None,
        on_event: OnEvent,
    ) -> None:
        self._home = home
        self._index = index
        self._ask = ask
        self._ask_later = ask_later
        self._answers: dict[str, str | None] = {}  # by publisher
        self._on_event = on_event
        self._keys: dict[tuple[str, int], tuple[SecretKey, ...]] = {}  # by identity and root version
        self._beacons: dict[tuple[str, int], tuple[bytes, ...]] = {}
        self._seen: object = None
        self._last = NOTHING
        self._next_refresh = float("-inf")
        self._complained: set[str] = set()
        self._recent: dict[tuple[str, str], tuple[float, SmallFile]] = {}  # by identity and infohash

    def __call__(self) -> Announcement:
        """What to announce now. Complains of what can't be, and leaves it out."""
        now = datetime.now(UTC)
        if now.timestamp() >= self._next_refresh:
            self._next_refresh = now.timestamp() + REFRESH_TRY_EVERY
            self._refresh(now)
        try:
            seen = self._fingerprint()
            if seen != self._seen:
                for publisher in self._publishers():  # also those that have nothing to announce yet
                    self._beacon_seeds(publisher)
                self._last = self._make()
                self._seen = seen
        except SamaraError as problem:  # a busy index: what was announced stays
            self._complain(str(problem))
        self._ask = self._ask_later
        return self._last

    def _fingerprint(self) -> object:
        """Changes when anything that is announced may have."""
        return self._index.latest_release(), tuple(
            (str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in self._files()
        )

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder, name in ((self._home.keys, "catalog"), (self._home.trust, "metadata"), (self._home.keys, "roots")):
            for path in sorted(folder.glob(f"*/{name}")):
                try:
                    yield path, path.stat()
                except OSError:
                    continue

    def _make(self) -> Announcement:
        files: dict[str, SmallFile] = {}
        pointers: list[tuple[bytes, Pointer]] = []
        known = KnownCatalogs(self._home)
        own = {publisher.identity: publisher for publisher in self._publishers()}
        for identity in dict.fromkeys((*own, *self._pinned())):
            try:
                state = known.of(identity)
            except SamaraError as problem:
                self._complain(str(problem))
                continue
            if state is None:
                continue
            bundle = pack_metadata(state.bundle)
            name = f"{identity}.metadata"
            torrent = small_torrent(name, bundle)
            files[identity] = SmallFile(name=ROOT_V1_NAME, data=state.chain.roots[0])
            files[torrent.v2] = SmallFile(name=name, data=bundle)
            self._keep(identity, torrent.v2, files[torrent.v2])
            files.update(self._release_objects(state))
            if identity in own:
                pointer = Pointer(
                    bundle=torrent.v2, length=torrent.size, timestamp_version=state.catalog.versions["timestamp"]
                )
                pointers += [(seed, pointer) for seed in self._beacon_seeds(own[identity])]
        now = time.monotonic()
        for (_, v2), (until, old) in self._recent.items():
            if until > now:
                files.setdefault(v2, old)
        return Announcement(files=tuple(files.values()), pointers=tuple(pointers))

    def _keep(self, identity: str, v2: str, bundle: SmallFile) -> None:
        """Go on giving a catalog for a while after the next one: some still hear the pointer to it."""
        now = time.monotonic()
        self._recent = {key: kept for key, kept in self._recent.items() if kept[0] > now}
        self._recent[identity, v2] = (now + KEPT, bundle)
        mine = [key for key in self._recent if key[0] == identity]
        for key in mine[:-MOST_KEPT]:
            del self._recent[key]

    def _release_objects(self, state: CatalogState) -> Iterator[tuple[str, SmallFile]]:
        """Of what the catalog lists, whatever the index holds, byte for byte as it was listed; by infohash."""
        held = set(self._index.manifests())
        for entry in state.catalog.entries.values():
            if entry.manifest not in held:
                continue
            stored = self._index.release_by_digest(entry.manifest)
            if stored is None:
                continue
            bundle = ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents)
            data = pack_release_object(bundle)
            if len(data) <= MAX_SMALL_FILE and release_torrent(bundle).v2 == entry.release_v2:
                yield entry.release_v2, SmallFile(name=release_object_name(b3_hex(entry.manifest)), data=data)

    def _publishers(self) -> Iterator[Publisher]:
        for name in list_publishers(self._home):
            try:
                yield load_publisher(self._home, name)
            except SamaraError as problem:
                self._complain(str(problem))

    def _pinned(self) -> Iterator[str]:
        try:
            yield from (pin.identity for pin in TrustFolder(self._home.trust).list())
        except SamaraError as problem:
            self._complain(str(problem))

    def _beacon_seeds(self, publisher: Publisher) -> tuple[bytes, ...]:
        """Of every beacon it ever had whose key is here: who knows only an old root looks under the old one."""
        at = (publisher.identity, publisher.chain.version)
        if at not in self._beacons:
            beacons = {view.beacon for view in publisher.chain.views}
            seeds = []
            for record in publisher.keys:
                if record.public_bytes in beacons and publisher.key_path(record).exists():
                    try:
                        seeds.append(publisher.open_key(record, self._asking(publisher)).seed)
                    except SamaraError as problem:
                        self._complain(f"{publisher.name} can't be found by its name alone: {problem}")
            self._beacons[at] = tuple(seeds)
        return self._beacons[at]

    def _refresh(self, now: datetime) -> None:
        """Sign catalogs again that are past half of their time."""
        for publisher in self._publishers():
            try:
                if renew_catalog(self._home, publisher, partial(self._online, publisher), now=now):
                    self._on_event(Note(message=f"signed the catalog of {publisher.name} again"))
            except SamaraError as problem:
                self._complain(f"the catalog of {publisher.name} could not be signed again: {problem}")

    def _online(self, publisher: Publisher) -> tuple[SecretKey, ...]:
        at = (publisher.identity, publisher.chain.version)
        if at not in self._keys:
            self._keys[at] = publisher.open_keys(ONLINE_ROLES, self._asking(publisher))
        return self._keys[at]

    def _asking(self, publisher: Publisher) -> AskPassphrase:
        """Says what was said before; asks where nothing was."""

        def ask(what: str) -> str | None:
            if self._answers.get(publisher.name) is None and self._ask is not None:
                self._answers[publisher.name] = self._ask(what)
            return self._answers.get(publisher.name)

        return ask

    def _complain(self, trouble: str) -> None:
        if trouble not in self._complained:
            self._complained.add(trouble)
            self._on_event(Warned(message=trouble))
