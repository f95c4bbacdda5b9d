"""Bringing the bytes of blobs: transfers, peers and mirrors served in one loop. What pull and repair share.

Whatever ends it (Ctrl-C, a full disk, nobody left, `samara cancel`), what has arrived is flushed and recorded first.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from samara.fetcher.carrier import Carrier
from samara.fetcher.control import Control
from samara.fetcher.later import LaterIndex
from samara.fetcher.mirrors.pool import MirrorPool
from samara.fetcher.mirrors.verdicts import MirrorRejected
from samara.fetcher.options import PullOptions
from samara.fetcher.partial import Partial
from samara.fetcher.plan import require_sources
from samara.fetcher.session import Session
from samara.fetcher.transfer import State, Transfer
from samara.fetcher.watch import Planned, Watch
from samara.registry.home import Home
from samara.registry.registries import blob_mirror
from samara.schemas.bittorrent import ParsedTorrent
from samara.schemas.endpoints import format_endpoint
from samara.schemas.errors import SamaraError
from samara.schemas.events import Note, OnEvent
from samara.schemas.manifest import ReleaseFile
from samara.seeder.swarm_events import EventsLost, Flushed

LAST_FLUSH = 3.0  # seconds a pull that ends early waits for its last bytes to be written
STOOD_STILL = 5.0  # seconds between two rounds of the loop after which the process was surely stopped in between
NOTE_EVERY = 0.5  # seconds between two looks at who has given how much
LOOK_EVERY = 0.1  # seconds to wait for peers in one round
LOOK_EVERY_WITH_MIRRORS = 0.02  # and when mirrors bring pieces, which don't wake the swarm's wait


class Fetching:
    """One command's transfers. Single-threaded; disk and mirrors have threads of their own."""

    def __init__(
        self,
        home: Home,
        index: LaterIndex,
        options: PullOptions,
        session: Session,
        control: Control,
        on_event: OnEvent,
        *,
        started: float,
    ) -> None:
        self._home = home
        self._index = index
        self._options = options
        self._session = session
        self._control = control
        self._on_event = on_event
        self._started = started
        self._noted_at = float("-inf")
        self.transfers: list[Transfer] = []
        self.planned = Planned()
        self.first_byte: float | None = None

    def require_sources(self, missing: int, files: Iterable[ReleaseFile]) -> None:
        """Raise NetworkError if so many pieces must come and there is nobody to ask."""
        require_sources(
            missing,
            peers=len(self._session.peers),
            discovery=self._options.discovery,
            mirrors=self._has_mirrors(files),
        )

    def prepare(
        self,
        file: ReleaseFile,
        torrent: ParsedTorrent,
        partial: Partial,
        *,
        publish: Callable[[Path], Path] | None = None,
        in_order: bool = False,
    ) -> Transfer:
        """A transfer that knows what its partial holds. The caller holds the partial's lock, and closes it."""
        return Transfer(
            self._home,
            file,
            torrent,
            partial,
            pool=self._session.pool(),
            threads=self._session.threads(),
            mirrors=self._mirrors_of(file),
            in_order=in_order,
            handed_on=in_order,
            checkpoint_seconds=self._options.checkpoint_seconds,
            publish=publish,
            on_event=self._on_event,
        )

    def run(
        self,
        batch: Sequence[Transfer],
        *,
        on_done: Callable[[Transfer], None],
        on_round: Callable[[Transfer], None] = lambda _transfer: None,
    ) -> None:
        """Bring them all. `on_round` is called for each again and again while it is on its way.

        Raises NetworkError, DiskFullError, StoreError, IntegrityError, InterruptedByUser (`samara cancel`).
        """
        self.transfers += batch
        if not batch:
            return
        carrier = self._session.carrier()
        try:
            self._loop(carrier, batch, on_done, on_round)
        except BaseException:  # Ctrl-C, a full disk, nobody left, a broken pipe: whatever ends it
            self._save_progress(carrier, batch)
            raise
        finally:
            self._note_contacts(batch)
            self._credit(batch)

    def _has_mirrors(self, files: Iterable[ReleaseFile]) -> bool:
        return any(self._mirrors_of(file) for file in files)

    def _reject(self, transfer: Transfer, rejected: MirrorRejected) -> None:
        origin = next((one for one in self._options.registries if rejected.url.startswith(f"{one}/v1/blobs/")), None)
        if origin is not None and rejected.absent:
            # it lists what its publisher proves; nobody promised that it has the bytes
            self._on_event(Note(message=f"{origin} doesn't have {transfer.file.path}"))
        else:
            transfer.blame.mirror_failed(rejected)

    def _mirrors_of(self, file: ReleaseFile) -> tuple[str, ...]:
        """Those that its publisher named, and registries, which have it or say that they don't."""
        if not self._options.mirrors:
            return ()
        registries = (blob_mirror(origin, file.b3_hex) for origin in self._options.registries)
        return tuple(dict.fromkeys((*file.mirrors, *registries)))

    def _loop(
        self,
        carrier: Carrier,
        batch: Sequence[Transfer],
        on_done: Callable[[Transfer], None],
        on_round: Callable[[Transfer], None],
    ) -> None:
        now = time.monotonic()
        pool, contacts = self._session.pool(), self._session.contacts
        watch = Watch(
            self._session.peers,
            nobody_else=not self._options.discovery and not self._has_mirrors(t.file for t in batch),
            give_up_after=self._options.give_up_after,
            now=now,
        )
        self._note_refused_peers()
        self._control.look(carrier, pool, now, came=(0, 0))  # one that begins while paused asks nobody
        for transfer in batch:
            transfer.start(carrier, now)
        self._index.begin()
        may_find_peers = carrier.has_peers and (self._options.discovery or bool(self._session.peers))
        unfinished = list(batch)
        while unfinished:
            only_commits = all(transfer.state is State.COMMITTING for transfer in unfinished)
            patience = 0.0 if only_commits else LOOK_EVERY_WITH_MIRRORS if pool.is_busy else LOOK_EVERY
            for happened in carrier.poll(patience):
                contacts.heard(happened)
                watch.handle(carrier, happened)
                for transfer in unfinished:
                    if happened.torrent == transfer.name or isinstance(happened, EventsLost):
                        transfer.handle(carrier, happened)
            if only_commits:
                unfinished[0].wait(0.05)
            before, now = now, time.monotonic()
            for rejected in pool.tick(now, carrier):
                watch.mirror_failed(rejected)
                for transfer in unfinished:
                    if transfer.name == rejected.torrent and rejected.is_news:
                        self._reject(transfer, rejected)
            for transfer in unfinished:
                transfer.tick(carrier, now)
                on_round(transfer)
                while transfer.blame.pardoned:
                    watch.pardon(transfer.blame.pardoned.pop())
            self._note_first_byte(now)
            self._index.check()
            for progress in watch.progress(unfinished, now):
                self._on_event(progress)
            for overall in watch.overall(self.transfers, self.planned, now):
                self._on_event(overall)
            if now - self._noted_at >= NOTE_EVERY:
                self._noted_at = now
                self._note_contacts(unfinished)
            for transfer in unfinished:
                if transfer.state is State.DONE:
                    on_done(transfer)
            unfinished = [transfer for transfer in unfinished if transfer.state is not State.DONE]
            came = (sum(t.ledger.from_peers for t in batch), sum(t.ledger.from_mirrors for t in batch))
            held_up = self._control.look(carrier, pool, now, came=came)
            if held_up or now - before > STOOD_STILL:
                watch.slept(now)
            if not held_up:
                watch.look_after(carrier, unfinished, now)
                if not may_find_peers and self._is_hopeless(pool, unfinished, now):
                    raise watch.nobody_left()

    def _is_hopeless(self, pool: MirrorPool, transfers: Sequence[Transfer], now: float) -> bool:
        """Whether nothing can come before this pull would give up anyway."""
        fetching = [transfer for transfer in transfers if transfer.state is State.FETCHING]
        until = now + self._options.give_up_after
        return bool(fetching) and all(pool.is_hopeless(transfer.name, until) for transfer in fetching)

    def _note_first_byte(self, now: float) -> None:
        if self.first_byte is None and any(t.ledger.downloaded for t in self.transfers):
            self.first_byte = now - self._started

    def _note_contacts(self, transfers: Iterable[Transfer]) -> None:
        contacts, pool = self._session.contacts, self._session.pool()
        for transfer in transfers:
            contacts.sampled(transfer.name, transfer.connections)
            contacts.mirror_bytes(pool.bytes_from(transfer.name))

    def _note_refused_peers(self) -> None:
        for host, port in self._session.peers:
            with contextlib.suppress(ValueError):  # a name: what it leads to is judged when it is connected to
                ipaddress.ip_address(host)
                why = self._options.policy.why_not(host, vouched=True)
                if why is not None:
                    self._session.contacts.refused("peer", format_endpoint((host, port)), why)

    def _credit(self, transfers: Iterable[Transfer]) -> None:
        """Whose pieces were in blocks that have been proven, and whose were wrong."""
        contacts = self._session.contacts
        for transfer in transfers:
            for pieces in transfer.proven_blocks():
                contacts.block_verified(transfer.name, pieces)
            for kind, source, evidence in transfer.blame.evidence:
                contacts.rejected(kind, source, evidence)

    def _save_progress(self, carrier: Carrier, batch: Sequence[Transfer]) -> None:
        """The pull ends early: let what has arrived be written, and record it."""
        with contextlib.suppress(SamaraError):
            self._session.pool().pause()
            self._session.pool().tick(time.monotonic(), carrier)  # pieces that mirrors brought a moment ago
        waiting = {transfer.name: transfer for transfer in batch if transfer.begin_last_flush(carrier)}
        deadline = time.monotonic() + LAST_FLUSH
        while waiting and time.monotonic() < deadline:
            for happened in carrier.poll(0.1):
                if isinstance(happened, Flushed) and happened.torrent in waiting:
                    with contextlib.suppress(SamaraError):  # what ended the pull is the news, not that this failed too
                        waiting.pop(happened.torrent).finish_last_flush()
