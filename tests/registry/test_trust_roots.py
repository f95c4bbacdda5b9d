"""Chains of TUF roots: what is accepted, and every way to forge one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from operator import methodcaller
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]
from trust_kit import NOW, line_of, plan
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]

from samara.registry.trust.identity import MAX_ROOT_V1_BYTES, identity_of
from samara.registry.trust.keys import SecretKey, new_key
from samara.registry.trust.roots import (
    ROLES,
    ROOT_LIFETIME,
    RolePlan,
    RootPlan,
    first_root_plan,
    verify_root_chain,
    write_root,
)
from samara.schemas.envelope import canonical_json
from samara.schemas.errors import MalformedError, SamaraError, TrustError, UsageError


def first_root() -> tuple[bytes, SecretKey, SecretKey, SecretKey]:
    root, online, beacon = new_key(), new_key(), new_key()
    data = write_root(
        first_root_plan(root=root.public, online=online.public, beacon=beacon.public, now=NOW), [root]
    )  # fmt: skip
    return data, root, online, beacon


def altered(data: bytes, change: Callable[[dict[str, Any]], object], *signers: SecretKey) -> bytes:
    """A root with its JSON changed and, given signers, signed anew over the change."""
    value = json.loads(data)
    change(value["signed"])
    if signers:
        signed = Metadata.from_dict({"signatures": [], "signed": json.loads(json.dumps(value["signed"]))}).signed_bytes
        made = [key.signer().sign(signed) for key in signers]
        value["signatures"] = [{"keyid": s.keyid, "sig": s.signature} for s in made]
    return canonical_json(value)


def check_alone(data: bytes) -> None:
    """The chain of this one root, under the identity that it would have."""
    verify_root_chain(identity_of(data), [data])


def test_a_first_root_is_what_its_keys_say() -> None:
    data, root, online, beacon = first_root()
    chain = verify_root_chain(identity_of(data), [data])
    assert chain.version == 1
    assert chain.expires == NOW + ROOT_LIFETIME
    assert chain.targets_keys == {online.keyid: online.public}
    assert chain.newest.keys_of("root") == {root.keyid: root.public}
    assert all(chain.newest.roles[role].threshold == 1 for role in ROLES)
    assert chain.beacon == beacon.public
    signed = json.loads(data)["signed"]
    assert signed["consistent_snapshot"] is True
    assert signed["x-samara"] == {"v": 1, "beacon": beacon.public.hex()}
    assert len(data) < 2048


def test_the_same_plan_and_keys_give_the_same_bytes() -> None:
    root, online = new_key(), new_key()
    assert len({write_root(plan(root=[root], online=[online]), [root]) for _ in range(2)}) == 1


def test_the_tuf_library_itself_accepts_our_root() -> None:
    data, *_ = first_root()
    metadata = Metadata[Root].from_bytes(data)
    metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)


def test_a_long_chain_ends_at_its_newest_root_and_remembers_all_targets_keys() -> None:
    line = line_of(4)
    chain = line.chain()
    assert chain.version == 4
    assert chain.targets_keys == {line.online_keys[3].keyid: line.online_keys[3].public}
    assert chain.all_targets_keys == {key.keyid: key.public for key in line.online_keys}


def test_an_expired_root_is_verified_and_its_expiry_shown() -> None:
    root, online = new_key(), new_key()
    data = write_root(
        first_root_plan(root=root.public, online=online.public, beacon=bytes(32), now=datetime(1999, 1, 1, tzinfo=UTC)),
        [root],
    )
    assert verify_root_chain(identity_of(data), [data]).expires == datetime(2000, 1, 1, tzinfo=UTC)


def test_a_root_without_beacon_is_a_root() -> None:
    data, root, *_ = first_root()
    bare = altered(data, lambda signed: signed.pop("x-samara"), root)
    assert verify_root_chain(identity_of(bare), [bare]).beacon is None


def test_a_first_root_of_somebody_else_is_refused() -> None:
    mine, other = line_of(1), line_of(1)
    with pytest.raises(TrustError, match="another publisher"):
        verify_root_chain(mine.identity, other.roots)


def test_no_roots_at_all_are_refused() -> None:
    with pytest.raises(TrustError, match="no root metadata"):
        verify_root_chain(line_of(1).identity, [])


def test_a_first_root_beyond_one_leaf_is_refused() -> None:
    data, root, *_ = first_root()
    large = altered(data, lambda signed: signed.update(padding="x" * MAX_ROOT_V1_BYTES), root)
    with pytest.raises(MalformedError, match="16384"):
        verify_root_chain(line_of(1).identity, [large])


def test_a_later_root_beyond_its_bound_is_refused() -> None:
    line = line_of(2)
    huge = altered(line.roots[1], lambda signed: signed.update(padding="x" * 300_000), *line.root_keys)
    with pytest.raises(MalformedError, match="root version 2 is too large"):
        verify_root_chain(line.identity, [line.roots[0], huge])


def test_a_chain_with_a_gap_is_refused() -> None:
    line = line_of(3)
    with pytest.raises(TrustError, match="gap"):
        verify_root_chain(line.identity, [line.roots[0], line.roots[2]])


def test_a_chain_that_goes_back_is_refused() -> None:
    line = line_of(3)
    with pytest.raises(TrustError, match="gap or is out of order"):
        verify_root_chain(line.identity, [*line.roots, line.roots[1]])


def test_a_chain_that_starts_late_is_refused() -> None:
    line = line_of(2)
    with pytest.raises(TrustError):
        verify_root_chain(line.identity, line.roots[1:])
    with pytest.raises(TrustError, match="gap"):
        check_alone(line.roots[1])


def test_a_root_signed_only_by_its_new_key_is_refused() -> None:
    line, thief = line_of(1), new_key()
    forged = write_root(plan(root=[thief], online=[thief], version=2), [thief])
    with pytest.raises(TrustError, match="not signed by enough root keys of root version 1"):
        verify_root_chain(line.identity, [*line.roots, forged])


def test_a_root_signed_only_by_its_predecessor_is_refused() -> None:
    line, successor = line_of(1), new_key()
    half = write_root(plan(root=[successor], online=[successor], version=2), line.root_keys)
    with pytest.raises(TrustError, match="not signed by enough root keys of root version 2"):
        verify_root_chain(line.identity, [*line.roots, half])


def test_a_root_signed_by_a_retired_root_key_is_refused() -> None:
    line, thief = line_of(2), new_key()
    forged = write_root(plan(root=[thief], online=[thief], version=3), [line.root_keys[0], thief])
    with pytest.raises(TrustError, match="root version 2"):
        verify_root_chain(line.identity, [*line.roots, forged])


def test_an_unsigned_first_root_is_refused() -> None:
    unsigned = write_root(plan(root=[new_key()], online=[new_key()]), [])
    with pytest.raises(TrustError, match="not signed by enough"):
        check_alone(unsigned)


def test_any_change_after_signing_is_noticed() -> None:
    line = line_of(2)
    for field, value in [("expires", "2099-01-01T00:00:00Z"), ("consistent_snapshot", False), ("x-new", 1)]:
        value_at = {field: value}
        changed = altered(line.roots[1], methodcaller("update", value_at))
        with pytest.raises(TrustError, match="not signed by enough"):
            verify_root_chain(line.identity, [line.roots[0], changed])


def test_two_of_three_are_needed_when_the_root_says_so() -> None:
    keys, online = [new_key() for _ in range(3)], new_key()
    wanted = plan(root=keys, online=[online], threshold=2)
    alone = write_root(wanted, keys[:1])
    with pytest.raises(TrustError, match="expected 2, got 1"):
        check_alone(alone)
    together = write_root(wanted, keys[:2])
    assert verify_root_chain(identity_of(together), [together]).newest.roles["root"].threshold == 2


def test_one_stolen_key_of_three_makes_no_first_root_for_newcomers() -> None:
    """The identity commits to all keys and thresholds: a lone thief's root 1 has another identity."""
    keys, online = [new_key() for _ in range(3)], new_key()
    real = write_root(plan(root=keys, online=[online], threshold=2), keys[:2])
    stolen = write_root(plan(root=[keys[0]], online=[new_key()]), [keys[0]])
    with pytest.raises(TrustError, match="another publisher"):
        verify_root_chain(identity_of(real), [stolen])


