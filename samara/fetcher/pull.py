"""Pulling a release: trust → plan → swarm and mirrors → verified blobs → model view. Resuming is the same path.

This file is the loop and its order; deciding is `plan`, one blob's work is `transfer`, what survives a kill is
`partial`. Everything fetched and proven so far is kept whatever ends the pull: Ctrl-C, a full disk, no peers, kill -9.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from samara.fetcher.catalogs import Asking
from samara.fetcher.gather import gather
from samara.fetcher.held import Resolved
from samara.fetcher.later import LaterIndex
from samara.fetcher.partial import Partial, sweep_removed
from samara.fetcher.plan import FileFacts, Plan, chosen, plan_pull, require_room, require_sources
from samara.fetcher.recheck import recheck
from samara.fetcher.resolve import resolve
from samara.fetcher.session import Session
from samara.fetcher.transfer import CHECKPOINT_SECONDS, State, Transfer
from samara.fetcher.watch import Watch
from samara.registry.durable import make_folder, write_durably
from samara.registry.home import Home
from samara.registry.store import READ_ONLY, clone, free_bytes, link_into, link_view, seal, stamp_at, whole_copy
from samara.registry.sweep import sweep, sweep_folder
from samara.schemas.bittorrent import ParsedTorrent
from samara.schemas.errors import IntegrityError, SamaraError, UsageError
from samara.schemas.events import (
    FileReady,
    Note,
    OnEvent,
    PullPlanned,
    Reached,
    SourceRejected,
    WaitingForOther,
    Warned,
    ignore,
)
from samara.schemas.manifest import ReleaseFile
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import EventsLost, Flushed
from samara.seeder.swarm_options import SwarmOptions

if TYPE_CHECKING:
    from samara.registry.index import Index

AT_ONCE = 64  # blobs on their way at once: each holds two files open and a few threads
LAST_FLUSH = 3.0  # seconds a pull that ends early waits for its last bytes to be written
GIVE_UP_AFTER = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PullOptions:
    """Where from and where to. Seconds: `give_up_after` without a byte, `checkpoint_seconds` from record to record.

    `include`, `exclude`: patterns of the paths of files to get, all without them. `adopt`: others' files and folders to
    look for blocks in. `sources`: where to ask for catalogs, beside what is configured. `allow_stale`: take an expired
    catalog knowingly.
    """

    swarm: SwarmOptions = field(default_factory=SwarmOptions)
    peers: tuple[tuple[str, int], ...] = ()
    mirrors: bool = True
    peer_to_peer: bool = True
    to: Path | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    adopt: tuple[Path, ...] = ()
    sources: tuple[str, ...] = ()
    allow_stale: bool = False
    give_up_after: float = GIVE_UP_AFTER
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    @property
    def told_peers(self) -> tuple[tuple[str, int], ...]:
        """The peers to ask."""
        return self.peers if self.peer_to_peer else ()

    @property
    def session_options(self) -> SwarmOptions:
        """How the swarm session of this pull behaves."""
        return self.swarm if self.peer_to_peer else self.swarm.mirrors_only()

    @property
    def can_ask_peers(self) -> bool:
        """Whether metadata may be asked of peers: told ones, or those that the DHT names."""
        return self.peer_to_peer and (self.swarm.dht or bool(self.peers))

    @property
    def discovery(self) -> bool:
        """Whether peers can be found without being told."""
        return self.peer_to_peer and (self.swarm.dht or self.swarm.lan)


@dataclass(frozen=True, kw_only=True, slots=True)
class PulledFile:
    """One file, whole and verified, and where it lies."""

    path: str
    blob: str
    size: int
    location: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulled:
    """What a pull did. Bytes from peers and mirrors count what came over the network, wasted bytes included."""

    reference: str
    identity: str
    manifest: str
    version: int
    files: tuple[PulledFile, ...]
    bytes_total: int
    bytes_reused: int
    bytes_from_peers: int
    bytes_from_mirrors: int
    rejected: tuple[SourceRejected, ...]
    seconds: float
    seconds_to_first_byte: float | None


def pull(home: Home, source: str, options: PullOptions | None = None, *, on_event: OnEvent = ignore) -> Pulled:
    """Get every file of the release that `source` names.

    Raises NotFoundError, TrustError, IntegrityError, DiskFullError, NetworkError (nobody had the bytes), StoreError;
    KeyboardInterrupt passes through after progress was recorded.
    """
    started = time.monotonic()
    options = options or PullOptions()
    home.prepare()
    sweep(home, now=time.time())
    if options.to is not None:
        sweep_folder(options.to, now=time.time())
    if options.to is not None and options.to.resolve().is_relative_to(home.root.resolve()):
        raise UsageError(f"{options.to} lies inside the store", next_step="choose another folder for --to")
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(
            Session(home, options.session_options, peers=options.told_peers, on_event=on_event)
        )
        asking = Asking(
            now=datetime.now(UTC),
            sources=options.sources,
            finder=session.finder if options.can_ask_peers else None,
            allow_stale=options.allow_stale,
            on_event=on_event,
        )
        resolved = resolve(home, source, asking)
        on_event(Note(message=resolved.says))
        index = stack.enter_context(LaterIndex(home))
        torrents = {b3: torrent.canonical for b3, torrent in resolved.verified.torrents.items()}
        index.then(
            lambda known: known.add_release(resolved.release, resolved.verified.envelope, torrents, now=time.time())
        )
        pulling = _Pulling(home, index, resolved, options, session, on_event, started)
        pulling.run()
        return pulling.result()


class _Pulling:
    """One pull in progress."""

    def __init__(
        self,
        home: Home,
        index: LaterIndex,
        resolved: Resolved,
        options: PullOptions,
        session: Session,
        on_event: OnEvent,
        started: float,
    ) -> None:
        self._home = home
        self._later = index
        self._resolved = resolved
        self._options = options
        self._session = session
        self._on_event = on_event
        self._started = started
        self._files = chosen(resolved.release.files, options.include, options.exclude)
        self._size = sum(file.size for file in self._files)
        self._transfers: list[Transfer] = []
        self._first_byte: float | None = None
        self._here: dict[str, Path] = {}
        self._shown: dict[str, Path] = {}
        self._given: set[str] = set()
        self._reused = 0

    @property
    def _index(self) -> Index:
        return self._later.get()

    def run(self) -> None:
        sweep_removed(self._home)
        for file in self._files:
            self._look_for(file)
        for file in self._files:
            self._check_target(file)
        plan = self._plan()
        require_room(plan, free_bytes(self._home.root), str(self._home.root))
        if not self._may_reuse:
            self._require_sources(sum(file.piece_count for file in plan.to_fetch), plan.to_fetch)
        self._reused = sum(file.size for file in self._files if file.b3 in self._here)
        # always in the same order: two pulls that want each other's blobs must not wait for each other
        wanted = sorted(plan.to_fetch, key=lambda file: file.b3)
        for start in range(0, max(1, len(wanted)), AT_ONCE):
            with contextlib.ExitStack() as stack:
                now, later = wanted[start : start + AT_ONCE], wanted[start + AT_ONCE :]
                batch = [found for file in now if (found := self._prepare(file, stack)) is not None]
                self._require_sources(sum(t.pieces_missing for t in batch), [t.file for t in batch])
                if start == 0:
                    self._say_what_is_missing(batch, later)
                self._transfers += batch
                if batch:
                    self._transfer(batch)
        for file in self._files:
            self._show(file)

    def result(self) -> Pulled:
        release = self._resolved.release
        return Pulled(
            reference=self._resolved.reference,
            identity=release.identity,
            manifest=release.digest,
            version=release.version,
            files=tuple(
                PulledFile(path=file.path, blob=file.b3, size=file.size, location=self._shown[file.path])
                for file in self._files
            ),
            bytes_total=self._size,
            bytes_reused=self._reused + sum(transfer.reused for transfer in self._transfers),
            bytes_from_peers=sum(transfer.ledger.from_peers for transfer in self._transfers),
            bytes_from_mirrors=sum(transfer.ledger.from_mirrors for transfer in self._transfers),
            rejected=tuple(item for transfer in self._transfers for item in transfer.rejected),
            seconds=time.monotonic() - self._started,
            seconds_to_first_byte=self._first_byte,
        )

    # -- what is here already ------------------------------------------------------------------------------------

    def _look_for(self, file: ReleaseFile) -> None:
        """Note where the whole blob lies, if it does."""
        if self._is_surely_not_here(file):
            return
        blob = self._index.blob(file.b3)
        place = None if blob is None else whole_copy(blob)
        if place is not None:
            if place.path == self._home.blob(file.b3_hex):
                seal(place.path)  # `verify` or `seed` may have recorded it where a kill left it writable
            self._here[file.b3] = place.path
            self._sweep(file)
            return
        path = self._home.blob(file.b3_hex)
        if file.inline is not None:
            make_folder(path.parent)
            write_durably(path, file.inline, mode=READ_ONLY)
            self._arrived(file, path)
        elif path.is_file():
            self._adopt_store_file(file, path)

    def _is_surely_not_here(self, file: ReleaseFile) -> bool:
        """Whether the index need not be asked: nothing was ever kept here, or the blob's transfer has begun."""
        if file.inline is not None or self._home.blob(file.b3_hex).exists():
            return False
        partial = Partial(self._home, file.b3_hex)
        return (partial.data.exists() and not partial.has_news()) or not self._home.index.exists()

    def _adopt_store_file(self, file: ReleaseFile, path: Path) -> None:
        """A file in the store that the index doesn't vouch for: killed between rename and record, or damaged."""
        checked = recheck(path, file, on_event=self._on_event, name=file.path)
        if checked.ok:
            seal(path)  # the kill may have come before that
            self._arrived(file, path)
            self._sweep(file)
            return
        self._on_event(
            Warned(message=f"{path} is damaged ({len(checked.bad)} bad blocks); fetching what is wrong in it")
        )
        partial = Partial(self._home, file.b3_hex)
        with partial.locked(on_wait=lambda: self._on_event(WaitingForOther(path=file.path)), give_up=lambda: False):
            if not partial.data.exists():
                # a copy, not the file itself: others may have it open or hard-linked
                clone(path, partial.data)

    def _check_target(self, file: ReleaseFile) -> None:
        """Say before fetching that `to` has another file of that name. The same bytes, put there before, are fine."""
        if self._options.to is None:
            return
        target = self._options.to / file.path
        blob = self._here.get(file.b3)
        if not target.exists() or (blob is not None and target.samefile(blob)):
            return
        same_size = target.is_file() and target.stat().st_size == file.size
        if not same_size or not recheck(target, file, on_event=self._on_event).ok:
            raise UsageError(f"{target} already exists and is something else", next_step="move it away or choose --to")
        self._given.add(file.path)

    def _sweep(self, file: ReleaseFile) -> None:
        """The blob is here: remove the transfer that a process left behind when it was killed after the rename."""
        partial = Partial(self._home, file.b3_hex)
        if partial.folder.exists():
            with partial.locked(on_wait=lambda: None, give_up=lambda: True) as ours:
                if ours:
                    self._end_partial(file)

    def _end_partial(self, file: ReleaseFile) -> None:
        """Nothing more is to be done for a blob. Only for whoever holds the partial's lock."""
        self._index.end_partial(file.b3)
        Partial(self._home, file.b3_hex).remove()

    def _plan(self) -> Plan:
        return plan_pull(
            [
                FileFacts(
                    file=file,
                    is_here=file.b3 in self._here,
                    allocated=Partial(self._home, file.b3_hex).allocated(),
                )
                for file in self._files
            ]
        )

    def _has_mirrors(self, files: Iterable[ReleaseFile]) -> bool:
        return self._options.mirrors and any(file.mirrors for file in files)

    @property
    def _may_reuse(self) -> bool:
        """Whether blocks may lie here: something was kept before, or people point to files."""
        return bool(self._options.adopt) or self._home.index.exists()

    def _require_sources(self, missing: int, files: Iterable[ReleaseFile]) -> None:
        require_sources(
            missing,
            peers=len(self._session.peers),
            discovery=self._options.discovery,
            mirrors=self._has_mirrors(files),
        )

    # -- fetching ------------------------------------------------------------------------------------------------

    def _prepare(self, file: ReleaseFile, stack: contextlib.ExitStack) -> Transfer | None:
        """Take the blob's lock, then find out what its partial holds. If another process finishes it first: done."""
        torrent = self._resolved.verified.torrents[file.b3]
        partial = Partial(self._home, file.b3_hex, torrent.v2)

        def finished_elsewhere() -> bool:
            if self._is_surely_not_here(file):
                return False
            blob = self._index.blob(file.b3)
            return blob is not None and whole_copy(blob) is not None

        ours = stack.enter_context(
            partial.locked(
                on_wait=lambda: self._on_event(WaitingForOther(path=file.path)), give_up=finished_elsewhere
            )
        )  # fmt: skip
        if not ours or finished_elsewhere():
            if ours:
                self._end_partial(file)
            self._look_for(file)
            self._reused += file.size
            return None
        self._gather(file, partial, torrent)
        manifest = self._resolved.release.digest
        self._later.then(lambda index: index.start_partial(file.b3, manifest, now=time.time()))
        transfer = Transfer(
            self._home,
            file,
            torrent,
            partial,
            mirrors=file.mirrors if self._options.mirrors else (),
            peers_first=bool(self._session.peers),
            checkpoint_seconds=self._options.checkpoint_seconds,
            on_event=self._on_event,
        )
        stack.callback(transfer.close)
        return transfer

    def _gather(self, file: ReleaseFile, partial: Partial, torrent: ParsedTorrent) -> None:
        """Bring blocks that other files here have. Nothing was ever kept here: then only what people point to."""
        has_index = self._home.index.exists()
        if self._may_reuse:
            gather(
                self._home,
                partial,
                file,
                torrent,
                index=lambda: self._index if has_index else None,
                adopt=self._options.adopt,
                on_event=self._on_event,
            )

    def _say_what_is_missing(self, batch: Sequence[Transfer], later: Sequence[ReleaseFile]) -> None:
        # only now is it known what the partials really hold
        total = self._size
        missing = sum(transfer.file.size - transfer.reused for transfer in batch) + sum(file.size for file in later)
        self._on_event(
            PullPlanned(
                reference=self._resolved.reference,
                bytes_total=total,
                bytes_here=total - missing,
                bytes_to_fetch=missing,
                pieces_to_fetch=sum(transfer.pieces_missing for transfer in batch)
                + sum(file.piece_count for file in later),
            )
        )

    def _transfer(self, batch: Sequence[Transfer]) -> None:
        swarm = self._session.swarm()
        try:
            self._loop(swarm, batch)
        except BaseException:  # Ctrl-C, a full disk, nobody left, a broken pipe: whatever ends it
            self._save_progress(swarm, batch)
            raise

    def _loop(self, swarm: Swarm, batch: Sequence[Transfer]) -> None:
        watch = Watch(
            self._session.peers,
            nobody_else=not self._options.discovery and not self._has_mirrors(t.file for t in batch),
            give_up_after=self._options.give_up_after,
            now=time.monotonic(),
        )
        for transfer in batch:
            transfer.start(swarm, time.monotonic())
        self._later.begin()
        unfinished = list(batch)
        while unfinished:
            only_commits = all(transfer.state is State.COMMITTING for transfer in unfinished)
            for happened in swarm.poll(0.0 if only_commits else 0.1):
                watch.handle(swarm, happened)
                for transfer in unfinished:
                    if happened.torrent == transfer.name or isinstance(happened, EventsLost):
                        transfer.handle(swarm, happened)
            if only_commits:
                unfinished[0].wait(0.05)
            now = time.monotonic()
            for transfer in unfinished:
                transfer.tick(swarm, now)
            self._note_first_byte(now)
            self._later.check()
            for progress in watch.progress(unfinished, now):
                self._on_event(progress)
            for transfer in unfinished:
                if transfer.state is State.DONE:
                    self._committed(transfer)
            unfinished = [transfer for transfer in unfinished if transfer.state is not State.DONE]
            watch.look_after(swarm, unfinished, now)

    def _note_first_byte(self, now: float) -> None:
        if self._first_byte is None and any(t.ledger.downloaded for t in self._transfers):
            self._first_byte = now - self._started

    def _save_progress(self, swarm: Swarm, batch: Sequence[Transfer]) -> None:
        """The pull ends early: let what has arrived be written, and record it."""
        waiting = {transfer.name: transfer for transfer in batch if transfer.begin_last_flush(swarm)}
        deadline = time.monotonic() + LAST_FLUSH
        while waiting and time.monotonic() < deadline:
            for happened in swarm.poll(0.1):
                if isinstance(happened, Flushed) and happened.torrent in waiting:
                    with contextlib.suppress(SamaraError):  # what ended the pull is the news, not that this failed too
                        waiting.pop(happened.torrent).finish_last_flush()

    def _committed(self, transfer: Transfer) -> None:
        assert transfer.location is not None
        self._arrived(transfer.file, transfer.location)
        transfer.close()
        self._end_partial(transfer.file)

    def _arrived(self, file: ReleaseFile, path: Path) -> None:
        stamp = stamp_at(path)
        assert stamp is not None
        self._on_event(Reached(point="before-index"))
        self._index.set_location(file.b3, path, stamp, in_store=True, verified_at=time.time())
        self._on_event(Reached(point="after-index"))
        self._here[file.b3] = path

    def _require_untouched(self, file: ReleaseFile, path: Path) -> None:
        """A file in place is its owner's: it may have changed while the rest of the release came."""
        known = self._index.location_at(path)
        if known is None or known[0] != file.b3 or stamp_at(path) != known[1].stamp:
            raise IntegrityError(
                f"{path} changed while {self._resolved.reference} was pulled", next_step="run the same command again"
            )

    # -- making it visible ---------------------------------------------------------------------------------------

    def _show(self, file: ReleaseFile) -> None:
        blob = self._here[file.b3]
        shown = blob
        in_store = blob == self._home.blob(file.b3_hex)
        if not in_store:
            self._require_untouched(file, blob)
        if in_store:
            place = Path(self._resolved.alias, self._resolved.release.model, self._resolved.tag, file.path)
            shown = link_view(self._home, blob, place)
        if self._options.to is not None:
            shown = self._options.to / file.path
            if file.path not in self._given:
                link_into(blob, shown, replace=False, hard_links=in_store)
                if not in_store:
                    self._require_untouched(file, blob)
        self._shown[file.path] = shown
        self._on_event(FileReady(path=file.path, blob=file.b3, location=str(shown)))
