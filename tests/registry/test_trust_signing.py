"""DSSE signatures over manifests, and the tricks to be played with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from securesystemslib.dsse import Envelope as LibraryEnvelope
from trust_kit import line_of, payload_of, plan, signed_by

from samara.registry.trust.identity import identity_of
from samara.registry.trust.keys import SecretKey, new_key
from samara.registry.trust.roots import RootChain, verify_root_chain, write_root
from samara.registry.trust.signing import sign_payload, verify_envelope
from samara.schemas.envelope import PAYLOAD_TYPE, Envelope, Signature, parse_envelope
from samara.schemas.errors import MalformedError, TrustError

LINE = line_of(2)
ONLINE = LINE.online_keys[1]


def chain_of(online: list[SecretKey], *, threshold: int) -> RootChain:
    root = new_key()
    data = write_root(plan(root=[root], online=online, targets=threshold), [root])
    return verify_root_chain(identity_of(data), [data])


def test_a_manifest_signed_by_the_publisher_is_accepted() -> None:
    assert verify_envelope(signed_by(LINE, [ONLINE]), LINE.chain()) == (ONLINE.keyid,)


def test_what_we_sign_the_library_verifies_and_the_wire_form_survives() -> None:
    envelope = signed_by(LINE, [ONLINE])
    LibraryEnvelope.from_dict(envelope.as_dict()).verify([ONLINE.signer().public_key], 1)
    assert parse_envelope(envelope.as_dict()) == envelope


def test_an_unknown_signer_is_refused_by_name() -> None:
    stranger = new_key()
    with pytest.raises(TrustError) as caught:
        verify_envelope(signed_by(LINE, [stranger]), LINE.chain())
    assert stranger.keyid in str(caught.value)
    assert ONLINE.keyid in str(caught.value)


def test_a_stranger_beside_the_publisher_is_ignored() -> None:
    assert verify_envelope(signed_by(LINE, [new_key(), ONLINE]), LINE.chain()) == (ONLINE.keyid,)


def test_a_stranger_under_the_publishers_key_id_is_refused() -> None:
    forged = signed_by(LINE, [new_key()])
    renamed = replace(forged, signatures=(replace(forged.signatures[0], keyid=ONLINE.keyid),))
    with pytest.raises(TrustError, match="signature is wrong"):
        verify_envelope(renamed, LINE.chain())


def test_the_root_key_signs_no_manifests() -> None:
    with pytest.raises(TrustError, match="not signed by its publisher"):
        verify_envelope(signed_by(LINE, [LINE.root_keys[1]]), LINE.chain())


def test_a_retired_key_signs_no_more_manifests() -> None:
    retired = signed_by(LINE, [LINE.online_keys[0]])
    assert verify_envelope(retired, LINE.chain(1))
    with pytest.raises(TrustError, match="retired since"):
        verify_envelope(retired, LINE.chain())


def test_every_flipped_bit_of_the_payload_is_noticed() -> None:
    good = signed_by(LINE, [ONLINE])
    for at in range(0, len(good.payload), 97):
        payload = bytearray(good.payload)
        payload[at] ^= 1
        with pytest.raises(TrustError, match="changed after signing"):
            verify_envelope(replace(good, payload=bytes(payload)), LINE.chain())


@pytest.mark.parametrize("sig", [b"", b"\0", b"\0" * 64, b"\0" * 65, b"\xff" * 64])
def test_a_signature_of_any_other_bytes_is_refused(sig: bytes) -> None:
    good = signed_by(LINE, [ONLINE])
    with pytest.raises(TrustError, match="signature is wrong"):
        verify_envelope(replace(good, signatures=(Signature(keyid=ONLINE.keyid, sig=sig),)), LINE.chain())


def test_a_signature_over_another_payload_type_is_refused() -> None:
    other = LibraryEnvelope(payload_of(LINE.identity), "text/plain", {})
    made = other.sign(ONLINE.signer())
    taken = Signature(keyid=made.keyid, sig=bytes.fromhex(made.signature))
    with pytest.raises(TrustError, match="signature is wrong"):
        verify_envelope(Envelope(payload=other.payload, signatures=(taken,)), LINE.chain())


def test_another_payload_type_on_the_wire_is_malformed() -> None:
    wire = signed_by(LINE, [ONLINE]).as_dict()
    assert wire["payloadType"] == PAYLOAD_TYPE
    with pytest.raises(MalformedError, match="payload type"):
        parse_envelope({**wire, "payloadType": "text/plain"})


def test_a_signature_over_the_bare_payload_is_refused() -> None:
    payload = payload_of(LINE.identity)
    bare = Signature(keyid=ONLINE.keyid, sig=ONLINE._private.sign(payload))
    with pytest.raises(TrustError, match="signature is wrong"):
        verify_envelope(Envelope(payload=payload, signatures=(bare,)), LINE.chain())


def test_two_of_three_means_two_different_keys() -> None:
    keys = [new_key() for _ in range(3)]
    chain = chain_of(keys, threshold=2)
    one, two = sign_payload(b"{}", keys[:1]), sign_payload(b"{}", keys[:2])
    assert set(verify_envelope(two, chain)) == {key.keyid for key in keys[:2]}
    with pytest.raises(TrustError, match="too few signatures of its publisher: expected 2, got 1"):
        verify_envelope(one, chain)


def test_the_same_signature_twice_counts_for_nothing() -> None:
    keys = [new_key() for _ in range(2)]
    twice = sign_payload(b"{}", keys[:1])
    twice = replace(twice, signatures=twice.signatures * 2)
    with pytest.raises(MalformedError, match="two signatures by one key id"):
        verify_envelope(twice, chain_of(keys, threshold=2))
    with pytest.raises(MalformedError, match="two signatures by one key id"):
        parse_envelope(twice.as_dict())


def test_one_good_and_one_bad_signature_are_not_two() -> None:
    keys = [new_key() for _ in range(2)]
    good = sign_payload(b"{}", keys)
    spoilt = replace(good, signatures=(good.signatures[0], replace(good.signatures[1], sig=b"\0" * 64)))
    with pytest.raises(TrustError, match="too few of which verify"):
        verify_envelope(spoilt, chain_of(keys, threshold=2))


def test_one_key_under_two_ids_does_not_meet_a_threshold_of_two() -> None:
    """Even in a chain that `verify_root_chain` would never return."""
    keys = [new_key() for _ in range(2)]
    chain = chain_of(keys, threshold=2)
    view = chain.newest
    twins = {**view.keys, keys[1].keyid: keys[0].public}
    forged_chain = replace(chain, views=(replace(view, keys=twins),))
    one = sign_payload(b"{}", keys[:1]).signatures[0]
    with pytest.raises(TrustError, match="too few signatures of its publisher"):
        verify_envelope(
            Envelope(payload=b"{}", signatures=(one, replace(one, keyid=keys[1].keyid))), forged_chain
        )  # fmt: skip


def test_a_root_with_impossible_targets_keys_fails_as_a_wrong_signature() -> None:
    root = new_key()
    weird = plan(root=[root], online=[])
    roles = {r: replace(p, keys=p.keys or (b"\xff" * 32,)) for r, p in weird.roles.items()}
    data = write_root(replace(weird, roles=roles), [root])
    chain = verify_root_chain(identity_of(data), [data])
    keyid = next(iter(chain.targets_keys))
    with pytest.raises(TrustError, match="signature is wrong"):
        verify_envelope(Envelope(payload=b"{}", signatures=(Signature(keyid=keyid, sig=b"\0" * 64),)), chain)
