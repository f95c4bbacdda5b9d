"""Which pieces of one blob are missing and who is at them. Pure.

A piece is had, missing, taken (a mirror was asked for it) or handed over (its proven bytes are on their way to the
file). What the swarm is at, it says itself: such pieces are left to it as long as there is anything else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
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

    def __len__(self) -> int:
        return len(self._states)

    def state(self, piece: int) -> PieceState:
        """Where a piece stands."""
        return PieceState(self._states[piece])

    @property
    def is_whole(self) -> bool:
        """Whether every piece is had."""
        return not any(self._states)

    def missing(self) -> list[int]:
        """The pieces that nobody here is at, ascending."""
        return [piece for piece, state in enumerate(self._states) if state == PieceState.MISSING]

    def missing_count(self) -> int:
        """How many those are."""
        return self._states.count(PieceState.MISSING)

    def take(self, at_most: int, *, leave: Collection[int] = (), start: int | None = None) -> range:
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

    def _choose(self, at_most: int, leave: Collection[int], start: int | None) -> range:
        if start is not None and self._states[start] == PieceState.MISSING and start not in leave:
            return self._run_from(start, at_most, leave)
        for piece in self._first:
            if self._states[piece] == PieceState.MISSING and piece not in leave:
                return self._run_from(piece, min(at_most, self._first.stop - piece), leave)
        longest = range(0)
        for run in self._runs(leave):
            if self._in_order or len(run) >= at_most:
                return run[:at_most]
            if len(run) > len(longest):
                longest = run
        return longest

    def _run_from(self, start: int, at_most: int, leave: Collection[int]) -> range:
        stop = start + 1
        while stop < min(start + at_most, len(self._states)) and self._is_free(stop, leave):
            stop += 1
        return range(start, stop)

    def _runs(self, leave: Collection[int]) -> Iterator[range]:
        at = 0
        while (start := self._states.find(PieceState.MISSING, at)) >= 0:
            at = start + 1
            if start in leave:
                continue
            while at < len(self._states) and self._is_free(at, leave):
                at += 1
            yield range(start, at)

    def _is_free(self, piece: int, leave: Collection[int]) -> bool:
        return self._states[piece] == PieceState.MISSING and piece not in leave
