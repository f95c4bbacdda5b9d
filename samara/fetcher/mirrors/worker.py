"""One connection to mirrors, in a thread of its own: asks a URL for a span of pieces and hands on each that is right.

What came of a piece before a connection broke is kept (`Fragment`): whoever goes on with the piece asks for the rest.
On a link that breaks every few seconds that is the difference between arriving and never arriving.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from samara.fetcher.mirrors.piece import PieceProof, WrongPiece
from samara.fetcher.mirrors.spans import UnderWay
from samara.registry.http import Answer, HttpClient, HttpError, HttpFailure
from samara.schemas.errors import NetworkError, SamaraError

CHUNK = 256 << 10  # bytes read at once: also how often speed and the overall cap are looked at
SLOWEST = 1024  # bytes per second over SLOW_AFTER: below that a source only pretends to be one
SLOW_AFTER = 20.0  # seconds spent waiting for it
NAP = 0.2  # seconds of a wait to keep the pace after which it is seen whether the task still stands


class OtherObjectError(NetworkError):
    """What a URL names isn't as long as the blob: it can't be it."""


class NoRangesError(NetworkError):
    """The server gives whole files only."""


@dataclass(kw_only=True, slots=True)
class Fragment:
    """The beginning of a piece, unproven. `urls`: whose bytes these are."""

    piece: int
    data: bytearray
    filled: int
    urls: frozenset[str]


@dataclass(kw_only=True, slots=True, eq=False)
class Task:
    """A span of pieces to get from one URL. `stop` may be lowered while it runs: others took the pieces beyond.

    `wanted`: of the span only these are handed on, where a server gives no ranges. `received`: bytes so far; of the
    piece it is at, `of_piece` have come. `given_up`: it ends soon. The pool's own notes: `let_go`: others may have its
    pieces; `validator`: of the mirror's object as last seen, once it has `answered`; `continues` a fragment; `forgets`:
    what came of its first piece is of several objects; `shared`: peers were asked for its one piece too.
    """

    torrent: str
    url: str
    proof: PieceProof
    start: int
    stop: int
    vouched: bool = False
    fragment: Fragment | None = None
    wanted: frozenset[int] | None = None
    piece: int = field(init=False)
    received: int = 0
    of_piece: int = 0
    began: float = 0.0
    answer: Answer | None = None
    given_up: bool = False
    let_go: bool = False
    answered: bool = False
    validator: str | None = None
    continues: bool = False
    forgets: bool = False
    shared: bool = False

    def __post_init__(self) -> None:
        self.piece = self.start

    @property
    def left(self) -> range:
        """The pieces that it hasn't handed on."""
        return range(self.piece, self.stop)

    def under_way(self, now: float) -> UnderWay:
        """Where it stands."""
        return UnderWay(
            url=self.url, left=self.left, of_piece=self.of_piece, received=self.received, seconds=now - self.began
        )  # fmt: skip

    def give_up(self) -> None:
        """End it soon, from another thread."""
        self.given_up = True
        answer = self.answer
        if answer is not None:
            answer.abort()


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a worker tells."""

    task: Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered(Said):
    """The mirror has begun to answer. `total`: its object's length, `validator`: its version, where it says so."""

    endpoint: str
    total: int | None
    validator: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Came(Said):
    """A piece, whole and right."""

    piece: int
    data: bytearray


@dataclass(frozen=True, kw_only=True, slots=True)
class Lied(Said):
    """A piece whose bytes are wrong; `urls`: who sent them."""

    wrong: WrongPiece
    urls: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended(Said):
    """It is over: with the span done, or with an error. `fragment`: what came of the next piece."""

    error: SamaraError | None
    fragment: Fragment | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Broke(Said):
    """The worker's thread ended by a mistake of ours."""

    error: BaseException


class Hears(Protocol):
    """Takes what workers say, from their threads. May block while too much waits to be written."""

    def __call__(self, said: Said) -> None:
        """Something was said."""