def test_one_key_under_two_ids_does_not_count_twice() -> None:
    key = new_key()
    forged = _root_with_aliases(key)
    with pytest.raises(TrustError, match="one key under two key ids"):
        check_alone(forged)


def test_one_id_may_not_change_its_key() -> None:
    line, other = line_of(1), new_key()
    reused = Metadata(Root(version=2, expires=NOW + ROOT_LIFETIME))
    for role in ROLES:
        keyid = line.root_keys[0].keyid if role == "root" else line.online_keys[0].keyid
        secret = line.root_keys[0] if role == "root" else other
        reused.signed.add_key(SSlibKey(keyid, "ed25519", "ed25519", {"public": secret.public.hex()}), role)
    reused.sign(line.root_keys[0].signer())
    with pytest.raises(TrustError, match="one key id for two keys"):
        verify_root_chain(line.identity, [*line.roots, reused.to_bytes()])


def test_only_ed25519_keys_are_taken() -> None:
    data, root, *_ = first_root()
    foreign = Metadata[Root].from_bytes(data)
    foreign.signed.add_key(CryptoSigner.generate_ecdsa().public_key, "targets")
    foreign.sign(root.signer())
    with pytest.raises(MalformedError, match="ed25519"):
        check_alone(foreign.to_bytes())


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(version=True),
        lambda s: s.update(version=0),
        lambda s: s.update(version="1"),
        lambda s: s.update(version=1.0),
        lambda s: s.update(_type="targets"),
        lambda s: s.update(expires="soon"),
        lambda s: s.update(expires="2026-13-45T99:99:99Z"),
        lambda s: s.update(spec_version="2.0.0"),
        lambda s: s.update(spec_version="x"),
        lambda s: s.pop("roles"),
        lambda s: s.pop("expires"),
        lambda s: s.update(keys=[]),
        lambda s: s["roles"].pop("snapshot"),
        lambda s: s["roles"].update(mirrors={"keyids": [], "threshold": 1}),
        lambda s: s["roles"]["root"].update(threshold=0),
        lambda s: s["roles"]["root"].update(threshold=True),
        lambda s: s["roles"]["root"].update(threshold=0.5),
        lambda s: s["roles"]["root"].update(keyids=[]),
        lambda s: s["roles"]["root"]["keyids"].append(s["roles"]["root"]["keyids"][0]),
        lambda s: s["roles"]["targets"]["keyids"].append("ab" * 32),
        lambda s: s["roles"]["targets"]["keyids"].append("short"),
        lambda s: next(iter(s["keys"].values())).update(keyval={"public": "AB" * 32}),
        lambda s: next(iter(s["keys"].values())).update(keyval={}),
        lambda s: next(iter(s["keys"].values())).update(keyval=None),
        lambda s: next(iter(s["keys"].values())).update(scheme="rsassa-pss-sha256"),
        lambda s: s.update({"x-samara": {"v": 2, "beacon": "00" * 32}}),
        lambda s: s.update({"x-samara": {"v": 1}}),
        lambda s: s.update({"x-samara": 7}),
        lambda s: s.update(number=0.5),
    ],
)
def test_a_root_of_the_wrong_shape_is_malformed(change: Callable[[dict[str, Any]], object]) -> None:
    data, *_ = first_root()
    with pytest.raises(MalformedError, match="root version 1"):
        check_alone(altered(data, change))


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{}",
        b"not json",
        b"\xff\xfe",
        b'{"signatures":[],"signed":{}}',
        b'{"signatures":{},"signed":{"_type":"root"}}',
        b'{"signed":{"_type":"root"},"signed":{"_type":"root"},"signatures":[]}',
        b"[" * 10_000,
    ],
)
def test_what_is_no_root_metadata_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        check_alone(data)


