"""Speed and time left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from samara.schemas.rates import RateMeter


def test_a_first_point_says_nothing() -> None:
    assert RateMeter(total=100).at(10, 5.0) == (0.0, None)


def test_a_steady_flow() -> None:
    meter = RateMeter(total=1000)
    for second in range(10):
        meter.at(100 * second, float(second))
    assert meter.at(1000, 10.0) == (100.0, 0.0)


def test_a_stall_shows_within_the_window() -> None:
    meter = RateMeter(total=1000)
    meter.at(0, 0.0)
    meter.at(500, 1.0)
    for second in range(2, 9):
        rate, left = meter.at(500, float(second))
    assert rate == 0.0
    assert left is None


def test_what_was_there_at_the_start_is_no_speed() -> None:
    meter = RateMeter(total=1000)
    meter.at(900, 0.0)
    rate, left = meter.at(910, 1.0)
    assert (rate, left) == (10.0, 9.0)


def test_bytes_taken_back_are_no_time_left() -> None:
    meter = RateMeter(total=1000)
    meter.at(500, 0.0)
    rate, left = meter.at(400, 1.0)
    assert rate <= 0
    assert left is None


@given(st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 10)), min_size=1, max_size=50))
def test_never_fails_and_never_looks_back(points: list[tuple[int, float]]) -> None:
    meter = RateMeter(total=10**12)
    now = 0.0
    for done, step in points:
        now += step
        rate, left = meter.at(done, now)
        assert left is None or (rate > 0 and left >= 0)