class Worker:
    """A thread that does one task after another. `pace(n)`: seconds to wait after n bytes, for an overall cap.

    `asking`: a context in which a URL is asked, in this thread.
    """

    def __init__(
        self,
        client: HttpClient,
        hears: Hears,
        *,
        asking: Callable[[str], AbstractContextManager[None]],
        pace: Callable[[int], float],
        stall_timeout: float,
    ) -> None:
        self._client = client
        self._hears = hears
        self._asking = asking
        self._pace = pace
        self._stall_timeout = stall_timeout
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self.task: Task | None = None
        # a thread that waits for a name or a handshake can't be woken: it must not hold up the end of the process
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def do(self, task: Task) -> None:
        """Begin a task. Only for one that is idle."""
        self.task = task
        self._tasks.put(task)

    def stop(self) -> None:
        """End the thread, soon."""
        self._stopping.set()
        task = self.task
        if task is not None:
            task.give_up()
        self._tasks.put(None)

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        self._thread.join(seconds)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._do(task)
            except BaseException as error:  # said where somebody sees it: else its pieces would be waited for for ever
                self._hears(Broke(task=task, error=error))
                return

    def _do(self, task: Task) -> None:
        error: SamaraError | None = None
        task.began = time.monotonic()
        try:
            if not task.given_up:
                with self._asking(task.url):
                    self._fetch(task)
        except SamaraError as failed:
            error = failed
        task.answer = None
        fragment, task.fragment = task.fragment, None
        self._hears(Ended(task=task, error=None if task.given_up else error, fragment=fragment))

    def _fetch(self, task: Task) -> None:
        done = task.fragment.filled if task.fragment is not None else 0
        begin = task.proof.span(task.start)[0] + done
        end = task.proof.span(max(task.start + 1, task.stop) - 1)[1]
        size = task.proof.hashes.size
        whole = begin == 0 and end == size
        with self._client.get(
            task.url,
            start=begin,
            end=None if whole else end,
            vouched=task.vouched,
            stall_timeout=self._stall_timeout,
        ) as answer:
            task.answer = answer
            if task.given_up:
                return
            self._hears(
                Answered(task=task, endpoint=answer.endpoint, total=answer.total, validator=answer.validator)
            )  # fmt: skip
            if answer.total is not None and answer.total != size:
                raise OtherObjectError(
                    f"{task.url} is something else", expected=f"{size:,} bytes", actual=f"{answer.total:,}"
                )
            if answer.length is None:  # in chunks, between which a server can send for ever what counts as nothing
                raise HttpError(f"{task.url} doesn't say how much it sends", kind=HttpFailure.BROKEN)
            if answer.start != begin:
                raise NoRangesError(f"{task.url} gives no ranges")
            reader = _Reader(answer, task, self._pace, self._stopping)
            while task.piece < task.stop and not task.given_up:
                self._one_piece(task, reader)

    def _one_piece(self, task: Task, reader: _Reader) -> None:
        start, end = task.proof.span(task.piece)
        fragment = task.fragment
        if fragment is None:
            fragment = Fragment(piece=task.piece, data=bytearray(end - start), filled=0, urls=frozenset())
            task.fragment = fragment
        view = memoryview(fragment.data)
        while fragment.filled < end - start:
            got = reader.read(view[fragment.filled : fragment.filled + CHUNK])
            if got == 0:
                if task.given_up:
                    return
                raise HttpError(f"{task.url} ended early", kind=HttpFailure.BROKEN)
            fragment.filled += got
            fragment.urls |= {task.url}
            task.of_piece = fragment.filled
        task.fragment = None
        task.of_piece = 0
        wanted = task.wanted is None or task.piece in task.wanted
        wrong = task.proof.judge(task.piece, view) if wanted else None
        piece = task.piece
        if wrong is not None:
            self._hears(Lied(task=task, wrong=wrong, urls=fragment.urls))
            task.given_up = True
            return
        task.piece += 1
        if wanted:
            self._hears(Came(task=task, piece=piece, data=fragment.data))


class _Reader:
    """Reads an answer, counts, keeps the pace, and gives up a source that drips."""

    def __init__(self, answer: Answer, task: Task, pace: Callable[[int], float], stopping: threading.Event) -> None:
        self._answer = answer
        self._task = task
        self._pace = pace
        self._stopping = stopping
        self._waited, self._bytes = 0.0, 0

    def read(self, view: memoryview) -> int:
        """Bytes into `view`; 0 at the end. Raises HttpError."""
        before = time.monotonic()
        got = self._answer.readinto(view)
        self._waited += time.monotonic() - before  # for this source alone: not for a cap or for whoever writes
        self._bytes += got
        self._task.received += got
        if self._waited >= SLOW_AFTER:
            if self._bytes < SLOWEST * SLOW_AFTER:
                raise HttpError(f"{self._task.url} drips", kind=HttpFailure.STALLED)
            self._waited, self._bytes = 0.0, 0
        until = time.monotonic() + self._pace(got)
        while (wait := until - time.monotonic()) > 0 and not self._task.given_up:
            self._stopping.wait(min(wait, NAP))
            if self._stopping.is_set():
                break
        return got
