"""What a registry fetches by itself, put together: `samara serve --mirror` and `--pull-through`.

    with Providing(home, index, ProvideOptions(…)) as providing:
        Service(…, bringer=providing.bringer, keeper=providing.keeper)

Entering opens the swarm session and starts the threads; leaving ends them within seconds, with all that came recorded.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from samara.fetcher.descriptions import Descriptions
from samara.fetcher.intake import Intake, Limits, PeersOf, nobody
from samara.fetcher.keeping import RESERVE, Keeping, Room
from samara.fetcher.mirroring import Mirroring, MirrorRules
from samara.fetcher.options import PullOptions
from samara.fetcher.pull_through import PullThrough
from samara.registry.giving import Giving
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accepted import AcceptedCatalogs
from samara.registry.service.ports import KeepStatus
from samara.schemas.events import OnEvent, ignore

GIVE_UP_AFTER = 60.0  # seconds without a byte
STOP_WITHIN = 5.0  # seconds


def _pull_options() -> PullOptions:
    return PullOptions(give_up_after=GIVE_UP_AFTER)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvideOptions:
    """What the operator decides. Bytes.

    `pull`: whom to ask and how fast, for all of it together; its swarm options are those of the session that seeds too
    (`listen`, `upload_limit`, …). `quota`: what may be kept (None: what the disk has); `reserve`: what is left free on
    the disk. `origin`: this registry's own address, never asked as a mirror. `serves_all`: see `Giving`.
    """

    pull: PullOptions = field(default_factory=_pull_options)
    mirror: bool = False
    pull_through: bool = False
    quota: int | None = None
    reserve: int = RESERVE
    origin: str | None = None
    serves_all: bool = False
    limits: Limits = field(default_factory=Limits)
    rules: MirrorRules = field(default_factory=MirrorRules)


class Providing:
    """Use as a context manager. `peers_of`: (v2, v1 infohash) → peers that others know of, such as a tracker."""

    def __init__(
        self,
        home: Home,
        index: Index,
        options: ProvideOptions,
        *,
        peers_of: PeersOf = nobody,
        catalogs: AcceptedCatalogs | None = None,
        clock: Callable[[], float] = time.time,
        on_event: OnEvent = ignore,
    ) -> None:
        """Opens nothing yet. `index` stays the caller's, and open for longer than this; `catalogs`: of this index, that
        the service keeps at hand too.
        """
        descriptions = Descriptions(index, catalogs or AcceptedCatalogs(index.listings))
        giving = Giving(home, index.listings, serves_all=options.serves_all)
        self._keeping = Keeping(
            home,
            index,
            Room(quota=options.quota, reserve=options.reserve),
            clock=clock,
            on_event=on_event,
            on_evicted=lambda b3: self._intake.stop_seeding(b3),
        )
        self._intake = Intake(
            home,
            index,
            options.pull,
            self._keeping,
            descriptions,
            giving,
            peers_of=peers_of,
            origin=options.origin,
            limits=options.limits,
            on_ended=lambda: self._mirroring.wake(),
            on_event=on_event,
        )
        self._mirroring = Mirroring(
            index,
            self._intake,
            self._keeping,
            giving,
            replace(options.rules, mirror=options.mirror),
            clock=clock,
            on_event=on_event,
        )
        self.bringer = PullThrough(index, descriptions, self._intake, self._keeping) if options.pull_through else None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._mirroring.run, args=(self._stop,), name="mirroring", daemon=True)
        self._stack = contextlib.ExitStack()

    @property
    def keeper(self) -> Providing:
        """For `Service.keeper`."""
        return self

    def __enter__(self) -> Providing:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._keeping)
            stack.enter_context(self._intake)
            self._thread.start()
            stack.callback(self._end_thread)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._stack.close()

    def _end_thread(self) -> None:
        self._stop.set()
        self._mirroring.wake()
        self._thread.join(STOP_WITHIN)

    def touch(self, b3: str) -> None:
        """Somebody was given this blob just now."""
        self._keeping.touch(b3)

    def status(self) -> KeepStatus:
        """How it stands."""
        return self._mirroring.status()
