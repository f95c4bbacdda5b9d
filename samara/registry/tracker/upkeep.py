"""The thread that does for a tracker what isn't done by an announce: follows what is published, forgets who was silent,
records how swarms were.

A database that is gone stops none of it for good: what was published last stays so, samples wait, and it tries again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from samara.registry.listings import Listings
from samara.registry.tracker.health import HealthRecorder
from samara.registry.tracker.published import Published
from samara.registry.tracker.tracker import Tracker
from samara.schemas.errors import SamaraError

LOOK_EVERY = 2.0  # seconds between looks at what is published
PATIENCE = 1.0  # seconds that a publication waits for a look that is under way
EXPIRE_EVERY = 30.0  # seconds
TRY_AGAIN = 30.0  # seconds after samples couldn't be written


class Upkeep:
    """Use as a context manager, or `start` and `stop`. `clock`: UTC epoch seconds; `on_trouble`: told once of each kind
    of trouble with the database, and again after it went away and came back.
    """

    def __init__(
        self,
        tracker: Tracker,
        listings: Listings,
        *,
        clock: Callable[[], float] = time.time,
        on_trouble: Callable[[SamaraError], None] = lambda _error: None,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self._tracker = tracker
        self._clock = clock
        self._on_trouble = on_trouble
        self._look_every = look_every
        self._published = Published(listings)
        self._health = HealthRecorder(listings)
        self._record_at = self._expire_at = float("-inf")
        self._told: str | None = None
        self._following = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Upkeep:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Read what is published, then go on in a thread."""
        self.look()
        self._thread = threading.Thread(target=self._run, name="tracker-upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and record how swarms were last."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._health.take(self._tracker.all_counts(), self._clock())
            self._try(self._record)

    def look(self) -> None:
        """Follow what is published, now."""
        with self._following:  # else a list made before a publication could replace what came with it
            self._try(self._follow)

    def published(self, identity: str, since: float) -> None:
        """A publisher has just listed something, since then (UTC epoch seconds): its torrents have swarms on return, so
        that who publishes and seeds at once isn't sent away. From any thread. What goes wrong, the next look mends.
        """
        if self._following.acquire(timeout=PATIENCE):
            try:
                self._try(lambda: self._tracker.publish_also(self._published.of(identity, since=since)))
            finally:
                self._following.release()

    def step(self, now: float, elapsed: float) -> None:
        """What is due. `now`: UTC epoch seconds; `elapsed`: seconds of a clock that nobody sets."""
        self.look()
        if elapsed >= self._expire_at:
            self._expire_at = elapsed + EXPIRE_EVERY
            while self._tracker.expire(elapsed) and not self._stop.is_set():
                time.sleep(0)  # announces come first
        if self._health.is_due(now):
            self._health.take(self._tracker.all_counts(), now)
            self._record_at = float("-inf")
        if self._health.waiting and elapsed >= self._record_at:
            self._record_at = elapsed + TRY_AGAIN
            self._try(self._record)

    def _run(self) -> None:
        while not self._stop.wait(0.0 if self._published.is_behind else self._look_every):
            self.step(self._clock(), time.monotonic())

    def _follow(self) -> None:
        torrents = self._published.changed()
        if torrents is not None:
            self._tracker.publish(torrents)

    def _record(self) -> None:
        self._health.record(self._clock(), time.monotonic())

    def _try(self, what: Callable[[], None]) -> None:
        try:
            what()
        except SamaraError as error:
            if str(error) != self._told:
                self._told = str(error)
                self._on_trouble(error)
        else:
            self._told = None
