"""Who signed, how many of them, and whether it is what they signed: metadata of every role, and chains of roots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from catalog_kit import ALL_ROLES, ROLES, Content, Edition, Lying, Machine, endless, machine
from trust_kit import Line, line_of, plan

from samara.registry.trust.keys import new_key, tuf_key
from samara.registry.trust.library import JSONSerializer, Metadata
from samara.registry.trust.roots import write_root
from samara.schemas.errors import MalformedError, NetworkError, NotFoundError, SamaraError, TrustError

MIB = 1 << 20


@pytest.fixture
def line() -> Line:
    return line_of(3)


@pytest.fixture
def acme(tmp_path: Path, line: Line) -> Machine:
    return machine(tmp_path, line)


def name_of(role: str) -> str:
    """The file of version 1 of a role, as `Lying.but` wants it."""
    return {"root": "_1_root_json", "timestamp": "timestamp_json"}.get(role, f"_1_{role}_json")


def resigned(data: bytes, *keys: Any, edit: Callable[[Any], object] = lambda _signed: None) -> bytes:
    """Metadata with its signed part edited, and signed by these keys alone."""
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    edit(metadata.signed)
    metadata.signatures.clear()
    for key in keys:
        metadata.sign(key.signer(), append=True)
    return metadata.to_bytes(JSONSerializer(compact=True))


# -- online roles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_role_signed_by_nobody_is_refused(acme: Machine, line: Line, role: str) -> None:
    with pytest.raises(TrustError, match="not signed by enough"):
        acme.accept(Edition(line=line, signers={role: []}).at())
    assert acme.version == 0


@pytest.mark.parametrize("role", ROLES)
def test_a_role_signed_by_a_stranger_is_refused(acme: Machine, line: Line, role: str) -> None:
    with pytest.raises(TrustError, match="not signed by enough"):
        acme.accept(Edition(line=line, signers={role: [new_key()]}).at())


@pytest.mark.parametrize("role", ROLES)
def test_the_root_key_signs_no_catalog(acme: Machine, line: Line, role: str) -> None:
    with pytest.raises(TrustError, match="not signed by enough"):
        acme.accept(Edition(line=line, signers={role: [line.root_keys[0]]}).at())


@pytest.mark.parametrize("role", ROLES)
def test_a_revoked_key_signs_nothing_more(acme: Machine, line: Line, role: str) -> None:
    with pytest.raises(TrustError, match="not signed by enough"):
        acme.accept(Edition(line=line, root=2, signers={role: [line.online_keys[0]]}).at())


def two_of_two() -> Line:
    """A publisher whose catalog needs both of two keys."""
    root, keys = new_key(), (new_key(), new_key())
    first = write_root(plan(root=[root], online=keys, targets=2), [root])
    return Line(roots=(first,), root_keys=(root,), online_keys=keys)


def test_targets_need_as_many_signers_as_the_root_says(tmp_path: Path) -> None:
    line = two_of_two()
    acme = machine(tmp_path, line)
    with pytest.raises(TrustError, match="not signed by enough"):
        acme.accept(Edition(line=line).at())
    acme.accept(Edition(line=line, signers={"targets": line.online_keys}).at())


def test_two_signatures_by_one_key_are_one(tmp_path: Path) -> None:
    line = two_of_two()
    acme = machine(tmp_path, line)
    edition = Edition(line=line)
    twice = json.loads(edition.bundle.targets)
    twice["signatures"] *= 2
    # the timestamp and the snapshot must fit the forged file: their keys are the thief's
    crooked = _with_targets(edition, json.dumps(twice).encode())
    with pytest.raises((TrustError, MalformedError)):
        acme.accept(crooked)
    assert acme.version == 0


def test_one_signature_under_two_key_ids_is_one(tmp_path: Path) -> None:
    line = two_of_two()
    acme = machine(tmp_path, line)
    edition = Edition(line=line)
    twice = json.loads(edition.bundle.targets)
    other = tuf_key(line.online_keys[1].public).keyid
    twice["signatures"].append({"keyid": other, "sig": twice["signatures"][0]["sig"]})
    with pytest.raises(TrustError, match="not signed by enough"):
        acme.accept(_with_targets(edition, json.dumps(twice).encode()))


def test_a_root_that_lists_one_key_under_two_ids_is_refused(tmp_path: Path) -> None:
    """The library counts ids: by it alone, one holder would be two."""
    root, online = new_key(), new_key()
    honest = write_root(plan(root=[root], online=[online]), [root])

    def twice(signed: Any) -> None:
        alias = tuf_key(online.public, keyid="ab" * 32)
        signed.keys[alias.keyid] = alias
        for role in ROLES:
            signed.roles[role].keyids.append(alias.keyid)
            signed.roles[role].threshold = 2

    line = Line(roots=(resigned(honest, root, edit=twice),), root_keys=(root,), online_keys=(online,))
    acme = machine(tmp_path, line)
    edition = Edition(line=line)

    class Both:
        """The key, under both of its ids."""

        def __init__(self, keyid: str) -> None:
            self._keyid = keyid

        def signer(self) -> Any:
            from samara.registry.trust.library import CryptoSigner

            return CryptoSigner(online._private, tuf_key(online.public, keyid=self._keyid))

    both: Any = [Both(tuf_key(online.public).keyid), Both("ab" * 32)]
    with pytest.raises(TrustError, match="one key under two key ids"):
        acme.accept(replace(edition, signers=dict.fromkeys(ROLES, both)).at())
    assert acme.version == 0


# -- other bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["snapshot", "targets"])
@pytest.mark.parametrize("change", ["longer", "shorter", "same length"])
def test_a_file_of_other_bytes_than_were_signed_is_refused(
    acme: Machine, line: Line, role: str, change: str
) -> None:  # fmt: skip
    """White space around the signed part is not signed, nor is its order: only the digest says that it changed."""
    edition = Edition(line=line)
    data: bytes = getattr(edition.bundle, role)
    other = {"longer": data + b"\n", "shorter": data[:-1], "same length": _respelt(data)}[change]
    with pytest.raises(TrustError, match=r"not what was signed|more than was signed"):
        acme.accept(edition.at().but(**{name_of(role): other}))
    assert acme.version == 0


@pytest.mark.parametrize("role", ALL_ROLES)
def test_endless_data_is_left_at_its_bound(acme: Machine, line: Line, role: str) -> None:
    source = Edition(line=line).at().but(**{name_of(role): endless})
    with pytest.raises((TrustError, NetworkError), match=r"more than was signed|too much"):
        acme.accept(source)
    assert source.given < MIB


def test_endless_next_roots_and_timestamps_are_left_at_their_bound_later_too(acme: Machine, line: Line) -> None:
    edition = Edition(line=line)
    acme.accept(edition.at())
    changes: list[dict[str, Content | None]] = [{"_2_root_json": endless}, {"timestamp_json": endless}]
    for change in changes:
        source = edition.at().but(**change)
        with pytest.raises((TrustError, NetworkError), match=r"more than was signed|too much"):
            acme.accept(source)
        assert source.given < MIB


def test_endless_targets_without_a_length_are_left_at_their_bound(acme: Machine, line: Line) -> None:
    """A publisher need not sign lengths (TUF §4.4); then ours is the bound."""
    key = line.online_keys[0]
    edition = Edition(line=line)

    def forget(signed: Any) -> None:
        signed.meta["targets.json"].length = None
        signed.meta["targets.json"].hashes = None

    source = _with_snapshot(edition, resigned(edition.bundle.snapshot, key, edit=forget)).but(_1_targets_json=endless)
    with pytest.raises(TrustError, match="more than was signed"):
        acme.accept(source)
    assert source.given < 14 * MIB


@pytest.mark.parametrize("role", ALL_ROLES)
@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"\x00" * 100, b"[" * 10_000, b'{"signed": {}, "signatures": []}'],
    ids=["empty", "{}", "zeros", "nested", "shell"],
)
def test_junk_is_an_error_of_ours(acme: Machine, line: Line, role: str, data: bytes) -> None:
    with pytest.raises(SamaraError):
        acme.accept(Edition(line=line).at().but(**{name_of(role): data}))
    assert acme.version == 0


@pytest.mark.parametrize("role", ALL_ROLES)
def test_a_part_that_is_missing_is_named(acme: Machine, line: Line, role: str) -> None:
    with pytest.raises(NotFoundError, match=role):
        acme.accept(Edition(line=line).at().but(**{name_of(role): None}))


def test_one_role_is_not_taken_for_another(acme: Machine, line: Line) -> None:
    """The same key signs all three: only `_type` says which is which."""
    edition = Edition(line=line)
    with pytest.raises((TrustError, MalformedError)):
        acme.accept(edition.at().but(timestamp_json=edition.bundle.snapshot))


# -- the chain of roots ------------------------------------------------------------------------------------------------


def test_a_chain_with_a_gap_ends_before_it(acme: Machine, line: Line) -> None:
    """Root 3 without root 2: whoever holds root 2 back can't make it be skipped."""
    source = Edition(line=line, root=3).at()
    with pytest.raises(TrustError):
        acme.accept(source.but(_2_root_json=None))
    with pytest.raises(TrustError):
        acme.accept(source.but(_2_root_json=line.roots[2], _3_root_json=None))
    assert acme.accept(source).chain.version == 3


