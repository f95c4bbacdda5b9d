"""One fetcher, several seeders, and bad links between them: as namespaces, or through a proxy where there is no root.

The same test runs on both: `Links` says what can be done to a link, and each kind does it as well as it can. Where the
proxy can't do what a wire does (losing packets), it does to the stream what that does to a stream.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import pytest
from support.bad_links import BadLink, Manners
from support.lab import Lab, Weather
from support.processes import Line, Outcome, Process, Seeder, seed_process, started
from support.world import Shelf, assert_pulled

from samara.registry.home import Home
from samara.schemas.endpoints import parse_endpoint

KIB = 1 << 10
LEAF = 16 * KIB  # what peers ask each other for at a time
CUT = 2 * LEAF  # what a connection that ends may cost: the blocks that were half here
PORT = 6901
GIVE_UP = 120  # seconds without a byte; as it is without the option
LIMIT = 240.0  # seconds for one pull
QUICK_RESET = (20 * KIB, 900 * KIB)  # bytes after which a connection is cut


def hold(seconds: float) -> None:
    """Let a condition last so long. Not a way to wait for anything: the time is what is tested."""
    threading.Event().wait(seconds)


def has_begun(progress: Line) -> bool:
    """Whether bytes have come."""
    return bool(progress["done"] > 0)


def at_least(share: float) -> Callable[[Line], bool]:
    """Whether that share (0 … 1) has come."""
    return lambda progress: bool(progress["done"] >= share * progress["total"])


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A pull that ended well: what it says, and what came twice."""

    outcome: Outcome
    again: int

    @property
    def rejected(self) -> list[Line]:
        """Who was left, and why."""
        return list(self.outcome.result["rejected"])


def fetched(result: Line) -> int:
    """Bytes that came over the network, wasted ones included."""
    return int(result["bytes_from_peers"] + result["bytes_from_mirrors"])


def ends_well(process: Process, home: Home, published: Shelf, *, again: int, limit: float = LIMIT) -> Ended:
    """What holds after every kind of weather: exit code 0, the source's bytes, nothing left over, and not more than
    `again` bytes were fetched twice.
    """
    outcome = process.end(limit)
    assert outcome.status == 0, outcome.stderr[-4000:]
    assert_pulled(home, published)
    missing = outcome.result["bytes_total"] - outcome.result["bytes_reused"]
    twice = fetched(outcome.result) - missing
    assert 0 <= twice <= again, f"{twice} bytes came twice; {again} may"
    return Ended(outcome=outcome, again=twice)


class Links(ABC):
    """Links of one fetcher. Use as a context manager; seeders are numbered from 0."""

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *_exc: object) -> None: ...

    @abstractmethod
    def seeding(self, home: Home, number: int = 0) -> contextlib.AbstractContextManager[Seeder]:
        """`samara seed` on machine `number`."""

    @abstractmethod
    def peer(self, seeder: Seeder, number: int = 0) -> str:
        """How the fetcher calls it."""

    @abstractmethod
    def pulling(self, home: Home, *arguments: object) -> contextlib.AbstractContextManager[Process]:
        """`samara pull` on the fetcher's machine."""

    @abstractmethod
    def slow(self, mbit: float) -> None:
        """Cap the fetcher's link."""

    @abstractmethod
    def lossy(self, percent: float, *, seed: int) -> None:
        """Lose packets, both ways."""

    @abstractmethod
    def lost(self) -> int:
        """How often that has happened so far."""

    @abstractmethod
    def resetting(self, *, seed: int) -> None:
        """Cut connections at random places."""

    @abstractmethod
    def resets(self) -> int:
        """How often that has happened so far."""

    @abstractmethod
    def clear(self) -> None:
        """No more of `lossy`, `resetting` and `mute`."""

    @abstractmethod
    def down(self) -> None:
        """The fetcher's link goes down."""

    @abstractmethod
    def up(self) -> None:
        """It comes back."""

    @abstractmethod
    def forget(self) -> None:
        """A router forgets the fetcher's connections: they are dead, nobody is told, new ones are fine."""

    @abstractmethod
    def mute(self, number: int, after: int) -> None:
        """After so many bytes of what it sends, nothing of seeder `number` arrives, on connections that stay open."""

    @abstractmethod
    def has_muted(self) -> bool:
        """Whether that has begun."""


class MakeLinks(Protocol):
    """Makes links to so many seeders."""

    def __call__(self, seeders: int = 1) -> contextlib.AbstractContextManager[Links]: ...


