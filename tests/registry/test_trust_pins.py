"""Pins and the roots remembered beside them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from trust_kit import NOW, VECTOR, Line, line_of, plan

from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.trust import files
from samara.registry.trust.keys import new_key
from samara.registry.trust.pins import Pin, TrustFolder
from samara.registry.trust.roots import write_root
from samara.schemas.errors import NotFoundError, StoreError, TrustError, UsageError

LINE = line_of(3)
OTHER = line_of(1)


@pytest.fixture
def trust(tmp_path: Path) -> TrustFolder:
    return TrustFolder(tmp_path / "trust")


@pytest.fixture
def acme(trust: TrustFolder) -> TrustFolder:
    trust.add("acme", LINE.identity, now=NOW)
    return trust


def fork_of(line: Line, after: int) -> tuple[bytes, ...]:
    """The same chain up to `after`, then another root, properly signed: what stolen root keys can do."""
    thief = new_key()
    wanted = plan(root=[thief], online=[thief], version=after + 1)
    return (*line.roots[:after], write_root(wanted, [line.root_keys[after - 1], thief]))


def test_nothing_is_trusted_to_begin_with(trust: TrustFolder) -> None:
    assert trust.list() == ()
    assert trust.find("acme") is None
    assert trust.stored_chain(LINE.identity) is None
    assert not trust.folder.exists()


def test_a_pin_is_found_by_alias_and_by_identity(acme: TrustFolder) -> None:
    pin = Pin(alias="acme", identity=LINE.identity, added="2026-01-02T03:04:05Z")
    assert acme.list() == (pin,)
    assert acme.resolve("acme") == acme.resolve(LINE.identity) == pin
    assert pin.short == LINE.identity[:8]


def test_pinning_the_same_again_changes_nothing(acme: TrustFolder) -> None:
    before = (acme.folder / LINE.identity / "pin.json").read_bytes()
    acme.add("acme", LINE.identity, now=NOW + timedelta(days=1))
    assert (acme.folder / LINE.identity / "pin.json").read_bytes() == before


def test_an_alias_belongs_to_one_identity(acme: TrustFolder) -> None:
    with pytest.raises(TrustError, match="already belongs to another publisher") as caught:
        acme.add("acme", OTHER.identity, now=NOW)
    assert caught.value.next_step is not None
    assert "samara trust remove acme" in caught.value.next_step
    assert acme.resolve("acme").identity == LINE.identity


def test_an_identity_has_one_alias(acme: TrustFolder) -> None:
    with pytest.raises(TrustError, match="already pinned as 'acme'"):
        acme.add("emca", LINE.identity, now=NOW)
    assert acme.find("emca") is None


@pytest.mark.parametrize("alias", ["", "ACME", "../acme", "a/b", ".hidden", "nul", VECTOR])
def test_an_alias_must_be_a_plain_name(trust: TrustFolder, alias: str) -> None:
    with pytest.raises(UsageError):
        trust.add(alias, LINE.identity, now=NOW)
    assert trust.list() == ()


@pytest.mark.parametrize("identity", ["", "acme", "../" + VECTOR, VECTOR.upper()])
def test_an_identity_must_be_one(trust: TrustFolder, identity: str) -> None:
    with pytest.raises(UsageError):
        trust.add("acme", identity, now=NOW)


def test_an_unknown_alias_says_how_to_pin_it(trust: TrustFolder) -> None:
    with pytest.raises(TrustError, match="samara trust add acme --identity KEY"):
        trust.resolve("acme")


def test_an_unknown_identity_says_the_exact_command(trust: TrustFolder) -> None:
    with pytest.raises(TrustError) as caught:
        trust.resolve(LINE.identity, claimed_name="acme")
    assert str(caught.value).endswith(f"samara trust add acme --identity {LINE.identity}")
    with pytest.raises(TrustError, match=f"samara trust add NAME --identity {LINE.identity}"):
        trust.resolve(LINE.identity)


def test_a_namesake_of_a_trusted_publisher_is_called_out(acme: TrustFolder) -> None:
    with pytest.raises(TrustError, match="ANOTHER PUBLISHER CALLS ITSELF acme") as caught:
        acme.resolve(OTHER.identity, claimed_name="acme")
    assert (caught.value.expected, caught.value.actual) == (LINE.identity, OTHER.identity)
    assert f"samara trust add OTHER-NAME --identity {OTHER.identity}" in str(caught.value)


def test_what_is_removed_is_forgotten_with_its_roots(acme: TrustFolder) -> None:
    acme.store_roots(LINE.identity, LINE.chain())
    assert acme.remove("acme") == LINE.identity
    assert acme.list() == ()
    assert acme.stored_chain(LINE.identity) is None
    with pytest.raises(NotFoundError, match="no publisher is pinned"):
        acme.remove("acme")
    with pytest.raises(NotFoundError, match="not pinned"):
        acme.remove(LINE.identity)


def test_roots_are_remembered_and_only_ever_extended(acme: TrustFolder) -> None:
    for versions in (1, 3, 2, 1):
        acme.store_roots(LINE.identity, LINE.chain(versions))
    assert acme.stored_chain(LINE.identity) == LINE.chain()
    assert acme.chain_for(LINE.identity, ()) == LINE.chain()


def test_an_older_chain_is_fine_and_the_newer_one_is_used(acme: TrustFolder) -> None:
    acme.store_roots(LINE.identity, LINE.chain())
    assert acme.chain_for(LINE.identity, LINE.roots[:1]) == LINE.chain()


def test_a_newer_chain_is_used_at_once_and_stored_only_when_told(acme: TrustFolder) -> None:
    acme.store_roots(LINE.identity, LINE.chain(1))
    assert acme.chain_for(LINE.identity, LINE.roots) == LINE.chain()
    assert acme.stored_chain(LINE.identity) == LINE.chain(1)


def test_a_chain_that_contradicts_the_stored_one_is_refused(acme: TrustFolder) -> None:
    acme.store_roots(LINE.identity, LINE.chain())
    for after in (1, 2):
        with pytest.raises(TrustError, match=f"two different roots claim to be version {after + 1}"):
            acme.chain_for(LINE.identity, fork_of(LINE, after))
    assert acme.stored_chain(LINE.identity) == LINE.chain()


def test_more_signatures_on_a_root_are_no_contradiction(acme: TrustFolder) -> None:
    acme.store_roots(LINE.identity, LINE.chain(2))
    value = json.loads(LINE.roots[1])
    value["signatures"].append({"keyid": "ab" * 32, "sig": ""})
    longer = acme.chain_for(LINE.identity, [LINE.roots[0], json.dumps(value).encode(), LINE.roots[2]])
    assert longer == LINE.chain()


def test_a_damaged_offer_is_refused_even_if_a_good_chain_is_stored(acme: TrustFolder) -> None:
    acme.store_roots(LINE.identity, LINE.chain())
    with pytest.raises(TrustError, match="another publisher"):
        acme.chain_for(LINE.identity, OTHER.roots)


def test_without_any_roots_there_is_no_chain(acme: TrustFolder) -> None:
    with pytest.raises(TrustError, match="no root metadata"):
        acme.chain_for(LINE.identity, ())


def test_roots_of_strangers_are_not_stored(trust: TrustFolder) -> None:
    with pytest.raises(TrustError, match="not trusted"):
        trust.store_roots(LINE.identity, LINE.chain())
    assert trust.stored_chain(LINE.identity) is None


def test_roots_are_not_stored_under_another_identity(acme: TrustFolder) -> None:
    with pytest.raises(TrustError, match="roots of another publisher"):
        acme.store_roots(LINE.identity, OTHER.chain())


@pytest.mark.parametrize("left", [b"", b"{", b"\0" * 100])
def test_a_root_file_lost_to_power_failure_allows_no_rollback(acme: TrustFolder, left: bytes) -> None:
    acme.store_roots(LINE.identity, LINE.chain())
    (acme.folder / LINE.identity / "roots" / "3.root.json").write_bytes(left)
    with pytest.raises(TrustError, match=r"root version 3 .* was seen before"):
        acme.chain_for(LINE.identity, LINE.roots[:2])
    with pytest.raises(TrustError, match="was seen before"):
        acme.chain_for(LINE.identity, ())
    healed = acme.chain_for(LINE.identity, LINE.roots)
    acme.store_roots(LINE.identity, healed)
    assert acme.stored_chain(LINE.identity) == LINE.chain()


def test_a_stored_first_root_that_is_damaged_is_healed_by_any_offer_that_reaches_as_far(acme: TrustFolder) -> None:
    acme.store_roots(LINE.identity, LINE.chain())
    (acme.folder / LINE.identity / "roots" / "1.root.json").unlink()
    acme.store_roots(LINE.identity, acme.chain_for(LINE.identity, LINE.roots))
    assert acme.stored_chain(LINE.identity) == LINE.chain()


def test_a_folder_that_a_kill_left_without_pin_is_no_pin(trust: TrustFolder) -> None:
    half = trust.folder / LINE.identity
    half.mkdir(parents=True)
    (half / f"{TEMPORARY_PREFIX}00").write_bytes(b'{"alias":')
    assert trust.list() == ()
    assert trust.find(LINE.identity) is None
    trust.add("acme", LINE.identity, now=NOW)
    assert trust.resolve("acme").identity == LINE.identity
    assert [entry.name for entry in half.iterdir()] == ["pin.json"]


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b"{}", b'{"format":"samara-pin-9"}', b"\0" * 70_000])
def test_a_damaged_pin_trusts_nobody_and_gives_its_alias_to_nobody(acme: TrustFolder, left: bytes) -> None:
    (acme.folder / LINE.identity / "pin.json").write_bytes(left)
    for attempt in (acme.list, lambda: acme.resolve("acme"), lambda: acme.add("acme", OTHER.identity, now=NOW)):
        with pytest.raises(StoreError, match=r"pin\.json"):
            attempt()
    acme.add("acme", LINE.identity, now=NOW)
    assert acme.resolve("acme").identity == LINE.identity


def test_a_pin_moved_to_another_identitys_folder_is_damaged(acme: TrustFolder) -> None:
    acme.add("other", OTHER.identity, now=NOW)
    (acme.folder / OTHER.identity / "pin.json").write_bytes((acme.folder / LINE.identity / "pin.json").read_bytes())
    with pytest.raises(StoreError, match="damaged"):
        acme.resolve(OTHER.identity)


def test_a_damaged_pin_can_be_removed_by_its_identity(acme: TrustFolder) -> None:
    (acme.folder / LINE.identity / "pin.json").write_bytes(b"")
    acme.remove(LINE.identity)
    assert acme.list() == ()


def test_writers_wait_for_each_other_and_say_when_they_give_up(acme: TrustFolder) -> None:
    with (
        FileLock(acme.folder / ".lock"),
        pytest.raises(StoreError, match="in use by another samara process"),
        files.locked(acme.folder, seconds=0),
    ):
        raise AssertionError("the lock was given twice")
    assert acme.resolve("acme").identity == LINE.identity
