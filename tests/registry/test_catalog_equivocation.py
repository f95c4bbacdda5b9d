"""One version with two contents, both signed by the publisher's key: never believed, always kept as proof."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from catalog_kit import DAY, MONTH, Edition, Lying, Machine, evidence, machine, raw_entry
from trust_kit import NOW, Line, line_of

from samara.fetcher.catalogs import Asking, current_catalog
from samara.registry.trust.catalog_client import EquivocationError
from samara.registry.trust.catalogs import signed_digest
from samara.registry.trust.keys import new_key
from samara.registry.trust.known import KnownCatalogs
from samara.registry.trust.updater import RolledBackError
from samara.schemas.errors import MalformedError, TrustError


@pytest.fixture
def line() -> Line:
    return line_of(2)


@pytest.fixture
def acme(tmp_path: Path, line: Line) -> Machine:
    return machine(tmp_path / "home", line)


@pytest.fixture
def told(line: Line, acme: Machine) -> Edition:
    """Version 5, as this machine was told it."""
    edition = Edition(line=line, timestamp=5, snapshot=5, targets=5)
    acme.accept(edition.at("the registry"))
    return edition


def twin(edition: Edition) -> Edition:
    """The same version, saying something else."""
    return replace(edition, entries={"tiny/q8_0": raw_entry(b"a trojan")})


def both(*editions: Edition) -> set[tuple[int, str]]:
    return {signed_digest(edition.bundle.timestamp) for edition in editions}


def test_the_same_version_with_other_bytes_is_an_error_that_keeps_both(acme: Machine, told: Edition) -> None:
    with pytest.raises(EquivocationError, match="two different catalogs as version 5") as caught:
        acme.accept(twin(told).at("the mirror"))
    assert "the mirror" in str(caught.value)
    assert str(acme.folder / "equivocation") in str(caught.value)
    assert evidence(acme) == both(told, twin(told))
    known = acme.client.stored()
    assert known is not None
    assert known.bundle == told.bundle


def test_it_is_still_an_error_when_the_twin_has_expired(acme: Machine, told: Edition) -> None:
    stale = replace(twin(told), expires={"timestamp": NOW + DAY})
    for allow_stale in (False, True):
        with pytest.raises(EquivocationError):
            acme.check(stale.at(), now=NOW + 2 * DAY, allow_stale=allow_stale)
    assert evidence(acme) == both(told, stale)


def test_it_is_noticed_versions_later(acme: Machine, told: Edition) -> None:
    acme.accept(told.next().at())
    with pytest.raises(EquivocationError, match="version 5"):
        acme.check(twin(told).at())
    assert both(twin(told)) <= evidence(acme)


@pytest.mark.parametrize("lost", ["metadata", "seen.json"])
def test_it_is_noticed_from_either_file(acme: Machine, told: Edition, lost: str) -> None:
    (acme.folder / lost).write_bytes(b"")
    with pytest.raises(EquivocationError):
        acme.accept(twin(told).at())
    assert both(twin(told)) <= evidence(acme)


def test_a_quicker_process_that_was_told_the_other_half_notices(acme: Machine, line: Line) -> None:
    """Two pulls at once ask two sources: both check against the same past, one commits first."""
    first = Edition(line=line)
    slow = acme.check(first.at("the registry"))
    quick = acme.check(twin(first).at("the mirror"))
    acme.client.commit(quick, now=NOW, source="the mirror")
    with pytest.raises(EquivocationError):
        acme.client.commit(slow, now=NOW, source="the registry")
    known = acme.client.stored()
    assert known is not None
    assert known.bundle == twin(first).bundle
    assert evidence(acme) == both(first, twin(first))


def test_the_slower_of_two_processes_takes_nothing_back(acme: Machine, line: Line) -> None:
    first = Edition(line=line)
    slow = acme.check(first.at())
    quick = acme.check(first.next().at())
    acme.client.commit(quick, now=NOW, source="a mirror")
    acme.client.commit(slow, now=NOW, source="a mirror")
    assert acme.version == 2
    assert acme.client.seen().versions["timestamp"] == 2


# -- what is none ------------------------------------------------------------------------------------------------------


def test_an_unsigned_twin_is_not_the_publishers_doing(acme: Machine, told: Edition) -> None:
    """Anybody can write one: were it called equivocation, any mirror could make a publisher look like a liar."""
    for signers in ([], [new_key()]):
        forged = replace(twin(told), signers={"timestamp": signers})
        with pytest.raises(TrustError) as caught:
            acme.check(forged.at())
        assert not isinstance(caught.value, EquivocationError)
    stolen = json.loads(twin(told).bundle.timestamp)
    stolen["signatures"] = json.loads(told.bundle.timestamp)["signatures"]
    with pytest.raises(TrustError) as caught:
        acme.check(twin(told).at().but(timestamp_json=json.dumps(stolen).encode()))
    assert not isinstance(caught.value, EquivocationError)
    assert evidence(acme) == set()


def test_an_older_unsigned_twin_is_none_either(acme: Machine, told: Edition) -> None:
    acme.accept(told.next().at())
    with pytest.raises(TrustError) as caught:
        acme.check(replace(twin(told), signers={"timestamp": []}).at())
    assert not isinstance(caught.value, EquivocationError)
    assert evidence(acme) == set()


def test_junk_around_the_same_signed_part_is_no_twin(acme: Machine, told: Edition) -> None:
    """Signatures by nobody, another spelling, white space: whoever carries it can add those."""
    value = json.loads(told.bundle.timestamp)
    value["signatures"].append({"keyid": "ab" * 32, "sig": "00" * 64})
    value["x"] = "y"
    spelt = json.dumps(value, indent=3, sort_keys=False).encode() + b"\n\n"
    assert spelt != told.bundle.timestamp
    state = acme.accept(told.at().but(timestamp_json=spelt))
    assert state.catalog.versions["timestamp"] == 5
    acme.accept(told.next().at())
    with pytest.raises(RolledBackError):
        acme.check(told.at().but(timestamp_json=spelt))
    assert evidence(acme) == set()


def test_after_a_rotation_of_keys_numbers_may_come_again(acme: Machine, told: Edition) -> None:
    acme.accept(replace(twin(told), root=2).at())
    assert evidence(acme) == set()


def test_a_damaged_timestamp_is_no_twin(acme: Machine, told: Edition) -> None:
    with pytest.raises((TrustError, MalformedError)) as caught:
        acme.check(told.at().but(timestamp_json=b"{"))
    assert not isinstance(caught.value, EquivocationError)


# -- several sources ---------------------------------------------------------------------------------------------------


def sources(folder: Path, *editions: Edition | Lying) -> tuple[str, ...]:
    """Each as a folder."""
    found = []
    for number, edition in enumerate(editions):
        place = folder / f"source-{number}"
        place.mkdir(parents=True)
        for name, data in (edition.files() if isinstance(edition, Edition) else edition.files).items():
            assert isinstance(data, bytes)
            (place / name).write_bytes(data)
        found.append(str(place))
    return tuple(found)


def ask(acme: Machine, *where: str, **how: object) -> Asking:
    return Asking(now=NOW, sources=where, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("turned", [False, True])
def test_two_sources_that_were_told_two_things_end_the_pull(
    tmp_path: Path, acme: Machine, line: Line, turned: bool
) -> None:
    first = Edition(line=line)
    where = sources(tmp_path, first, twin(first))
    pin = acme.trust.resolve("acme")
    with pytest.raises(EquivocationError):
        current_catalog(KnownCatalogs(acme.home), pin, ask(acme, *(where[::-1] if turned else where)))
    assert evidence(acme) == both(first, twin(first))


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_sources_the_newer_keys_win_whatever_the_number(
    tmp_path: Path, acme: Machine, line: Line, turned: bool
) -> None:
    """One mirror still has what a thief of the old key signed as version 2^40."""
    far = 2**40
    stolen = Edition(line=line, timestamp=far, snapshot=far, targets=far, entries={"tiny/q8_0": raw_entry(b"trojan")})
    recovered = Edition(line=line, root=2, timestamp=2, snapshot=2, targets=2)
    where = sources(tmp_path, stolen, recovered)
    state = current_catalog(
        KnownCatalogs(acme.home), acme.trust.resolve("acme"), ask(acme, *(where[::-1] if turned else where))
    )
    assert state.catalog.versions["timestamp"] == 2
    assert acme.version == 2


def test_a_lying_source_is_a_warning_while_another_one_answers(tmp_path: Path, acme: Machine, told: Edition) -> None:
    events: list[object] = []
    older = replace(told, timestamp=4, snapshot=4, targets=4)
    where = sources(tmp_path, older, told.next())
    state = current_catalog(
        KnownCatalogs(acme.home), acme.trust.resolve("acme"), ask(acme, *where, on_event=events.append)
    )  # fmt: skip
    assert state.catalog.versions["timestamp"] == 6
    assert "older" in str(events)


def test_a_catalog_by_retired_keys_is_not_used_when_nobody_answers(
    tmp_path: Path, acme: Machine, line: Line, told: Edition
) -> None:
    """Its root came by another way (a .samara file, say), and whoever stole the old key keeps everything else away."""
    acme.trust.store_roots(line.identity, line.chain())
    with pytest.raises(TrustError, match="not signed by enough"):
        current_catalog(KnownCatalogs(acme.home), acme.trust.resolve("acme"), ask(acme))


def test_the_catalog_of_last_time_is_used_while_it_lasts(acme: Machine, told: Edition) -> None:
    known, pin = KnownCatalogs(acme.home), acme.trust.resolve("acme")
    assert current_catalog(known, pin, ask(acme)).catalog.versions["timestamp"] == 5
    late = Asking(now=NOW + MONTH)
    with pytest.raises(TrustError, match="expired"):
        current_catalog(known, pin, late)
    assert current_catalog(known, pin, replace(late, allow_stale=True)).stale
    (accepted,) = acme.client.seen().accepted
    assert accepted.timestamp_version == 5
