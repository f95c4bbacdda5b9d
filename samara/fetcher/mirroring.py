"""Mirroring: every listed blob is fetched from its publisher's swarm and given on, as far as there is room for it.

Looks at what is listed again and again and keeps what is here, what is on its way and what is given to swarms equal to
it. What to hold is decided by `keeping_rules`, fetched by `intake`, removed by `keeping`. Without `mirror` it only
looks after what was pulled through. Whatever fails (a dead swarm, a database that is gone) is told, and tried again.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from samara.fetcher.coming import Coming, Stage
from samara.fetcher.intake import Intake
from samara.fetcher.keeping import Keeping
from samara.fetcher.keeping_rules import HOT, Wanted, targets
from samara.registry.giving import Giving
from samara.registry.index import Index
from samara.registry.listed_blobs import ListedBlob
from samara.registry.records import Location
from samara.registry.service.ports import ComingBlob, FailedBlob, KeepStatus
from samara.registry.store import stamp_at
from samara.schemas.errors import SamaraError, StoreError
from samara.schemas.events import Note, OnEvent, Warned

LOOK_EVERY = 2.0  # seconds
SCAN_EVERY = 60.0  # seconds between two scans of all that is listed, where nothing seems to have changed
SCAN_AFTER = 10.0  # seconds between two scans where only what was fetched is new: with 10,000 blobs one takes a second
SEEDS = 1000  # blobs given to swarms at once: each takes about 200 kB of memory
FIRST_REST = 30.0  # seconds before a blob that couldn't be fetched is tried again; then twice as long
LONGEST_REST = 6 * 3600.0
LONGEST_TROUBLE_REST = 30.0
TOLD = 50  # failures in a status


@dataclass(frozen=True, kw_only=True, slots=True)
class MirrorRules:
    """`mirror`: fetch what is listed; else only look after what is here. Seconds."""

    mirror: bool = True
    seeds: int = SEEDS
    look_every: float = LOOK_EVERY
    scan_every: float = SCAN_EVERY
    scan_after: float = SCAN_AFTER
    first_rest: float = FIRST_REST
    longest_rest: float = LONGEST_REST


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A blob that couldn't be fetched. `until`: when it is tried again (UTC epoch seconds)."""

    reason: str
    count: int
    until: float


def next_try(count: int, *, first: float, longest: float, draw: float) -> float:
    """Seconds to wait after the `count`th failure in a row. `draw` (0 … 1): chance, so that not all come back at once.

    Pure.
    """
    return min(longest, first * float(2 ** min(count - 1, 30))) * (0.5 + draw)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scan:
    """What a look at the index and the disk showed."""

    published: int = 0
    here: int = 0
    pending: tuple[Wanted, ...] = ()
    left_out: int = 0
    held: frozenset[str] = frozenset()
    held_bytes: Mapping[str, int] = field(default_factory=dict)


