"""Endpoints to draw from at random, without copying them all. Pure.

Compact endpoints lie one behind the other in one array, in an order that is kept random as they come and go: any
stretch of it is then a fair draw, and costs one copy of as many bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random


@dataclass(slots=True, eq=False)
class Place:
    """Somebody's endpoint (6 or 18 bytes, BEP 23, 7) and where it lies in its pool."""

    endpoint: bytes
    at: int = -1


@dataclass(slots=True, eq=False)
class Pool:
    """Endpoints of one size. `width`: bytes of one."""

    width: int
    endpoints: bytearray = field(default_factory=bytearray)
    places: list[Place] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.places)

    def add(self, place: Place, random: Random) -> None:
        """Take it in, at a random place; who was there goes to the end."""
        self.places.append(place)
        self.endpoints += place.endpoint
        place.at = len(self.places) - 1
        other = int(random.random() * len(self.places))
        if other != place.at:
            self._move(self.places[other], place.at)
            self._move(place, other)

    def remove(self, place: Place) -> None:
        """Let it go; the last one takes its place."""
        last = self.places[-1]
        if last is not place:
            self._move(last, place.at)
        self.places.pop()
        del self.endpoints[-self.width :]
        place.at = -1

    def draw(self, count: int, random: Random, *, but: Place | None = None) -> bytes:
        """`count` different endpoints, or all if there are fewer; never that of `but`, if that lies here."""
        here = len(self.places)
        but_at = but.at if but is not None and 0 <= but.at < here and self.places[but.at] is but else None
        count = min(count, here if but_at is None else here - 1)
        if count <= 0:
            return b""
        start = int(random.random() * here)
        taken = count if but_at is None else count + 1
        found = self._stretch(start, taken)
        if but_at is None:
            return found
        cut = (but_at - start) % here
        if cut >= taken:
            cut = count
        return found[: cut * self.width] + found[(cut + 1) * self.width :]

    def _stretch(self, start: int, count: int) -> bytes:
        begin, end = start * self.width, (start + count) * self.width
        found = bytes(self.endpoints[begin:end])
        beyond = end - len(self.endpoints)
        return found + bytes(self.endpoints[:beyond]) if beyond > 0 else found

    def _move(self, place: Place, to: int) -> None:
        self.places[to] = place
        self.endpoints[to * self.width : (to + 1) * self.width] = place.endpoint
        place.at = to
