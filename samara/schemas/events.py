"""What happens, as frozen values. Long work takes an `on_event` callable and calls it with these; the command line
draws them, tests wait on them. Pure.

Sizes are bytes, rates bytes per second, times seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Base of all events."""

    def as_dict(self) -> dict[str, object]:
        """For --json lines: {"event": <snake-case name>, …fields}."""
        return {"event": _snake(type(self).__name__), **asdict(self)}


OnEvent = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """An `on_event` for callers who don't care."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note(Event):
    """Something a person may want to know."""

    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned(Event):
    """Something a person should know."""

    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HashProgress(Event):
    """Reading and hashing one file."""

    path: str
    done: int
    total: int
    rate: float
    eta: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PullPlanned(Event):
    """What a pull will do, before it asks anybody: what is here already, in whatever file, and what must come."""

    reference: str
    bytes_total: int
    bytes_here: int
    bytes_to_fetch: int
    pieces_to_fetch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReuseProgress(Event):
    """Copying blocks that other files here have, and checking them."""

    path: str
    done: int
    total: int
    rate: float
    eta: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PullProgress(Event):
    """One file on its way. `done` counts bytes in the file, `verified` those whose BLAKE3 block was checked."""

    path: str
    blob: str
    total: int
    done: int
    verified: int
    rate: float
    eta: float | None
    peers: int
    from_peers: int
    from_mirrors: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OverallProgress(Event):
    """All files of a pull together, where there are several to fetch; `files_done` of `files` are whole."""

    files: int
    files_done: int
    total: int
    done: int
    rate: float
    eta: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRejected(Event):
    """A peer or mirror gave wrong bytes, or a mirror failed; the pull goes on without it."""

    source: str
    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingForOther(Event):
    """Another process is pulling the same blob; we share its work."""

    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FileReady(Event):
    """One file is whole, verified and visible."""

    path: str
    blob: str
    location: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Listening(Event):
    """The swarm session accepts connections here."""

    endpoint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving(Event):
    """A registry answers at `url`; clients address it as `origin`."""

    url: str
    origin: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRow(Event):
    """One blob being seeded."""

    blob: str
    path: str
    size: int
    peers: int
    up_rate: float
    uploaded: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedTable(Event):
    """All blobs being seeded, as they stand."""

    rows: tuple[SeedRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached(Event):
    """A point of the crash order is about to be crossed or was just crossed, in the thread that does the work.

    For tests that pull the plug there, and for debugging; never shown to people.
    """

    point: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckProgress(Event):
    """Re-reading blocks."""

    path: str
    done: int
    total: int
    rate: float
    eta: float | None


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
