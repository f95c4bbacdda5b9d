"""What the pool knows of one blob: beginnings of pieces, what peers are told, mirrors. Values, no threads."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirror_kit import PIECE, blob

from samara.fetcher.mirrors.blob import BlobState
from samara.fetcher.mirrors.worker import Fragment

A, B = "http://a.example/x", "http://b.example/x"
NOBODY: frozenset[int] = frozenset()


@pytest.fixture
def state(tmp_path: Path) -> BlobState:
    return BlobState(blob(tmp_path, 10 * PIECE).proof, (A, B), (), with_peers=False, began=0.0)


def begun(piece: int, *urls: str, filled: int = 1000) -> Fragment:
    return Fragment(piece=piece, data=bytearray(PIECE), filled=filled, urls=frozenset(urls))


def keep(state: BlobState, fragment: Fragment, *, of_this_version: bool = True) -> None:
    state.keep(fragment, state.mirrors[A], of_this_version=of_this_version)


def test_who_asks_gets_what_has_begun_first_and_only_as_far_as_the_next_that_has(state: BlobState) -> None:
    keep(state, begun(4, A))
    keep(state, begun(7, A))
    assert state.take(100, B) == range(4, 7)
    assert state.take(100, B) == range(7, 10)
    assert state.take(100, B) == range(4)


def test_what_peers_are_at_is_no_reason_to_forget_what_else_has_begun(state: BlobState) -> None:
    keep(state, begun(2, A))
    keep(state, begun(6, A))
    assert state.take(2, B, leave=frozenset({2})) == range(6, 8)


def test_of_two_beginnings_the_longer_one_is_kept(state: BlobState) -> None:
    keep(state, begun(3, A, filled=500))
    keep(state, begun(3, B, filled=100))
    assert state.fragments[3].filled == 500
    keep(state, begun(3, B, filled=600))
    assert state.fragments[3].filled == 600


def test_nothing_is_kept_of_who_is_banned_or_changed_or_of_what_is_had(state: BlobState) -> None:
    state.had(1)
    keep(state, begun(1, A))
    keep(state, begun(2, A), of_this_version=False)
    keep(state, begun(3, A, filled=0))
    state.mirrors[A].score = state.mirrors[A].score.banned("lied")
    keep(state, begun(4, A))
    assert state.fragments == {}


def test_a_piece_that_was_mixed_is_gone_on_with_by_the_same_source_alone(state: BlobState) -> None:
    state.mixed.add(5)
    keep(state, begun(5, A, B))
    assert state.fragments == {}
    keep(state, begun(5, A))
    assert state.take(1, B) == range(1)
    assert state.take(1, A) == range(5, 6)


def test_a_liars_bytes_are_dropped_wherever_they_are_part_of_a_beginning(state: BlobState) -> None:
    keep(state, begun(1, A))
    keep(state, begun(2, A, B))
    keep(state, begun(3, B))
    state.drop_fragments(A)
    assert set(state.fragments) == {3}


def test_peers_are_told_once_of_what_nobody_here_brings(state: BlobState) -> None:
    state.take(4, A)
    assert state.take_for_peers() == []
    assert state.give_back(range(4), frozenset({1})) == [0, 2, 3]
    assert state.take(1, A) == range(1)
    state.had(2)
    assert state.take_for_peers() == [3]
    assert state.take_for_peers() == []


def test_a_piece_that_did_not_pass_is_asked_of_peers_again(state: BlobState) -> None:
    """It was held back from them while a mirror brought it."""
    state.take(1, A)
    assert state.board.hand_over(0)
    state.lost(0)
    assert state.take_for_peers() == [0]
    state.had(0)
    state.lost(0)  # had meanwhile: nothing to do
    assert state.take_for_peers() == []


def test_what_is_offered_to_peers_is_theirs_for_a_while(state: BlobState) -> None:
    state.offer([3, 4], until=10.0)
    assert state.offered_at(9.9) == {3, 4}
    assert state.offered_at(10.0) == NOBODY


def test_whole_files_are_read_only_where_nobody_gives_parts(state: BlobState) -> None:
    a, b = state.mirrors[A], state.mirrors[B]
    a.ranges = False
    assert state.may_get_ranges(0.0)
    b.score = b.score.banned("lied")
    assert not state.may_get_ranges(0.0)


def test_one_that_begins_anew_knows_its_mirrors(state: BlobState) -> None:
    state.received = 77
    state.mirrors[A].score = state.mirrors[A].score.banned("lied")
    anew = BlobState(state.proof, (A, B), {0}, before=state, with_peers=False, began=5.0)
    assert anew.received == 77
    assert anew.mirrors[A].score.is_banned
    assert anew.take_useless() == [], "that was told already"
    assert anew.fragments == {}
