"""The parts of `samara serve`, put together: index, tracker, fetching, application, server. Started in this order,
stopped in the other. What the options mean is `samara.cli.serve`'s business.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from samara.cli.passphrase import told_passphrase
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accepted import AcceptedCatalogs
from samara.registry.publications.own import Seen, list_own, renew_own
from samara.schemas.errors import NetworkError, SamaraError
from samara.schemas.events import Note, OnEvent, Serving, Warned

if TYPE_CHECKING:
    from samara.fetcher.providing import ProvideOptions
    from samara.registry.publications.following import Following, FollowPlan
    from samara.registry.service.logs import LogFormat
    from samara.registry.service.server import RunningServer
    from samara.registry.service.settings import Settings
    from samara.registry.service.wire_limits import WireLimits
    from samara.registry.tracker import Rules

LOOK_EVERY = 3.0  # seconds between looks at what this machine's own publishers published
REFRESH_EVERY = 600.0  # seconds between looks whether a catalog of theirs has to be signed again
_HEARTBEAT = 0.5  # seconds between looks whether the server still runs


@dataclass(frozen=True, kw_only=True, slots=True)
class ServePlan:
    """Everything decided. `provide`: None when nothing is fetched; `follow`: None when nobody is followed."""

    listen: tuple[str, int]
    settings: Settings
    limits: WireLimits
    log: LogFormat
    rules: Rules
    provide: ProvideOptions | None = None
    follow: FollowPlan | None = None


@dataclass(slots=True)
class OwnPublications:
    """Lists what this machine's own publishers publish, as soon as they do, and keeps their catalogs from expiring."""

    home: Home
    index: Index
    on_event: OnEvent
    _seen: Seen = field(default_factory=dict)
    _trouble: str | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _refresh_at: float = 0.0

    def look(self) -> None:
        """Once. Trouble with the database is said once, until it is another one."""
        try:
            self._refresh()
            list_own(self.home, self.index, now=datetime.now(UTC), seen=self._seen, on_event=self.on_event)
        except SamaraError as error:
            if error.what != self._trouble:
                self._trouble = error.what
                self.on_event(Warned(message=f"what is published here can't be listed at the moment: {error}"))
        else:
            self._trouble = None

    def __enter__(self) -> OwnPublications:
        self.look()
        self._thread = threading.Thread(target=self._run, name="own-publications", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            self.look()

    def _refresh(self) -> None:
        if time.monotonic() < self._refresh_at:
            return
        self._refresh_at = time.monotonic() + REFRESH_EVERY
        self.index.keep_seat(self.home, now=time.time())
        renew_own(self.home, self.index, ask=told_passphrase, now=datetime.now(UTC), on_event=self.on_event)


@contextlib.contextmanager
def serving(home: Home, plan: ServePlan, *, on_event: OnEvent) -> Iterator[RunningServer]:
    """The running service while it is entered. Raises NetworkError, StoreError, UsageError."""
    from samara.registry.service.app import create_app
    from samara.registry.service.logs import RequestLog
    from samara.registry.service.server import RunningServer, listening_socket
    from samara.registry.service.service import Service
    from samara.registry.tracker import Tracker, Upkeep

    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(listening_socket(plan.listen))  # first: a port that is taken is the usual trouble
        index = stack.enter_context(Index.open(home, migrate=False))
        stack.enter_context(OwnPublications(home, index, on_event))
        tracker = Tracker(plan.rules)

        def troubled(error: SamaraError) -> None:
            on_event(Warned(message=f"the tracker can't use the database at the moment: {error}"))

        upkeep = stack.enter_context(Upkeep(tracker, index.listings, on_trouble=troubled))
        catalogs = AcceptedCatalogs(index.listings)  # proven once for all who ask
        bringer = keeper = None
        if plan.provide is not None:
            from samara.fetcher.providing import Providing

            providing = Providing(
                home, index, plan.provide, peers_of=lambda v2, _v1: tracker.peers(v2), catalogs=catalogs,
                on_event=on_event,
            )  # fmt: skip
            stack.enter_context(providing)
            bringer, keeper = providing.bringer, providing.keeper
        follower = None if plan.follow is None else stack.enter_context(_following(index, plan, plan.follow, on_event))
        service = Service(
            home=home, index=index, settings=plan.settings, tracker=tracker, bringer=bringer, keeper=keeper,
            follower=follower, proven=catalogs, published=upkeep.published,
        )  # fmt: skip
        log = stack.enter_context(RequestLog(plan.log))
        app = create_app(service, log=log.add)
        gc.collect()
        gc.freeze()  # what is loaded by now stays: looking through it again and again would hold up every request
        yield stack.enter_context(RunningServer(app, plan.listen, sock=sock, limits=plan.limits))


def _following(index: Index, plan: ServePlan, follow: FollowPlan, on_event: OnEvent) -> Following:
    """Publishers of other registries are taken in by the same rules, but that the operator has said whom to follow."""
    from samara.registry.publications.following import Following
    from samara.registry.service.api_publish import rules_of

    rules = rules_of(plan.settings)
    claims = replace(rules.claims, origin="", is_open=True)
    return Following(index, follow, replace(rules, claims=claims, read_bytes=None), on_event=on_event)


def serve_until(stop: threading.Event, home: Home, plan: ServePlan, *, on_event: OnEvent) -> str:
    """Serve until `stop` is set; the address it was at. Answers under way are finished first."""
    with serving(home, plan, on_event=on_event) as server:
        on_event(Serving(url=server.url, origin=plan.settings.origin))
        on_event(Note(message=f"serving {plan.settings.origin} at {server.url} — Ctrl-C stops"))
        while not stop.wait(_HEARTBEAT):
            if not server.is_running:
                raise NetworkError("the server ended by itself", next_step="look at what it wrote before")
        on_event(Note(message="stopping: answers under way are finished"))
        return server.url
