"""A registry that has taken in what publishers on other machines published, and what it fetches by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from samara.fetcher.coming import Reader
from samara.fetcher.intake import Limits
from samara.fetcher.mirroring import MirrorRules
from samara.fetcher.options import PullOptions
from samara.fetcher.providing import ProvideOptions, Providing
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accept import Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.service.ports import KeepStatus
from samara.registry.trust.own_catalog import own_catalog, retraction, update_catalog
from samara.schemas.endpoints import parse_endpoint
from samara.schemas.events import Event, Listening
from samara.schemas.networks import NetworkPolicy
from samara.schemas.publication import Publication
from samara.schemas.release_file import ReleaseBundle
from support.swarms import loopback
from support.world import Shelf

LIMIT = 60.0  # seconds that any one wait may take
QUICK = MirrorRules(look_every=0.05, scan_every=0.5, scan_after=0.0, first_rest=0.2, longest_rest=1.0)
TAKES_ALL = Rules(claims=ClaimRules(origin=""), policy=NetworkPolicy(private=True))


def list_shelf(index: Index, published: Shelf) -> None:
    """Take in all that the publisher of `published` has published, as `POST /v1/publish` does."""
    state = own_catalog(published.publisher)
    assert state is not None
    bundles = []
    with Index.open(published.home) as own:
        for entry in state.catalog.entries.values():
            stored = own.release_by_digest(entry.manifest)
            assert stored is not None
            bundles.append(ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents))
    accept(index, Publication(metadata=state.bundle, releases=tuple(bundles)), TAKES_ALL, now=datetime.now(UTC))


def withdraw(index: Index, published: Shelf) -> None:
    """Its publisher takes the release back, as `samara retract` and `samara push` do."""
    change = retraction(published.release.model, published.release.tag, "wrong weights")
    keys = published.publisher.online_keys(None)
    update_catalog(published.home, published.publisher, change, signers=keys, now=datetime.now(UTC))
    list_shelf(index, published)


def asking(*peers: tuple[str, int], down: int = 0, give_up_after: float = 20.0, **changes: object) -> PullOptions:
    """Options of fetching that asks these peers."""
    made = PullOptions(
        swarm=loopback(), peers=tuple(peers), limit=down, private_mirrors=True, give_up_after=give_up_after,
        checkpoint_seconds=0.1,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def pulling_through(pull: PullOptions, **changes: object) -> ProvideOptions:
    """A registry that brings what it is asked for."""
    made = ProvideOptions(pull=pull, pull_through=True, reserve=0, rules=QUICK, limits=Limits(rest=0.05))
    return replace(made, **changes)  # type: ignore[arg-type]


def mirroring(pull: PullOptions, **changes: object) -> ProvideOptions:
    """A registry that mirrors all that it lists."""
    return replace(pulling_through(pull), mirror=True, **changes)  # type: ignore[arg-type]


class Provided:
    """A registry's own fetching under way, and what it says."""

    def __init__(self, home: Home, index: Index, providing: Providing, events: list[Event]) -> None:
        self.home = home
        self.index = index
        self.providing = providing
        self.events = events

    def bring(self, b3: str) -> Reader:
        """Have a blob pulled through."""
        assert self.providing.bringer is not None
        return self.providing.bringer.bring(b3)

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where its swarm session listens."""
        listening = [event for event in self.events if isinstance(event, Listening)]
        return parse_endpoint(listening[0].endpoint)

    def status(self) -> KeepStatus:
        """How it stands."""
        return self.providing.status()

    def until(self, is_so: Callable[[KeepStatus], bool], *, limit: float = LIMIT) -> KeepStatus:
        """Wait until its status is so."""
        waiting = threading.Event()
        for _ in range(int(limit / 0.02)):
            status = self.status()
            if is_so(status):
                return status
            waiting.wait(0.02)
        raise AssertionError(f"not within {limit} s: {self.status()}; last: {self.events[-8:]}")


@contextmanager
def registry_home(folder: Path, *published: Shelf) -> Iterator[tuple[Home, Index]]:
    """A home that lists these publishers' releases and has none of their bytes."""
    home = Home(folder)
    with Index.open(home) as index:
        for one in published:
            list_shelf(index, one)
        yield home, index


@contextmanager
def provided(
    home: Home,
    index: Index,
    options: ProvideOptions,
    *,
    also: Callable[[Event], None] | None = None,
    **more: object,
) -> Iterator[Provided]:
    """Its fetching, for as long as the block lasts. `also`: is told of every event too."""
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        if also is not None:
            also(event)

    providing = Providing(home, index, options, on_event=hear, **more)  # type: ignore[arg-type]
    with providing:
        yield Provided(home, index, providing, events)