@pytest.mark.parametrize("who", ["the new key alone", "the old key alone", "a retired key", "nobody"])
def test_a_root_needs_the_keys_of_its_predecessor_and_its_own(acme: Machine, line: Line, who: str) -> None:
    """The third root, signed by others than keys 2 and 3. The online key it names would be the thief's."""
    thief = new_key()
    mine = {"the new key alone": [thief], "the old key alone": [line.root_keys[1]], "nobody": []}
    keys = mine.get(who, [line.root_keys[0], thief])
    forged = write_root(plan(root=[thief], online=[thief], version=3), keys)
    crooked = replace(line, roots=(*line.roots[:2], forged), online_keys=(*line.online_keys[:2], thief))
    acme.accept(Edition(line=line, root=2).at())
    with pytest.raises(TrustError):
        acme.accept(Edition(line=crooked, root=3, timestamp=2, snapshot=2, targets=2).at("the thief"))
    assert acme.version == 1
    known = acme.trust.stored_chain(line.identity)
    assert known is not None
    assert known.version == 2


def test_another_root_of_a_version_that_was_seen_is_refused(acme: Machine, line: Line) -> None:
    """By a thief of the first root key, after it was rotated: valid by itself, but not the one we know."""
    acme.accept(Edition(line=line, root=2).at())
    thief = new_key()
    forged = write_root(plan(root=[thief], online=[thief], version=2), [line.root_keys[0], thief])
    crooked = replace(line, roots=(line.roots[0], forged), online_keys=(line.online_keys[0], thief))
    with pytest.raises(TrustError):
        acme.accept(Edition(line=crooked, root=2, timestamp=9, snapshot=9, targets=9).at("the thief"))
    with pytest.raises(TrustError, match="two different roots"):
        acme.trust.chain_for(line.identity, crooked.roots)


