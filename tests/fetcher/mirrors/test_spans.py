"""Who gets how much and what the idle take: rules without threads, on values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samara.fetcher.mirrors.spans import (
    FIRST_SPAN,
    LONGEST_SPAN,
    SHORTEST_SPAN,
    SPAN_SECONDS,
    TOO_YOUNG,
    WORTH_TAKING,
    UnderWay,
    fair_span,
    half_of,
    slowest_of,
    take_over,
)

MIB = 1 << 20
rates = st.none() | st.floats(1.0, 1e10)


def under_way(
    *, left: range = range(10, 20), rate: float = MIB, seconds: float = 10.0, url: str = "a", of_piece: int = 0
) -> UnderWay:  # fmt: skip
    return UnderWay(url=url, left=left, of_piece=of_piece, received=int(rate * seconds), seconds=seconds)


@given(rate=rates, missing=st.integers(0, 1 << 45), others=st.integers(0, 7), peers=st.booleans())
def test_a_span_is_some_seconds_and_leaves_work_for_all_others(
    rate: float | None, missing: int, others: int, peers: bool
) -> None:
    span = fair_span(rate, missing=missing, others=others, peers=peers)
    assert 0 < span <= LONGEST_SPAN
    assert span <= (FIRST_SPAN if rate is None else rate * SPAN_SECONDS) or span <= SHORTEST_SPAN
    if span > max(SHORTEST_SPAN, (rate or 0.0) * SPAN_SECONDS / 8):
        assert span * (1 + others) <= missing, "all who are at work can have as much"
    assert fair_span(rate, missing=missing, others=others + 1, peers=peers) <= span
    assert fair_span(rate, missing=missing, others=others, peers=True) <= span


lefts = st.integers(0, 100).flatmap(lambda start: st.integers(start, 120).map(lambda stop: range(start, stop)))
at_work = st.builds(
    UnderWay,
    url=st.sampled_from(["a", "b"]),
    left=lefts,
    of_piece=st.integers(0, MIB - 1),
    received=st.integers(0, 1 << 32),
    seconds=st.floats(0.0, 1e4),
)


@given(others=st.lists(at_work, max_size=8), url=st.sampled_from(["a", "b"]), rate=rates, patience=st.floats(0.1, 60))
def test_what_is_taken_is_the_slowests_and_never_the_piece_that_it_is_at(
    others: list[UnderWay], url: str, rate: float | None, patience: float
) -> None:
    found = take_over(others, MIB, url=url, rate=rate, patience=patience)
    needs = [one.seconds_left(MIB) for one in others if one.left]
    if found is None:
        return
    slowest = others[found.index]
    assert slowest.seconds_left(MIB) == max(needs) > WORTH_TAKING
    assert slowest.seconds >= TOO_YOUNG
    if found.again:
        assert len(slowest.left) == 1
        assert found.stop == slowest.left.start
        assert slowest.url != url, "by the same source it would be no quicker"
    else:
        assert slowest.left.start < found.stop < slowest.left.stop


@given(others=st.lists(at_work, max_size=8), more_than=st.floats(0, 100))
def test_the_slowest_is_who_needs_longest(others: list[UnderWay], more_than: float) -> None:
    index = slowest_of(others, MIB, more_than=more_than)
    needs = [one.seconds_left(MIB) if one.left else 0.0 for one in others]
    assert (index is None) == (max(needs, default=0.0) <= more_than)
    if index is not None:
        assert needs[index] == max(needs)


@given(left=lefts.filter(lambda left: len(left) > 1))
def test_half_leaves_at_least_the_piece_under_way_and_takes_at_least_one(left: range) -> None:
    stop = half_of(under_way(left=left))
    assert left.start < stop < left.stop
    assert abs((stop - left.start - 1) - (left.stop - stop)) <= 1


def test_who_has_just_begun_is_left_alone() -> None:
    assert take_over([under_way(rate=1, seconds=1.9)], MIB, url="b", rate=None, patience=5) is None


def test_who_has_brought_nothing_for_some_seconds_loses_half() -> None:
    found = take_over([under_way(rate=0, seconds=2.5)], MIB, url="b", rate=None, patience=5)
    assert found is not None
    assert found.stop == 15


def test_a_slower_one_takes_less() -> None:
    """The slowest needs 20 s for 10 pieces; who would need longer for them than that takes one."""
    slow = under_way(rate=MIB / 2)
    quicker = take_over([slow], MIB, url="b", rate=4.0 * MIB, patience=5)
    slower = take_over([slow], MIB, url="b", rate=MIB / 4, patience=5)
    assert quicker is not None
    assert slower is not None
    assert (quicker.stop, slower.stop) == (15, 19)


@pytest.mark.parametrize(
    ("rate", "url", "others", "again"),
    [
        (4.0 * MIB, "b", 1, True),
        (4.0 * MIB, "a", 1, False),  # the same source
        (4.0 * MIB, "b", 2, False),  # somebody repeats it already
        (0.05 * MIB, "b", 1, False),  # 20 s for a piece that comes in 10 s
        (None, "b", 1, False),  # unknown: 5 s at worst, twice that and a second is no gain
    ],
)
def test_the_last_piece_is_repeated_by_who_is_surely_quicker(
    rate: float | None, url: str, others: int, again: bool
) -> None:
    last = under_way(left=range(7, 8), rate=0.1 * MIB)
    found = take_over([last] * others, MIB, url=url, rate=rate, patience=5)
    assert (found is not None and found.again) == again