@pytest.mark.parametrize("signature", [{"keyid": 1, "sig": "00"}, {"keyid": "ab" * 32, "sig": "zz"}, {"sig": "00"}, 5])
def test_signatures_of_the_wrong_shape_are_malformed(signature: object) -> None:
    value = json.loads(first_root()[0])
    value["signatures"].append(signature)
    with pytest.raises(MalformedError):
        check_alone(canonical_json(value))


def test_two_signatures_by_one_key_id_are_malformed() -> None:
    value = json.loads(first_root()[0])
    value["signatures"] *= 2
    with pytest.raises(MalformedError, match="can't be read"):
        check_alone(canonical_json(value))


@pytest.mark.parametrize(
    "roles",
    [
        {},
        {"root": RolePlan(keys=(b"a" * 32,))},
        dict.fromkeys(ROLES, RolePlan(keys=(b"a" * 32,), threshold=2)),
        dict.fromkeys(ROLES, RolePlan(keys=(b"a" * 32, b"a" * 32), threshold=2)),
        dict.fromkeys(ROLES, RolePlan(keys=(b"a" * 32,), threshold=0)),
        dict.fromkeys(ROLES, RolePlan(keys=())),
    ],
)
def test_a_root_that_nobody_would_accept_is_not_written(roles: dict[str, RolePlan]) -> None:
    with pytest.raises(UsageError):
        write_root(RootPlan(version=1, expires=NOW, roles=roles, beacon=bytes(32)), [])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_LINE = line_of(2)


def _paths(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, item in items for path in _paths(item, (*at, key)))]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_stands_anywhere_in_a_root_only_our_errors_escape(data: st.DataObject) -> None:
    value = json.loads(_LINE.roots[0])
    path = data.draw(st.sampled_from(_paths(value)[1:]))
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = data.draw(_JSON)
    changed = json.dumps(value).encode()
    try:
        check_alone(changed)
    except SamaraError:
        return
    # accepted: then only fields outside the signed part, or nothing at all, can have changed
    assert json.loads(changed)["signed"] == json.loads(_LINE.roots[0])["signed"]


@settings(max_examples=80, deadline=None)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_later_root_never_changes_what_it_says(at: int, bit: int) -> None:
    flipped = bytearray(_LINE.roots[1])
    flipped[at % len(flipped)] ^= 1 << bit
    try:
        chain = verify_root_chain(_LINE.identity, [_LINE.roots[0], bytes(flipped)])
    except SamaraError:
        return
    assert chain.views == _LINE.chain().views


def _root_with_aliases(key: SecretKey) -> bytes:
    """Threshold 2 met by one key under two key ids."""
    metadata = Metadata(Root(version=1, expires=NOW + ROOT_LIFETIME))
    twins = [SSlibKey(keyid, "ed25519", "ed25519", {"public": key.public.hex()}) for keyid in ("aa" * 32, "bb" * 32)]
    for twin in twins:
        for role in ROLES:
            metadata.signed.add_key(twin, role)
    metadata.signed.roles["root"].threshold = 2
    for twin in twins:
        metadata.sign(CryptoSigner(key._private, twin), append=True)
    assert metadata.signed.get_root_verification_result(None, metadata.signed_bytes, metadata.signatures).verified
    return metadata.to_bytes()
