"""DSSE signatures over manifests. Shapes were checked by `samara.schemas.envelope`; this module checks the signatures.

It says who signed, never whether this is the publisher's current release: that is the catalog's word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from samara.registry.trust.keys import SecretKey, tuf_key
from samara.registry.trust.roots import RootChain
from samara.schemas.envelope import PAYLOAD_TYPE, Envelope, Signature
from samara.schemas.errors import MalformedError, TrustError

if TYPE_CHECKING:
    from samara.registry.trust.library import DsseEnvelope

_ASK_PUBLISHER = "don't use this file; ask the publisher over another channel"


def sign_payload(payload: bytes, signers: Sequence[SecretKey]) -> Envelope:
    """Payload bytes → envelope with one signature per signer."""
    from samara.registry.trust.library import DsseEnvelope

    envelope = DsseEnvelope(payload, PAYLOAD_TYPE, {})
    made = [envelope.sign(key.signer()) for key in signers]
    return Envelope(
        payload=payload,
        signatures=tuple(Signature(keyid=one.keyid, sig=bytes.fromhex(one.signature)) for one in made),
    )


def verify_listed_envelope(envelope: Envelope, chain: RootChain) -> tuple[str, ...]:
    """Like `verify_envelope`, for a manifest that the current catalog lists: any root of the chain may have named its
    signers. Its publisher still stands by it, and need not sign everything again whenever a key changes.
    """
    problem: TrustError | None = None
    for end in range(chain.version, 0, -1):
        then = RootChain(identity=chain.identity, roots=chain.roots[:end], views=chain.views[:end])
        if end < chain.version and then.newest.roles["targets"] == chain.views[end].roles["targets"]:
            continue  # the same signers as in the next root
        try:
            return verify_envelope(envelope, then)
        except TrustError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def verify_envelope(envelope: Envelope, chain: RootChain) -> tuple[str, ...]:
    """Key ids of the targets keys whose signatures make this envelope the publisher's.

    Enough of the newest root's targets keys must have signed; signatures by others are ignored. Raises TrustError
    naming the key ids at fault.
    """
    from samara.registry.trust.library import VerificationError

    if len({signature.keyid for signature in envelope.signatures}) != len(envelope.signatures):
        raise MalformedError("envelope has two signatures by one key id")
    keys = {keyid: tuf_key(public, keyid=keyid) for keyid, public in chain.targets_keys.items()}
    known = [keys[signature.keyid] for signature in envelope.signatures if signature.keyid in keys]
    if not known:
        raise _unknown_signer(envelope, chain)
    if len(known) < chain.targets_threshold:
        raise _too_few(chain, have=len(known))
    try:
        accepted = _library_envelope(envelope).verify(list(known), chain.targets_threshold)
    except VerificationError:
        raise TrustError(
            "the manifest's signature is wrong: it was changed after signing, or never signed by this key",
            expected=f"{chain.targets_threshold} good signature(s) by {_names(keys)}",
            actual=f"signature(s) in the name of {_names(key.keyid for key in known)}, too few of which verify",
            next_step=_ASK_PUBLISHER,
        ) from None
    if len({chain.targets_keys[keyid] for keyid in accepted}) < chain.targets_threshold:
        raise _too_few(chain, have=1)  # the chain's rule of one id per key forbids it; thresholds count keys, not ids
    return tuple(accepted)


def _library_envelope(envelope: Envelope) -> DsseEnvelope:
    """A fresh object of the library, built from checked values: its lenient, mutating `from_dict` is not used."""
    from samara.registry.trust.library import DsseEnvelope, LibrarySignature

    signatures = {one.keyid: LibrarySignature(one.keyid, one.sig.hex()) for one in envelope.signatures}
    return DsseEnvelope(envelope.payload, PAYLOAD_TYPE, signatures)


def _unknown_signer(envelope: Envelope, chain: RootChain) -> TrustError:
    signers = [signature.keyid for signature in envelope.signatures]
    retired = [keyid for keyid in signers if keyid in chain.all_targets_keys]
    if retired:
        return TrustError(
            f"the manifest is signed by a key its publisher has retired since ({_names(retired)})",
            expected=_names(chain.targets_keys), next_step="get a newer copy of this release from the publisher",
        )  # fmt: skip
    return TrustError(
        f"the manifest is not signed by its publisher {chain.identity}",
        expected=f"a signature by {_names(chain.targets_keys)}", actual=_names(signers), next_step=_ASK_PUBLISHER,
    )  # fmt: skip


def _too_few(chain: RootChain, *, have: int) -> TrustError:
    return TrustError(
        "the manifest has too few signatures of its publisher", expected=chain.targets_threshold, actual=have,
        next_step="get a copy that all of the publisher's signers have signed",
    )  # fmt: skip


def _names(keyids: Iterable[str]) -> str:
    return ", ".join(keyids)
