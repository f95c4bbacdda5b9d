"""One pull in a thread of this process: its events as they come, its result or error at the end."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from samara.fetcher.options import PullOptions
from samara.fetcher.pull import Pulled, pull
from samara.registry.home import Home
from samara.schemas.errors import NetworkError, SamaraError
from samara.schemas.events import Event, PullProgress
from support.swarms import loopback, seeding_part
from support.world import PIECE, Shelf

LIMIT = 60.0  # seconds that any one wait may take
STALL = 30.0  # seconds without a byte after which a pull ends by itself

E = TypeVar("E", bound=Event)


def options(*peers: tuple[str, int], down: int = 0, **changes: object) -> PullOptions:
    """Options of a pull that asks these peers."""
    made = PullOptions(
        swarm=loopback(), peers=tuple(peers), limit=down, private_mirrors=True, give_up_after=STALL
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


class Pull:
    """A pull under way. Use as a context manager: leaving it waits for the end."""

    def __init__(
        self, home: Home, source: object, how: PullOptions, *, on_event: Callable[[Event], None] | None = None
    ) -> None:
        self.events: list[Event] = []
        self._queue: queue.Queue[Event | None] = queue.Queue()
        self._result: Pulled | None = None
        self._error: BaseException | None = None
        self._also = on_event
        self._thread = threading.Thread(target=self._run, args=(home, str(source), how), daemon=True)
        self._thread.start()

    def __enter__(self) -> Pull:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._join(LIMIT)

    def expect(self, kind: type[E], where: Callable[[E], bool] = lambda _event: True, *, limit: float = LIMIT) -> E:
        """The next event of a kind that `where` says yes to."""
        deadline = time.monotonic() + limit
        while True:
            try:
                event = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind.__name__} within {limit} s; last: {self.events[-5:]}") from None
            if event is None:
                raise AssertionError(f"ended ({self._error!r}) without a {kind.__name__}; last: {self.events[-5:]}")
            if isinstance(event, kind) and where(event):
                return event

    def result(self, limit: float = LIMIT) -> Pulled:
        """What it did; its error is raised here."""
        self._join(limit)
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def error(self, limit: float = LIMIT) -> SamaraError:
        """The error it ended with."""
        self._join(limit)
        assert isinstance(self._error, SamaraError), f"expected an error of ours, got {self._error or self._result!r}"
        return self._error

    def of(self, kind: type[E]) -> Sequence[E]:
        """Every event of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def _join(self, limit: float) -> None:
        self._thread.join(limit)
        assert not self._thread.is_alive(), f"the pull didn't end within {limit} s; last: {self.events[-5:]}"

    def _run(self, home: Home, source: str, how: PullOptions) -> None:
        try:
            self._result = pull(home, source, how, on_event=self._took)
        except BaseException as error:
            self._error = error
        finally:
            self._queue.put(None)

    def _took(self, event: Event) -> None:
        self.events.append(event)
        if self._also is not None:
            self._also(event)
        self._queue.put(event)


def pulled(home: Home, source: object, how: PullOptions) -> Pulled:
    """Pull to the end; the result, or the error raised."""
    return Pull(home, source, how).result()


def has_reached(share: float) -> Callable[[PullProgress], bool]:
    """Whether a file is at least that far (0 … 1)."""
    return lambda progress: progress.done >= share * progress.total


def pull_half(home: Home, published: Shelf) -> None:
    """Leave a partial that holds the first half of the blob, durable and recorded: its only peer has no more."""
    half = published.only.piece_count // 2
    with seeding_part(published, half) as peer:
        pull = Pull(home, published.file, options(peer.endpoint, give_up_after=0.5, checkpoint_seconds=0.05))
        assert isinstance(pull.error(), NetworkError)
    assert max(progress.done for progress in pull.of(PullProgress)) == half * PIECE
