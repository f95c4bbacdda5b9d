"""Scores of sources: what facts do to them, whatever the order they come in."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samara.fetcher.scores import FIRST_WAIT, GONE_FOR, LONGEST_WAIT, MEMORY, MOST_OBEYED, Score, order
from samara.registry.http import HttpFailure

NOW = 1000.0
PASSING = (HttpFailure.NAME, HttpFailure.CONNECT, HttpFailure.STALLED, HttpFailure.BROKEN, HttpFailure.PROXY)
lots = st.floats(0, 1)
waits = st.one_of(st.none(), st.floats(0, 10**6))
spans = st.tuples(st.integers(1, 10**9), st.floats(0.001, 1000))


def failed_often(times: int, kind: HttpFailure = HttpFailure.CONNECT, lot: float = 1.0) -> Score:
    score = Score()
    for _ in range(times):
        score = score.failed(kind, NOW, lot)
    return score


# --- waits ----------------------------------------------------------------------------------------------------------


def test_a_new_source_may_be_asked_and_nothing_is_known_of_it() -> None:
    assert Score().usable_at(-1e9)
    assert Score().rate is None


def test_each_failure_in_a_row_doubles_the_bound_of_the_wait_up_to_a_minute() -> None:
    bounds = [failed_often(times).until - NOW for times in range(1, 12)]
    assert bounds == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


@given(st.integers(1, 5000), lots, st.sampled_from(PASSING))
def test_the_wait_is_drawn_from_all_of_the_bound(times: int, lot: float, kind: HttpFailure) -> None:
    score = replace(Score(), failures=times - 1).failed(kind, NOW, lot)
    bound = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(times - 1, 100))
    assert score.until == pytest.approx(NOW + lot * bound)
    assert score.usable_at(score.until)
    assert not score.usable_at(math.nextafter(score.until, -math.inf))
    assert score.failures == times


def test_a_crowd_that_failed_together_does_not_come_back_together() -> None:
    dice = random.Random(4)
    moments = sorted(failed_often(9, lot=dice.random()).until - NOW for _ in range(1000))
    fullest = max(sum(second <= moment < second + 1 for moment in moments) for second in range(60))
    assert fullest < 40  # of a thousand, in any one second of the minute


@given(lots, st.floats(0, 10**6), st.integers(0, 20), st.sampled_from([429, 503]))
def test_what_a_source_asks_for_wins_when_it_is_longer_within_reason(
    lot: float, seconds: float, before: int, status: int
) -> None:
    plain = replace(Score(), failures=before).failed(HttpFailure.STATUS, NOW, lot, status=status)
    asked = replace(Score(), failures=before).failed(HttpFailure.STATUS, NOW, lot, status=status, retry_after=seconds)
    assert asked.until == max(plain.until, NOW + min(seconds, MOST_OBEYED))


def test_success_begins_the_doubling_anew_but_does_not_shorten_a_wait_that_was_asked_for() -> None:
    score = failed_often(7).failed(HttpFailure.STATUS, NOW, 0.0, status=503, retry_after=100.0)
    happy = score.delivered(1000, 1.0)
    assert happy.failures == 0
    assert happy.until == NOW + 100
    assert happy.failed(HttpFailure.BROKEN, NOW + 200, 1.0).until == NOW + 200 + FIRST_WAIT


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410, 416, 451, 300, 204, 501])
def test_what_is_not_there_or_not_for_us_is_asked_again_only_after_a_long_time(status: int) -> None:
    score = Score().failed(HttpFailure.STATUS, NOW, 0.0, status=status)
    assert not score.usable_at(NOW + GONE_FOR - 1)
    assert score.usable_at(NOW + GONE_FOR)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 599])
def test_what_passes_is_asked_again_soon(status: int) -> None:
    assert Score().failed(HttpFailure.STATUS, NOW, 1.0, status=status).usable_at(NOW + FIRST_WAIT)


@pytest.mark.parametrize("kind", [HttpFailure.TLS, HttpFailure.POLICY])
def test_what_will_not_pass_is_never_asked_again(kind: HttpFailure) -> None:
    assert not Score().failed(kind, NOW, 0.0).usable_at(1e18)


@pytest.mark.parametrize(("kind", "status"), [(HttpFailure.REDIRECT, None), (HttpFailure.PROXY, 407)])
def test_what_somebody_must_mend_first_is_asked_again_only_after_a_long_time(
    kind: HttpFailure, status: int | None
) -> None:
    score = Score().failed(kind, NOW, 0.0, status=status)
    assert not score.usable_at(NOW + GONE_FOR - 1)
    assert score.usable_at(NOW + GONE_FOR)


# --- bans -----------------------------------------------------------------------------------------------------------

facts = st.one_of(
    spans.map(lambda span: lambda score: score.delivered(*span)),
    st.builds(
        lambda kind, lot, status, wait: lambda score: score.failed(kind, NOW, lot, status=status, retry_after=wait),
        st.sampled_from(list(HttpFailure)),
        lots,
        st.one_of(st.none(), st.integers(100, 999)),
        waits,
    ),
)


@given(st.lists(facts, max_size=8), st.lists(facts, max_size=8))
def test_a_liar_is_not_asked_again_whatever_else_it_does(before: list[object], after: list[object]) -> None:
    score = Score()
    for fact in before:
        score = fact(score)  # type: ignore[operator]
    score = score.banned("block 7: expected b3:ab…, got b3:cd…")
    for fact in after:
        score = fact(score)  # type: ignore[operator]
    score = score.banned("something later")
    assert score.is_banned
    assert not score.usable_at(math.inf)
    assert score.evidence == "block 7: expected b3:ab…, got b3:cd…"


@given(st.lists(facts, max_size=20))
def test_no_fact_ever_shortens_a_wait(some: list[object]) -> None:
    score = Score()
    for fact in some:
        then, score = score, fact(score)  # type: ignore[operator]
        assert score.until >= then.until
        assert score.rate is None or score.rate > 0


# --- rates ----------------------------------------------------------------------------------------------------------


@given(spans)
def test_the_first_span_is_the_rate(span: tuple[int, float]) -> None:
    size, seconds = span
    assert Score().delivered(size, seconds).rate == pytest.approx(size / seconds)


@given(st.lists(spans, min_size=1, max_size=20))
def test_a_rate_is_between_the_slowest_and_the_fastest(some: list[tuple[int, float]]) -> None:
    score = Score()
    for size, seconds in some:
        score = score.delivered(size, seconds)
    rates = [size / seconds for size, seconds in some]
    assert score.rate is not None
    assert min(rates) * (1 - 1e-9) <= score.rate <= max(rates) * (1 + 1e-9)


@given(st.floats(1, 1e9), st.floats(1, 1e9), st.integers(1, 50))
def test_the_same_in_small_spans_or_in_one_gives_the_same_rate(old: float, new: float, parts: int) -> None:
    """Or a source would be judged by how its work was cut."""
    before = Score().delivered(round(old * 10), 10.0)
    cut = before
    for _ in range(parts):
        cut = cut.delivered(max(1, round(new * MEMORY / parts)), MEMORY / parts)
    assert cut.rate is not None
    whole = before.delivered(round(new * MEMORY), MEMORY)
    assert whole.rate is not None
    low, high = sorted((old, new))
    for rate in (cut.rate, whole.rate):
        assert low - 60 <= rate <= high + 60
        # the new rate counts for most of it, however it came, and the old one is not forgotten
        assert abs(old - new) * 0.1 - 60 <= abs(rate - new) <= abs(old - new) * 0.5 + 60


def test_a_small_lucky_span_does_not_make_a_slow_source_fast() -> None:
    slow = Score().delivered(1_000_000, 10.0)
    assert slow.delivered(100_000, 0.001).rate == pytest.approx(110_000, rel=0.01)


# --- order ----------------------------------------------------------------------------------------------------------

scores = st.builds(
    lambda some: _after(some),
    st.lists(facts, max_size=6),
)


def _after(some: list[object]) -> Score:
    score = Score()
    for fact in some:
        score = fact(score)  # type: ignore[operator]
    return score


@given(st.lists(scores, max_size=8), st.floats(0, 3000))
def test_exactly_those_that_may_be_asked_are_in_order(some: list[Score], now: float) -> None:
    known = dict(enumerate(some))
    ordered = order(known, now)
    assert sorted(ordered) == [name for name, score in known.items() if score.usable_at(now)]


def test_the_unknown_get_their_try_then_the_fast_then_those_that_only_fail() -> None:
    fast, slow = Score().delivered(10_000, 1.0), Score().delivered(1_000, 1.0)
    shaky = fast
    for _ in range(4):
        shaky = shaky.failed(HttpFailure.BROKEN, 0.0, 0.0)
    known = {
        "hopeless": failed_often(5, lot=0.0),
        "failed": failed_often(1, lot=0.0),
        "shaky": shaky,
        "slow": slow,
        "fast": fast,
        "new": Score(),
        "also new": Score(),
        "banned": fast.banned("it lied"),
        "waiting": Score().failed(HttpFailure.STATUS, NOW, 0.0, status=503, retry_after=5.0),
    }
    assert order(known, NOW) == ["new", "also new", "fast", "slow", "shaky", "failed", "hopeless"]


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_in_a_pull_every_source_is_tried_and_then_the_fastest_is_asked(rates: list[int], dice: random.Random) -> None:
    """A simulation: always ask the first in order; after as many turns as there are sources, all are known."""
    known = {rate: Score() for rate in dice.sample(rates, len(rates))}
    for turn in range(3 * len(rates)):
        chosen = order(known, float(turn))[0]
        if turn >= len(rates):
            assert chosen == max(rates)
        known[chosen] = known[chosen].delivered(chosen, 1.0)
