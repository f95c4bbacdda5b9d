"""The registry's own fetching: many blobs, each begun, ended and failed by itself, over one session that lives on.

    bring(b3, size)   begin to fetch a listed blob, or join who does already
    seed(blobs)       what to give to swarms, kept equal to this

One thread has the session, the mirrors and every transfer (`_Loop`). Each blob on its way has a thread of its own
besides, which holds its lock, asks index and disk, and cleans up: nothing that waits for those holds up other blobs.
Readers are served before mirroring. A blob's bytes take the way of every pull (`transfer`); what came is kept whatever
ends it. Who may come in is `keeping`'s word, what a blob is `descriptions`'.
"""

from __future__ import annotations

import copy
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from samara.fetcher.coming import Coming, Stage
from samara.fetcher.descriptions import Descriptions
from samara.fetcher.intake_blob import BlobFetch, Job, stopped
from samara.fetcher.intake_loop import Counters, Loop, Running, Setup
from samara.fetcher.keeping import Keeping
from samara.fetcher.options import PullOptions
from samara.fetcher.partial import sweep_removed
from samara.registry.giving import Giving
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.sweep import sweep
from samara.schemas.errors import NotFoundError, SamaraError, StoreError
from samara.schemas.events import OnEvent, Warned
from samara.schemas.hops import DIRECTLY, Hops
from samara.seeder.seed import Seed, seedable

FOR_READERS = 8  # blobs on their way at once because somebody reads them
IN_BACKGROUND = 3  # and because they are to be mirrored
WAITING = 64  # blobs that wait for their turn because somebody reads them
REST = 2.0  # seconds after a failure in which readers get the same error at once; then twice as long
LONGEST_REST = 60.0
RESTING = 1024  # failures remembered
STOP_WITHIN = 8.0  # seconds

PeersOf = Callable[[str, str], Iterable[tuple[str, int]]]


