"""Which pieces are missing and who is at them: whatever happens in whatever order, no piece has two takers or none."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from samara.fetcher.mirrors.board import PieceBoard, PieceState

MOST = 40


class Takers(RuleBasedStateMachine):
    """Mirrors take spans, bring some pieces and give up others; peers bring pieces too; some writes are lost.

    `held` is who is at what, noted beside the board; `had` what is surely in the file.
    """

    spans = Bundle("spans")

    @initialize(count=st.integers(1, MOST), data=st.data(), in_order=st.booleans())
    def begin(self, count: int, data: st.DataObject, in_order: bool) -> None:
        self.had = data.draw(st.sets(st.integers(0, count - 1)))
        start = data.draw(st.integers(0, count))
        self.first = range(start, data.draw(st.integers(start, count)))
        self.in_order = in_order
        self.board = PieceBoard(count, self.had, first=self.first, in_order=in_order)
        self.held: set[int] = set()
        self.handed: set[int] = set()

    def free(self, leave: frozenset[int] = frozenset()) -> list[int]:
        taken = self.held | self.handed | self.had | leave
        return [piece for piece in range(len(self.board)) if piece not in taken]

    @rule(target=spans, at_most=st.integers(0, MOST), leave=st.frozensets(st.integers(0, MOST)), data=st.data())
    def take(self, at_most: int, leave: frozenset[int], data: st.DataObject) -> object:
        start = data.draw(st.none() | st.integers(0, len(self.board) - 1))
        free = self.free(leave)
        span = self.board.take(at_most, leave=leave, start=start)
        assert set(span) <= set(free), "somebody is at it already, or it is had, or it was to be left"
        assert len(span) <= max(1, at_most)
        assert bool(span) == bool(free), "there is something to take and nothing was given"
        if span and start in free:
            assert span.start == start
        elif span:
            urgent = [piece for piece in free if piece in self.first]
            if urgent:
                assert span.start == urgent[0]
                assert span.stop <= self.first.stop
            elif self.in_order:
                assert span.start == free[0]
        self.held |= set(span)
        return span if span else multiple()

    @rule(span=spans, piece=st.integers(0, MOST))
    def bring(self, span: range, piece: int) -> None:
        if span:
            piece = span[piece % len(span)]
            is_new = piece not in self.had | self.handed
            assert self.board.hand_over(piece) == is_new
            if is_new:
                self.held.discard(piece)
                self.handed.add(piece)

    @rule(piece=st.integers(0, MOST))
    def is_in_the_file(self, piece: int) -> None:
        """A peer's piece, or one that was handed over."""
        if piece < len(self.board):
            self.board.had(piece)
            self.had.add(piece)
            self.held.discard(piece)
            self.handed.discard(piece)

    @rule(piece=st.integers(0, MOST))
    def is_lost(self, piece: int) -> None:
        if piece in self.handed:
            self.board.lost(piece)
            self.handed.discard(piece)

    @rule(span=consumes(spans))
    def give_back(self, span: range) -> None:
        assert self.board.give_back(span) == [piece for piece in span if piece in self.held]
        self.held -= set(span)

    @invariant()
    def each_piece_is_in_one_state(self) -> None:
        for piece in range(len(self.board)):
            expected = (
                PieceState.HAD if piece in self.had
                else PieceState.HANDED_OVER if piece in self.handed
                else PieceState.TAKEN if piece in self.held
                else PieceState.MISSING
            )  # fmt: skip
            assert self.board.state(piece) is expected
        assert self.board.missing() == self.free()
        assert self.board.missing_count() == len(self.free())
        assert self.board.is_whole == (len(self.had) == len(self.board))

    def teardown(self) -> None:
        """Whatever happened, somebody who gives back what nobody brings ends up with the whole."""
        if not hasattr(self, "board"):
            return
        self.board.give_back(range(len(self.board)))
        for piece in self.handed:
            self.board.lost(piece)
        rounds = 0
        while not self.board.is_whole:
            span = self.board.take(3)
            assert span, "a piece is missing and nobody can take it"
            for piece in span:
                assert self.board.hand_over(piece)
                self.board.had(piece)
            rounds += 1
            assert rounds <= MOST


TestTakers = Takers.TestCase


@given(count=st.integers(1, 200), have=st.sets(st.integers(0, 199)), at_most=st.integers(1, 50))
def test_without_any_order_the_longest_run_is_taken(count: int, have: set[int], at_most: int) -> None:
    """Few long requests: a run as long as wished for if there is one, else the longest."""
    have = {piece for piece in have if piece < count}
    span = PieceBoard(count, have).take(at_most)
    marks = "".join(" " if piece in have else "x" for piece in range(count))
    longest = max((len(run) for run in marks.split()), default=0)
    assert len(span) == min(at_most, longest)


@pytest.mark.parametrize("have", [range(0), range(0, 150_000, 2)], ids=["nothing-had", "every-other-piece-had"])
def test_a_piece_of_very_many_is_found_at_once(have: range) -> None:
    """2.4 TB: 150,000 pieces. What the loop asks of the board each round costs it no time worth mentioning."""
    board = PieceBoard(150_000, have)
    leave = frozenset(range(1, 2000, 2))

    def asked() -> None:
        assert not board.is_whole
        assert board.missing_count()
        board.give_back(board.take(16, leave=leave))

    def best_of(action: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(20):
            before = time.perf_counter()
            action()
            best = min(best, time.perf_counter() - before)
        return best

    # times of one run, compared: less than a single pass over the pieces in Python, of which each take once did many
    assert best_of(asked) < best_of(lambda: [piece for piece in range(150_000) if piece in leave])
