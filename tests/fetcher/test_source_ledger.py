"""How many bytes came from peers and from mirrors, over several rounds of one transfer."""

from __future__ import annotations

from samara.fetcher.sources import SourceLedger


def split(ledger: SourceLedger) -> tuple[int, int, int]:
    return ledger.from_peers, ledger.from_mirrors, ledger.downloaded


def test_nothing_yet() -> None:
    assert split(SourceLedger()) == (0, 0, 0)


def test_counters_are_taken_as_they_stand() -> None:
    ledger = SourceLedger()
    ledger.sample(peers=10, mirrors=20)
    ledger.sample(peers=15, mirrors=40)
    assert split(ledger) == (15, 40, 55)


def test_the_swarm_counts_each_round_from_nothing_and_mirrors_go_on() -> None:
    ledger = SourceLedger()
    ledger.sample(peers=100, mirrors=5)
    ledger.new_round()
    assert split(ledger) == (100, 5, 105)
    ledger.sample(peers=7, mirrors=6)
    ledger.new_round()
    assert split(ledger) == (107, 6, 113)
