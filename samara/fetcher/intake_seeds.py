"""What the registry's session gives to swarms, kept equal to what it should give. Part of `intake_loop`.

`give`, `give_also`, `give_no_more`, `wanted` and `doubted` are for any thread; all else is for the loop's.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping

from samara.fetcher.carrier import Carrier
from samara.schemas.errors import SamaraError
from samara.schemas.events import OnEvent, Warned
from samara.seeder.seed import Seed
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import DiskFailed, Downloading, PieceFailed, SwarmEvent

COUNT_EVERY = 10.0  # seconds between two looks at what was uploaded
ADDED_AT_ONCE = 32  # in one round
RESTS_FOR = 60.0  # seconds before a file that couldn't be read is given again


class Seeds:
    """`uploaded`: bytes since the start, of files given whole."""

    def __init__(self, *, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._wanted: dict[str, Seed] = {}
        self._given: dict[str, Seed] = {}
        self._rests: dict[str, float] = {}
        self._doubted: queue.SimpleQueue[Seed] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._counted_at = 0.0
        self._uploaded: dict[str, int] = {}
        self.uploaded = 0

    # -- for any thread ------------------------------------------------------------------------------------------

    def give(self, seeds: Mapping[str, Seed]) -> None:
        """These (by b3 text), and nothing else."""
        with self._lock:
            self._wanted = dict(seeds)
        self._changed.set()

    def give_also(self, seed: Seed) -> None:
        """This one too."""
        with self._lock:
            self._wanted = {**self._wanted, seed.b3: seed}
        self._changed.set()

    def give_no_more(self, b3: str) -> None:
        """Let go of a file."""
        with self._lock:
            self._wanted = {key: seed for key, seed in self._wanted.items() if key != b3}
        self._changed.set()

    def wanted(self) -> dict[str, Seed]:
        """What is to be given, by b3 text."""
        with self._lock:
            return self._wanted

    def doubted(self) -> list[Seed]:
        """Files that turned out not to hold what was verified, each told once."""
        found = []
        while not self._doubted.empty():
            found.append(self._doubted.get())
        return found

    # -- for the loop's thread -----------------------------------------------------------------------------------

    def __contains__(self, name: object) -> bool:
        """Whether a torrent of that name is given."""
        return name in self._given

    def gone(self, name: str) -> None:
        """Somebody else took a torrent out of the session."""
        self._given.pop(name, None)

    def look_again(self) -> None:
        """What couldn't be given may be now."""
        self._changed.set()

    def tend(self, carrier: Swarm, now: float) -> None:
        """What is given, kept equal to what should be; a few at a time."""
        if now - self._counted_at >= COUNT_EVERY:
            self._counted_at = now
            self._count(carrier)
            self._changed.set()  # somebody's rest may be over
        if not self._changed.is_set():
            return
        self._changed.clear()
        wanted = self.wanted()
        for name, seed in list(self._given.items()):
            kept = wanted.get(seed.b3)
            if kept is None or kept.path != seed.path:
                self._remove(carrier, name)
        given = {seed.b3 for seed in self._given.values()}
        added = 0
        for b3, seed in wanted.items():
            if b3 in given or self._rests.get(b3, now) > now:
                continue
            if added == ADDED_AT_ONCE:
                self._changed.set()
                break
            added += 1
            self._rests.pop(b3, None)
            try:
                self._given[carrier.add_seed(seed.torrent, seed.path, check_first=seed.check_first)] = seed
            except SamaraError:  # of the same torrent as one that is on its way
                self._rests[b3] = now + RESTS_FOR

    def heard(self, carrier: Carrier, happened: SwarmEvent, now: float) -> None:
        """Something happened to one of these."""
        seed = self._given[happened.torrent]
        if isinstance(happened, (PieceFailed, Downloading)):
            self._doubted.put(seed)
            why = "no longer holds what was verified, although nothing seems to have changed it"
        elif isinstance(happened, DiskFailed):
            why = f"can't be read ({happened.message})"
        else:
            return
        self._remove(carrier, happened.torrent)
        self._rests[seed.b3] = now + RESTS_FOR
        self._on_event(Warned(message=f"not seeding {seed.path} for a while: it {why}"))

    def _remove(self, carrier: Carrier, name: str) -> None:
        carrier.remove(name)
        del self._given[name]
        self._uploaded.pop(name, None)

    def _count(self, carrier: Swarm) -> None:
        for name in self._given:
            if name in carrier:
                now = carrier.status(name).uploaded
                before = self._uploaded.get(name, 0)
                self.uploaded += now - before if now >= before else now
                self._uploaded[name] = now