class LabLinks(Links):
    """Namespaces."""

    def __init__(self, seeders: int) -> None:
        self.lab = Lab("fetcher", *(f"seeder{number}" for number in range(seeders)))
        self._roles = ["fetcher", *(f"seeder{number}" for number in range(seeders))]
        self._hosts = iter(range(100, 200))

    def __enter__(self) -> Self:
        self.lab.__enter__()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.lab.close()

    @contextlib.contextmanager
    def seeding(self, home: Home, number: int = 0) -> Iterator[Seeder]:
        role = f"seeder{number}"
        listen = ("--listen", f"{self.lab.address(role)}:{PORT}", "--no-discovery", "--json")
        with started(home, "seed", *listen, wrap=self.lab[role].wrap) as process:
            yield Seeder(process=process, endpoint=parse_endpoint(process.expect("listening")["endpoint"]))

    def peer(self, seeder: Seeder, number: int = 0) -> str:
        return seeder.text

    @contextlib.contextmanager
    def pulling(self, home: Home, *arguments: object) -> Iterator[Process]:
        how = ("--listen", "0.0.0.0:0", "--no-discovery", "--give-up-after", GIVE_UP, "--json")
        with started(home, "pull", *how, *arguments, wrap=self.lab["fetcher"].wrap) as process:
            yield process

    def slow(self, mbit: float) -> None:
        self.lab.rate("fetcher", mbit=mbit)

    def lossy(self, percent: float, *, seed: int) -> None:
        for number, role in enumerate(self._roles):
            self.lab.weather(role, Weather(lost=percent, seed=seed * 10 + number))

    def lost(self) -> int:
        return sum(self.lab.hits(role, "lost") for role in self._roles)

    def resetting(self, *, seed: int) -> None:
        self.lab.weather("fetcher", Weather(resets=2, seed=seed))

    def resets(self) -> int:
        return self.lab.hits("fetcher", "resets")

    def clear(self) -> None:
        for role in self._roles:
            self.lab.weather(role, Weather())

    def down(self) -> None:
        self.lab.down("fetcher")

    def up(self) -> None:
        self.lab.up("fetcher")

    def forget(self) -> None:
        ports = self.lab.connected_ports("fetcher")
        assert ports
        self.lab.weather("fetcher", Weather(forgotten=ports))

    def move_fetcher(self) -> None:
        """The fetcher has another address: its connections are dead, and nobody tells the other end."""
        self.lab.move("fetcher", next(self._hosts))

    def mute(self, number: int, after: int) -> None:
        self.lab.weather("fetcher", Weather(silent_after=(self.lab.address(f"seeder{number}"), after)))

    def has_muted(self) -> bool:
        return self.lab.hits("fetcher", "silenced") > 0


class ProxyLinks(Links):
    """A proxy before each seeder, on loopback."""

    def __init__(self, seeders: int, *, seed: int) -> None:
        self._links = [BadLink(("127.0.0.1", 0), seed=seed * 10 + number) for number in range(seeders)]
        self._hiccups = 0

    def __exit__(self, *_exc: object) -> None:
        for link in self._links:
            link.__exit__(None, None, None)

    @contextlib.contextmanager
    def seeding(self, home: Home, number: int = 0) -> Iterator[Seeder]:
        with seed_process(home) as seeder:
            self._links[number].target = seeder.endpoint
            yield seeder

    def peer(self, seeder: Seeder, number: int = 0) -> str:
        return self._links[number].text

    @contextlib.contextmanager
    def pulling(self, home: Home, *arguments: object) -> Iterator[Process]:
        how = ("--listen", "127.0.0.1:0", "--no-discovery", "--give-up-after", GIVE_UP, "--json")
        with started(home, "pull", *how, *arguments) as process:
            yield process

    def slow(self, mbit: float) -> None:
        self._all(rate=round(mbit * 1e6 / 8))

    def lossy(self, percent: float, *, seed: int) -> None:
        # what a lost packet does to a stream: what follows waits for it, here as long as a small timeout
        self._all(hiccup=(min(1.0, percent / 100 * 11), 0.02))  # 11 segments are a chunk

    def lost(self) -> int:
        return sum(link.hiccups for link in self._links)

    def resetting(self, *, seed: int) -> None:
        self._all(cut_after=QUICK_RESET)

    def resets(self) -> int:
        return sum(link.cuts for link in self._links)

    def clear(self) -> None:
        for link in self._links:
            link.manners = Manners(rate=link.manners.rate)
            link.speak()

    def down(self) -> None:
        for link in self._links:
            link.silence()

    def up(self) -> None:
        for link in self._links:
            link.speak()

    def forget(self) -> None:
        for link in self._links:
            link.forget()

    def mute(self, number: int, after: int) -> None:
        link = self._links[number]
        link.manners = Manners(rate=link.manners.rate, stall_after=after)

    def has_muted(self) -> bool:
        return any(link.has_stalled for link in self._links)

    def _all(self, **changes: object) -> None:
        for link in self._links:
            known = {name: getattr(link.manners, name) for name in Manners.__dataclass_fields__}
            link.manners = Manners(**{**known, **changes})


def long(*values: object, **named: str) -> object:
    """A parameter of the longer suite."""
    return pytest.param(*values, marks=pytest.mark.long, **named)
