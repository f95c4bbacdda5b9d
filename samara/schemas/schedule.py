"""How fast at which time of day: `22:00-06:00=full,12:00-13:30=500k,else=off`. Pure: the caller says what time it is.

    schedule = entry {"," entry}                        the first that fits wins
    entry    = [days " "] HH:MM "-" HH:MM "=" rate  |  "else" "=" rate
    days     = day ["-" day]                            mon … sun; fri-mon is four days; without: all seven
    rate     = "full" | "off" | bytes per second such as 500k or 2M

A window holds its first minute and not its last: 22:00 belongs to it, 06:00 does not. One over midnight belongs to the
day it begins on. Without `else` the rest is `full`. Times are those of the clock on the wall, whatever summer time does
to it: an hour that happens twice is scheduled twice, one that doesn't happen isn't.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from samara.schemas.errors import UsageError
from samara.schemas.rates import parse_rate

EXAMPLE = "22:00-06:00=full,mon-fri 12:00-13:30=500k,else=off"
MAX_TEXT = 4096  # characters
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60  # minutes
_WINDOW = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))?\s+)?([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """[`start`, `end`) in minutes of the days on which it begins (0: Monday); `end` up to a day later."""

    days: frozenset[int]
    start: int
    end: int
    rate: int | None

    def holds(self, day: int, minute: int) -> bool:
        """Whether that minute of that weekday is in it."""
        today = day in self.days and self.start <= minute < self.end
        return today or ((day - 1) % 7 in self.days and minute + _DAY < self.end)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Rates in bytes per second: None is no cap, 0 is a pause."""

    windows: tuple[Window, ...]
    otherwise: int | None

    def rate_at(self, local: datetime) -> int | None:
        """The cap at that time of the wall clock."""
        day, minute = local.weekday(), local.hour * 60 + local.minute
        return next((window.rate for window in self.windows if window.holds(day, minute)), self.otherwise)

    def next_change(self, local: datetime) -> datetime | None:
        """When the cap will be another one, on the wall clock; None: never."""
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        edges = sorted({edge % _DAY for window in self.windows for edge in (window.start, window.end)})
        now = self.rate_at(local)
        for day in range(9):  # a week on, and the rest of this day
            for edge in edges:
                moment = midnight + timedelta(days=day, minutes=edge)
                if moment.replace(tzinfo=None) > local.replace(tzinfo=None) and self.rate_at(moment) != now:
                    return moment
        return None


def parse_schedule(text: str) -> Schedule:
    """What `--schedule` was given. Raises UsageError."""
    windows: list[Window] = []
    otherwise: list[int | None] = []
    if len(text) > MAX_TEXT:
        raise _not_a_schedule("it is too long", text)
    for entry in text.lower().split(","):
        when, equals, rate = (part.strip() for part in entry.partition("="))
        if not equals:
            raise _not_a_schedule(f"{entry.strip()[:40]!r} has no rate", text)
        if otherwise:
            raise _not_a_schedule("nothing can follow else", text)
        if when == "else":
            otherwise.append(_parse_rate(rate, text))
        else:
            windows.append(_parse_window(when, _parse_rate(rate, text), text))
    rest = otherwise[0] if otherwise else None
    if all(window.rate is None for window in windows) and rest is None:
        raise _not_a_schedule("it never changes anything: say what else is, such as else=off", text)
    return Schedule(windows=tuple(windows), otherwise=rest)


def _parse_window(when: str, rate: int | None, text: str) -> Window:
    found = _WINDOW.match(when)
    if found is None:
        raise _not_a_schedule(f"{when[:40]!r} is no time of the day", text)
    first, last = found[1], found[2] or found[1]
    if first is None:
        days = frozenset(range(7))
    elif first in _DAYS and last in _DAYS:
        begin = _DAYS.index(first)
        days = frozenset((begin + more) % 7 for more in range((_DAYS.index(last) - begin) % 7 + 1))
    else:
        raise _not_a_schedule(f"{when[:40]!r} names no day", text)
    start, end = (int(found[hour]) * 60 + int(found[hour + 1]) for hour in (3, 5))
    if start >= _DAY or end > _DAY or int(found[4]) > 59 or int(found[6]) > 59:
        raise _not_a_schedule(f"{when[:40]!r} is no time of the day", text)
    if start == end:
        raise _not_a_schedule(f"{when[:40]!r} is no time at all: a whole day is 00:00-24:00", text)
    return Window(days=days, start=start, end=end if end > start else end + _DAY, rate=rate)


def _parse_rate(text: str, whole: str) -> int | None:
    if text in ("full", "off"):
        return None if text == "full" else 0
    try:
        return parse_rate(text)
    except UsageError:
        raise _not_a_schedule(f"{text[:40]!r} is no rate", whole) from None


def _not_a_schedule(why: str, text: str) -> UsageError:
    return UsageError(f"not a schedule ({why})", expected=f"times and rates such as {EXAMPLE}", actual=repr(text[:120]))
