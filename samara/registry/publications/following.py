"""Following other registries for as long as the service runs: `samara serve --follow URL`.

    with Following(index, FollowPlan(origins=(…,)), rules, on_event=…) as following:
        Service(…, follower=following)

A thread for each registry looks again and again (`sync`); one that fails is asked less and less often, and no other one
is held up by it. Bytes aren't its business: `--mirror` sees what is new here by itself.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from samara.registry.http import HttpClient
from samara.registry.index import Index
from samara.registry.publications.accept import Rules
from samara.registry.publications.follow_status import FollowStatus
from samara.registry.publications.sync import Refused, Seen, SyncedFrom, SyncRules, sync_from
from samara.schemas.errors import SamaraError
from samara.schemas.events import Event, Note, OnEvent, Warned
from samara.schemas.networks import NetworkPolicy

EVERY = 900.0  # seconds
LONGEST_REST = 3600.0  # seconds between two looks at one that fails, where `every` isn't longer
STOP_WITHIN = 5.0  # seconds
MOST_NOTES = 1000  # remembered, so that none is told every few minutes
LOOK_EVERY = 0.2  # seconds between looks whether to stop


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowPlan:
    """`origins`: registries; `every`: seconds between two looks at one; `how`: names and publishers."""

    origins: tuple[str, ...]
    every: float = EVERY
    how: SyncRules = field(default_factory=SyncRules)


def next_look(every: float, failures: int, draw: float) -> float:
    """Seconds until the next look after so many failures in a row. `draw` (0 … 1): chance, so that those who follow one
    registry don't all come at once.

    Pure.
    """
    rest = min(max(every, LONGEST_REST), every * 2.0 ** min(failures, 16))
    return rest * (0.9 + 0.2 * draw)


class Following:
    """Use as a context manager; `status` is for any thread. `clock`: UTC epoch seconds."""

    def __init__(
        self,
        index: Index,
        plan: FollowPlan,
        rules: Rules,
        *,
        clock: Callable[[], float] = time.time,
        on_event: OnEvent,
        dice: random.Random | None = None,
    ) -> None:
        """`index` stays the caller's, and open for longer than this."""
        self._followed = [
            _Followed(index, origin, plan, rules, clock=clock, on_event=on_event, dice=dice or random.Random())  # noqa: S311
            for origin in plan.origins
        ]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Following:
        for one in self._followed:
            thread = threading.Thread(target=one.run, args=(self._stop,), name="following", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        until = time.monotonic() + STOP_WITHIN
        for thread in self._threads:
            thread.join(max(0.1, until - time.monotonic()))

    def status(self) -> tuple[FollowStatus, ...]:
        """How it stands with each, in their order."""
        return tuple(one.status for one in self._followed)


class _Followed:
    """One registry, and the thread that looks at it."""

    def __init__(
        self,
        index: Index,
        origin: str,
        plan: FollowPlan,
        rules: Rules,
        *,
        clock: Callable[[], float],
        on_event: OnEvent,
        dice: random.Random,
    ) -> None:
        self.status = FollowStatus(origin=origin)
        self._index = index
        self._plan = plan
        self._rules = rules
        self._clock = clock
        self._on_event = on_event
        self._dice = dice
        self._seen: Seen = {}
        self._told: frozenset[Refused] = frozenset()
        self._notes: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. Raises nothing: what goes wrong is told, and tried again."""
        while not stop.is_set():
            self.status = replace(self.status, running=True)
            trouble = self._look(stop)
            if stop.is_set():
                break
            failures = 0 if trouble is None else self.status.failures + 1
            rest = next_look(self._plan.every, failures, self._dice.random())
            if trouble is not None and trouble != self.status.trouble:
                self._on_event(Warned(message=f"following {self.status.origin} rests for {rest:.0f} s: {trouble}"))
            elif trouble is None and self.status.trouble is not None:
                self._on_event(Note(message=f"following {self.status.origin} goes on"))
            now = self._clock()
            self.status = replace(
                self.status,
                running=False,
                failures=failures,
                trouble=trouble,
                last_ok=now if trouble is None else self.status.last_ok,
                next_at=now + rest,
            )
            stop.wait(rest)
        self.status = replace(self.status, running=False)

    def _look(self, stop: threading.Event) -> str | None:
        """Once; what went wrong, if anything did."""
        origin = self.status.origin
        try:
            with HttpClient(NetworkPolicy(), named=(origin,)) as client, closed_when(stop, client):
                done = sync_from(
                    self._index,
                    origin,
                    client,
                    self._rules,
                    now=datetime.fromtimestamp(self._clock(), UTC),
                    on_event=self._hear,
                    how=self._plan.how,
                    seen=self._seen,
                    is_stopped=stop.is_set,
                    pause=stop.wait,
                    dice=self._dice,
                )
        except SamaraError as error:
            return str(error)
        except Exception as error:  # nobody else would notice
            return f"a mistake of ours: {error!r}"
        self._note(done)
        return done.ended_early

    def _note(self, done: SyncedFrom) -> None:
        refused = frozenset(done.refused)
        for one in done.refused:
            if one not in self._told:  # the same, every few minutes, is no news
                what = one.who if one.what is None else f"{one.what} of {one.who}"
                self._on_event(Warned(message=f"{what} isn't taken over from {done.origin}: {one.why}"))
        self._told = refused
        self.status = replace(
            self.status,
            publishers=done.publishers,
            changed=self.status.changed + done.changed,
            releases=self.status.releases + done.releases,
            failed=done.failed,
            behind=done.behind,
            refused=tuple((one.who, one.why) for one in done.refused),
        )

    def _hear(self, event: Event) -> None:
        if isinstance(event, Note) and event.message not in self._notes:  # warnings are told by `_note`, each once
            if len(self._notes) >= MOST_NOTES:
                self._notes.clear()
            self._notes.add(event.message)
            self._on_event(event)


@contextlib.contextmanager
def closed_when(stop: threading.Event, client: HttpClient) -> Iterator[None]:
    """What waits for an answer ends as soon as `stop` is set."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_EVERY):
            if stop.is_set():
                client.close()
                return

    thread = threading.Thread(target=watch, name="following-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
