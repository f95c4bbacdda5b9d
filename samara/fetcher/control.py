"""What steers a pull under way: `samara pause`, `resume` and `cancel`, a schedule, and one cap for peers and mirrors.

The commands leave small files below `control/` in the store, which running pulls look at twice a second: no socket, no
process to find, and a pause holds for pulls that begin later, until somebody resumes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from blake3 import blake3

from samara.fetcher.carrier import Carrier
from samara.fetcher.governor import TokenBucket, split_limit
from samara.fetcher.mirrors.pool import MirrorPool
from samara.fetcher.options import PullOptions
from samara.registry.durable import io_errors, make_folder, write_durably
from samara.registry.home import Home
from samara.schemas.errors import InterruptedByUser
from samara.schemas.events import Note, OnEvent

LOOK_EVERY = 0.5  # seconds
SHARE_EVERY = 1.0  # seconds between two divisions of the cap
ALL = "all"


class ControlFiles:
    """The files by which commands tell running pulls. `reference`: of what, None for every pull of this store."""

    def __init__(self, home: Home) -> None:
        self._folder = home.root / "control"

    def pause(self, reference: str | None) -> None:
        """Hold pulls up, those under way and later ones."""
        make_folder(self._folder)
        write_durably(self._path("pause", reference), (reference or ALL).encode() + b"\n")

    def resume(self, reference: str | None) -> bool:
        """Let them go on; without a reference all. False if nothing was held up."""
        paths = [self._path("pause", reference)] if reference else list(self._folder.glob("pause-*"))
        was_paused = False
        for path in paths:
            with io_errors(path):
                was_paused |= path.exists()
                path.unlink(missing_ok=True)
        return was_paused

    def cancel(self, reference: str | None) -> None:
        """End those that are under way now."""
        make_folder(self._folder)
        write_durably(self._path("cancel", reference), secrets.token_hex(16).encode())

    def paused(self) -> tuple[str, ...]:
        """What is held up: references, `all` for everything."""
        return tuple(sorted(_read(path).decode(errors="replace").strip() for path in self._folder.glob("pause-*")))

    def is_paused(self, references: tuple[str, ...]) -> bool:
        """Whether a pull of these is held up: all of it, or any of them."""
        return any(self._path("pause", reference).exists() for reference in (None, *references))

    def cancel_marks(self, references: tuple[str, ...]) -> tuple[bytes, ...]:
        """Changes when `cancel` is said to a pull of these."""
        return tuple(_read(self._path("cancel", reference)) for reference in (None, *references))

    def _path(self, what: str, reference: str | None) -> Path:
        name = ALL if reference is None else blake3(reference.encode()).hexdigest()[:32]
        return self._folder / f"{what}-{name}"


class Control:
    """One pull's steering. `local_time`: the wall clock that a schedule goes by."""

    def __init__(
        self,
        home: Home,
        references: tuple[str, ...],
        options: PullOptions,
        bucket: TokenBucket,
        on_event: OnEvent,
        *,
        local_time: Callable[[], datetime] = lambda: datetime.now(),  # noqa: DTZ005  (people's wall clock is meant)
    ) -> None:
        self._files = ControlFiles(home)
        self._references = references
        self._options = options
        self._bucket = bucket
        self._on_event = on_event
        self._local_time = local_time
        self._cancelled = self._files.cancel_marks(references)
        self._looked_at = float("-inf")
        self._shared_at = time.monotonic()
        self._why_paused: str | None = None
        self._limit = -1
        self._used = (0, 0)

    def look(self, carrier: Carrier, pool: MirrorPool, now: float, *, came: tuple[int, int]) -> bool:
        """Do what was told since the last look; whether the pull is held up. `came`: bytes from peers, from mirrors.

        Raises InterruptedByUser when it was cancelled.
        """
        if now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            self.require_going_on()
            scheduled = self._scheduled()
            why = self._why_hold_up(scheduled)
            if why != self._why_paused:
                self._hold_up(carrier, pool, why)
            limits = [limit for limit in (self._options.limit, scheduled or 0) if limit]
            self._share(carrier, min(limits, default=0), came, now)
        return self._why_paused is not None

    def require_going_on(self) -> None:
        """Raise InterruptedByUser when the pull was cancelled."""
        if self._files.cancel_marks(self._references) != self._cancelled:
            raise InterruptedByUser(
                "cancelled by samara cancel", next_step="what was fetched is kept: the same command goes on with it"
            )

    def _scheduled(self) -> int | None:
        schedule = self._options.schedule
        return None if schedule is None else schedule.rate_at(self._local_time())

    def _why_hold_up(self, scheduled: int | None) -> str | None:
        if self._files.is_paused(self._references):
            return "paused; samara resume goes on"
        if scheduled == 0:
            assert self._options.schedule is not None
            until = self._options.schedule.next_change(self._local_time())
            return "held up by --schedule" + ("" if until is None else f" until {until:%a %H:%M}")
        return None

    def _hold_up(self, carrier: Carrier, pool: MirrorPool, why: str | None) -> None:
        self._why_paused = why
        if why is None:
            carrier.go_on()
            pool.go_on()
            self._on_event(Note(message="going on"))
        else:
            pool.pause()
            carrier.pause()
            self._on_event(Note(message=why))

    def _share(self, carrier: Carrier, limit: int, came: tuple[int, int], now: float) -> None:
        """Divide one cap between peers and mirrors, by what each has used of late."""
        if limit == 0 and self._limit in (0, -1):
            self._limit = 0
            return
        if now - self._shared_at < SHARE_EVERY and limit == self._limit:
            return
        seconds = max(0.001, now - self._shared_at)
        peers, mirrors = ((new - old) / seconds for new, old in zip(came, self._used, strict=True))
        self._shared_at, self._used, self._limit = now, came, limit
        if limit:
            for_peers, for_mirrors = split_limit(limit, peers, mirrors)
            carrier.limit(down=for_peers)
            self._bucket.set_rate(for_mirrors)
        else:
            carrier.limit(down=0)
            self._bucket.set_rate(0)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
