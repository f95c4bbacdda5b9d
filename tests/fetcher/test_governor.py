"""One cap for swarm and mirrors: simulated, with sides that want more or less than they get."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samara.fetcher.governor import BURST, RESERVE, TokenBucket, split_limit

limits = st.integers(2, 2**31 - 1)
used = st.floats(0, 2**32)


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# --- the bucket -----------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    st.integers(1, 10**8),
    st.lists(st.lists(st.integers(1, 1 << 18), min_size=1, max_size=20), min_size=1, max_size=6),
    st.lists(st.floats(0, 5), min_size=6, max_size=6),
)
def test_readers_that_wait_as_told_never_get_more_than_the_cap_together(
    rate: int, readers: list[list[int]], idle: list[float]
) -> None:
    """Each reader takes what it has read and waits; some begin late. Counted over every interval."""
    clock = Clock()
    bucket = TokenBucket(rate, clock=clock)
    turns = [(100.0 + pause, number) for number, pause in zip(range(len(readers)), idle, strict=False)]
    taken: list[tuple[float, int]] = []
    left = [list(sizes) for sizes in readers]
    while turns:
        clock.now, number = min(turns)
        turns.remove((clock.now, number))
        size = left[number].pop(0)
        taken.append((clock.now, size))
        wait = bucket.wait_for(size)
        assert wait >= 0
        if left[number]:
            turns.append((clock.now + wait, number))
    largest, together = 1 << 18, len(readers)
    for first, (begin, _) in enumerate(taken):
        came = 0
        for moment, size in taken[first:]:
            came += size
            # what is under way when an interval begins or ends was read before it was counted: once for each reader
            assert came <= rate * (moment - begin + BURST) * (1 + 1e-9) + together * largest


@given(st.integers(1, 10**8), st.lists(st.integers(1, 1 << 18), min_size=1, max_size=30))
def test_a_lone_reader_gets_all_of_the_cap(rate: int, sizes: list[int]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock=clock)
    for size in sizes:
        clock.now += bucket.wait_for(size)
    assert clock.now - 100.0 == pytest.approx(sum(sizes) / rate)


def test_after_a_pause_only_a_little_comes_at_once() -> None:
    clock = Clock()
    bucket = TokenBucket(1000, clock=clock)
    clock.now += 3600
    assert bucket.wait_for(int(1000 * BURST)) == 0
    assert bucket.wait_for(100) == pytest.approx(0.1)


def test_no_cap_is_no_wait_and_nothing_is_owed_when_there_is_one_again() -> None:
    clock = Clock()
    bucket = TokenBucket(0, clock=clock)
    assert bucket.wait_for(10**12) == 0
    bucket.set_rate(1000)
    assert bucket.wait_for(1000) == pytest.approx(1.0)
    bucket.set_rate(0)
    assert bucket.wait_for(10**12) == 0
    bucket.set_rate(1000)
    assert bucket.wait_for(10**6) == pytest.approx(1000.0)
    bucket.set_rate(0)
    bucket.set_rate(1000)
    assert bucket.wait_for(0) == 0


def test_a_new_cap_is_for_those_who_wait_already_too() -> None:
    clock = Clock()
    bucket = TokenBucket(1000, clock=clock)
    assert bucket.wait_for(100_000) == pytest.approx(100.0)
    clock.now += 1
    bucket.set_rate(99_000)
    assert bucket.wait_for(0) == pytest.approx(1.0)


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=30))
def test_changing_the_cap_every_second_forgives_nothing(rates: list[int]) -> None:
    """As the division between swarm and mirrors does it; the reader asks anew how long to wait."""
    clock = Clock()
    bucket = TokenBucket(rates[0], clock=clock)
    came = allowed = 0.0
    for rate in rates:
        bucket.set_rate(rate)
        if bucket.wait_for(0) == 0:
            bucket.wait_for(50_000)
            came += 50_000
        clock.now += 1
        allowed += rate
    assert came <= allowed + 50_000 + max(rates) * BURST


def test_a_clock_that_stands_still_or_goes_back_gives_nothing_away() -> None:
    bucket = TokenBucket(1000, clock=Clock())
    assert bucket.take(1000, 50.0) == pytest.approx(1.0)
    assert bucket.take(1000, 10.0) == pytest.approx(2.0)
    assert bucket.take(0, 101.0) == pytest.approx(1.0)


def test_threads_lose_no_byte_of_the_count() -> None:
    clock = Clock()
    bucket = TokenBucket(1, clock=clock)

    def take() -> None:
        for _ in range(1000):
            bucket.wait_for(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert bucket.wait_for(0) == pytest.approx(8000)


# --- the division ---------------------------------------------------------------------------------------------------


@given(st.one_of(st.integers(-5, 50), st.integers(-5, 2**31 - 1)), used, used)
def test_together_it_is_the_cap_and_no_side_is_without_one(limit: int, swarm: float, http: float) -> None:
    caps = split_limit(limit, swarm, http)
    assert sum(caps) == max(2, limit)
    assert min(caps) >= 1  # 0 would mean: as much as comes


@given(st.integers(1000, 2**31 - 1), used, used)
def test_a_side_that_has_work_gets_its_tenth_whatever_the_other_takes(limit: int, swarm: float, http: float) -> None:
    for share, cap in zip((swarm, http), split_limit(limit, swarm, http), strict=True):
        if share >= limit / 100:
            assert cap >= limit * RESERVE - 1


def play(limit: int, wants: tuple[float, float], rounds: int, begin: tuple[float, float] = (0.0, 0.0)) -> list[float]:
    """Both sides use what they want, or what they may: how much of the cap each used in the end."""
    share = begin
    for _ in range(rounds):
        caps = split_limit(limit, *share)
        share = (min(wants[0], caps[0]), min(wants[1], caps[1]))
    return [one / limit for one in share]


fractions = st.floats(0, 1)


@given(st.integers(10_000, 2**31 - 1), fractions, fractions, fractions)
def test_what_one_side_cannot_use_is_the_others_after_a_few_rounds(
    limit: int, wanted: float, begin: float, rest: float
) -> None:
    start = (begin * limit, (1 - begin) * rest * limit)
    for wants in ((wanted * limit, 2.0 * limit), (2.0 * limit, wanted * limit)):
        together = sum(play(limit, wants, 8, begin=start))
        assert together >= 0.9  # the tenth that a side with little work doesn't use, at worst


@given(st.integers(10_000, 2**31 - 1))
def test_a_side_with_nothing_to_do_costs_the_other_almost_nothing(limit: int) -> None:
    for wants in ((0.0, 2.0 * limit), (2.0 * limit, 0.0)):
        assert max(play(limit, wants, 8)) >= 0.97


@given(st.integers(10_000, 2**31 - 1), fractions)
def test_two_that_want_everything_both_get_their_share_soon_and_the_same_in_the_end(limit: int, begin: float) -> None:
    wants, start = (2.0 * limit, 2.0 * limit), (begin * limit, (1 - begin) * limit)
    assert min(play(limit, wants, 3, begin=start)) >= RESERVE * 0.99
    assert play(limit, wants, 100, begin=start) == pytest.approx([0.5, 0.5], abs=0.01)


@given(st.integers(10_000, 2**31 - 1), st.floats(0.3, 1.0))
def test_work_that_begins_anew_is_noticed(limit: int, wanted: float) -> None:
    alone = play(limit, (0.0, 2.0 * limit), 20)
    again = play(limit, (wanted * limit, 2.0 * limit), 40, begin=(alone[0] * limit, alone[1] * limit))
    assert again[0] >= 0.25
