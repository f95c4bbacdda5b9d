"""Pulling releases: trust → plan → swarm and mirrors → verified blobs → model views. Resuming is the same path.

This file is the order of it; deciding is `plan`, the loop is `fetching`, one blob's work is `transfer`, what survives
a kill is `partial`. Everything fetched and proven so far is kept whatever ends the pull: Ctrl-C, a full disk, no peers,
kill -9.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from samara.fetcher.arrivals import Arrivals
from samara.fetcher.catalogs import Asking
from samara.fetcher.companions import what_is_missing
from samara.fetcher.control import Control
from samara.fetcher.fetching import Fetching
from samara.fetcher.fit import facts_of, memory_of_this_machine
from samara.fetcher.gather import gather
from samara.fetcher.held import Resolved
from samara.fetcher.in_place import copy_aside
from samara.fetcher.later import LaterIndex
from samara.fetcher.options import PullOptions
from samara.fetcher.partial import Partial, sweep_removed
from samara.fetcher.plan import FileFacts, chosen, plan_pull, require_room
from samara.fetcher.recheck import recheck
from samara.fetcher.recording import recorded
from samara.fetcher.resolve import resolve
from samara.fetcher.session import Session
from samara.fetcher.showing import Showing, Wanted
from samara.fetcher.stream import Stream
from samara.fetcher.transfer import Transfer
from samara.fetcher.watch import Planned
from samara.registry.durable import make_folder, write_durably
from samara.registry.home import Home
from samara.registry.store import READ_ONLY, free_bytes, seal, whole_copy
from samara.registry.sweep import sweep, sweep_folder
from samara.schemas.errors import UsageError
from samara.schemas.events import (
    Note,
    OnEvent,
    PullPlanned,
    SourceRejected,
    WaitingForOther,
    Warned,
    ignore,
)
from samara.schemas.manifest import ReleaseFile

if TYPE_CHECKING:
    from samara.registry.index import Index

AT_ONCE = 64  # blobs on their way at once: each holds two files open and a few threads


@dataclass(frozen=True, kw_only=True, slots=True)
class PulledFile:
    """One file, whole and verified, and where it lies."""

    path: str
    blob: str
    size: int
    location: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class PulledRelease:
    """One release, whole and verified."""

    reference: str
    identity: str
    manifest: str
    version: int
    files: tuple[PulledFile, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulled:
    """What a pull did. Bytes from peers and mirrors count what came over the network, wasted bytes included."""

    releases: tuple[PulledRelease, ...]
    bytes_total: int
    bytes_reused: int
    bytes_from_peers: int
    bytes_from_mirrors: int
    rejected: tuple[SourceRejected, ...]
    seconds: float
    seconds_to_first_byte: float | None

    @property
    def release(self) -> PulledRelease:
        """The one that was asked for."""
        (only,) = self.releases
        return only

    @property
    def reference(self) -> str:
        """How people name what was asked for."""
        return ", ".join(release.reference for release in self.releases)

    @property
    def files(self) -> tuple[PulledFile, ...]:
        """Of all releases."""
        return tuple(file for release in self.releases for file in release.files)


def pull(
    home: Home, source: str | Sequence[str], options: PullOptions | None = None, *, on_event: OnEvent = ignore
) -> Pulled:
    """Get every file of the releases that `source` names, one or several at once.

    Nothing is fetched before all of them are known and proven to be their publishers'. Raises NotFoundError,
    TrustError, IntegrityError, DiskFullError, NetworkError (nobody had the bytes), StoreError, InterruptedByUser
    (`samara cancel`); KeyboardInterrupt passes through after progress was recorded.
    """
    started = time.monotonic()
    options = options or PullOptions()
    sources = (source,) if isinstance(source, str) else tuple(dict.fromkeys(source))
    home.prepare()
    sweep(home, now=time.time())
    if options.to is not None:
        sweep_folder(options.to, now=time.time())
        if options.to.resolve().is_relative_to(home.root.resolve()):
            raise UsageError(f"{options.to} lies inside the store", next_step="choose another folder for --to")
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(LaterIndex(home))
        session = stack.enter_context(Session(home, options, on_event=on_event))
        resolved: list[Resolved] = []
        stack.enter_context(
            recorded(
                lambda: tuple(one.reference for one in resolved) or sources, index, session, options, on_event
            )
        )  # fmt: skip
        asking = Asking(
            now=datetime.now(UTC),
            sources=options.sources,
            registries=options.registries,
            finder=session.finder if options.can_ask_peers else None,
            client=session.client,
            allow_stale=options.allow_stale,
            on_event=on_event,
        )
        for one in sources:
            found = resolve(home, one, asking)
            on_event(Note(message=found.says))
            _remember(index, found)
            if found.release.digest not in {other.release.digest for other in resolved}:
                resolved.append(found)
        pulling = _Pulling(home, index, tuple(resolved), options, session, on_event, started)
        pulling.run()
        for found in resolved:
            for sentence in what_is_missing(home, index.get(), found.release):
                on_event(Warned(message=sentence))
        return pulling.result()


def _remember(index: LaterIndex, resolved: Resolved) -> None:
    torrents = {b3: torrent.canonical for b3, torrent in resolved.verified.torrents.items()}
    index.then(lambda known: known.add_release(resolved.release, resolved.verified.envelope, torrents, now=time.time()))


class _Pulling:
    """One pull in progress. A blob that several files and releases have in common is one transfer."""

    def __init__(
        self,
        home: Home,
        index: LaterIndex,
        resolved: tuple[Resolved, ...],
        options: PullOptions,
        session: Session,
        on_event: OnEvent,
        started: float,
    ) -> None:
        self._home = home
        self._later = index
        self._options = options
        self._session = session
        self._on_event = on_event
        self._started = started
        self._wanted = tuple(
            Wanted(resolved=one, files=chosen(one.release.files, options.include, options.exclude)) for one in resolved
        )
        self._blobs: dict[str, tuple[ReleaseFile, Resolved]] = {}
        for wanted in self._wanted:
            for file in wanted.files:
                self._blobs.setdefault(file.b3, (file, wanted.resolved))
        self._size = sum(file.size for wanted in self._wanted for file in wanted.files)
        self._arrivals = Arrivals(home, index, on_event)
        self._showing = Showing(home, index, options.to, on_event)
        references = tuple(wanted.reference for wanted in self._wanted)
        self._control = Control(home, references, options, session.bucket, on_event)
        self._fetching = Fetching(home, index, options, session, self._control, on_event, started=started)
        self._here: dict[str, Path] = {}
        self._reused = 0
        self._stream: Stream | None = None
        if options.stream is not None:
            self._only_blob()

    @property
    def _index(self) -> Index:
        return self._later.get()

    def run(self) -> None:
        """From what is here to what is visible."""
        if self._options.stream is None:
            self._run()
            return
        with Stream(self._options.stream) as self._stream:
            self._run()
            file, _resolved = self._only_blob()
            self._stream.of(self._here[file.b3])
            self._stream.finish(file.size)
            while not self._stream.wait(0.5):
                self._control.require_going_on()

    def _only_blob(self) -> tuple[ReleaseFile, Resolved]:
        if len(self._blobs) != 1:
            raise UsageError(
                "one file can be streamed at a time", expected="one",
                actual=", ".join(file.path for file, _resolved in self._blobs.values())[:400],
                next_step="choose it with --include",
            )  # fmt: skip
        return next(iter(self._blobs.values()))

    def _run(self) -> None:
        sweep_removed(self._home)
        for file, _resolved in self._blobs.values():
            self._look_for(file)
        self._showing.check_targets(self._wanted, self._here)
        plan = plan_pull([self._facts(file) for wanted in self._wanted for file in wanted.files])
        require_room(plan, free_bytes(self._home.root), str(self._home.root))
        if not self._may_reuse:
            self._fetching.require_sources(sum(file.piece_count for file in plan.to_fetch), plan.to_fetch)
        self._reused = sum(file.size for wanted in self._wanted for file in wanted.files if file.b3 in self._here)
        self._showing.show_whole(self._wanted, self._here)
        self._say_what_it_is()
        # always in the same order: two pulls that want each other's blobs must not wait for each other
        wanted = sorted(plan.to_fetch, key=lambda file: file.b3)
        for start in range(0, max(1, len(wanted)), AT_ONCE):
            with contextlib.ExitStack() as stack:
                now, later = wanted[start : start + AT_ONCE], wanted[start + AT_ONCE :]
                batch = [found for file in now if (found := self._prepare(file, stack)) is not None]
                self._fetching.require_sources(sum(t.progress.pieces_missing for t in batch), [t.file for t in batch])
                if start == 0:
                    self._say_what_is_missing(batch, later)
                    self._fetching.planned = Planned(
                        files=len(batch) + len(later),
                        size=sum(t.file.size for t in batch) + sum(file.size for file in later),
                    )
                self._fetching.run(batch, on_done=self._committed, on_round=self._hand_on)
                self._showing.show_whole(self._wanted, self._here)

    def result(self) -> Pulled:
        transfers = self._fetching.transfers
        return Pulled(
            releases=tuple(
                PulledRelease(
                    reference=wanted.reference,
                    identity=wanted.resolved.release.identity,
                    manifest=wanted.resolved.release.digest,
                    version=wanted.resolved.release.version,
                    files=tuple(
                        PulledFile(
                            path=file.path,
                            blob=file.b3,
                            size=file.size,
                            location=self._showing.location(wanted, file),
                        )
                        for file in wanted.files
                    ),
                )
                for wanted in self._wanted
            ),
            bytes_total=self._size,
            bytes_reused=self._reused + sum(transfer.progress.reused for transfer in transfers),
            bytes_from_peers=sum(transfer.ledger.from_peers for transfer in transfers),
            bytes_from_mirrors=sum(transfer.ledger.from_mirrors for transfer in transfers),
            rejected=tuple(item for transfer in transfers for item in transfer.blame.rejected),
            seconds=time.monotonic() - self._started,
            seconds_to_first_byte=self._fetching.first_byte,
        )

    # -- what is here already ------------------------------------------------------------------------------------

    def _facts(self, file: ReleaseFile) -> FileFacts:
        allocated = Partial(self._home, file.b3_hex).allocated()
        return FileFacts(file=file, is_here=file.b3 in self._here, allocated=allocated)

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
            self._arrivals.sweep(file)
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
        return (partial.data.exists() and not partial.has_news()) or not self._home.may_have_index

    def _adopt_store_file(self, file: ReleaseFile, path: Path) -> None:
        """A file in the store that the index doesn't vouch for: killed between rename and record, or damaged."""
        checked = recheck(path, file, on_event=self._on_event, name=file.path)
        if checked.ok:
            seal(path)  # the kill may have come before that
            self._arrived(file, path)
            self._arrivals.sweep(file)
            return
        self._on_event(
            Warned(message=f"{path} is damaged ({len(checked.bad)} bad blocks); fetching what is wrong in it")
        )
        partial = Partial(self._home, file.b3_hex)
        with partial.locked(on_wait=lambda: self._on_event(WaitingForOther(path=file.path)), give_up=lambda: False):
            if not partial.data.exists():
                copy_aside(path, partial.data, file.size)

    @property
    def _may_reuse(self) -> bool:
        """Whether blocks may lie here: something was kept before, or people point to files."""
        return bool(self._options.adopt) or self._home.may_have_index

    # -- fetching ------------------------------------------------------------------------------------------------

    def _prepare(self, file: ReleaseFile, stack: contextlib.ExitStack) -> Transfer | None:
        """Take the blob's lock, then find out what its partial holds. If another process finishes it first: done."""
        resolved = self._blobs[file.b3][1]
        torrent = resolved.verified.torrents[file.b3]
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
                self._arrivals.end_partial(file)
            self._look_for(file)
            self._reused += file.size
            return None
        if self._may_reuse:
            # nothing was ever kept here: then only what people point to
            has_index = self._home.may_have_index
            gather(
                self._home,
                partial,
                file,
                torrent,
                index=lambda: self._index if has_index else None,
                adopt=self._options.adopt,
                on_event=self._on_event,
            )
        manifest = resolved.release.digest
        self._later.then(lambda index: index.start_partial(file.b3, manifest, now=time.time()))
        transfer = self._fetching.prepare(file, torrent, partial, in_order=self._stream is not None)
        stack.callback(transfer.close)
        if self._stream is not None:
            self._stream.of(partial.data)
        return transfer

    def _say_what_it_is(self) -> None:
        """What people choose a model by, before gigabytes come."""
        memory = memory_of_this_machine()
        for wanted in self._wanted:
            for line in facts_of(wanted.files, memory):
                self._on_event(Note(message=line))

    def _say_what_is_missing(self, batch: Sequence[Transfer], later: Sequence[ReleaseFile]) -> None:
        # only now is it known what the partials really hold
        missing = sum(transfer.file.size - transfer.progress.reused for transfer in batch) + sum(
            file.size for file in later
        )
        self._on_event(
            PullPlanned(
                reference=", ".join(wanted.reference for wanted in self._wanted),
                bytes_total=self._size,
                bytes_here=self._size - missing,
                bytes_to_fetch=missing,
                pieces_to_fetch=sum(transfer.progress.pieces_missing for transfer in batch)
                + sum(file.piece_count for file in later),
            )
        )

    def _hand_on(self, transfer: Transfer) -> None:
        if self._stream is not None:
            self._stream.advance(transfer.proven_prefix)

    def _committed(self, transfer: Transfer) -> None:
        assert transfer.location is not None
        self._arrived(transfer.file, transfer.location)
        transfer.close()
        self._arrivals.end_partial(transfer.file)
        self._showing.show_whole(self._wanted, self._here)

    def _arrived(self, file: ReleaseFile, path: Path) -> None:
        self._arrivals.record(file, path)
        self._here[file.b3] = path
