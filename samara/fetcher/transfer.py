"""One blob from the swarm into the store: fetch, check each block while it is hot, commit.

    recover → fetch ⇄ check blocks → flush → whole-file BLAKE3 ∥ fdatasync → record → rename

A state machine inside `samara.fetcher.fetching`'s loop: `handle` takes the swarm's events, `tick` the time. What is
here and proven is kept by `blob_progress`, who lied by `blame`, the file and its crash order by `data_file`, whose work
runs in threads. A block is checked as soon as its pieces are finished. A mismatch may only mean that the bytes are not
in the file yet, so it counts only once they were flushed; then the block's pieces are fetched again.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from samara.fetcher.blame import Blame
from samara.fetcher.blob_progress import BlobProgress
from samara.fetcher.blocks import BadBlock
from samara.fetcher.carrier import Carrier
from samara.fetcher.data_file import Check, DataFile, Outcome
from samara.fetcher.mirrors.piece import PieceProof
from samara.fetcher.mirrors.pool import MirrorPool
from samara.fetcher.partial import Partial, recover
from samara.fetcher.sources import SourceLedger
from samara.fetcher.threads import Threads
from samara.registry.durable import io_error
from samara.registry.home import Home
from samara.registry.store import commit_blob
from samara.schemas.bittorrent import LEAF, ParsedTorrent
from samara.schemas.endpoints import parse_endpoint
from samara.schemas.errors import IntegrityError
from samara.schemas.events import Note, OnEvent, Reached
from samara.schemas.manifest import Block, ReleaseFile
from samara.seeder.swarm_events import (
    DiskFailed,
    EventsLost,
    Finished,
    Flushed,
    PeerBanned,
    PieceFailed,
    PieceFinished,
    SourceBytes,
    SwarmEvent,
)

CHECKPOINT_SECONDS = 3.0  # a power cut costs at most what came since: re-checking it, not fetching it again
CHECKPOINT_BYTES = 256 << 20
DOUBT_SECONDS = 0.1  # before a block that looked wrong is looked at once more for a reader
SAMPLE_SECONDS = 0.2  # asking libtorrent stops its network thread for a moment
HEADER = 8 << 20  # bytes that come first: what a GGUF says of itself, which other programs can then show
MEND_ROUNDS = 2  # a block that is wrong after being fetched twice is wrong at its publisher


class State(StrEnum):
    """Where a transfer stands."""

    FETCHING = "fetching"
    FLUSHING = "flushing"
    COMMITTING = "committing"
    DONE = "done"


_NEXT = MappingProxyType(
    {
        State.FETCHING: {State.FETCHING, State.FLUSHING, State.COMMITTING},  # anew, under another peer id; all is here
        State.FLUSHING: {State.COMMITTING},
        State.COMMITTING: {State.DONE, State.FETCHING},  # a block was wrong after all
        State.DONE: frozenset(),
    }
)


class Transfer:
    """One blob on its way. The caller holds the partial's lock for as long as this lives, and closes it."""

    def __init__(
        self,
        home: Home,
        file: ReleaseFile,
        torrent: ParsedTorrent,
        partial: Partial,
        *,
        pool: MirrorPool,
        threads: Threads,
        mirrors: tuple[str, ...],
        in_order: bool = False,
        handed_on: bool = False,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        publish: Callable[[Path], Path] | None = None,
        on_event: OnEvent,
    ) -> None:
        """`pool` fetches from `mirrors`. `in_order`: from its beginning to its end. `handed_on`: others read it
        meanwhile, so every block is read again in this process before it is `firm`, whatever a record says of it.
        `publish`: what to do with the data once it is proven and durable, instead of making it the store's blob; it
        gives the path where the blob then lies.
        """
        self.file = file
        self.name = torrent.v2
        self.state = State.FETCHING
        self.location: Path | None = None
        self.ledger = SourceLedger()
        self.peers = 0
        self.begun_bytes = 0
        self.connections: tuple[SourceBytes, ...] = ()
        self._torrent = torrent
        self._partial = partial
        self._pool = pool
        self._mirrors = mirrors
        self._in_order = in_order
        self._handed_on = handed_on
        self._checkpoint_seconds = checkpoint_seconds
        self._on_event = on_event
        recovered = recover(partial, torrent.hashes, len(file.blocks))
        self.progress = BlobProgress(file, torrent.hashes.piece_length, recovered, handed_on=handed_on)
        self.blame = Blame(file.path, torrent.hashes, self.progress.blocks_of, on_event)
        self._checks: dict[int, Check] = {}
        self._mended: Counter[int] = Counter()
        self._failed_guesses: frozenset[int] = frozenset()  # pieces of which something was claimed that nothing proves
        self._flushing: frozenset[int] | None = None
        self._saving: Future[None] | None = None
        self._committing: Future[Outcome] | None = None
        self._saved_at = 0.0
        self._saved_bytes = self.progress.done_bytes
        self._sampled_at = 0.0
        self._sampled_bytes = -1
        self._data = DataFile(
            file,
            partial,
            threads=threads,
            publish=publish or (lambda data: commit_blob(home, file.b3_hex, data)),
            on_event=on_event,
        )
        wrong = self._data.bad_of(self.progress.blocks_under_leaves())
        self.progress.claim_leaves(wrong=[bad.block for bad in wrong])

    def call_anew(self, carrier: Carrier, now: float) -> None:
        """Everybody is silent: go on under another peer id, with what has come.

        Who still has our last connection, dead without knowing it, would hang up on a second one of the same id.
        """
        if self.state is not State.FETCHING or not self._idle():
            return
        guessed, self._failed_guesses = self._failed_guesses, frozenset()
        self._all_arrived(carrier)  # what nobody will tell any more once its torrent is removed
        if self.progress.is_whole:
            return
        self._sample(carrier)  # its counters end with it
        found = carrier.unfinished(self.name)
        begun = {piece: leaves for piece, leaves in found.items() if piece not in guessed}
        carrier.remove(self.name)
        self._pool.remove(self.name)
        self.start(carrier, now, begun=begun)

    def start(
        self, carrier: Carrier, now: float, *, begun: Mapping[int, Sequence[bool]] = MappingProxyType({})
    ) -> None:
        """Begin to fetch what is missing; check blocks that are here but unproven. `begun`: leaves that came before."""
        self._saved_at = now
        self._become(State.FETCHING)
        self._check(self.progress.unread())
        if self.progress.is_whole:
            self._commit()
            return
        self._in_order |= self._data.reserve()
        first = range(min(self.file.piece_count, -(-HEADER // self.progress.piece_length)))
        carrier.add_fetch(
            self._torrent.canonical,
            self._data.path,
            self.progress.have_list(),
            leaves=self.progress.leaves(begun),
            first=first,
            in_order=self._in_order,
        )
        if self._mirrors:
            proof = PieceProof(self._torrent.hashes, self.file.blocks)
            self._pool.add(
                self.name, proof, self._mirrors, self.progress.have,
                with_peers=carrier.has_peers, now=now, first=first, in_order=self._in_order,
            )  # fmt: skip
        self.ledger.new_round()

    def handle(self, carrier: Carrier, happened: SwarmEvent) -> None:
        """One event of this blob's torrent. Raises DiskFullError or StoreError when the disk refuses."""
        if isinstance(happened, PieceFinished):
            self._arrived(happened.piece)
            if self.progress.is_whole:  # libtorrent is Finished when all that it may ask for has come
                self._all_arrived(carrier)
        elif isinstance(happened, PieceFailed):
            self._piece_failed(carrier, happened.piece)
        elif isinstance(happened, Finished):
            self._all_arrived(carrier)
        elif isinstance(happened, EventsLost):
            if self.state in {State.FETCHING, State.FLUSHING}:
                self._flushing = None  # its answer may be among what was lost
                self._all_arrived(carrier)
        elif isinstance(happened, Flushed):
            self._after_flush()
        elif isinstance(happened, PeerBanned):
            self.blame.peer_banned(happened.endpoint)
        elif isinstance(happened, DiskFailed):
            if self.state in {State.COMMITTING, State.DONE}:
                return  # a peer asked for what was renamed a moment ago; of our own files our own threads tell
            self._data.require_untouched()
            self._data.is_suspect = True  # pieces that passed their check may have failed to be written
            raise io_error(OSError(happened.errno, happened.message), self._data.path)

    def tick(self, carrier: Carrier, now: float) -> None:
        """Collect what the threads have done; checkpoint when it is time. Raises what went wrong in them."""
        self._collect_checks()
        self.blame.settle()
        if self._failed_guesses:
            self.call_anew(carrier, now)  # what else we had guessed must not fail too
        if self._saving is not None and self._saving.done():
            self._saving.result()
            self._saving = None
        if self.state is State.FETCHING:
            if now - self._sampled_at >= SAMPLE_SECONDS:
                self._sampled_at = now
                self._sample(carrier)
            if self._is_checkpoint_due(now) and self._idle():
                self._saved_at, self._saved_bytes = now, self.progress.done_bytes
                self._flush(carrier)
        elif self.state is State.FLUSHING and self._flushing is None:
            self._flush(carrier)  # the end came while a checkpoint was under way
        elif self.state is State.COMMITTING and self._committing is not None and self._committing.done():
            outcome = self._committing.result()
            self._committing = None
            if isinstance(outcome, Path):
                self.location = outcome
                self._become(State.DONE)
                carrier.remove(self.name)
                self._pool.remove(self.name)
            else:
                self._mend(carrier, outcome, now)

    def wait(self, seconds: float) -> None:
        """While only our own threads have work left: wait for them instead of for the carrier."""
        if self._committing is not None:
            wait([self._committing], timeout=seconds)

    def hurry(self, carrier: Carrier, start: int, end: int) -> None:
        """Somebody waits for the bytes from `start` to before `end`: these blocks' pieces come before others."""
        if self.state is not State.FETCHING or self.name not in carrier:
            return
        length = self.progress.piece_length
        touched = blocks_touching(self.file.blocks, start, end)
        if self._in_order and self.progress.have_before(start):
            return  # it comes so anyway
        if touched:
            first, last = self.file.blocks[touched[0]].offset, self.file.blocks[touched[-1]].end
            pieces = range(first // length, -(-last // length))
            self._pool.hurry(self.name, pieces)
            carrier.hurry(self.name, [piece for piece in pieces if piece not in self.progress.have])

    def begin_last_flush(self, carrier: Carrier) -> bool:
        """The process ends early: ask for what has arrived to be written. False if there is nothing to wait for."""
        if not self._data.is_open or self.state is not State.FETCHING or self.name not in carrier:
            return False
        if self._saving is not None:
            wait([self._saving])
        if self._data.is_suspect:
            return False
        self._flush(carrier)
        return True

    def finish_last_flush(self) -> None:
        """It is written: record it."""
        if self._flushing is not None:
            self._collect_checks()
            self._data.save(self._flushing, self.progress.proven)

    def close(self) -> None:
        """Stop the threads and close the file. The partial keeps what it has."""
        if self._data.is_open:
            own: list[Future[Any]] = [*self._checks.values()]
            own += [one for one in (self._saving, self._committing) if one is not None]
            wait([one for one in own if not one.cancel()])  # whoever still reads or writes the file
            self._data.close(is_blob=self.state is State.DONE)

    @property
    def proven_prefix(self) -> int:
        """So many bytes from the beginning of a file that is `handed_on` are proven, and written no more."""
        return self.file.size if self.state is State.DONE else self.progress.firm_prefix

    def proven_blocks(self) -> Iterator[range]:
        """The pieces of each block that was proven and of which some came over the network."""
        return self.progress.fetched_blocks(all_proven=self.state is State.DONE)

    def _become(self, state: State) -> None:
        assert state in _NEXT[self.state], f"{self.state} → {state}"
        self.state = state

    # -- what has come -------------------------------------------------------------------------------------------

    def _arrived(self, piece: int) -> None:
        self._pool.had(self.name, piece)
        if piece not in self.progress.have:
            whole = self.progress.arrived(piece)
            self._on_event(Reached(point="piece"))
            self._check(self.progress.unread(whole))

    def _all_arrived(self, carrier: Carrier) -> None:
        """libtorrent says so, or may have said so unheard: take its word for the pieces, and go on to the flush."""
        if not self.progress.is_whole:
            for piece in carrier.pieces(self.name):
                self._arrived(piece)
        if self.state in {State.FETCHING, State.FLUSHING} and self.progress.is_whole:
            if self.state is State.FETCHING:
                self._become(State.FLUSHING)
            self._sample(carrier)
            self._flush(carrier)

    def _check(self, blocks: Iterable[Block]) -> None:
        """Every byte of these has arrived: have them read and hashed."""
        for block in blocks:
            self._on_event(Reached(point="before-verify"))
            self._checks[block.index] = self._data.check(block)

    def _collect_checks(self) -> None:
        for index, check in list(self._checks.items()):
            if check.done():
                del self._checks[index]
                if self._data.result(check) is None:
                    self.progress.proved(self.file.blocks[index])
                    self._on_event(Reached(point="after-verify"))
                else:
                    self.progress.doubted(self.file.blocks[index])

    def _piece_failed(self, carrier: Carrier, piece: int) -> None:
        self._data.require_untouched()
        self._pool.lost(self.name, piece)
        self.blame.piece_failed(piece)
        if self.progress.is_guessed(piece):
            self._failed_guesses = self.progress.withdraw_guesses()
            for endpoint in self.blame.take_on_ourselves():
                carrier.forgive(parse_endpoint(endpoint)[0])
        self.blame.settle()

    def _sample(self, carrier: Carrier) -> None:
        self._data.require_untouched()
        self.connections = carrier.sources(self.name)
        if self.progress.done_bytes != self._sampled_bytes:
            self._sampled_bytes, self.begun_bytes = self.progress.done_bytes, 0
        else:  # counting these takes a while: only where no piece has come since the last look
            self.begun_bytes = LEAF * sum(sum(leaves) for leaves in carrier.unfinished(self.name).values())
        status = carrier.status(self.name)
        self.peers = status.peers
        self.ledger.sample(peers=status.downloaded, mirrors=self._pool.received(self.name))
        self._pool.swarm_is(self.name, peers=status.peers, rate=status.down_rate)

    # -- what is kept of it --------------------------------------------------------------------------------------

    def _idle(self) -> bool:
        return self._flushing is None and self._saving is None

    def _is_checkpoint_due(self, now: float) -> bool:
        new, elapsed = self.progress.done_bytes - self._saved_bytes, now - self._saved_at
        if self._handed_on and elapsed >= DOUBT_SECONDS and self.progress.awaits_second_look:
            return True  # most likely it isn't in the file yet, and somebody waits for it
        return new >= CHECKPOINT_BYTES or (new > 0 and elapsed >= self._checkpoint_seconds)

    def _flush(self, carrier: Carrier) -> None:
        if self._flushing is None:
            self._flushing = frozenset(self.progress.have)
            carrier.flush(self.name)

    def _after_flush(self) -> None:
        flushed, self._flushing = self._flushing, None
        if flushed is None:
            return
        if self.state is State.FLUSHING and len(flushed) == self.file.piece_count:
            self._commit()
        elif self.state is State.FETCHING and self._saving is None:
            # blocks that looked wrong before their bytes were surely there get their second look now
            self._check(self.progress.unread(self.progress.take_second_looks(flushed)))
            self._saving = self._data.begin_save(flushed, frozenset(self.progress.proven))

    def _commit(self) -> None:
        self._become(State.COMMITTING)
        self._committing = self._data.begin_commit(self._checks, frozenset(self.progress.proven))

    def _mend(self, carrier: Carrier, bad: tuple[BadBlock, ...], now: float) -> None:
        for item in bad:
            self._mended[item.block.index] += 1
            if self._mended[item.block.index] > MEND_ROUNDS:
                self._partial.forget()
                raise IntegrityError(
                    f"{self.file.path}: {item}, although its pieces pass their own check",
                    next_step="the publisher's manifest and torrent disagree: tell them",
                )
            self._on_event(Note(message=f"{self.file.path}: {item}; fetching it again"))
        self.progress.fetch_again(item.block for item in bad)
        self._checks.clear()
        carrier.remove(self.name)
        self._pool.remove(self.name)
        self.start(carrier, now)


def blocks_touching(blocks: Sequence[Block], start: int, end: int) -> range:
    """The numbers of the blocks that have any byte from `start` to before `end`."""
    first = bisect.bisect_right(blocks, start, key=lambda block: block.end)
    last = bisect.bisect_left(blocks, end, key=lambda block: block.offset)
    return range(first, max(first, last))
