"""All mirrors of a pull at once: the one thread that owns the pool calls it, workers report.

    tick: take what workers have brought → the swarm (or `direct`) writes it → give idle workers new spans

The rules: each source gets spans of a few seconds of its own speed, and the idle take from the slow (`spans`,
`handing_out`). A source that failed rests (backoff with jitter, or as long as it asked for), and who sends wrong bytes
isn't asked again in this pull (`verdicts`). Here is what happens to tasks and pieces then.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol

from samara.fetcher.mirrors import verdicts
from samara.fetcher.mirrors.blob import BlobState, Mirror
from samara.fetcher.mirrors.crew import Crew
from samara.fetcher.mirrors.handing_out import Look, by_worth
from samara.fetcher.mirrors.piece import PieceProof, WrongPiece
from samara.fetcher.mirrors.verdicts import MirrorRejected, reason_of
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
)
from samara.registry.http import HttpClient
from samara.schemas.errors import SamaraError
from samara.schemas.pull_record import Kind

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

    def asking(self, url: str) -> AbstractContextManager[None]:
        """While a mirror is asked, in the thread that asks it."""

    def mirror(self, url: str, endpoint: str) -> None:
        """A mirror answered from an endpoint."""

    def mirror_gave(self, torrent: str, piece: int, url: str) -> None:
        """A mirror brought a piece, whole and right."""

    def refused(self, kind: Kind, name: str, reason: str) -> None:
        """A mirror must not be contacted."""


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
        self._hears = hears
        self._stall_timeout = stall_timeout
        self._random = random.Random(seed)  # noqa: S311  (jitter)
        self._blobs: dict[str, BlobState] = {}
        self._paused = False
        asking = _alone if hears is None else hears.asking
        self._crew = Crew(client, asking=asking, pace=pace, stall_timeout=stall_timeout)

    def __enter__(self) -> MirrorPool:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection."""
        self._crew.close()

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
            self._let_go_of(blob, blob.tasks)
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
            self._let_go_of(blob, blob.shorten())

    def lost(self, name: str, piece: int) -> None:
        """A piece that was handed over didn't pass."""
        blob = self._blobs.get(name)
        if blob is not None:
            blob.lost(piece)

    def received(self, name: str) -> int:
        """Bytes that mirrors have sent for a blob, wasted ones included."""
        blob = self._blobs.get(name)
        return 0 if blob is None else blob.received + sum(task.received for task in self._unended(name))

    def bytes_from(self, name: str) -> dict[str, int]:
        """The same by URL."""
        blob = self._blobs.get(name)
        found = {} if blob is None else {mirror.url: mirror.bytes_in for mirror in blob.mirrors.values()}
        for task in self._unended(name):
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
        idle = not any(True for _ in self._unended(name))
        return idle and (blob is None or not any(mirror.score.usable_at(until) for mirror in blob.mirrors.values()))

    # -- pausing -------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """End every connection until `go_on`; what came of pieces is kept."""
        self._paused = True
        for blob in self._blobs.values():
            self._let_go_of(blob, blob.tasks)

    def go_on(self) -> None:
        """After `pause`."""
        self._paused = False

    # -- the work ------------------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether any worker has a task."""
        return any(True for _ in self._crew.tasks())

    def wait(self, seconds: float) -> None:
        """Until a worker has something to say."""
        self._crew.wait(seconds)

    def tick(self, now: float, carrier: Carrier) -> tuple[MirrorRejected, ...]:
        """Take what has come, give out new work. Raises DiskFullError or StoreError where `carrier` writes itself."""
        said = self._crew.take_news()
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
            self._crew.put_back(said[taken:])
            raise
        if not self._paused:
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

    def _came(self, came: Came, carrier: Carrier) -> None:
        self._crew.is_off_our_hands(came)
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
        self._let_go_of(blob, blob.shorten())

    def _answered(self, answered: Answered) -> Iterator[MirrorRejected]:
        task = answered.task
        blob = self._blob_of(task)
        if blob is None:
            return
        if self._hears is not None:
            self._hears.mirror(task.url, answered.endpoint)
        outdated = task.answered and task.validator != answered.validator
        task.answered, task.validator = True, answered.validator
        changed = verdicts.saw_version(task.torrent, blob.mirrors[task.url], answered.validator)
        if changed is not None:
            # the length is right, and every piece is proven: only beginnings of the old object mustn't be continued
            blob.drop_fragments(task.url)
            yield changed
        if outdated and task.continues:
            task.forgets = True
            self._let_go_of(blob, [task])

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
        rejected = verdicts.ban(name, mirror, reason, wrong=wrong, is_news=is_news)
        if rejected is not None:
            blob.drop_fragments(mirror.url)
            self._let_go_of(blob, [task for task in blob.tasks if task.url == mirror.url])
            yield rejected

    def _ended(self, ended: Ended, now: float) -> Iterator[MirrorRejected]:
        task = ended.task
        self._crew.ended(task)
        known = self._blobs.get(task.torrent)
        if known is None:
            return
        known.ended(task)
        known.received += task.received
        mirror = known.mirrors.get(task.url)
        if mirror is not None:
            verdicts.delivered(mirror, task.received, now - task.began, broke=ended.error is not None)
        blob = self._blob_of(task)
        if blob is None or mirror is None:
            return
        if ended.fragment is not None and not task.forgets:
            blob.keep(ended.fragment, mirror, of_this_version=not task.answered or task.validator == mirror.validator)
        self._let_go_of(blob, [task])
        if ended.error is not None:
            yield from self._failed(task, blob, mirror, ended.error, now)

    def _failed(
        self, task: Task, blob: BlobState, mirror: Mirror, error: SamaraError, now: float
    ) -> Iterator[MirrorRejected]:
        name = task.torrent
        if isinstance(error, NoRangesError):
            mirror.ranges = False
        elif isinstance(error, OtherObjectError):
            yield from self._ban(name, blob, mirror, reason_of(error, mirror.url), is_news=not mirror.reported)
        else:
            if verdicts.is_policy(error) and self._hears is not None:
                self._hears.refused("mirror", mirror.url, reason_of(error, mirror.url))
            lot = self._random.random()
            yield verdicts.failed(name, mirror, error, received=task.received, now=now, lot=lot)

    # -- new work ------------------------------------------------------------------------------------------------

    def _give_out(self, now: float, carrier: Carrier) -> None:
        for name, blob in self._blobs.items():
            if blob.over or blob.board.is_whole:
                continue
            look = Look(
                name=name, blob=blob, now=now, patience=self._stall_timeout / 3,
                at_peers=partial(carrier.in_progress, name),
            )  # fmt: skip
            while self._crew.takes_work:
                errand = look.next_errand(by_worth(blob, self._connections(), now))
                if errand is None:
                    break
                if errand.hold_back:
                    carrier.hold_back(name, errand.hold_back)
                blob.tasks.append(errand.task)
                self._crew.do(errand.task)
            if pieces := look.pieces_for_peers():
                carrier.ask_for(name, pieces)

    def _connections(self) -> Counter[str]:
        """How many are at work, by host."""
        hosts = {mirror.url: mirror.host for blob in self._blobs.values() for mirror in blob.mirrors.values()}
        return Counter(hosts[task.url] for task in self._crew.tasks() if task.url in hosts)

    # -- tasks ---------------------------------------------------------------------------------------------------

    def _let_go_of(self, blob: BlobState, tasks: Iterable[Task]) -> None:
        """End tasks: others may have their pieces at once, however long their connections take to end."""
        for task in list(tasks):
            if not task.let_go:
                task.give_up()
                blob.let_go(task)

    def _unended(self, name: str) -> Iterator[Task]:
        """A blob's tasks of which bytes may still come, those that were let go among them."""
        return (task for task in self._crew.tasks() if task.torrent == name)

    def _blob_of(self, task: Task) -> BlobState | None:
        """The blob that a task is of, unless that is over or has begun anew."""
        blob = self._blobs.get(task.torrent)
        return None if blob is None or blob.over or blob.proof is not task.proof else blob


def _alone(_url: str) -> AbstractContextManager[None]:
    return nullcontext()
