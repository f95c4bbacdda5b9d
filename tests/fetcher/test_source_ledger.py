"""Who gave how many bytes, from samples of connections that come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from samara.fetcher.sources import SourceLedger
from samara.seeder.swarm_events import SourceBytes


def peer(name: str, downloaded: int) -> SourceBytes:
    return SourceBytes(source=name, is_mirror=False, downloaded=downloaded)


def mirror(name: str, downloaded: int) -> SourceBytes:
    return SourceBytes(source=name, is_mirror=True, downloaded=downloaded)


def split(ledger: SourceLedger) -> tuple[int, int]:
    return ledger.from_peers, ledger.from_mirrors


def test_nothing_yet() -> None:
    assert split(SourceLedger()) == (0, 0)


def test_connections_are_counted_apart() -> None:
    ledger = SourceLedger()
    ledger.sample(30, [peer("a", 10), mirror("m", 20)])
    ledger.sample(60, [peer("a", 20), mirror("m", 40)])
    assert split(ledger) == (20, 40)


def test_what_a_connection_gave_before_it_closed_is_kept() -> None:
    ledger = SourceLedger()
    ledger.sample(50, [peer("a", 40), mirror("m", 10)])
    ledger.sample(60, [mirror("m", 20)])
    assert split(ledger) == (40, 20)


def test_a_connection_made_anew_counts_from_nothing() -> None:
    ledger = SourceLedger()
    ledger.sample(40, [peer("a", 40)])
    ledger.sample(45, [peer("a", 5)])
    assert split(ledger) == (45, 0)


def test_bytes_between_two_samples_go_where_the_others_came_from() -> None:
    ledger = SourceLedger()
    ledger.sample(40, [peer("a", 30), mirror("m", 10)])
    ledger.sample(80, [])
    assert split(ledger) == (60, 20)


def test_bytes_of_nobody_seen_came_from_peers() -> None:
    ledger = SourceLedger()
    ledger.sample(100, [])
    assert split(ledger) == (100, 0)


def test_rounds_add_up() -> None:
    ledger = SourceLedger()
    ledger.sample(100, [peer("a", 100)])
    ledger.new_round()
    ledger.sample(7, [peer("a", 7)])
    ledger.new_round()
    assert ledger.downloaded == 107
    assert split(ledger) == (107, 0)


CONNECTION = st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 1000))


@given(st.lists(st.lists(CONNECTION, max_size=4, unique_by=lambda row: row[:2]), max_size=10))
def test_the_split_is_always_the_whole(samples: list[list[tuple[str, bool, int]]]) -> None:
    ledger = SourceLedger()
    total = 0
    for rows in samples:
        total += sum(row[2] for row in rows)
        ledger.sample(total, [SourceBytes(source=s, is_mirror=m, downloaded=d) for s, m, d in rows])
        assert ledger.from_peers + ledger.from_mirrors == ledger.downloaded == total
        assert ledger.from_peers >= 0
        assert ledger.from_mirrors >= 0
