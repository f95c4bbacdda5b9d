"""All mirrors of a pull at once: which worker asks which URL for which pieces. One thread calls it, workers report.

    tick: take what workers have brought → the swarm (or `direct`) writes it → give idle workers new spans

The rules: each source gets spans of a few seconds of its own speed. A source that failed rests (backoff with jitter,
or as long as it asked for). Who sends wrong bytes isn't asked again in this pull. When nothing is left to take, an
idle worker takes half of what the slowest still has before it, and at the very end repeats a piece that a slow one
is at. Pieces that the swarm is at are left to the swarm, unless it is about to take long.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from samara.fetcher.mirrors.board import PieceBoard, PieceState
from samara.fetcher.mirrors.piece import PieceProof, WrongPiece
from samara.fetcher.mirrors.worker import (
    Answered,
    Came,
    Ended,
    Fragment,
    Lied,
    NoRangesError,
    OtherObjectError,
    Said,
    Task,
    Worker,
)
from samara.fetcher.scores import Score
from samara.registry.http import HttpClient, HttpError, HttpFailure
from samara.schemas.errors import SamaraError
from samara.schemas.pull_record import Kind

AT_ONCE = 8  # connections in all
PER_HOST = 3  # and to one host: more get more out of a lossy link, and servers answer many with 429
SPAN_SECONDS = 4.0  # what one request asks for, at the speed its source has shown
FIRST_SPAN = 4 << 20  # bytes, before it has shown any
SHORTEST_SPAN = 1 << 20  # bytes, but for the last ones
LONGEST_SPAN = 256 << 20  # bytes
WAITING = 32 << 20  # bytes that may wait to be written before workers pause
WORTH_TAKING = 4.0  # seconds left: what is under way already when a connection is cut short is wasted
PEERS_COME_WITHIN = 5.0  # seconds in which pieces are left for peers that nobody has seen yet
TOO_YOUNG = 2.0  # seconds in which a connection's speed says nothing yet
SWARM_MAY_TAKE = 3.0  # seconds in which nothing is left but what the swarm is at, before mirrors are asked for it too
NEWS_AFTER = 3  # failures in a row
STALL_TIMEOUT = 15.0  # seconds without a byte


class Carrier(Protocol):
    """What writes pieces and knows what peers are at: the swarm, or `direct`."""

    def hold_back(self, name: str, pieces: Iterable[int]) -> None:
        """Somebody else is at these pieces."""

    def ask_for(self, name: str, pieces: Iterable[int]) -> None:
        """Nobody else is any more."""

    def in_progress(self, name: str) -> frozenset[int]:
        """The pieces that peers are at."""

    def add_piece(self, name: str, piece: int, data: bytes) -> None:
        """Write a piece."""


class Hears(Protocol):
    """Keeps note of who brought what."""

    def mirror(self, url: str, endpoint: str) -> None:
        """A mirror answered from an endpoint."""

    def mirror_gave(self, torrent: str, piece: int, url: str) -> None:
        """A mirror brought a piece, whole and right."""

    def refused(self, kind: Kind, name: str, reason: str) -> None:
        """A mirror must not be contacted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MirrorRejected:
    """A mirror gave wrong bytes or failed. `banned`: it isn't asked for this blob again; else it rests for a while.
    `is_news`: nothing of the kind was told before.
    """

    torrent: str
    url: str
    reason: str
    banned: bool
    is_news: bool = True
    wrong: WrongPiece | None = None


@dataclass(kw_only=True, slots=True)
class _Mirror:
    """One URL of one blob."""

    url: str
    score: Score
    validator: str | None = None
    ranges: bool = True
    bytes_in: int = 0
    reported: bool = False


@dataclass(kw_only=True, slots=True)
class _Blob:
    """One transfer's side of the pool."""

    proof: PieceProof
    board: PieceBoard
    mirrors: dict[str, _Mirror]
    fragments: dict[int, Fragment] = field(default_factory=dict)
    mixed: set[int] = field(default_factory=set)  # wrong pieces of several sources: one source alone must bring them
    received: int = 0
    swarm_rate: float = 0.0
    swarm_peers: int = 0
    with_peers: bool = False
    began: float = 0.0
    starved_at: float | None = None
    over: bool = False


