"""Schedules: held against a plain table of every minute of a week."""
# ruff: noqa: DTZ001, DTZ007  (clocks on the wall are what schedules go by)

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samara.schemas.errors import UsageError
from samara.schemas.schedule import EXAMPLE, Schedule, parse_schedule

MONDAY = datetime(2026, 11, 23)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WEEK = 7 * 24 * 60

rates = st.sampled_from(["full", "off", "500k", "2M", "1"])
minutes = st.integers(0, 24 * 60 - 1)
days = st.one_of(st.none(), st.tuples(st.integers(0, 6), st.one_of(st.none(), st.integers(0, 6))))
windows = st.tuples(days, minutes, st.integers(0, 24 * 60), rates).filter(lambda window: window[1] != window[2])
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1))

MEANS = {"full": None, "off": 0, "500k": 500_000, "2M": 2_000_000, "1": 1}


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def written(window: tuple[tuple[int, int | None] | None, int, int, str]) -> str:
    on, start, end, rate = window
    name = "" if on is None else DAYS[on[0]] + ("" if on[1] is None else f"-{DAYS[on[1]]}") + " "
    return f"{name}{clock(start)}-{clock(end)}={rate}"


def table(some: list[tuple[tuple[int, int | None] | None, int, int, str]], rest: str) -> list[int | None]:
    """The rate of each minute of a week, by painting: the last entry first."""
    week = [MEANS[rest]] * WEEK
    for on, start, end, rate in reversed(some):
        if on is None:
            chosen = list(range(7))
        else:
            chosen, last = [on[0]], on[0] if on[1] is None else on[1]
            while chosen[-1] != last:
                chosen.append((chosen[-1] + 1) % 7)
        for day in chosen:
            for minute in range(start, end if end > start else end + 24 * 60):
                week[(day * 24 * 60 + minute) % WEEK] = MEANS[rate]
    return week


@given(st.lists(windows, max_size=4), rates, moments)
def test_every_minute_of_a_week_has_the_rate_of_the_first_entry_that_fits(
    some: list[tuple[tuple[int, int | None] | None, int, int, str]], rest: str, moment: datetime
) -> None:
    expected = table(some, rest)
    text = ",".join([*map(written, some), f"else={rest}"])
    if {rest, *(window[3] for window in some)} == {"full"}:
        with pytest.raises(UsageError, match="never changes anything"):
            parse_schedule(text)
        return
    schedule = parse_schedule(text)
    assert [schedule.rate_at(MONDAY + timedelta(minutes=minute)) for minute in range(0, WEEK, 7)] == expected[::7]
    at = (moment.weekday() * 24 + moment.hour) * 60 + moment.minute
    change = schedule.next_change(moment)
    ahead = next((more for more in range(1, WEEK + 1) if expected[(at + more) % WEEK] != expected[at]), None)
    whole = moment.replace(second=0, microsecond=0)
    assert change == (None if ahead is None else whole + timedelta(minutes=ahead))


def rates_of(text: str, *times: str) -> list[int | None]:
    schedule = parse_schedule(text)
    return [schedule.rate_at(datetime.strptime(f"2026-11-{time}", "%Y-%m-%d %H:%M")) for time in times]


def test_the_example_of_the_help() -> None:
    assert rates_of(
        "22:00-06:00=full,12:00-13:30=500k,else=off",
        *("23 21:59", "23 22:00", "23 23:59", "24 00:00", "24 05:59", "24 06:00", "24 12:00", "24 13:29", "24 13:30"),
    ) == [0, None, None, None, None, 0, 500_000, 500_000, 0]
    assert isinstance(parse_schedule(EXAMPLE), Schedule)


def test_days_are_those_on_which_a_window_begins() -> None:
    # 2026-11-27 is a Friday
    assert rates_of("fri 22:00-06:00=200k,else=off", "27 21:59", "27 22:00", "28 05:59", "28 06:00", "28 22:00") == [
        *(0, 200_000, 200_000, 0, 0)
    ]
    assert rates_of("mon-fri 08:00-18:00=200k", "27 08:00", "28 08:00", "29 08:00", "30 08:00") == [
        *(200_000, None, None, 200_000)
    ]
    assert rates_of("sun-mon 00:00-24:00=1k", "28 23:59", "29 00:00", "30 23:59", "24 00:00") == [
        None,
        1000,
        1000,
        None,
    ]


def test_capitals_and_spaces_do_not_matter() -> None:
    assert parse_schedule(" MON-Fri  8:00 - 18:00 = 1.5MB/s , Else = OFF ") == parse_schedule(
        "mon-fri 08:00-18:00=1500k,else=off"
    )


def test_the_next_change_may_be_days_away_or_never() -> None:
    weekend = parse_schedule("sat-sun 00:00-24:00=full,else=off")
    assert weekend.next_change(datetime(2026, 11, 23, 9, 30, 15)) == datetime(2026, 11, 28)
    assert weekend.next_change(datetime(2026, 11, 28)) == datetime(2026, 11, 30)
    assert parse_schedule("else=2M").next_change(MONDAY) is None
    assert parse_schedule("00:00-12:00=1k,12:00-24:00=1k").next_change(MONDAY) is None
    only_now = parse_schedule("mon 09:00-09:30=1k,else=off")
    assert only_now.next_change(datetime(2026, 11, 23, 9, 30)) == datetime(2026, 11, 30, 9)


def test_summer_time_changes_nothing_but_the_clock() -> None:
    """Where it is used there is no 02:30 on one night in March, and on one in October there are two."""
    winter, summer = (timezone(timedelta(hours=hours)) for hours in (1, 2))
    schedule = parse_schedule("02:00-03:00=1k,else=full")
    for zone in (summer, winter):
        twice = datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=zone is winter)
        assert schedule.rate_at(twice) == 1000
        assert schedule.next_change(twice) == datetime(2026, 10, 25, 3, tzinfo=zone)
    before = datetime(2026, 3, 29, 1, 59, tzinfo=winter)
    after = (before + timedelta(minutes=1)).astimezone(summer)
    assert (schedule.rate_at(before), after.hour, schedule.rate_at(after)) == (None, 3, None)


NO_SCHEDULES = [
    "",
    ",",
    "full",
    "22:00-06:00",
    "22:00-06:00=",
    "22:00-06:00=fast",
    "22:00-06:00=-1",
    "22:00-06:00=0",
    "22:00-06:00=9G",
    "22:00=off",
    "22-06=off",
    "24:00-06:00=off",
    "22:00-24:01=off",
    "22:60-23:00=off",
    "22:00-23:60=off",
    "22:00-22:00=off",
    "day 08:00-18:00=off",
    "mon-day 08:00-18:00=off",
    "mon,tue 08:00-18:00=off",
    "mon- 08:00-18:00=off",
    "else=off,22:00-06:00=full",
    "else=off,else=off",
    "22:00-06:00=off,",
    "22:00-06:00=full",
    "else=full",
    "٢٢:٠٠-٠٦:٠٠=off",
    "22:00-06:00=off," * 1000 + "else=off",
]


@pytest.mark.parametrize("text", NO_SCHEDULES)
def test_what_is_no_schedule_is_a_usage_error_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=EXAMPLE):
        parse_schedule(text)


@given(st.text(st.sampled_from("mon-fri 0123456789:=,elsofk.")))
def test_any_text_is_a_schedule_or_a_usage_error(text: str) -> None:
    try:
        schedule = parse_schedule(text)
    except UsageError:
        return
    assert schedule.rate_at(MONDAY) is None or schedule.rate_at(MONDAY) is not None