def test_a_first_root_of_other_keys_is_another_identity(tmp_path: Path) -> None:
    """One of 2-of-3 root keys is stolen. Alone it makes no first root for newcomers: that hashes to another name."""
    keys = [new_key() for _ in range(3)]
    online, thief = new_key(), new_key()
    honest = write_root(plan(root=keys, online=[online], threshold=2), keys)
    line = Line(roots=(honest,), root_keys=tuple(keys), online_keys=(online,))
    acme = machine(tmp_path, line)
    forgeries = [
        write_root(plan(root=keys, online=[thief], threshold=2), [keys[0]]),
        write_root(plan(root=[keys[0]], online=[thief], threshold=1), [keys[0]]),
    ]
    for forged in forgeries:
        crooked = Line(roots=(forged,), root_keys=tuple(keys), online_keys=(thief,))
        with pytest.raises(TrustError, match="another publisher"):
            acme.accept(Edition(line=crooked).at())
    alone = write_root(plan(root=[thief], online=[thief], version=2), [keys[0], thief])
    second = Line(roots=(honest, alone), root_keys=tuple(keys), online_keys=(online, thief))
    with pytest.raises(TrustError):
        acme.accept(Edition(line=second, root=2).at())
    acme.accept(Edition(line=line).at())


def _respelt(data: bytes) -> bytes:
    """The same document, as long, in other bytes."""
    text = data.decode()
    value = json.loads(text)
    other = json.dumps(dict(reversed(value.items())), separators=(",", ":"), ensure_ascii=False)
    assert len(other) == len(text)
    assert other != text
    return other.encode()


def _with_targets(edition: Edition, targets: bytes) -> Lying:
    """Targets of any bytes, under a snapshot and a timestamp that name just these."""

    def name_it(signed: Any) -> None:
        signed.meta["targets.json"].length = len(targets)
        signed.meta["targets.json"].hashes = {"sha256": hashlib.sha256(targets).hexdigest()}

    snapshot = resigned(edition.bundle.snapshot, edition.line.online_keys[0], edit=name_it)
    return _with_snapshot(edition, snapshot).but(_1_targets_json=targets)


def _with_snapshot(edition: Edition, snapshot: bytes) -> Lying:
    def name_it(signed: Any) -> None:
        signed.snapshot_meta.length = len(snapshot)
        signed.snapshot_meta.hashes = {"sha256": hashlib.sha256(snapshot).hexdigest()}

    timestamp = resigned(edition.bundle.timestamp, edition.line.online_keys[0], edit=name_it)
    return edition.at().but(timestamp_json=timestamp, _1_snapshot_json=snapshot)
