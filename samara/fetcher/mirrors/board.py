"""Which pieces of one blob are missing and who is at them. Pure.

A piece is had, missing, taken (a mirror was asked for it) or handed over (its proven bytes are on their way to the
file). What the swarm is at, it says itself: such pieces are left to it as long as there is anything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class PieceState(IntEnum):
    """Where one piece stands."""

    HAD = 0
    MISSING = 1
    TAKEN = 2
    HANDED_OVER = 3


class PieceBoard:
    """The pieces 0 … `count` - 1 of one blob; all but those in `have` are missing.

    `first`: pieces to take before all others. `in_order`: always the lowest missing piece, else the longest runs, so
    that few requests are needed.
    """

    def __init__(
        self, count: int, have: Iterable[int], *, first: range = range(0), in_order: bool = False
    ) -> None:  # fmt: skip
        self._states = bytearray([PieceState.MISSING]) * count
        for piece in have:
            self._states[piece] = PieceState.HAD
        self._first = first
        self._in_order = in_order

    def hurry(self, first: range) -> None:
        """From now on these pieces come before all others."""
        self._first = first

    def __len__(self) -> int:
        return len(self._states)

    def state(self, piece: int) -> PieceState:
        """Where a piece stands."""
        return PieceState(self._states[piece])

    @property
    def is_whole(self) -> bool:
        """Whether every piece is had."""
        return self._states.count(PieceState.HAD) == len(self._states)

    def missing(self) -> list[int]:
        """The pieces that nobody here is at, ascending."""
        return [piece for piece, state in enumerate(self._states) if state == PieceState.MISSING]

    def missing_count(self) -> int:
        """How many those are."""
        return self._states.count(PieceState.MISSING)

    def take(self, at_most: int, *, leave: Iterable[int] = (), start: int | None = None) -> range:
        """Take up to `at_most` missing pieces that lie side by side and none of which is in `leave`; empty: none left.

        With `start` those from that piece on, if it is missing.
        """
        taken = self._choose(max(1, at_most), leave, start)
        for piece in taken:
            self._states[piece] = PieceState.TAKEN
        return taken

    def give_back(self, pieces: Iterable[int]) -> list[int]:
        """Whoever had taken these doesn't bring them. Gives those that are missing now."""
        back = [piece for piece in pieces if self._states[piece] == PieceState.TAKEN]
        for piece in back:
            self._states[piece] = PieceState.MISSING
        return back

    def hand_over(self, piece: int) -> bool:
        """A piece's proven bytes are here. False if it is had or handed over already: they came twice."""
        if self._states[piece] in (PieceState.HAD, PieceState.HANDED_OVER):
            return False
        self._states[piece] = PieceState.HANDED_OVER
        return True

    def had(self, piece: int) -> None:
        """A piece is in the file, whoever brought it."""
        self._states[piece] = PieceState.HAD

    def lost(self, piece: int) -> None:
        """A piece isn't in the file after all."""
        self._states[piece] = PieceState.MISSING

    def _choose(self, at_most: int, leave: Iterable[int], start: int | None) -> range:
        free = bytearray(self._states)  # all that follows is done by bytes' own search: there may be 150,000 pieces
        for piece in leave:
            if piece < len(free):
                free[piece] = PieceState.HAD
        if start is None or free[start] != PieceState.MISSING:
            start = free.find(PieceState.MISSING, self._first.start, self._first.stop)
            if start >= 0:
                at_most = min(at_most, self._first.stop - start)
            elif self._in_order:
                start = free.find(PieceState.MISSING)
            else:
                start = free.find(_run(_longest(free, at_most)))
        if start < 0:
            return range(0)
        ahead = free[start : start + at_most]
        return range(start, start + len(ahead) - len(ahead.lstrip(_run(1))))


def _longest(free: bytearray, at_most: int) -> int:
    """How long the longest run of missing pieces is, as far as `at_most`; 1 if there is none."""
    least, most = 1, max(1, min(at_most, len(free)))
    while least < most:
        middle = (least + most + 1) // 2
        if free.find(_run(middle)) >= 0:
            least = middle
        else:
            most = middle - 1
    return least


def _run(length: int) -> bytes:
    return bytes([PieceState.MISSING]) * length
