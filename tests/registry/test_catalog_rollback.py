"""Old, frozen, mixed and fast-forwarded catalogs, and clocks that are wrong (TUF §1.5.2). The rules are the library's;
what is tested is that nothing gets around them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from catalog_kit import DAY, MONTH, Edition, Lying, Machine, machine, raw_entry, renewed
from trust_kit import NOW, Line, line_of

from samara.registry.trust.catalogs import ONLINE_LIFETIME
from samara.registry.trust.library import Metadata, MetaFile, Timestamp
from samara.registry.trust.updater import ExpiredCatalogError, RolledBackError
from samara.schemas.errors import MalformedError, NotFoundError, TrustError


@pytest.fixture
def line() -> Line:
    return line_of(3)


@pytest.fixture
def acme(tmp_path: Path, line: Line) -> Machine:
    return machine(tmp_path, line)


@pytest.fixture
def third(line: Line, acme: Machine) -> Edition:
    """Version 3 of everything, known to this machine."""
    edition = Edition(line=line, timestamp=3, snapshot=3, targets=3)
    acme.accept(edition.at())
    return edition


# -- rollback ----------------------------------------------------------------------------------------------------------


def test_the_first_catalog_is_taken_and_the_next_one_too(acme: Machine, line: Line) -> None:
    first = Edition(line=line)
    state = acme.accept(first.at())
    assert (state.catalog.versions["timestamp"], state.stale) == (1, ())
    entry = state.catalog.find("tiny", "q8_0")
    assert entry is not None
    assert entry.version == 1
    acme.accept(first.next(entries={"tiny/q8_0": raw_entry(b"tiny 2", version=2)}).at())
    known = acme.client.stored()
    assert known is not None
    assert known.catalog.versions == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}


def test_an_older_timestamp_is_refused(acme: Machine, third: Edition) -> None:
    with pytest.raises(RolledBackError, match="older"):
        acme.check(replace(third, timestamp=2).at())
    assert acme.version == 3


def test_a_new_timestamp_with_an_older_snapshot_is_refused(acme: Machine, third: Edition) -> None:
    with pytest.raises(RolledBackError, match="snapshot"):
        acme.check(replace(third, timestamp=4, snapshot=2).at())
    assert acme.version == 3


def test_a_new_snapshot_with_older_targets_is_refused(acme: Machine, third: Edition) -> None:
    with pytest.raises(RolledBackError, match="targets"):
        acme.check(replace(third, timestamp=4, snapshot=4, targets=2).at())
    assert acme.version == 3


def test_roots_are_not_unlearnt(acme: Machine, line: Line) -> None:
    """A source that knows only root 1, of whom root 2 was seen: its keys are retired."""
    acme.accept(Edition(line=line, root=2).at())
    with pytest.raises(TrustError, match="not signed by enough"):
        acme.check(Edition(line=line, root=1, timestamp=9, snapshot=9, targets=9).at())


def test_a_root_once_proven_counts_even_if_nothing_else_came_with_it(acme: Machine, line: Line) -> None:
    """The mirror has root 2, and no catalog at the moment: the stolen key of root 1 is worth nothing from now on."""
    acme.accept(Edition(line=line).at())
    with pytest.raises(NotFoundError):
        acme.check(Edition(line=line, root=2).at().but(timestamp_json=None))
    with pytest.raises(TrustError, match="not signed by enough"):
        acme.check(Edition(line=line, timestamp=2, snapshot=2, targets=2).at("the thief"))


# -- mix and match -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_parts_of_two_versions_are_not_mixed(acme: Machine, third: Edition, role: str) -> None:
    """Each is signed, and called what the newer one is called; together they were never published."""
    fourth = third.next(entries={"tiny/q8_0": raw_entry(b"tiny 4", version=4)}).at()
    old = third.at().files[f"3.{role}.json"]
    with pytest.raises(TrustError, match=r"not what was signed|older or mixed-up|more than was signed"):
        acme.check(Lying({**fourth.files, f"4.{role}.json": old}))
    assert acme.version == 3


def test_an_old_snapshot_under_a_timestamp_without_digests_is_still_noticed(acme: Machine, third: Edition) -> None:
    """The timestamp names no digest (TUF allows that): the version says it."""
    fourth = third.next()
    stamp: Metadata[Timestamp] = Metadata.from_bytes(fourth.bundle.timestamp)
    stamp.signed.snapshot_meta = MetaFile(version=4)
    stamp.sign(third.line.online_keys[0].signer())
    crooked = fourth.at().but(timestamp_json=stamp.to_bytes(), _4_snapshot_json=third.bundle.snapshot)
    with pytest.raises(RolledBackError, match="snapshot"):
        acme.check(crooked)


# -- freeze ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_what_has_expired_is_not_current(acme: Machine, line: Line, role: str) -> None:
    later = NOW + (400 * DAY if role == "root" else 2 * DAY)
    edition = Edition(line=line, signed=later - DAY, expires={} if role == "root" else {role: NOW + DAY})
    with pytest.raises(ExpiredCatalogError, match="expired") as caught:
        acme.accept(edition.at(), now=later)
    assert "--allow-stale" in str(caught.value)
    assert acme.version == 0


def test_a_stale_catalog_is_taken_knowingly_and_that_is_written_down(acme: Machine, third: Edition) -> None:
    later = NOW + MONTH + DAY
    with pytest.raises(ExpiredCatalogError):
        acme.accept(third.next(signed=NOW).at("the share"), now=later)
    state = acme.accept(third.next(signed=NOW).at("the share"), now=later, allow_stale=True)
    assert set(state.stale) == {"timestamp", "snapshot"}
    (accepted,) = acme.client.seen().accepted
    assert (accepted.source, accepted.timestamp_version) == ("the share", 4)
    assert set(accepted.roles) == {"timestamp", "snapshot"}
    assert accepted.at == f"{later:%Y-%m-%dT%H:%M:%SZ}"
    with pytest.raises(RolledBackError):  # knowingly stale is not knowingly older
        acme.accept(third.at(), now=later, allow_stale=True)


def test_the_catalog_of_last_time_expires_too(acme: Machine, third: Edition) -> None:
    """The same bytes again, from a mirror that stands still."""
    acme.accept(third.at(), now=NOW + MONTH - DAY)
    with pytest.raises(ExpiredCatalogError):
        acme.accept(third.at(), now=NOW + MONTH)


# -- fast-forward ------------------------------------------------------------------------------------------------------


def test_after_a_fast_forward_new_keys_begin_to_count_anew(acme: Machine, line: Line, third: Edition) -> None:
    """A thief of the online key signed version 2^40; the publisher rotates the key and goes on from its own number."""
    far = 2**40
    acme.accept(replace(third, timestamp=far, snapshot=far, targets=far).at("the thief"))
    with pytest.raises(RolledBackError):
        acme.accept(third.next().at())
    rotated = third.next(root=2)
    acme.accept(rotated.at())
    assert acme.version == 4
    with pytest.raises(TrustError):
        acme.accept(replace(third, timestamp=far + 1, snapshot=far + 1, targets=far + 1).at("the thief"))
    acme.accept(rotated.next().at())
    with pytest.raises(RolledBackError):  # and from then on nothing goes backwards again
        acme.accept(rotated.at())


def test_a_renewed_root_with_the_same_keys_excuses_no_rollback(tmp_path: Path) -> None:
    line = renewed(line_of(1))
    acme = machine(tmp_path, line)
    acme.accept(Edition(line=line, timestamp=5, snapshot=5, targets=5).at())
    with pytest.raises(RolledBackError):
        acme.accept(Edition(line=line, root=2, timestamp=4, snapshot=4, targets=4).at())


def test_versions_that_nobody_counts_to_are_malformed(acme: Machine, line: Line) -> None:
    with pytest.raises(MalformedError, match="version"):
        acme.check(Edition(line=line, timestamp=10**4000).at())


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_a_clock_set_back_brings_nothing_expired_to_life(acme: Machine, third: Edition) -> None:
    """Version 4 was good for a day; then the clock showed ten days later; now it shows an hour after it was signed."""
    acme.accept(third.at(), now=NOW + 10 * DAY)
    short = third.next(expires={"timestamp": NOW + DAY})
    with pytest.raises(ExpiredCatalogError):
        acme.accept(short.at(), now=NOW + DAY / 24)


def test_a_clock_that_ran_ahead_locks_nobody_out(acme: Machine, third: Edition) -> None:
    """It showed 29 days too much for a moment. What the publisher signs next, on time, is current all the same."""
    acme.accept(third.at(), now=NOW + MONTH - DAY)
    refreshed = third.next(signed=NOW + DAY)
    acme.accept(refreshed.at(), now=NOW + 2 * DAY)
    assert acme.version == 4
    # a seeder signs anew at half-life: as old as a catalog may get that somebody looks after
    aged = refreshed.next(signed=NOW + 2 * DAY)
    acme.accept(aged.at(), now=NOW + 2 * DAY + ONLINE_LIFETIME / 2)


def test_a_clock_years_ahead_moves_no_floor_even_if_its_catalog_is_taken(acme: Machine, third: Edition) -> None:
    before = acme.client.seen().floor
    acme.accept(third.at(), now=NOW + 4000 * DAY, allow_stale=True)
    assert acme.client.seen().floor == before
    acme.accept(third.next().at(), now=NOW + DAY)


def test_a_catalog_that_lasts_for_ever_moves_the_floor_no_further_than_the_clock(acme: Machine, third: Edition) -> None:
    for_ever = third.next(expires={"timestamp": NOW + 4000 * DAY, "snapshot": NOW + 4000 * DAY})
    acme.accept(for_ever.at(), now=NOW + DAY)
    assert acme.client.seen().floor <= NOW + DAY