class Mirroring:
    """`run` in one thread, `status` in any. `clock`: UTC epoch seconds."""

    def __init__(
        self,
        index: Index,
        intake: Intake,
        keeping: Keeping,
        giving: Giving,
        rules: MirrorRules,
        *,
        clock: Callable[[], float],
        on_event: OnEvent,
        dice: random.Random | None = None,
    ) -> None:
        self._index = index
        self._intake = intake
        self._keeping = keeping
        self._giving = giving
        self._rules = rules
        self._clock = clock
        self._on_event = on_event
        self._dice = dice or random.Random()  # noqa: S311  (jitter)
        self._mine: dict[str, Coming] = {}
        self._came: set[str] = set()
        self._changed = False
        self._failures: dict[str, Failure] = {}
        self._scan = _Scan()
        self._state: object = None
        self._scanned_at = float("-inf")
        self._trouble: str | None = None
        self._wake = threading.Event()

    def wake(self) -> None:
        """There may be something to do. From any thread."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set, and `wake` called. Raises nothing: what goes wrong is told and tried again."""
        rest = self._rules.look_every
        while not stop.is_set():
            try:
                self._look()
            except SamaraError as error:
                self._say(error)
                rest = min(LONGEST_TROUBLE_REST, max(self._rules.look_every, rest * 2))
            except Exception as error:
                self._say(StoreError(f"a mistake of ours while mirroring: {error!r}"))
                rest = LONGEST_TROUBLE_REST
            else:
                if self._trouble is not None:
                    self._trouble = None
                    self._on_event(Note(message="mirroring goes on"))
                rest = self._rules.look_every
            if self._trouble is None:
                self._wake.wait(rest)
            else:
                stop.wait(rest)
            self._wake.clear()

    def status(self) -> KeepStatus:
        """How it stands."""
        scan, counters, now = self._scan, self._intake.counters, self._clock()
        came = [blob for blob in scan.pending if blob.b3 in self._came]  # since the last scan
        return KeepStatus(
            mirroring=self._rules.mirror,
            quota=self._keeping.quota,
            held=len(scan.held) + sum(blob.b3 not in scan.held for blob in came),
            # of what came since, the scan may have counted the half that was here
            held_bytes=sum({**scan.held_bytes, **{blob.b3: blob.size for blob in came}}.values()),
            published=scan.published,
            here=scan.here + len(came),
            pending=len(scan.pending) - len(came),
            left_out=scan.left_out,
            seeding=self._intake.seeding,
            coming=tuple(
                ComingBlob(
                    b3=coming.b3,
                    size=coming.size,
                    proven=coming.proven,
                    from_peers=0 if running is None else running.transfer.ledger.from_peers,
                    from_mirrors=0 if running is None else running.transfer.ledger.from_mirrors,
                    peers=0 if running is None else running.transfer.peers,
                    readers=coming.readers,
                )
                for coming, running in self._intake.coming()
            ),
            failed=tuple(
                FailedBlob(b3=b3, reason=one.reason, failures=one.count, again_in=max(0.0, one.until - now))
                for b3, one in list(self._failures.items())[-TOLD:]
            ),
            trouble=self._trouble,
            brought=counters.brought,
            brought_bytes=counters.brought_bytes,
            from_peers=counters.from_peers,
            from_mirrors=counters.from_mirrors,
            failures=counters.failures,
            evicted=self._keeping.evicted,
            evicted_bytes=self._keeping.evicted_bytes,
            uploaded=counters.uploaded,
            rejected_sources=counters.rejected,
        )

    def _say(self, error: SamaraError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            self._on_event(Warned(message=f"mirroring rests: {error}"))

    def _look(self) -> None:
        now = self._clock()
        self._changed |= self._reap(now)
        for path in self._intake.doubted():
            self._index.drop_location(path)
            self._changed = True
        state = self._index.listings.state()
        rest = self._rules.scan_after if self._changed else self._rules.scan_every
        if state != self._state or not 0 <= now - self._scanned_at < rest:
            self._take_stock()
            self._state, self._scanned_at, self._changed = state, now, False
        self._begin(now)

    def _reap(self, now: float) -> bool:
        """What became of what was begun; whether anything did."""
        ended = [coming for coming in self._mine.values() if coming.stage in {Stage.HERE, Stage.FAILED}]
        for coming in ended:
            if coming.stage is Stage.HERE and self._intake.is_coming(coming.b3):
                continue  # it is here, and about to be recorded
            del self._mine[coming.b3]
            before = self._failures.pop(coming.b3, None)
            if coming.error is None:
                self._came.add(coming.b3)
            else:
                count = 1 if before is None else before.count + 1
                rest = next_try(
                    count, first=self._rules.first_rest, longest=self._rules.longest_rest, draw=self._dice.random()
                )
                self._failures[coming.b3] = Failure(reason=str(coming.error), count=count, until=now + rest)
                self._on_event(Warned(message=f"can't mirror {coming.b3} for now: {coming.error}"))
        return bool(ended)

    def _take_stock(self) -> None:
        listed = self._index.listings.listed_blobs()
        offered = [blob for blob in listed if not blob.withdrawn]
        here = {blob.b3: place.path for blob in offered if (place := whole_place(blob.places)) is not None}
        ours = [self._wanted(blob) for blob in offered if blob.b3 not in here or self._keeping.is_ours(blob.b3)]
        now = self._clock()
        hot = {blob.b3 for blob in ours if blob.b3 in here and 0 < now - blob.asked_at < HOT}
        aim = targets(ours, self._keeping.quota, hot=hot) if self._rules.mirror else ()
        self._keeping.set_targets(frozenset(blob.b3 for blob in aim))
        self._keeping.tidy()
        if self._keeping.evicted:
            here = {b3: path for b3, path in here.items() if path.exists()}
        missing = [blob for blob in ours if blob.b3 not in here]
        pending = tuple(blob for blob in aim if blob.b3 not in here)
        mine = {b3: here[b3] for b3 in self._to_seed(offered, here)}
        givable = self._giving.givable({b3: (path,) for b3, path in mine.items()})
        self._intake.seed({b3: path for b3, path in mine.items() if b3 in givable})
        known = {blob.b3 for blob in pending}
        self._failures = {b3: failure for b3, failure in self._failures.items() if b3 in known}
        held, held_bytes = self._keeping.held()
        self._came = set()
        self._scan = _Scan(
            published=len(offered),
            here=len(here),
            pending=pending,
            left_out=len(missing) - len(pending) if self._rules.mirror else 0,
            held=held,
            held_bytes=held_bytes,
        )

    def _wanted(self, blob: ListedBlob) -> Wanted:
        return Wanted(
            b3=blob.b3,
            size=blob.size,
            identity=blob.identity,
            listed_at=min(blob.listed_at, self._clock()),  # one of the future: by a clock that was set back since
            asked_at=self._keeping.asked_at(blob.b3),
        )

    def _to_seed(self, offered: Iterable[ListedBlob], here: dict[str, Path]) -> list[str]:
        mine = sorted(
            (self._wanted(blob) for blob in offered if blob.b3 in here), key=lambda blob: blob.wanted_at, reverse=True
        )
        return [blob.b3 for blob in mine[: self._rules.seeds]]

    def _begin(self, now: float) -> None:
        """Whose turn it is; those that failed before come after all others."""
        free = self._intake.limits.in_background - len(self._mine)
        turns = sorted(self._scan.pending, key=lambda blob: self._count(blob.b3))
        for blob in turns:
            if free <= 0:
                return
            if blob.b3 in self._mine or blob.b3 in self._came or self._rests(blob.b3, now):
                continue
            with contextlib.suppress(SamaraError):  # it failed a moment ago for somebody else, or another process stops
                self._mine[blob.b3] = self._intake.bring(blob.b3, None, for_reader=False)
                free -= 1

    def _rests(self, b3: str, now: float) -> bool:
        failure = self._failures.get(b3)  # one that is far in the future was noted before the clock was set back
        return failure is not None and now < failure.until <= now + 2 * self._rules.longest_rest

    def _count(self, b3: str) -> int:
        failure = self._failures.get(b3)
        return 0 if failure is None else failure.count


def whole_place(places: Iterable[Location]) -> Location | None:
    """A place that still holds the whole blob untouched; the store's own first."""
    for place in sorted(places, key=lambda one: not one.in_store):
        with contextlib.suppress(StoreError):
            if stamp_at(place.path) == place.stamp:
                return place
    return None
