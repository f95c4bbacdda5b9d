"""What a registry that mirrors holds and what goes: pure, for any facts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from samara.fetcher.keeping_rules import BUSY, KeptFact, Wanted, eviction_order, evictions, targets
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
