"""What a registry that mirrors holds and what goes: pure, for any facts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from samara.fetcher.keeping_rules import BUSY, HOT, KeptFact, Wanted, eviction_order, evictions, targets
from samara.fetcher.mirroring import next_try

NOW = 2_000_000_000.0

moments = st.integers(0, int(NOW)).map(float)
wanted_sets = st.lists(
    st.builds(
        Wanted,
        b3=st.integers(0, 40).map(lambda number: f"b3:{number:064x}"),
        size=st.integers(1, 100),
        identity=st.sampled_from(["acme", "umbra", "zeta"]),
        listed_at=moments,
        asked_at=moments,
    ),
    unique_by=lambda blob: blob.b3,
)
fact_sets = st.lists(
    st.builds(
        KeptFact,
        b3=st.integers(0, 40).map(lambda number: f"b3:{number:064x}"),
        bytes=st.integers(0, 100),
        asked_at=moments,
        listed_at=st.none() | moments,
        withdrawn=st.booleans(),
        is_needed=st.booleans(),
    ),
    unique_by=lambda fact: fact.b3,
)


def blob(name: str, size: int, owner: str, *, listed: float = 0.0, asked: float = 0.0) -> Wanted:
    return Wanted(b3=name, size=size, identity=owner, listed_at=listed, asked_at=asked)


def names(blobs: tuple[Wanted, ...]) -> list[str]:
    return [one.b3 for one in blobs]


@given(wanted_sets, st.integers(0, 1000))
def test_what_is_to_be_held_fits_and_is_a_choice_of_what_there_is(blobs: list[Wanted], quota: int) -> None:
    chosen = targets(blobs, quota)
    assert sum(one.size for one in chosen) <= quota
    assert len(set(names(chosen))) == len(chosen)
    assert set(chosen) <= set(blobs)
    room = quota - sum(one.size for one in chosen)
    assert all(one.size > room for one in set(blobs) - set(chosen)), "something small was left out for nothing"


@given(wanted_sets)
def test_without_a_quota_everything_is_held(blobs: list[Wanted]) -> None:
    assert set(targets(blobs, None)) == set(blobs)


@given(wanted_sets, st.integers(0, 1000), st.randoms())
def test_the_order_of_what_is_offered_decides_nothing(blobs: list[Wanted], quota: int, dice: object) -> None:
    again = list(blobs)
    dice.shuffle(again)  # type: ignore[attr-defined]
    assert targets(blobs, quota) == targets(again, quota)


def test_one_that_lists_much_leaves_room_for_others() -> None:
    flood = [blob(f"f{number}", 10, "flood", listed=NOW) for number in range(100)]
    little = [blob("l1", 10, "little", listed=1.0), blob("l2", 10, "little", listed=2.0)]
    shares = Counter(one.identity for one in targets([*flood, *little], 60))
    assert shares == {"flood": 4, "little": 2}


def test_of_one_publisher_the_last_listed_or_asked_for_comes_first_and_of_a_release_the_smallest_file() -> None:
    mine = [
        blob("old", 1, "acme", listed=1.0),
        blob("asked", 1, "acme", listed=0.0, asked=50.0),
        blob("large", 9, "acme", listed=9.0),
        blob("small", 1, "acme", listed=9.0),
    ]
    assert names(targets(mine, None)) == ["asked", "small", "large", "old"]


def test_the_withdrawn_go_first_then_the_unlisted_then_what_nobody_wants() -> None:
    facts = [
        KeptFact(b3="wanted", bytes=1, asked_at=5000.0, listed_at=1.0),
        KeptFact(b3="new", bytes=1, asked_at=0.0, listed_at=6000.0),
        KeptFact(b3="cold", bytes=1, asked_at=2.0, listed_at=1.0),
        KeptFact(b3="unlisted", bytes=1, asked_at=3.0, listed_at=None),
        KeptFact(b3="withdrawn", bytes=1, asked_at=4.0, listed_at=9000.0, withdrawn=True),
    ]
    order = [fact.b3 for fact in eviction_order(facts, now=NOW)]
    assert order == ["withdrawn", "unlisted", "cold", "wanted", "new"]


@given(fact_sets, st.integers(0, 500), st.sets(st.integers(0, 40).map(lambda number: f"b3:{number:064x}")))
def test_nothing_goes_that_is_needed_or_given_and_no_more_than_it_takes(
    facts: list[KeptFact], needed: int, keep: set[str]
) -> None:
    going = evictions(facts, needed, now=NOW, keep=keep)
    may_go = eviction_order(facts, now=NOW, keep=keep)
    if going is None:
        assert sum(fact.bytes for fact in may_go) < needed
        return
    assert sum(fact.bytes for fact in going) >= needed
    assert sum(fact.bytes for fact in going[:-1]) < needed or needed <= 0
    for fact in going:
        assert not fact.is_needed
        assert NOW - fact.asked_at >= BUSY
        assert fact.b3 not in keep or fact.withdrawn or fact.listed_at is None


def test_a_clock_that_was_set_back_protects_nothing_for_ever() -> None:
    fact = KeptFact(b3="x", bytes=5, asked_at=NOW + 10_000, listed_at=1.0)
    assert evictions([fact], 5, now=NOW) == (fact,)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_who_fails_rests_longer_each_time_but_not_for_ever(count: int, draw: float) -> None:
    rest = next_try(count, first=30.0, longest=21_600.0, draw=draw)
    assert 15.0 <= rest <= 1.5 * 21_600.0
    assert next_try(count + 1, first=30.0, longest=21_600.0, draw=draw) >= rest


@given(wanted_sets, st.integers(0, 2000), st.sets(st.integers(0, 40)))
def test_what_readers_asked_for_stays_within_half_the_quota_and_the_whole_stays_within_it(
    blobs: list[Wanted], quota: int, numbers: set[int]
) -> None:
    hot = {f"b3:{number:064x}" for number in numbers}
    chosen = targets(blobs, quota, hot=hot)
    assert sum(blob.size for blob in chosen) <= quota
    assert len({blob.b3 for blob in chosen}) == len(chosen)
    latest = max((blob for blob in blobs if blob.b3 in hot), key=lambda blob: (blob.asked_at, blob.b3), default=None)
    if latest is not None and latest.size <= quota // 2 and sum(b.asked_at == latest.asked_at for b in blobs) == 1:
        assert latest in chosen


def test_what_readers_want_and_what_mirroring_wants_are_not_pulled_in_turns() -> None:
    """A day: readers ask for two blobs of one publisher every hour, three others have one each; room is for four."""
    asked = {name: Wanted(b3=name, size=10, identity="loved", listed_at=NOW - 200) for name in ("a", "b")}
    others = [Wanted(b3=name, size=10, identity=name, listed_at=NOW - 100) for name in ("x", "y", "z")]
    here = {blob.b3 for blob in others}
    asked_at, now, pulls = dict.fromkeys(asked, 0.0), NOW, 0
    for _hour in range(24):
        for name in asked:
            now += 1800
            asked_at[name] = now
            if name not in here:
                facts = [KeptFact(b3=b3, bytes=10, asked_at=asked_at.get(b3, 0.0), listed_at=NOW) for b3 in here]
                going = evictions(facts, 10 * len(here) + 10 - 40, now=now)
                assert going is not None
                here = (here - {fact.b3 for fact in going}) | {name}
                pulls += 1
            now += 1200  # nobody is being given anything any more, and mirroring looks again
            listed = [*(replace(blob, asked_at=asked_at[blob.b3]) for blob in asked.values()), *others]
            hot = {b3 for b3 in here if 0 < now - asked_at.get(b3, 0.0) < HOT}
            aim = {blob.b3 for blob in targets(listed, 40, hot=hot)}
            pulls += len(aim - here)
            here = aim
    assert pulls <= 3, f"{pulls} pulls in a day"


def test_times_of_a_clock_that_was_set_back_put_nothing_beyond_reach() -> None:
    facts = [
        KeptFact(b3="later", bytes=1, asked_at=NOW + 9e6, listed_at=NOW - 5),
        KeptFact(b3="older", bytes=1, asked_at=0.0, listed_at=NOW - 9),
    ]
    assert [fact.b3 for fact in eviction_order(facts, now=NOW)] == ["older", "later"]
