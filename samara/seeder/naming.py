"""Finding what a name stands for without a server: identity → root version 1, beacon → pointer → metadata bundle.

Fetches bytes that fit their infohash and sizes that were announced; believes none of them, that is
`samara.registry.trust`'s business. Works inside a session that goes on afterwards: what happens meanwhile to other
torrents is handed to `on_event`. Leaves no files behind, also when interrupted.

    root = fetch_root(swarm, infohash, folder)                               # only at first contact
    found = find_catalog(swarm, beacon, folder, peers=root.peers)            # whoever had one has the other
    release = fetch_small(swarm, btmh, folder, max_size=…, peers=found.peers)
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from samara.registry.trust.identity import MAX_ROOT_V1_BYTES, ROOT_V1_NAME
from samara.schemas.bittorrent import MAX_SMALL_FILE
from samara.schemas.errors import DiskFullError, MalformedError, NetworkError, NotFoundError, StoreError
from samara.schemas.metadata_bundle import MAX_BUNDLE_BYTES
from samara.schemas.pointer import SALT, Pointer, unpack_pointer
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import (
    WRONG_BYTES,
    DiskFailed,
    ItemFound,
    PeerBanned,
    PeerLost,
    PieceFailed,
    SmallGone,
    SmallReady,
    SmallRefused,
    SwarmEvent,
)

Endpoint = tuple[str, int]
OnSwarmEvent = Callable[[SwarmEvent], None]

FILE_WITHIN = 20.0  # seconds without a byte of a small file
LOOK = 0.1  # seconds between looks while nothing happens
ANSWER_WITHIN = 10.0  # seconds after which an answer of the DHT is taken for lost
ASK_AGAIN = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds after an answer that there is nothing; the last of them from then on
SURE_AFTER = 3  # such answers
AT_MOST = 15  # times that, altogether, for one that comes in drops
ALONE_QUIET = 3.0  # seconds without a byte after which the next of several peers is asked alone
RETELL_EVERY = 3.0  # seconds between tries to find peers while there are none
UTP_AFTER = 8.0  # seconds without anybody over TCP
GONE_WITHIN = 5.0  # seconds that libtorrent has for deleting a file
NAMED = 3  # peers in a message


def pass_over(_event: SwarmEvent) -> None:
    """An `on_event` for a session in which nothing else goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """Seconds. `item`: for what a key has signed; `file`: without a byte of a small file.

    `settled`: after which a find is taken for the newest although not every node has answered: one that died a moment
    ago is waited for by libtorrent for 15 s. `absent`: how long "there is nothing" isn't believed yet, while a session
    gets to know the DHT.
    """

    item: float = 20.0
    settled: float = 0.75
    absent: float = 5.0
    file: float = FILE_WITHIN


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundSmall:
    """A small file's bytes, and who has them: (host, port) of peers to ask for what comes next."""

    data: bytes
    peers: tuple[Endpoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundBundle:
    """A metadata bundle's bytes as its publisher's beacon pointed to, unproven, and who has them."""

    data: bytes
    pointer: Pointer
    peers: tuple[Endpoint, ...]


def fetch_root(
    swarm: Swarm,
    infohash: str,
    folder: Path,
    *,
    peers: Iterable[Endpoint] = (),
    timeout: float = FILE_WITHIN,
    on_event: OnSwarmEvent = pass_over,
) -> FoundSmall:
    """Root version 1 by the infohash (64 hex digits) that an identity is. Raises as `fetch_small` does."""
    return fetch_small(
        swarm, infohash, folder,
        max_size=MAX_ROOT_V1_BYTES, file_name=ROOT_V1_NAME, peers=peers, timeout=timeout, on_event=on_event,
    )  # fmt: skip


def find_catalog(
    swarm: Swarm,
    beacon: bytes,
    folder: Path,
    *,
    peers: Iterable[Endpoint] = (),
    patience: Patience | None = None,
    on_event: OnSwarmEvent = pass_over,
) -> FoundBundle:
    """The metadata bundle that a beacon (32 bytes, an Ed25519 key) points to now.

    Raises NotFoundError when the beacon points nowhere, MalformedError when to something impossible, else as
    `fetch_small` does.
    """
    patience = patience or Patience()
    pointer = find_pointer(swarm, beacon, patience=patience, on_event=on_event)
    while True:
        try:
            found = fetch_small(
                swarm, pointer.bundle, folder, max_size=MAX_BUNDLE_BYTES, exact_size=pointer.length, peers=peers,
                timeout=patience.file, on_event=on_event,
            )  # fmt: skip
        except NetworkError:
            # its seeder lets go of a catalog when there is a newer one: perhaps that was just now
            newer = find_pointer(swarm, beacon, patience=patience, on_event=on_event)
            if newer.timestamp_version <= pointer.timestamp_version:
                raise
            pointer = newer
        else:
            return FoundBundle(data=found.data, pointer=pointer, peers=found.peers)


def find_pointer(
    swarm: Swarm, beacon: bytes, *, patience: Patience | None = None, on_event: OnSwarmEvent = pass_over
) -> Pointer:
    """What a beacon (32 bytes, an Ed25519 key) has signed into the DHT last, as far as the DHT knows (BEP 44).

    Raises NotFoundError when there is nothing, MalformedError when it is no pointer, NetworkError without a DHT.
    """
    if not swarm.has_dht:
        raise NetworkError("no DHT to look up a publisher's catalog in", next_step="name a node of one by --dht-node")
    patience = patience or Patience()
    started = time.monotonic()
    lookup = _Lookup()
    while (now := time.monotonic()) < started + patience.item:
        if swarm.dht_size and lookup.is_due(now):
            lookup.asked_at = now
            swarm.get_item(beacon, SALT)
        for happened in swarm.poll(LOOK):
            if isinstance(happened, ItemFound) and (happened.public, happened.salt) == (beacon, SALT):
                lookup.take(happened, time.monotonic())
            else:
                on_event(happened)
        if lookup.is_settled(time.monotonic(), patience.settled):
            break
        if lookup.absences >= SURE_AFTER and time.monotonic() >= started + patience.absent:
            break
    if lookup.best is not None and lookup.best.value is not None:
        return unpack_pointer(lookup.best.value)
    if not swarm.dht_size or not lookup.absences:
        raise NetworkError(
            f"no answer from the DHT within {patience.item:.0f} s ({swarm.dht_size} nodes known)",
            next_step="check the network, or name a node by --dht-node",
        )
    raise NotFoundError(
        "this publisher's catalog is not in the DHT", next_step="its seeder may be off: try later, or name a registry"
    )


@dataclass(kw_only=True, slots=True)
class _Lookup:
    """Where the look-up of one item stands. `asked_at`: since when an answer is due; None: none is."""

    asked_at: float | None = None
    ask_at: float = float("-inf")
    absences: int = 0
    best: ItemFound | None = None
    best_at: float = 0.0

    def is_due(self, now: float) -> bool:
        if self.asked_at is not None:
            return now - self.asked_at > ANSWER_WITHIN
        return now >= self.ask_at

    def is_settled(self, now: float, settled: float) -> bool:
        return self.best is not None and (self.asked_at is None or now - self.best_at >= settled)

    def take(self, found: ItemFound, now: float) -> None:
        if found.value is not None and (self.best is None or found.seq > self.best.seq):
            self.best, self.best_at = found, now
        if found.authoritative and self.asked_at is not None:
            self.asked_at = None
            self.ask_at = now + ASK_AGAIN[min(self.absences, len(ASK_AGAIN) - 1)]
            self.absences += self.best is None


def fetch_small(
    swarm: Swarm,
    v2_hex: str,
    folder: Path,
    *,
    max_size: int = MAX_SMALL_FILE,
    exact_size: int | None = None,
    file_name: str | None = None,
    peers: Iterable[Endpoint] = (),
    timeout: float = FILE_WITHIN,
    on_event: OnSwarmEvent = pass_over,
) -> FoundSmall:
    """The small file of an infohash (64 hex digits) from `peers` and those found; `folder` is left as it was.

    Raises NetworkError when nothing came for `timeout` seconds, MalformedError when what the infohash names has another
    size (bytes), name or shape, before any of it is fetched; DiskFullError, StoreError.

    Of one piece nobody can say who of several gave the wrong part. Then they are asked again one by one, and who gives
    wrong bytes alone is banned.
    """
    known = dict.fromkeys(peers)
    if not known and not swarm.finds_peers:
        raise _nobody(v2_hex, {})
    one_by_one: list[Endpoint] = []
    last = time.monotonic() + timeout * AT_MOST
    while True:
        alone = one_by_one.pop(0) if one_by_one else None
        attempt = _Attempt(
            swarm=swarm, name=v2_hex, on_event=on_event, alone=alone, last=last,
            peers=tuple(known) if alone is None else (alone,), quiet=timeout if alone is None else ALONE_QUIET,
        )  # fmt: skip
        place = folder / v2_hex
        swarm.add_small_fetch(
            v2_hex, place, max_size=max_size, exact_size=exact_size, file_name=file_name,
            peers=attempt.peers, find=alone is None,
        )  # fmt: skip
        try:
            return attempt.wait()
        except NetworkError:
            if alone is None or time.monotonic() >= last:
                raise
        except _LiedError as lied:
            if alone is None:
                known.update(dict.fromkeys(lied.peers))
                one_by_one = list(known)
            else:
                known.pop(alone, None)
                swarm.ban(alone[0])
        finally:
            try:
                _remove(swarm, v2_hex, on_event)
            finally:
                shutil.rmtree(place, ignore_errors=True)


class _LiedError(Exception):
    """The bytes that came were wrong. `peers`: who is connected, the liar perhaps among them."""

    def __init__(self, peers: tuple[Endpoint, ...]) -> None:
        super().__init__("wrong bytes")
        self.peers = peers


def _remove(swarm: Swarm, name: str, on_event: OnSwarmEvent) -> None:
    """Returns when libtorrent won't touch the file any more."""
    swarm.remove(name)
    deadline = time.monotonic() + GONE_WITHIN
    gone = False
    while not gone and time.monotonic() < deadline:
        for happened in swarm.poll(LOOK):
            if isinstance(happened, SmallGone) and happened.torrent == name:
                gone = True
            elif happened.torrent != name:
                on_event(happened)


@dataclass(kw_only=True, slots=True)
class _Attempt:
    """One try to get one small file. `last`: when it must end in any case; `quiet`: seconds without a byte."""

    swarm: Swarm
    name: str
    peers: tuple[Endpoint, ...]
    alone: Endpoint | None
    quiet: float
    last: float
    on_event: OnSwarmEvent
    losses: dict[str, str] = field(default_factory=dict)

    def wait(self) -> FoundSmall:
        """The file. Raises what `fetch_small` raises, and _LiedError."""
        now = time.monotonic()
        deadline, utp_at, tell_at, got = now + self.quiet, now + UTP_AFTER, now + RETELL_EVERY, 0
        while (now := time.monotonic()) < min(deadline, self.last):
            if now >= tell_at:
                tell_at = now + RETELL_EVERY
                self._tell()
            if now >= utp_at and not self.swarm.peers(self.name):
                utp_at = deadline
                self.swarm.allow_utp()
            for happened in self.swarm.poll(min(LOOK, deadline - now)):
                if happened.torrent != self.name:
                    self.on_event(happened)
                elif (found := self._take(happened)) is not None:
                    return found
            before, got = got, self.swarm.status(self.name).downloaded
            if got > before:
                deadline = time.monotonic() + self.quiet
        raise NetworkError(
            f"nobody gave the file of infohash {self.name} within {self.quiet:.0f} s ({_why(self.losses)})",
            next_step="try later, or name a peer by --peer",
        )

    def _take(self, happened: SwarmEvent) -> FoundSmall | None:
        if isinstance(happened, SmallReady):
            return FoundSmall(data=happened.data, peers=happened.peers or self.peers)
        if isinstance(happened, SmallRefused):
            raise MalformedError(happened.reason)
        if isinstance(happened, DiskFailed):
            raise _disk_error(happened)
        if isinstance(happened, PieceFailed):
            raise _LiedError(self.swarm.peers(self.name))
        if isinstance(happened, PeerLost):
            self.losses[happened.endpoint] = happened.reason
        elif isinstance(happened, PeerBanned):
            self.losses[happened.endpoint] = WRONG_BYTES
        return None

    def _tell(self) -> None:
        """Look for peers while there is none. Raises NetworkError when none can turn up."""
        if self.swarm.peers(self.name):
            return
        if self.alone is None:
            self.swarm.look_for_peers(self.name)
        lost = self.swarm.connect(self.name, self.peers)
        if len(lost) == len(self.peers) and not self.swarm.finds_peers:
            raise _nobody(self.name, lost)
        self.losses.update(lost)


def _nobody(name: str, lost: dict[str, str]) -> NetworkError:
    return NetworkError(
        f"nobody to ask for the file of infohash {name}" + (f" ({_why(lost)})" if lost else ""),
        next_step="name a peer by --peer, or a node of a DHT by --dht-node",
    )


def _why(losses: dict[str, str]) -> str:
    return "; ".join(f"{peer}: {reason}" for peer, reason in list(losses.items())[-NAMED:]) or "nobody answered"


def _disk_error(failed: DiskFailed) -> DiskFullError | StoreError:
    if failed.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError(f"no room on the disk ({failed.message})", next_step="free some space")
    return StoreError(f"can't keep a file for a moment ({failed.message})", next_step="check the disk")
