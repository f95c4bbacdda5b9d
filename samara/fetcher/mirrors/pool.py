"""All mirrors of a pull at once: which worker asks which URL for which pieces. One thread calls it, workers report.

    tick: take what workers have brought → the swarm (or `direct`) writes it → give idle workers new spans

The rules: each source gets spans of a few seconds of its own speed, and the idle take from the slow (`spans`). A source
that failed rests (backoff with jitter, or as long as it asked for). Who sends wrong bytes isn't asked again in this
pull. Pieces that peers are at are left to them, unless they are about to take long; and what a mirror will take long
for is offered to peers when they have nothing else to bring.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from samara.fetcher.mirrors.blob import BlobState, Mirror
from samara.fetcher.mirrors.board import PieceState
from samara.fetcher.mirrors.piece import PieceProof, WrongPiece
from samara.fetcher.mirrors.spans import (
    ALONE_MAY_TAKE,
    SWARM_MAY_TAKE,
    TakeOver,
    fair_span,
    half_of,
    slowest_of,
    take_over,
)
from samara.fetcher.mirrors.worker import (
    Answered,
    Broke,
    Came,
    Ended,
    Lied,
    NoRangesError,
    OtherObjectError,
    Said,
    Task,
    Worker,
)
from samara.fetcher.scores import order
from samara.registry.http import HttpClient, HttpError, HttpFailure
from samara.schemas.errors import SamaraError
from samara.schemas.pull_record import Kind

AT_ONCE = 8  # connections in all
PER_HOST = 3  # and to one host: more get more out of a lossy link, and servers answer many with 429
WAITING = 32 << 20  # bytes that may wait to be written before workers pause
PEERS_COME_WITHIN = 5.0  # seconds in which pieces are left for peers that nobody has seen yet
OFFERED_FOR = 1.0  # seconds in which peers may begin with what they are offered
COUNTS_FROM = 64 << 10  # bytes
NEWS_AFTER = 3  # failures in a row
STALL_TIMEOUT = 15.0  # seconds without a byte
CLOSE_WITHIN = 0.5  # seconds


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

    def asking(self, url: str) -> AbstractContextManager[None]:
        """While a mirror is asked, in the thread that asks it."""

    def mirror(self, url: str, endpoint: str) -> None:
        """A mirror answered from an endpoint."""

    def mirror_gave(self, torrent: str, piece: int, url: str) -> None:
        """A mirror brought a piece, whole and right."""

    def refused(self, kind: Kind, name: str, reason: str) -> None:
        """A mirror must not be contacted."""


_ABSENT = frozenset({404, 410})


@dataclass(frozen=True, kw_only=True, slots=True)
class MirrorRejected:
    """A mirror gave wrong bytes or failed. `banned`: it isn't asked for this blob again; else it rests for a while.
    `is_news`: nothing of the kind was told before. `absent`: it said that it doesn't have the blob (HTTP 404, 410).
    """

    torrent: str
    url: str
    reason: str
    banned: bool
    is_news: bool = True
    absent: bool = False
    wrong: WrongPiece | None = None


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
        self._blobs: dict[str, BlobState] = {}
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
        until = time.monotonic() + CLOSE_WITHIN
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))

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
        self._blobs[name] = BlobState(
            proof, urls, have, before=self._blobs.get(name), with_peers=with_peers, began=now, first=first,
            in_order=in_order,
        )  # fmt: skip

    def remove(self, name: str) -> None:
        """A blob is done with, or begins anew. What came of it stays counted."""
        blob = self._blobs.get(name)
        if blob is not None:
            for task in self._tasks(name):
                self._let_go(blob, task)
            blob.end()

    def hurry(self, name: str, pieces: range) -> None:
        """Somebody waits for these pieces: they are asked for before others."""
        blob = self._blobs.get(name)
        if blob is not None:
            blob.board.hurry(pieces)

    def forget(self, name: str) -> None:
        """A blob is done with for good: nothing of it need be counted any more."""
        self.remove(name)
        self._blobs.pop(name, None)

    def had(self, name: str, piece: int) -> None:
        """A piece is in the file, whoever brought it."""
        blob = self._blobs.get(name)
        if blob is not None:
            blob.had(piece)
            self._shorten(name, blob)

    def lost(self, name: str, piece: int) -> None:
        """A piece that was handed over didn't pass."""
        blob = self._blobs.get(name)
        if blob is not None:
            blob.lost(piece)

    def received(self, name: str) -> int:
        """Bytes that mirrors have sent for a blob, wasted ones included."""
        blob = self._blobs.get(name)
        return 0 if blob is None else blob.received + sum(task.received for task in self._every_task(name))

    def bytes_from(self, name: str) -> dict[str, int]:
        """The same by URL."""
        blob = self._blobs.get(name)
        found = {} if blob is None else {mirror.url: mirror.bytes_in for mirror in blob.mirrors.values()}
        for task in self._every_task(name):
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
        idle = not any(True for _ in self._every_task(name))
        return idle and (blob is None or not any(mirror.score.usable_at(until) for mirror in blob.mirrors.values()))

    # -- pausing -------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """End every connection until `go_on`; what came of pieces is kept."""
        self._paused = True
        for name, blob in self._blobs.items():
            for task in self._tasks(name):
                self._let_go(blob, task)

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
        rejected: list[MirrorRejected] = [
            MirrorRejected(torrent=name, url=mirror.url, reason=mirror.score.evidence or "", banned=True)
            for name, blob in self._blobs.items()
            for mirror in blob.take_useless()
        ]
        taken = 0
        try:
            for one in said:
                taken += 1
                rejected += self._take(one, now, carrier)
        except BaseException:
            with self._heard:
                self._said[:0] = said[taken:]
            raise
        if not self._paused and not self._closed:
            self._give_out(now, carrier)
        for name, blob in self._blobs.items():
            if pieces := blob.take_for_peers():
                carrier.ask_for(name, pieces)
        return tuple(rejected)

    def _take(self, said: Said, now: float, carrier: Carrier) -> Iterable[MirrorRejected]:
        if isinstance(said, Came):
            self._came(said, carrier)
        elif isinstance(said, Answered):
            return self._answered(said)
        elif isinstance(said, Lied):
            return self._lied(said)
        elif isinstance(said, Ended):
            return self._ended(said, now)
        elif isinstance(said, Broke):
            raise said.error
        return ()

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
        blob = self._blob_of(came.task)
        if blob is None or not blob.board.hand_over(came.piece):
            return
        try:
            carrier.add_piece(came.task.torrent, came.piece, bytes(came.data))
        except BaseException:
            blob.lost(came.piece)
            raise
        if self._hears is not None:
            self._hears.mirror_gave(came.task.torrent, came.piece, came.task.url)
        self._shorten(came.task.torrent, blob)

    def _answered(self, answered: Answered) -> Iterator[MirrorRejected]:
        task = answered.task
        blob = self._blob_of(task)
        if blob is None:
            return
        if self._hears is not None:
            self._hears.mirror(task.url, answered.endpoint)
        mirror = blob.mirrors[task.url]
        outdated = task.answered and task.validator != answered.validator
        task.answered, task.validator = True, answered.validator
        before, changed = mirror.validator, mirror.answered and mirror.validator != answered.validator
        mirror.answered, mirror.validator = True, answered.validator
        if changed:
            # the length is right, and every piece is proven: only beginnings of the old object mustn't be continued
            blob.drop_fragments(task.url)
            yield MirrorRejected(
                torrent=task.torrent,
                url=task.url,
                reason=f"changed while it was fetched ({before} → {answered.validator})",
                banned=False,
            )
        if outdated and task.continues:
            task.forgets = True
            self._let_go(blob, task)

    def _lied(self, lied: Lied) -> Iterator[MirrorRejected]:
        blob = self._blob_of(lied.task)
        if blob is None or lied.task.forgets:
            return
        if len(lied.urls) > 1:
            blob.mixed.add(lied.wrong.piece)  # which of them lied can't be told: one alone brings it next time
            return
        for url in lied.urls:
            yield from self._ban(lied.task.torrent, blob, blob.mirrors[url], str(lied.wrong), wrong=lied.wrong)

    def _ban(
        self,
        name: str,
        blob: BlobState,
        mirror: Mirror,
        reason: str,
        *,
        wrong: WrongPiece | None = None,
        is_news: bool = True,
    ) -> Iterator[MirrorRejected]:
        if mirror.score.is_banned:
            return
        mirror.score = mirror.score.banned(reason)
        mirror.reported = True
        blob.drop_fragments(mirror.url)
        for task in self._tasks(name):
            if task.url == mirror.url:
                self._let_go(blob, task)
        yield MirrorRejected(
            torrent=name,
            url=mirror.url,
            reason=f"{reason}; not asked again",
            banned=True,
            is_news=is_news,
            wrong=wrong,
        )

    def _ended(self, ended: Ended, now: float) -> Iterator[MirrorRejected]:
        task = ended.task
        for worker in self._workers:
            if worker.task is task:
                worker.task = None
        known = self._blobs.get(task.torrent)
        if known is None:
            return
        known.received += task.received
        mirror = known.mirrors.get(task.url)
        if mirror is not None:
            mirror.bytes_in += task.received
            # who sends a few bytes each time before it breaks has delivered nothing: it must not be asked without rest
            if task.received >= (COUNTS_FROM if ended.error is not None else 1):
                mirror.score = mirror.score.delivered(task.received, max(1e-3, now - task.began))
        blob = self._blob_of(task)
        if blob is None or mirror is None:
            return
        if ended.fragment is not None and not task.forgets:
            blob.keep(ended.fragment, mirror, of_this_version=not task.answered or task.validator == mirror.validator)
        self._let_go(blob, task)
        if ended.error is not None:
            yield from self._failed(task, blob, mirror, ended.error, now)

    def _failed(
        self, task: Task, blob: BlobState, mirror: Mirror, error: SamaraError, now: float
    ) -> Iterator[MirrorRejected]:
        name = task.torrent
        if isinstance(error, NoRangesError):
            mirror.ranges = False
            return
        if isinstance(error, OtherObjectError):
            yield from self._ban(name, blob, mirror, _reason(error, mirror.url), is_news=not mirror.reported)
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
            absent=status in _ABSENT,
        )

    # -- giving out ----------------------------------------------------------------------------------------------

    def _give_out(self, now: float, carrier: Carrier) -> None:
        for name, blob in self._blobs.items():
            if blob.over or blob.board.is_whole:
                continue
            while (task := self._next_task(name, blob, now, carrier)) is not None:
                worker = self._idle_worker()
                assert worker is not None, "a task for nobody"
                worker.do(task)
            self._offer_to_peers(name, blob, now, carrier)

    def _idle_worker(self) -> Worker | None:
        for worker in self._workers:
            if worker.task is None:
                return worker
        if len(self._workers) >= AT_ONCE:
            return None
        worker = Worker(
            self._client(),
            self._hear,
            asking=_alone if self._hears is None else self._hears.asking,
            pace=self._pace,
            stall_timeout=self._stall_timeout,
        )
        self._workers.append(worker)
        return worker

    def _next_task(self, name: str, blob: BlobState, now: float, carrier: Carrier) -> Task | None:
        if sum(worker.task is not None for worker in self._workers) >= AT_ONCE:
            return None
        for mirror in self._by_worth(blob, now):
            task = self._task_for(name, blob, mirror, now, carrier)
            if task is not None:
                return task
        return None

    def _by_worth(self, blob: BlobState, now: float) -> list[Mirror]:
        """Mirrors that may be asked now: those with the fewest connections first, of these the best."""
        known = {mirror.url: mirror.host for other in self._blobs.values() for mirror in other.mirrors.values()}
        busy = Counter(known.get(worker.task.url) for worker in self._workers if worker.task is not None)
        usable = [
            mirror for mirror in blob.mirrors.values() if mirror.score.usable_at(now) and busy[mirror.host] < PER_HOST
        ]
        best = order({mirror.url: mirror.score for mirror in usable}, now)
        return sorted(usable, key=lambda mirror: (busy[mirror.host], best.index(mirror.url)))

    def _task_for(self, name: str, blob: BlobState, mirror: Mirror, now: float, carrier: Carrier) -> Task | None:
        if not mirror.ranges:
            return self._whole_file(name, blob, mirror, now, carrier)
        if span := self._missing_span(name, blob, mirror, now, carrier):
            carrier.hold_back(name, span)
        else:
            span = self._taken_over(name, blob, mirror, now)
        if not span:
            return None
        fragment = blob.fragments.pop(span.start, None)
        if fragment is not None and not blob.may_continue(fragment, mirror.url):
            fragment = None
        return Task(
            torrent=name, url=mirror.url, proof=blob.proof, start=span.start, stop=span.stop, fragment=fragment,
            continues=fragment is not None, answered=mirror.answered, validator=mirror.validator, began=now,
        )  # fmt: skip

    def _missing_span(self, name: str, blob: BlobState, mirror: Mirror, now: float, carrier: Carrier) -> range:
        length = blob.proof.hashes.piece_length
        at_most = fair_span(
            mirror.score.rate,
            missing=blob.board.missing_count() * length,
            others=sum(True for _ in self._tasks(name)),
            peers=bool(blob.swarm_peers or (blob.with_peers and now - blob.began < PEERS_COME_WITHIN)),
        )
        leave = carrier.in_progress(name) | blob.offered_at(now)
        span = blob.take(at_most // length, mirror.url, leave=leave)
        if span or not blob.board.missing_count():
            blob.starved_at = None
            return span
        # nothing is missing but what peers are at
        blob.starved_at = now if blob.starved_at is None else blob.starved_at
        patience = SWARM_MAY_TAKE if blob.swarm_peers else ALONE_MAY_TAKE
        get_on = blob.swarm_peers and blob.board.missing_count() * length <= SWARM_MAY_TAKE * blob.swarm_rate
        if get_on or now - blob.starved_at < patience:
            return range(0)
        return blob.take(at_most // length, mirror.url)

    def _whole_file(self, name: str, blob: BlobState, mirror: Mirror, now: float, carrier: Carrier) -> Task | None:
        """A server without ranges is read from its beginning, and only while nobody else brings anything."""
        if any(True for _ in self._tasks(name)) or blob.swarm_rate > 0 or blob.may_get_ranges(now):
            return None
        wanted = blob.take_all()
        if not wanted:
            return None
        carrier.hold_back(name, wanted)
        return Task(
            torrent=name, url=mirror.url, proof=blob.proof, start=0, stop=max(wanted) + 1, wanted=wanted, began=now,
        )  # fmt: skip

    def _taken_over(self, name: str, blob: BlobState, mirror: Mirror, now: float) -> range:
        """What an idle connection takes from a slow one."""
        tasks = list(self._tasks(name))
        under_way = [task.under_way(now) for task in tasks]
        found: TakeOver | None = take_over(
            under_way, blob.proof.hashes.piece_length,
            url=mirror.url, rate=mirror.score.rate, patience=self._stall_timeout / 3,
        )  # fmt: skip
        if found is None:
            return range(0)
        if found.again:
            piece = found.stop
            return range(piece, piece + 1) if blob.board.state(piece) is PieceState.TAKEN else range(0)
        pieces = self._cut(blob, tasks[found.index], found.stop)
        return blob.board.take(len(pieces), start=pieces[0]) if pieces else range(0)

    def _offer_to_peers(self, name: str, blob: BlobState, now: float, carrier: Carrier) -> None:
        """Peers have nothing left to bring, and a mirror will take long yet: let them bring what it has before it."""
        if not blob.swarm_peers or blob.board.missing_count():
            return
        tasks = list(self._tasks(name))
        under_way = [task.under_way(now) for task in tasks]
        slowest = slowest_of(under_way, blob.proof.hashes.piece_length, more_than=SWARM_MAY_TAKE)
        if slowest is None:
            return
        task = tasks[slowest]
        if len(under_way[slowest].left) > 1:
            blob.offer(self._cut(blob, task, half_of(under_way[slowest])), until=now + OFFERED_FOR)
        elif not task.shared:
            task.shared = True
            carrier.ask_for(name, under_way[slowest].left)

    # -- tasks ---------------------------------------------------------------------------------------------------

    def _cut(self, blob: BlobState, task: Task, stop: int) -> list[int]:
        """Others may have a task's pieces from `stop` on. Gives those that are missing now."""
        before, task.stop = task.stop, stop
        return blob.give_back(range(stop, before), self._others(task))

    def _let_go(self, blob: BlobState, task: Task) -> None:
        """End a task: others may have its pieces at once, however long its connection takes to end."""
        if not task.let_go:
            task.let_go = True
            task.give_up()
            blob.give_back(task.left, self._others(task))

    def _shorten(self, name: str, blob: BlobState) -> None:
        """What others have brought meanwhile need not come again."""
        for task in list(self._tasks(name)):
            stop = task.stop
            while stop > task.piece and blob.board.state(stop - 1) in (PieceState.HAD, PieceState.HANDED_OVER):
                stop -= 1
            if stop < task.stop:
                task.stop = stop
                if stop <= task.piece:
                    self._let_go(blob, task)

    def _others(self, task: Task) -> frozenset[int]:
        """The pieces that other connections are at."""
        return frozenset(piece for other in self._tasks(task.torrent) if other is not task for piece in other.left)

    def _tasks(self, name: str) -> Iterator[Task]:
        """Those that still stand."""
        return (task for task in self._every_task(name) if not task.let_go)

    def _every_task(self, name: str) -> Iterator[Task]:
        return (
            worker.task for worker in self._workers if worker.task is not None and worker.task.torrent == name
        )  # fmt: skip

    def _blob_of(self, task: Task) -> BlobState | None:
        """The blob that a task is of, unless that is over or has begun anew."""
        blob = self._blobs.get(task.torrent)
        return None if blob is None or blob.over or blob.proof is not task.proof else blob


def _alone(_url: str) -> AbstractContextManager[None]:
    return nullcontext()


def _reason(error: SamaraError, url: str) -> str:
    """What went wrong, without the URL: that is named beside it."""
    said = str(SamaraError(error.what, expected=error.expected, actual=error.actual)).removeprefix(url).lstrip(" :")
    is_private = isinstance(error, HttpError) and error.kind is HttpFailure.POLICY and said.endswith("address")
    return f"{said}; --private-mirrors allows it" if is_private else said
