"""The DSSE envelope as a value, validated strictly before any library sees it. Pure: verifies no signature.

DSSE v1: {"payload": base64, "payloadType": text, "signatures": [{"keyid", "sig"}]}. `samara.registry.trust` checks
the signatures; this module only promises that an Envelope has the right shape, the right payload type and bounded size.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass

from samara.schemas.errors import MalformedError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
MAX_SIGNATURES = 32
MAX_JSON_MARKS = 2 * 1024 * 1024  # of the bytes , [ { in one document: the largest manifest has half as many
_KEYID = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """One signature: TUF key id (64 hex) and raw signature bytes."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """A well-formed DSSE envelope whose signatures are not yet checked."""

    payload: bytes
    signatures: tuple[Signature, ...]

    def as_dict(self) -> dict[str, object]:
        """The wire form."""
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {"keyid": s.keyid, "sig": base64.b64encode(s.sig).decode()} for s in self.signatures
            ],
        }  # fmt: skip


def parse_envelope(value: object) -> Envelope:
    """A decoded JSON object → Envelope. Raises MalformedError."""
    if not isinstance(value, dict):
        raise MalformedError("envelope is not a JSON object", actual=type(value).__name__)
    payload_type = value.get("payloadType")
    if payload_type != PAYLOAD_TYPE:
        raise MalformedError("envelope has another payload type", expected=PAYLOAD_TYPE, actual=repr(payload_type)[:80])
    payload = base64_bytes(value.get("payload"), "envelope payload", limit=MAX_PAYLOAD_BYTES)
    raw_signatures = value.get("signatures")
    if not isinstance(raw_signatures, list) or not 1 <= len(raw_signatures) <= MAX_SIGNATURES:
        raise MalformedError("envelope's signatures", expected=f"a list of 1…{MAX_SIGNATURES}")
    signatures = tuple(_signature(item) for item in raw_signatures)
    if len({s.keyid for s in signatures}) != len(signatures):
        raise MalformedError("envelope has two signatures by one key id")
    return Envelope(payload=payload, signatures=signatures)


def _signature(value: object) -> Signature:
    if not isinstance(value, dict):
        raise MalformedError("envelope's signature is not an object")
    keyid = value.get("keyid")
    if not isinstance(keyid, str) or not _KEYID.match(keyid):
        raise MalformedError("signature's key id", expected="64 lower-case hex digits", actual=repr(keyid)[:80])
    sig = base64_bytes(value.get("sig"), "signature", limit=512)
    return Signature(keyid=keyid, sig=sig)


def base64_bytes(value: object, what: str, *, limit: int) -> bytes:
    """Decode standard base64 of 1…`limit` bytes in its one canonical form (RFC 4648 §3.5). Raises MalformedError."""
    if not isinstance(value, str) or not value:
        raise MalformedError(f"{what} is missing or not text")
    if len(value) > (limit + 2) // 3 * 4:
        raise MalformedError(f"{what} is too large", expected=f"≤ {limit} bytes")
    try:
        decoded = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise MalformedError(f"{what} is not base64") from None
    if base64.b64encode(decoded).decode() != value:
        raise MalformedError(f"{what} is not canonical base64", expected="padding bits of zero")
    if not 0 < len(decoded) <= limit:
        raise MalformedError(f"{what} has a wrong size", expected=f"1…{limit} bytes", actual=len(decoded))
    return decoded


def canonical_json(value: object) -> bytes:
    """Sorted keys, no spaces, UTF-8: how we write what is signed. Readers take the bytes as they are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def strict_json(data: bytes | bytearray, what: str) -> object:
    """Parse JSON, refusing duplicate keys, NaN, what isn't UTF-8, and absurd nesting. Raises MalformedError.

    A value needs two or three bytes of text and a hundred of memory, so their number is bounded before parsing too.
    """
    marks = sum(map(data.count, (b",", b"[", b"{")))
    if marks > MAX_JSON_MARKS:
        raise MalformedError(f"{what} has too many values", expected=f"≤ {MAX_JSON_MARKS} of , [ {{", actual=marks)
    try:  # decoded here: json.loads would guess UTF-16 and 32, drop a byte order mark and let surrogates through
        return json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:120]
        raise MalformedError(f"{what} is not valid JSON ({reason})") from None


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return table


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")