def nobody(_v2: str, _v1: str) -> Iterable[tuple[str, int]]:
    """No peers that others know of."""
    return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much at once."""

    for_readers: int = FOR_READERS
    in_background: int = IN_BACKGROUND
    waiting: int = WAITING
    rest: float = REST


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rest:
    until: float
    error: SamaraError
    failures: int


class Intake:
    """Use as a context manager; `bring`, `seed` and what it tells are for any thread."""

    def __init__(
        self,
        home: Home,
        index: Index,
        options: PullOptions,
        keeping: Keeping,
        descriptions: Descriptions,
        giving: Giving,
        *,
        peers_of: PeersOf = nobody,
        origin: str | None = None,
        limits: Limits | None = None,
        on_ended: Callable[[], None] = lambda: None,
        on_event: OnEvent,
    ) -> None:
        """`origin`: this registry's own address: a mirror below it is no source. `peers_of`: see `Loop`. `on_ended`: a
        blob has come or failed; called in its thread.
        """
        self.id = secrets.token_hex(8)  # see `Hops`
        self._home = home
        self._index = index
        self._limits = limits or Limits()
        self._on_ended = on_ended
        self._on_event = on_event
        self._jobs: dict[str, Job] = {}
        self._rests: OrderedDict[str, _Rest] = OrderedDict()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._loop = Loop(Setup(home=home, options=options, peers_of=peers_of), on_event=on_event)
        self._blobs = BlobFetch(
            home,
            index,
            options,
            keeping,
            descriptions,
            giving,
            self._loop,
            self._stopping,
            origin=None if origin is None else origin.rstrip("/") + "/",
            on_here=self._give,
            on_event=on_event,
        )
        self._dispatcher = threading.Thread(target=self._dispatch, name="intake", daemon=True)

    def __enter__(self) -> Intake:
        sweep(self._home, now=time.time())
        sweep_removed(self._home)
        self._loop.start()
        self._dispatcher.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """What has come is written down; every thread has ended, or the time is over."""
        until = time.monotonic() + STOP_WITHIN
        self._stopping.set()
        with self._changed:
            jobs = list(self._jobs.values())
            self._changed.notify_all()
        self._dispatcher.join(max(0.1, until - time.monotonic()))
        for job in jobs:
            if job.thread is None:
                job.coming.failed(stopped())
        self._loop.finish()  # ends what is under way, in order
        for job in jobs:
            if job.thread is not None:
                job.thread.join(max(0.1, until - time.monotonic()))
        self._loop.close(max(0.1, until - time.monotonic()))

    # -- for everybody -------------------------------------------------------------------------------------------

    def bring(self, b3: str, size: int | None, *, for_reader: bool, hops: Hops = DIRECTLY) -> Coming:
        """Begin to fetch it, or join who does. `size`: None where any will do; `hops`: on whose behalf.

        Raises StoreError when too many wait, NotFoundError if one of another size is on its way, or what ended it a
        moment ago.
        """
        with self._changed:
            job = self._jobs.get(b3)
            if job is not None and job.coming.stage is not Stage.FAILED:
                if not job.coming.is_of(size):
                    raise NotFoundError(f"publishers contradict each other about the size of {b3}")
                job.coming.for_reader |= for_reader
                self._changed.notify_all()
                return job.coming
            if self._stopping.is_set():
                raise stopped()
            rest = self._rests.get(b3)
            if for_reader and rest is not None and time.monotonic() < rest.until:
                raise copy.copy(rest.error)
            waiting = sum(one.coming.for_reader and one.coming.stage is Stage.QUEUED for one in self._jobs.values())
            if for_reader and waiting >= self._limits.waiting:
                raise StoreError("too many blobs are waiting to be fetched", next_step="try again in a moment")
            if job is not None:  # it has failed, and its thread is about to end
                raise copy.copy(job.coming.error or stopped())
            coming = Coming(b3, size, for_reader=for_reader)
            self._jobs[b3] = Job(coming=coming, hops=Hops(via=(*hops.via, self.id), held=not for_reader))
            self._changed.notify_all()
            return coming

    def is_coming(self, b3: str) -> bool:
        """Whether it is on its way, or waits to be."""
        return b3 in self._jobs

    def coming(self) -> tuple[tuple[Coming, Running | None], ...]:
        """What is on its way or waits to be."""
        with self._changed:
            return tuple((job.coming, job.running) for job in self._jobs.values())

    def seed(self, places: Mapping[str, Path]) -> None:
        """Give these blobs (b3 text → where it lies whole) to their swarms, and no others. Asks the index."""
        given = self._loop.seeds.wanted()
        found = {b3: seed for b3, path in places.items() if (seed := given.get(b3)) and seed.path == path}
        for b3 in places:
            if b3 not in found:
                found.update((one.b3, one) for one in self._seeds_of(b3))
        self._loop.seeds.give(found)

    def doubted(self) -> list[Path]:
        """Files that were to be given, and turned out not to hold what was verified; each told once."""
        return [seed.path for seed in self._loop.seeds.doubted()]

    def _give(self, b3: str) -> None:
        for seed in self._seeds_of(b3):
            self._loop.seeds.give_also(seed)

    def _seeds_of(self, b3: str) -> tuple[Seed, ...]:
        blob = self._index.blob(b3)
        return () if blob is None else seedable([blob], now=time.time())[0]

    def stop_seeding(self, b3: str) -> None:
        """It is about to go."""
        self._loop.seeds.give_no_more(b3)

    @property
    def seeding(self) -> int:
        """How many blobs are to be given."""
        return len(self._loop.seeds.wanted())

    @property
    def limits(self) -> Limits:
        """How much at once."""
        return self._limits

    @property
    def counters(self) -> Counters:
        """What came and went since the start."""
        return self._loop.counters

    # -- the dispatcher's thread ---------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        with self._changed:
            while not self._stopping.is_set():
                for job in self._next():
                    job.thread = threading.Thread(target=self._look_after, args=(job,), name="blob", daemon=True)
                    job.thread.start()
                self._changed.wait(0.5)

    def _next(self) -> list[Job]:
        """Whose turn it is: readers' first."""
        chosen: list[Job] = []
        for is_for_reader, bound in ((True, self._limits.for_readers), (False, self._limits.in_background)):
            mine = [job for job in self._jobs.values() if job.coming.for_reader is is_for_reader]
            free = bound - sum(job.thread is not None for job in mine)
            chosen += [job for job in mine if job.thread is None][: max(0, free)]
        return chosen

    # -- one blob's thread ---------------------------------------------------------------------------------------

    def _look_after(self, job: Job) -> None:
        coming = job.coming
        try:
            self._blobs.fetch(job)
            with self._changed:
                self._rests.pop(coming.b3, None)
        except SamaraError as error:
            self._failed(coming, error)
        except Exception as error:
            # said to whoever reads and to the operator; the others go on
            self._on_event(Warned(message=f"a mistake of ours while fetching {coming.b3}: {error!r}"))
            self._failed(coming, StoreError("fetching ended by a mistake of ours", next_step="try again later"))
        finally:
            with self._changed:
                del self._jobs[coming.b3]
                self._changed.notify_all()
            self._on_ended()

    def _failed(self, coming: Coming, error: SamaraError) -> None:
        with self._changed:
            if not self._stopping.is_set():
                before = self._rests.pop(coming.b3, None)
                failures = 1 if before is None else before.failures + 1
                rest = min(LONGEST_REST, self._limits.rest * 2 ** min(failures - 1, 10))
                self._rests[coming.b3] = _Rest(until=time.monotonic() + rest, error=error, failures=failures)
                while len(self._rests) > RESTING:
                    self._rests.popitem(last=False)
        coming.failed(error)
