"""One blob from the swarm into the store: fetch, check each block while it is hot, commit.

    recover → fetch ⇄ check blocks → flush → whole-file BLAKE3 ∥ fdatasync → record → rename

A state machine inside `samara.fetcher.pull`'s loop: `handle` takes the swarm's events, `tick` the time; disk work runs
in threads. A block is checked as soon as its pieces are finished. A mismatch may only mean that the bytes are not in
the file yet, so it counts only once they were flushed; then the block's pieces are fetched again.
"""

from __future__ import annotations

import bisect
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from samara.fetcher.blocks import BadBlock, BlockChecker, whole_digest
from samara.fetcher.carrier import Carrier
from samara.fetcher.mirrors.piece import PieceProof
from samara.fetcher.mirrors.pool import MirrorPool
from samara.fetcher.mirrors.verdicts import MirrorRejected
from samara.fetcher.partial import Claims, Partial, recover
from samara.fetcher.reuse import straddling_leaves
from samara.fetcher.sources import SourceLedger
from samara.fetcher.threads import Threads
from samara.registry.allocation import Reserved, give_back, reserve
from samara.registry.durable import io_error, io_errors, sync_data
from samara.registry.home import Home
from samara.registry.store import commit_blob
from samara.schemas.bittorrent import LEAF, ParsedTorrent
from samara.schemas.digests import b3_text
from samara.schemas.endpoints import parse_endpoint
from samara.schemas.errors import IntegrityError, StoreError
from samara.schemas.events import Note, OnEvent, Reached, SourceRejected
from samara.schemas.manifest import Block, ReleaseFile
from samara.schemas.pull_record import Evidence, Kind
from samara.schemas.ranges import Bitmap, Coverage
from samara.seeder.swarm_events import (
    WRONG_BYTES,
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
        self.rejected: list[SourceRejected] = []
        self.evidence: list[tuple[Kind, str, Evidence]] = []
        self.ledger = SourceLedger()
        self.peers = 0
        self.begun_bytes = 0
        self._sampled_bytes = -1
        self.connections: tuple[SourceBytes, ...] = ()
        self._publish = publish or (lambda data: commit_blob(home, file.b3_hex, data))
        self._torrent = torrent
        self._partial = partial
        self._pool = pool
        self._mirrors = mirrors
        self._in_order = in_order
        self._handed_on = handed_on
        self._firm: set[int] = set()
        self._firm_news: list[tuple[int, bool]] = []
        self._checkpoint_seconds = checkpoint_seconds
        self._on_event = on_event
        recovered = recover(partial, torrent.hashes, len(file.blocks))
        self._have = set(recovered.pieces)
        self._coverage = Coverage(file.blocks, torrent.hashes.piece_length)
        for piece in recovered.pieces:
            self._coverage.add(piece)
        self.reused = sum(map(self._piece_size, self._have))
        self.done_bytes = self.reused
        self.proven_bytes = 0
        self._proven: set[int] = set()
        for index in recovered.blocks:
            self._prove(file.blocks[index])
        self._leaves: dict[int, list[bool]] = {}
        self._guessed = dict(recovered.begun)  # what a killed process had begun: likely right, and proven by nothing
        self._guesses_failed = False
        self.pardoned: list[str] = []
        self._checks: dict[int, Future[BadBlock | None]] = {}
        self._doubtful: set[int] = set()
        self._looked_twice: set[int] = set()
        self._mended: Counter[int] = Counter()
        self._flushing: frozenset[int] | None = None
        self._saving: Future[None] | None = None
        self._committing: Future[Path | tuple[BadBlock, ...]] | None = None
        self._saved_at = 0.0
        self._sampled_at = 0.0
        self._saved_bytes = self.done_bytes
        self._fd = partial.open_data()
        self._checker = BlockChecker(self._fd, shared=threads.blocks)
        self._threads = threads
        self._closed = False
        self._disk_failed = False
        self._reserved: Reserved | None = None
        self._grown = 0
        self._banned: list[str] = []
        self._fetched: set[int] = set()
        self._failed_piece: int | None = None
        self._prefix = 0
        self._claim_leaves()

    def call_anew(self, carrier: Carrier, now: float) -> None:
        """Everybody is silent: go on under another peer id, with what has come.

        Who still has our last connection, dead without knowing it, would hang up on a second one of the same id.
        """
        if self.state is State.FETCHING and self._idle():
            begun = {} if self._guesses_failed else carrier.unfinished(self.name)
            self._guesses_failed = False
            carrier.remove(self.name)
            self._pool.remove(self.name)
            self.start(carrier, now, begun=begun)

    def start(
        self, carrier: Carrier, now: float, *, begun: Mapping[int, Sequence[bool]] = MappingProxyType({})
    ) -> None:
        """Begin to fetch what is missing; check blocks that are here but unproven. `begun`: leaves that came before."""
        self._saved_at = now
        self.state = State.FETCHING
        for index in self._coverage.complete:
            self._check(self.file.blocks[index])
        if len(self._have) == self.file.piece_count:
            self._commit()
            return
        if self._reserved is None:
            self._reserved = reserve(self._fd, self._partial.data, self.file.size)
            self._in_order |= self._reserved.how == "in order"  # else each far write fills all before it with zeros
        first = range(min(self.file.piece_count, -(-HEADER // self._torrent.hashes.piece_length)))
        carrier.add_fetch(
            self._torrent.canonical,
            self._partial.data,
            self._coverage.have.as_list(),
            leaves={
                piece: leaves
                for piece, leaves in {**self._guessed, **begun, **self._leaves}.items()
                if piece not in self._have
            },
            first=first,
            in_order=self._in_order,
        )
        if self._mirrors:
            proof = PieceProof(self._torrent.hashes, self.file.blocks)
            self._pool.add(
                self.name, proof, self._mirrors, self._have,
                with_peers=carrier.has_peers, now=now, first=first, in_order=self._in_order,
            )  # fmt: skip
        self.ledger.new_round()

    def handle(self, carrier: Carrier, happened: SwarmEvent) -> None:
        """One event of this blob's torrent. Raises DiskFullError or StoreError when the disk refuses."""
        if isinstance(happened, PieceFinished):
            self._arrived(happened.piece)
            if len(self._have) == self.file.piece_count:  # libtorrent is Finished when all that it may ask for has come
                self._all_arrived(carrier)
        elif isinstance(happened, PieceFailed):
            self._require_untouched()
            self._pool.lost(self.name, happened.piece)
            self._failed_piece = happened.piece
            if happened.piece in self._guessed:
                self._blame_ourselves(carrier)
            self._blame_peers()
        elif isinstance(happened, Finished):
            self._all_arrived(carrier)
        elif isinstance(happened, EventsLost):
            if self.state in {State.FETCHING, State.FLUSHING}:
                self._flushing = None  # its answer may be among what was lost
                self._all_arrived(carrier)
        elif isinstance(happened, Flushed):
            self._after_flush()
        elif isinstance(happened, PeerBanned):
            self._banned.append(happened.endpoint)  # libtorrent names the piece after the peer
        elif isinstance(happened, DiskFailed):
            if self.state in {State.COMMITTING, State.DONE}:
                return  # a peer asked for what was renamed a moment ago; of our own files our own threads tell
            self._require_untouched()
            self._disk_failed = True  # pieces that passed their check may have failed to be written: claim no more
            raise io_error(OSError(happened.errno, happened.message), self._partial.data)

    def tick(self, carrier: Carrier, now: float) -> None:
        """Collect what the threads have done; checkpoint when it is time. Raises what went wrong in them."""
        self._collect_checks()
        self._blame_peers()
        if self._guesses_failed:
            self.call_anew(carrier, now)  # what else we had guessed must not fail too
        if self._saving is not None and self._saving.done():
            self._disk_failed = True  # what a disk couldn't keep it tells once: if it did, claim no more
            self._saving.result()
            self._disk_failed = False
            self._saving = None
        if self.state is State.FETCHING:
            if now - self._sampled_at >= SAMPLE_SECONDS:
                self._sampled_at = now
                self._sample(carrier)
            due = now - self._saved_at >= self._checkpoint_seconds and self.done_bytes > self._saved_bytes
            if self._handed_on and now - self._saved_at >= DOUBT_SECONDS and self._doubtful - self._looked_twice:
                due = True  # most likely it isn't in the file yet, and somebody waits for it
            if (due or self.done_bytes - self._saved_bytes >= CHECKPOINT_BYTES) and self._idle():
                self._saved_at, self._saved_bytes = now, self.done_bytes
                self._flush(carrier)
        elif self.state is State.FLUSHING and self._flushing is None:
            self._flush(carrier)  # the end came while a checkpoint was under way
        elif self.state is State.COMMITTING and self._committing is not None and self._committing.done():
            outcome = self._committing.result()
            self._committing = None
            if isinstance(outcome, Path):
                self.location = outcome
                self.state = State.DONE
                carrier.remove(self.name)
                self._pool.remove(self.name)
            else:
                self._mend(carrier, outcome, now)

    def wait(self, seconds: float) -> None:
        """While only our own threads have work left: wait for them instead of for the carrier."""
        if self._committing is not None:
            wait([self._committing], timeout=seconds)

    def begin_last_flush(self, carrier: Carrier) -> bool:
        """The process ends early: ask for what has arrived to be written. False if there is nothing to wait for."""
        if self._closed or self._disk_failed or self.state is not State.FETCHING or self.name not in carrier:
            return False
        if self._saving is not None:
            wait([self._saving])
        self._flush(carrier)
        return True

    def finish_last_flush(self) -> None:
        """It is written: record it."""
        if self._flushing is not None:
            self._collect_checks()
            self._save(self._flushing, self._proven)

    def close(self) -> None:
        """Stop the threads and close the file. The partial keeps what it has."""
        if self._closed:
            return
        self._closed = True
        own: list[Future[Any]] = [*self._checks.values()]
        own += [one for one in (self._saving, self._committing) if one is not None]
        wait([one for one in own if not one.cancel()])  # whoever still reads or writes the file
        if self._reserved is not None and self._reserved.how == "reserved" and self.state is not State.DONE:
            with contextlib.suppress(OSError):  # what isn't fetched now must not fill somebody's disk
                give_back(self._fd)
        os.close(self._fd)

    # -- blocks --------------------------------------------------------------------------------------------------

    def _claim_leaves(self) -> None:
        """Of pieces that proven blocks cover in part only the rest is fetched.

        Those blocks are read again first: since they were recorded a liar may have written into their pieces, and a
        leaf that is wrong would cost the honest peer that gives the rest of its piece.
        """
        length = self._torrent.hashes.piece_length
        claimed = straddling_leaves(self.file.blocks, self._proven, length, LEAF)
        wanted = [piece for piece in claimed if piece not in self._have]
        touched = {index for piece in wanted for index in self._coverage.blocks(piece) if index in self._proven}
        with io_errors(self._partial.data):
            wrong = {bad.block.index for bad in self._bad_of(self.file.blocks[index] for index in sorted(touched))}
        for index in wrong:
            self._proven.discard(index)
            self.proven_bytes -= self.file.blocks[index].size
        if wrong:
            claimed = straddling_leaves(self.file.blocks, self._proven, length, LEAF)
        self._leaves = {piece: claimed[piece] for piece in wanted if piece in claimed}
        for piece, leaves in self._leaves.items():
            self.reused += min(sum(leaves) * LEAF, self._piece_size(piece))
        self.reused += self._guessed_bytes()

    def _guessed_bytes(self) -> int:
        return sum(
            min(sum(leaves) * LEAF, self._piece_size(piece))
            for piece, leaves in self._guessed.items()
            if piece not in self._leaves
        )

    def _arrived(self, piece: int) -> None:
        self._pool.had(self.name, piece)
        if piece not in self._have:
            self._fetched.add(piece)
            self._have.add(piece)
            self.done_bytes += self._piece_size(piece)
            self._on_event(Reached(point="piece"))
            for block in self._coverage.add(piece):
                self._check(block)

    def _all_arrived(self, carrier: Carrier) -> None:
        """libtorrent says so, or may have said so unheard: take its word for the pieces, and go on to the flush."""
        if len(self._have) < self.file.piece_count:
            for piece in carrier.pieces(self.name):
                self._arrived(piece)
        if self.state in {State.FETCHING, State.FLUSHING} and len(self._have) == self.file.piece_count:
            self.state = State.FLUSHING
            self._sample(carrier)
            self._flush(carrier)

    def _check(self, block: Block) -> None:
        """Every byte of a block has arrived: have it read and hashed, unless it is proven already."""
        if block.index not in (self._firm if self._handed_on else self._proven):
            self._on_event(Reached(point="before-verify"))
            self._checks[block.index] = self._checker.submit(block)

    def _collect_checks(self) -> None:
        for index, check in list(self._checks.items()):
            if check.done():
                del self._checks[index]
                with io_errors(self._partial.data):
                    self._judge(self.file.blocks[index], check.result())

    def _judge(self, block: Block, bad: BadBlock | None) -> None:
        if bad is None:
            self._prove(block)
            self._make_firm(block)
            self._doubtful.discard(block.index)
            self._on_event(Reached(point="after-verify"))
        else:
            self._doubtful.add(block.index)
            self._disprove(block)  # a record may have claimed it

    def _make_firm(self, block: Block) -> None:
        if self._handed_on and block.index not in self._firm:
            self._firm.add(block.index)
            self._firm_news.append((block.index, True))

    def _soften(self, index: int) -> None:
        """Bytes of a block are about to be written anew."""
        if index in self._firm:
            self._firm.discard(index)
            self._firm_news.append((index, False))
            self._prefix = min(self._prefix, index)

    def _disprove(self, block: Block) -> None:
        if block.index in self._proven:
            self._proven.discard(block.index)
            self.proven_bytes -= block.size

    def _prove(self, block: Block) -> None:
        if block.index not in self._proven:
            self._proven.add(block.index)
            self.proven_bytes += block.size

    # -- crash order ---------------------------------------------------------------------------------------------

    def _idle(self) -> bool:
        return self._flushing is None and self._saving is None

    def _flush(self, carrier: Carrier) -> None:
        if self._flushing is None:
            self._flushing = frozenset(self._have)
            carrier.flush(self.name)

    def _after_flush(self) -> None:
        flushed, self._flushing = self._flushing, None
        if flushed is None:
            return
        if self.state is State.FLUSHING and len(flushed) == self.file.piece_count:
            self._commit()
        elif self.state is State.FETCHING and self._saving is None:
            # blocks that looked wrong before their bytes were surely there get their second look now
            doubtful = [self.file.blocks[index] for index in self._doubtful]
            for block in [block for block in doubtful if flushed.issuperset(self._coverage.pieces(block))]:
                self._doubtful.discard(block.index)
                self._looked_twice.add(block.index)
                self._check(block)
            self._saving = self._threads.disk.submit(self._save, flushed, frozenset(self._proven))

    def _save(self, pieces: Iterable[int], blocks: Iterable[int]) -> None:
        self._sync()
        self._record(pieces, blocks)

    def _record(self, pieces: Iterable[int], blocks: Iterable[int]) -> None:
        claims = Claims(
            pieces=Bitmap.of(self.file.piece_count, pieces), blocks=Bitmap.of(len(self.file.blocks), blocks)
        )
        self._on_event(Reached(point="before-record"))
        self._partial.save(claims)
        self._on_event(Reached(point="after-record"))

    def _sync(self) -> None:
        self._on_event(Reached(point="before-sync"))
        with io_errors(self._partial.data):
            sync_data(self._fd)
        self._on_event(Reached(point="after-sync"))

    def _commit(self) -> None:
        self.state = State.COMMITTING
        self._committing = self._threads.commits.submit(
            self._prove_and_publish, tuple(self._checks.items()), frozenset(self._proven)
        )

    def _prove_and_publish(
        self, checks: tuple[tuple[int, Future[BadBlock | None]], ...], proven: frozenset[int]
    ) -> Path | tuple[BadBlock, ...]:
        """In a thread: the whole proof, then the crash order. Gives the blob's path, or what must be fetched again."""
        sync = self._threads.disk.submit(self._sync)  # the disk works while the processor hashes
        try:
            with io_errors(self._partial.data):
                passed = proven | {index for index, check in checks if check.result() is None}
                bad = self._bad_of(block for block in self.file.blocks if block.index not in passed)
                if not bad and b3_text(whole_digest(self._fd)) != self.file.b3:
                    bad = self._why_whole_is_wrong()
        finally:
            wait([sync])  # it has the file open
        sync.result()
        if bad:
            return bad
        self._record(range(self.file.piece_count), range(len(self.file.blocks)))
        self._on_event(Reached(point="before-rename"))
        path = self._publish(self._partial.data)
        self._on_event(Reached(point="after-rename"))
        return path

    def _bad_of(self, blocks: Iterable[Block]) -> tuple[BadBlock, ...]:
        checks = [self._checker.submit(block) for block in blocks]
        return tuple(found for check in checks if (found := check.result()) is not None)

    def _why_whole_is_wrong(self) -> tuple[BadBlock, ...]:
        """Some claim of an earlier run was wrong (bit rot): find it. Raises IntegrityError if every block is right."""
        bad = self._bad_of(self.file.blocks)
        if not bad and os.fstat(self._fd).st_size > self.file.size:
            os.ftruncate(self._fd, self.file.size)
            bad = (BadBlock(block=self.file.blocks[-1], actual=None),)
        if not bad:
            self._partial.forget()
            raise IntegrityError(
                f"the manifest contradicts itself: every block of {self.file.path} is right, the whole is not",
                expected=self.file.b3, next_step="tell its publisher; nothing was kept",
            )  # fmt: skip
        return bad

    def _mend(self, carrier: Carrier, bad: tuple[BadBlock, ...], now: float) -> None:
        for item in bad:
            block = item.block
            self._mended[block.index] += 1
            if self._mended[block.index] > MEND_ROUNDS:
                self._partial.forget()
                raise IntegrityError(
                    f"{self.file.path}: {item}, although its pieces pass their own check",
                    next_step="the publisher's manifest and torrent disagree: tell them",
                )
            self._on_event(Note(message=f"{self.file.path}: {item}; fetching it again"))
            self._disprove(block)
            self._leaves.clear()
            uncovered = self._coverage.uncover(block)
            for index in (block.index, *(one.index for one in uncovered.blocks)):
                self._soften(index)
            for piece in uncovered.pieces:
                if piece in self._have:
                    self._have.discard(piece)
                    self.done_bytes -= self._piece_size(piece)
        self.reused = min(self.reused, self.done_bytes)
        self._checks.clear()
        self._doubtful.clear()
        carrier.remove(self.name)
        self._pool.remove(self.name)
        self.start(carrier, now)

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _sample(self, carrier: Carrier) -> None:
        self._require_untouched()
        self.connections = carrier.sources(self.name)
        if self.done_bytes != self._sampled_bytes:
            self._sampled_bytes, self.begun_bytes = self.done_bytes, 0
        else:  # counting these takes a while: only where no piece has come since the last look
            self.begun_bytes = LEAF * sum(sum(leaves) for leaves in carrier.unfinished(self.name).values())
        status = carrier.status(self.name)
        self.peers = status.peers
        self.ledger.sample(peers=status.downloaded, mirrors=self._pool.received(self.name))
        self._pool.swarm_is(self.name, peers=status.peers, rate=status.down_rate)

    def _require_untouched(self) -> None:
        """Somebody else's hands in our file must not pass for a peer's wrong bytes. Raises StoreError."""
        found = os.fstat(self._fd)
        removed = found.st_nlink == 0 and os.name == "posix"
        if removed or found.st_size < self._grown:
            self._disk_failed = True  # what was finished may be gone: claim no more
            raise StoreError(
                f"{self._partial.data} was {'removed' if removed else 'cut short'} by somebody else",
                next_step="leave it alone, and run the same command again",
            )
        self._grown = found.st_size

    def reject_mirror(self, rejected: MirrorRejected) -> None:
        """The pool says what is wrong with a mirror."""
        wrong = rejected.wrong
        if wrong is not None:
            found = Evidence(
                file=self.file.path,
                block=wrong.block if wrong.block is not None else wrong.blocks[0],
                piece=wrong.piece,
                expected=wrong.expected,
                actual=wrong.actual,
            )
            self.evidence.append(("mirror", rejected.url, found))
        self._reject(SourceRejected(source=rejected.url, kind="mirror", reason=rejected.reason))

    def _blame_ourselves(self, carrier: Carrier) -> None:
        """A piece failed of which we had claimed leaves that nothing proves: no peer has to answer for it."""
        self.reused -= self._guessed_bytes()
        self._guessed.clear()
        self._guesses_failed = True
        for endpoint in self._banned:
            carrier.forgive(parse_endpoint(endpoint)[0])
            self.pardoned.append(endpoint)
        self._banned.clear()

    def _blame_peers(self) -> None:
        banned, self._banned = self._banned, []
        for endpoint in banned:
            self._reject_peer(endpoint)

    def _reject_peer(self, endpoint: str) -> None:
        """A peer was banned for a piece. libtorrent keeps the piece's number alone, not what it got."""
        reason, piece = WRONG_BYTES, self._failed_piece
        if piece is not None:
            blocks = self._coverage.blocks(piece)
            which = f"block {blocks[0]}" if len(blocks) == 1 else f"blocks {blocks[0]}–{blocks[-1]}"
            expected = "sha1:" + self._torrent.hashes.v1_pieces[20 * piece : 20 * piece + 20].hex()
            reason = f"{WRONG_BYTES}: {which} (piece {piece}), expected {expected}"
            found = Evidence(file=self.file.path, block=blocks[0], piece=piece, expected=expected)
            self.evidence.append(("peer", endpoint, found))
        self._reject(SourceRejected(source=endpoint, kind="peer", reason=reason))

    @property
    def proven_prefix(self) -> int:
        """So many bytes from the beginning of a file that is `handed_on` are firm: proven, and written no more.

        A proven block isn't yet that: where it shares a piece with one that is missing, peers still write into it.
        """
        if self.state is State.DONE:
            return self.file.size
        while self._prefix < len(self.file.blocks) and self._prefix in self._firm:
            self._prefix += 1
        return self.file.blocks[self._prefix - 1].end if self._prefix else 0

    def firm_news(self) -> list[tuple[int, bool]]:
        """(block, whether it is firm) of those that came to be so, or not so any more, since this was asked last."""
        news, self._firm_news = self._firm_news, []
        return news

    def hurry(self, carrier: Carrier, start: int, end: int) -> None:
        """Somebody waits for the bytes from `start` to before `end`: these blocks' pieces come before others."""
        if self.state is not State.FETCHING or self.name not in carrier:
            return
        length = self._torrent.hashes.piece_length
        touched = blocks_touching(self.file.blocks, start, end)
        if self._in_order and self._is_next(start):
            return  # it comes so anyway
        if touched:
            first, last = self.file.blocks[touched[0]].offset, self.file.blocks[touched[-1]].end
            pieces = range(first // length, -(-last // length))
            self._pool.hurry(self.name, pieces)
            carrier.hurry(self.name, [piece for piece in pieces if piece not in self._have])

    def _is_next(self, start: int) -> bool:
        """Whether everything before `start` is here."""
        return all(piece in self._have for piece in range(start // self._torrent.hashes.piece_length))

    def proven_blocks(self) -> Iterator[range]:
        """The pieces of each block that was proven and of which some came over the network."""
        for block in self.file.blocks:
            pieces = self._coverage.pieces(block)
            if (self.state is State.DONE or block.index in self._proven) and not self._fetched.isdisjoint(pieces):
                yield pieces

    def _reject(self, rejected: SourceRejected) -> None:
        again = any((one.kind, one.source) == ("peer", rejected.source) for one in self.rejected)
        if not again and rejected not in self.rejected:
            self.rejected.append(rejected)
            self._on_event(rejected)

    @property
    def pieces_missing(self) -> int:
        """How many pieces have to come, whole or in part."""
        return self.file.piece_count - len(self._have)

    def _piece_size(self, piece: int) -> int:
        length = self._torrent.hashes.piece_length
        return min(length, self.file.size - piece * length)


def blocks_touching(blocks: Sequence[Block], start: int, end: int) -> range:
    """The numbers of the blocks that have any byte from `start` to before `end`."""
    first = bisect.bisect_right(blocks, start, key=lambda block: block.end)
    last = bisect.bisect_left(blocks, end, key=lambda block: block.offset)
    return range(first, max(first, last))