class MirrorPool:
    """Use as a context manager. `client` is made with the first worker; `pace`: seconds to wait after n bytes."""

    def __init__(
        self,
        client: Callable[[], HttpClient],
        *,
        hears: Hears | None = None,
        pace: Callable[[int], float] = lambda _n: 0.0,
        stall_timeout: float = STALL_TIMEOUT,
        seed: int | None = None,
    ) -> None:
        self._client = client
        self._hears = hears
        self._pace = pace
        self._stall_timeout = stall_timeout
        self._random = random.Random(seed)  # noqa: S311  (jitter)
        self._blobs: dict[str, _Blob] = {}
        self._workers: list[Worker] = []
        self._said: list[Said] = []
        self._heard = threading.Condition()
        self._waiting = 0
        self._paused = False
        self._closed = False

    def __enter__(self) -> MirrorPool:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection."""
        with self._heard:
            self._closed = True
            self._heard.notify_all()
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join(0.2)

    # -- blobs ---------------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        proof: PieceProof,
        urls: Sequence[str],
        have: Iterable[int],
        *,
        with_peers: bool,
        now: float,
        first: range = range(0),
        in_order: bool = False,
    ) -> None:
        """Fetch a blob's pieces from these URLs, all but those in `have`. One that is added anew keeps its scores."""
        before = self._blobs.get(name)
        known = {} if before is None else before.mirrors
        self._blobs[name] = _Blob(
            proof=proof,
            board=PieceBoard(proof.count, have, first=first, in_order=in_order),
            mirrors={url: known.get(url) or _Mirror(url=url, score=Score()) for url in dict.fromkeys(urls)},
            received=0 if before is None else before.received,
            with_peers=with_peers,
            began=now,
        )

    def remove(self, name: str) -> None:
        """A blob is done with, or begins anew. What came of it stays counted."""
        blob = self._blobs.get(name)
        if blob is not None:
            blob.over = True
        for worker in self._workers:
            if worker.task is not None and worker.task.torrent == name:
                worker.task.give_up()

    def had(self, name: str, piece: int) -> None:
        """A piece is in the file, whoever brought it."""
        blob = self._blobs.get(name)
        if blob is not None:
            blob.board.had(piece)
            blob.fragments.pop(piece, None)

    def lost(self, name: str, piece: int) -> None:
        """A piece that was handed over didn't pass."""
        blob = self._blobs.get(name)
        if blob is not None and blob.board.state(piece) is PieceState.HANDED_OVER:
            blob.board.lost(piece)

    def received(self, name: str) -> int:
        """Bytes that mirrors have sent for a blob, wasted ones included."""
        blob = self._blobs.get(name)
        return 0 if blob is None else blob.received + sum(task.received for task in self._tasks(name))

    def bytes_from(self, name: str) -> dict[str, int]:
        """The same by URL."""
        blob = self._blobs.get(name)
        found = {} if blob is None else {mirror.url: mirror.bytes_in for mirror in blob.mirrors.values()}
        for task in self._tasks(name):
            found[task.url] = found.get(task.url, 0) + task.received
        return found

    def swarm_is(self, name: str, *, peers: int, rate: float) -> None:
        """How many peers bring this blob, and how fast (bytes per second)."""
        blob = self._blobs.get(name)
        if blob is not None:
            blob.swarm_peers, blob.swarm_rate = peers, rate

    def is_hopeless(self, name: str, until: float) -> bool:
        """Whether no mirror of a blob will be asked again before `until`."""
        blob = self._blobs.get(name)
        idle = not any(True for _ in self._tasks(name))
        return idle and (blob is None or not any(mirror.score.usable_at(until) for mirror in blob.mirrors.values()))

    # -- pausing -------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """End every connection until `go_on`; what came of pieces is kept."""
        self._paused = True
        for worker in self._workers:
            if worker.task is not None:
                worker.task.give_up()

    def go_on(self) -> None:
        """After `pause`."""
        self._paused = False

    # -- the work ------------------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether any worker has a task."""
        return any(worker.task is not None for worker in self._workers)

    def wait(self, seconds: float) -> None:
        """Until a worker has something to say."""
        with self._heard:
            if not self._said:
                self._heard.wait(seconds)

    def tick(self, now: float, carrier: Carrier) -> tuple[MirrorRejected, ...]:
        """Take what has come, give out new work. Raises DiskFullError or StoreError where `carrier` writes itself."""
        with self._heard:
            said, self._said = self._said, []
        rejected: list[MirrorRejected] = []
        for one in said:
            if isinstance(one, Came):
                self._came(one, carrier)
            elif isinstance(one, Answered):
                rejected += self._answered(one)
            elif isinstance(one, Lied):
                rejected += self._lied(one)
            elif isinstance(one, Ended):
                rejected += self._ended(one, now, carrier)
        if not self._paused and not self._closed:
            self._give_out(now, carrier)
        return tuple(rejected)

    def _hear(self, said: Said) -> None:
        with self._heard:
            if isinstance(said, Came):
                while self._waiting > WAITING and not self._closed:
                    self._heard.wait()
                self._waiting += len(said.data)
            self._said.append(said)
            self._heard.notify_all()

    def _came(self, came: Came, carrier: Carrier) -> None:
        with self._heard:
            self._waiting -= len(came.data)
            self._heard.notify_all()
        blob = self._blobs.get(came.task.torrent)
        if blob is None or blob.proof is not came.task.proof:
            return
        if blob.board.hand_over(came.piece):
            carrier.add_piece(came.task.torrent, came.piece, bytes(came.data))
            if self._hears is not None:
                self._hears.mirror_gave(came.task.torrent, came.piece, came.task.url)
        for task in self._tasks(came.task.torrent):  # whoever repeats this piece need not go on
            if task is not came.task and task.piece == came.piece and task.stop == came.piece + 1:
                task.give_up()

    def _answered(self, answered: Answered) -> Iterator[MirrorRejected]:
        task = answered.task
        blob = self._blobs.get(task.torrent)
        mirror = None if blob is None else blob.mirrors.get(task.url)
        if blob is None or mirror is None:
            return
        if self._hears is not None:
            self._hears.mirror(task.url, answered.endpoint)
        if mirror.validator is not None and answered.validator != mirror.validator:
            # the length is right, and every piece is proven: only beginnings of the old object mustn't be continued
            for piece in [piece for piece, fragment in blob.fragments.items() if task.url in fragment.urls]:
                del blob.fragments[piece]
            if task.continues:
                task.forgets = True
                task.give_up()
            yield MirrorRejected(
                torrent=task.torrent,
                url=task.url,
                reason=f"changed while it was fetched ({mirror.validator} → {answered.validator})",
                banned=False,
            )
        mirror.validator = answered.validator

    def _lied(self, lied: Lied) -> Iterator[MirrorRejected]:
        blob = self._blobs.get(lied.task.torrent)
        if blob is None or blob.proof is not lied.task.proof:
            return
        if len(lied.urls) > 1:
            blob.mixed.add(lied.wrong.piece)  # which of them lied can't be told: one alone brings it next time
            return
        for url in lied.urls:
            yield from self._ban(lied.task.torrent, blob.mirrors[url], str(lied.wrong), wrong=lied.wrong)

    def _ban(
        self, name: str, mirror: _Mirror, reason: str, *, wrong: WrongPiece | None = None
    ) -> Iterator[MirrorRejected]:
        if mirror.score.is_banned:
            return
        mirror.score = mirror.score.banned(reason)
        for task in self._tasks(name):
            if task.url == mirror.url:
                task.give_up()
        yield MirrorRejected(
            torrent=name, url=mirror.url, reason=f"{reason}; not asked again", banned=True, wrong=wrong
        )  # fmt: skip

    def _ended(self, ended: Ended, now: float, carrier: Carrier) -> Iterator[MirrorRejected]:
        task = ended.task
        for worker in self._workers:
            if worker.task is task:
                worker.task = None
        blob = self._blobs.get(task.torrent)
        if blob is None:
            return
        blob.received += task.received
        mirror = blob.mirrors.get(task.url)
        if mirror is not None:
            mirror.bytes_in += task.received
            if task.received:
                mirror.score = mirror.score.delivered(task.received, max(1e-3, now - task.began))
        if blob.proof is not task.proof:
            return
        fragment = ended.fragment
        usable = fragment is not None and fragment.filled and not task.forgets and fragment.piece not in blob.mixed
        if fragment is not None and usable and blob.board.state(fragment.piece) is PieceState.TAKEN:
            blob.fragments[fragment.piece] = fragment
        others = {piece for other in self._tasks(task.torrent) for piece in other.left}
        back = blob.board.give_back(piece for piece in _pieces(task) if piece not in others)
        if back:
            carrier.ask_for(task.torrent, back)
        if mirror is not None and ended.error is not None:
            yield from self._failed(task, mirror, ended.error, now)

    def _failed(self, task: Task, mirror: _Mirror, error: SamaraError, now: float) -> Iterator[MirrorRejected]:
        name = task.torrent
        if isinstance(error, NoRangesError):
            mirror.ranges = False
            return
        if isinstance(error, OtherObjectError):
            banned = tuple(self._ban(name, mirror, _reason(error, mirror.url)))
            yield from () if mirror.reported else banned
            mirror.reported = True
            return
        kind = error.kind if isinstance(error, HttpError) else HttpFailure.BROKEN
        retry_after = error.retry_after if isinstance(error, HttpError) else None
        status = error.status if isinstance(error, HttpError) else None
        if kind is HttpFailure.POLICY and self._hears is not None:
            self._hears.refused("mirror", mirror.url, _reason(error, mirror.url))
        mirror.score = mirror.score.failed(kind, now, self._random.random(), status=status, retry_after=retry_after)
        # a connection that ends after it has brought something is what links do, and no news
        is_news = not mirror.reported and (not task.received or mirror.score.failures >= NEWS_AFTER)
        mirror.reported |= is_news
        yield MirrorRejected(
            torrent=name,
            url=mirror.url,
            reason=_reason(error, mirror.url),
            banned=mirror.score.is_banned,
            is_news=is_news,
        )

    # -- giving out ----------------------------------------------------------------------------------------------

    def _give_out(self, now: float, carrier: Carrier) -> None:
        for name, blob in self._blobs.items():
            while not blob.over:
                task = self._next_task(name, now, carrier)
                if task is None:
                    break
                worker = self._idle_worker()
                if worker is None:
                    return
                worker.do(task)

    def _idle_worker(self) -> Worker | None:
        for worker in self._workers:
            if worker.task is None:
                return worker
        if len(self._workers) >= AT_ONCE:
            return None
        worker = Worker(self._client(), self._hear, pace=self._pace, stall_timeout=self._stall_timeout)
        self._workers.append(worker)
        return worker

    def _next_task(self, name: str, now: float, carrier: Carrier) -> Task | None:
        if sum(worker.task is not None for worker in self._workers) >= AT_ONCE:
            return None
        blob = self._blobs[name]
        if blob.board.is_whole:
            return None
        self._share_with_swarm(name, blob, now, carrier)
        for mirror in self._by_worth(blob, now):
            task = self._task_for(name, blob, mirror, now, carrier)
            if task is not None:
                return task
        return None

    def _by_worth(self, blob: _Blob, now: float) -> list[_Mirror]:
        """Mirrors that may be asked now: those with the fewest connections first, of these the best."""
        busy: dict[str, int] = {}
        for worker in self._workers:
            if worker.task is not None:
                host = _host(worker.task.url)
                busy[host] = busy.get(host, 0) + 1
        usable = [
            mirror
            for mirror in blob.mirrors.values()
            if mirror.score.usable_at(now) and busy.get(_host(mirror.url), 0) < PER_HOST
        ]
        return sorted(usable, key=lambda mirror: (busy.get(_host(mirror.url), 0), -(mirror.score.rate or 0.0)))

    def _task_for(self, name: str, blob: _Blob, mirror: _Mirror, now: float, carrier: Carrier) -> Task | None:
        if not mirror.ranges:
            return self._whole_file(name, blob, mirror, now, carrier)
        at_most = self._fair_span(name, blob, mirror, now)
        fragment = next(iter(blob.fragments.values()), None)
        at_swarm = carrier.in_progress(name)
        span = blob.board.take(at_most, leave=at_swarm, start=None if fragment is None else fragment.piece)
        if span:
            blob.starved_at = None
        elif at_swarm:
            blob.starved_at = blob.starved_at or now
            if now - blob.starved_at >= SWARM_MAY_TAKE:
                span = blob.board.take(at_most)
        if span:
            carrier.hold_back(name, span)
        else:
            span = self._taken_from_others(blob, name, mirror, now)
        if not span:
            return None
        started = blob.fragments.pop(span.start, None)
        return Task(
            torrent=name, url=mirror.url, proof=blob.proof, start=span.start, stop=span.stop, fragment=started,
            continues=started is not None, piece=span.start, began=now,
        )  # fmt: skip

    def _fair_span(self, name: str, blob: _Blob, mirror: _Mirror, now: float) -> int:
        """How many pieces to ask for at once: some seconds' worth, and never more than leaves all others work.

        Each request takes a part of what is missing, so that requests get smaller towards the end and all who give end
        together.
        """
        rate = mirror.score.rate
        wanted = FIRST_SPAN if rate is None else min(LONGEST_SPAN, rate * SPAN_SECONDS)
        least = SHORTEST_SPAN if rate is None else max(SHORTEST_SPAN, rate * SPAN_SECONDS / 8)
        peers = blob.swarm_peers or (blob.with_peers and now - blob.began < PEERS_COME_WITHIN)
        givers = 1 + sum(True for _ in self._tasks(name)) + (2 if peers else 0)
        share = blob.board.missing_count() * blob.proof.hashes.piece_length / (2 * givers)
        return max(1, int(min(wanted, max(least, share))) // blob.proof.hashes.piece_length)

    def _whole_file(self, name: str, blob: _Blob, mirror: _Mirror, now: float, carrier: Carrier) -> Task | None:
        """A server without ranges is read from its beginning, and only while nobody else brings anything."""
        if any(True for _ in self._tasks(name)) or blob.swarm_rate > 0:
            return None
        if any(other.ranges and not other.score.is_banned for other in blob.mirrors.values()):
            return None
        wanted = frozenset(blob.board.missing())
        if not wanted:
            return None
        while blob.board.take(len(blob.board)):
            pass
        carrier.hold_back(name, wanted)
        return Task(
            torrent=name, url=mirror.url, proof=blob.proof, start=0, stop=blob.proof.count, wanted=wanted, began=now,
        )  # fmt: skip

    def _taken_from_others(self, blob: _Blob, name: str, mirror: _Mirror, now: float) -> range:
        """Half of what the slowest has before it; or, where that is one piece, that piece once more."""
        mine = mirror.score.rate
        length = blob.proof.hashes.piece_length
        slow = [task for task in self._tasks(name) if task.wanted is None and task.left and not task.given_up]
        if not slow:
            return range(0)
        slowest = max(slow, key=lambda task: _seconds_left(task, length, now))
        if _seconds_left(slowest, length, now) < WORTH_TAKING:
            return range(0)
        beyond = len(slowest.left) - 1
        if beyond > 0:
            if mine is not None and beyond * length / mine > _seconds_left(slowest, length, now):
                beyond = max(1, beyond // 4)  # a slower one takes less
            stop = slowest.stop
            slowest.stop = stop - max(1, (beyond + 1) // 2)
            return range(slowest.stop, stop)
        repeated = sum(task.piece == slowest.piece for task in slow) > 1
        needs = length / mine if mine else self._stall_timeout / 3
        if repeated or slowest.url == mirror.url or _seconds_left(slowest, length, now) < 2 * needs + 1.0:
            return range(0)
        return slowest.left

    def _share_with_swarm(self, name: str, blob: _Blob, now: float, carrier: Carrier) -> None:
        """Peers have nothing left to bring, and a mirror will take long yet: let them bring its pieces too."""
        if not blob.swarm_peers or blob.board.missing():
            return
        length = blob.proof.hashes.piece_length
        for task in self._tasks(name):
            if not task.shared and _seconds_left(task, length, now) > SWARM_MAY_TAKE:
                task.shared = True
                carrier.ask_for(name, task.left)

    def _tasks(self, name: str) -> Iterator[Task]:
        for worker in self._workers:
            if worker.task is not None and worker.task.torrent == name:
                yield worker.task


def _reason(error: SamaraError, url: str) -> str:
    """What went wrong, without the URL: that is named beside it."""
    said = str(SamaraError(error.what, expected=error.expected, actual=error.actual))
    return said.removeprefix(url).lstrip(" :")


def _pieces(task: Task) -> Iterable[int]:
    return task.left if task.wanted is None else (piece for piece in task.left if piece in task.wanted)


def _seconds_left(task: Task, piece_length: int, now: float) -> float:
    """How long a task still needs at the speed it has shown; 0 while it is too young to tell."""
    spent = now - task.began
    if spent < TOO_YOUNG:
        return 0.0
    left = len(task.left) * piece_length - task.of_piece
    return left * spent / task.received if task.received else spent * 4


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()
