"""The pointer: what a publisher's beacon key signs into the DHT (BEP 44). Pure bytes in, values out.

bencoded {"b": v2 infohash of the metadata bundle's torrent (32 bytes), "n": the bundle's length, "t": timestamp
version, "v": 1}, under the salt `samara/1`. It says where to look, never what to believe.
"""

from __future__ import annotations

from dataclasses import dataclass

from samara.schemas.bittorrent import bdecode, bencode
from samara.schemas.errors import MalformedError
from samara.schemas.metadata_bundle import MAX_BUNDLE_BYTES

SALT = b"samara/1"
MAX_POINTER_BYTES = 996  # BEP 44 allows 1,000 for the bencoded value; ours is a string inside it


@dataclass(frozen=True, kw_only=True, slots=True)
class Pointer:
    """Where the newest metadata bundle is: `bundle` its v2 infohash (64 hex), `length` in bytes."""

    bundle: str
    length: int
    timestamp_version: int


def pack_pointer(pointer: Pointer) -> bytes:
    """Pointer → bytes; the same pointer always gives the same ones."""
    return bencode(
        {"b": bytes.fromhex(pointer.bundle), "n": pointer.length, "t": pointer.timestamp_version, "v": 1}
    )  # fmt: skip


def unpack_pointer(data: bytes) -> Pointer:
    """Bytes → Pointer. Raises MalformedError, also for a bundle larger than any may be: nothing was fetched yet."""
    if len(data) > MAX_POINTER_BYTES:
        raise MalformedError("pointer too large", expected=f"≤ {MAX_POINTER_BYTES} bytes", actual=len(data))
    value = bdecode(data)
    if not isinstance(value, dict) or value.get(b"v") != 1:
        raise MalformedError("pointer of a kind this version doesn't know", expected="v 1")
    bundle, length, version = (value.get(key) for key in (b"b", b"n", b"t"))
    if not isinstance(bundle, bytes) or len(bundle) != 32:
        raise MalformedError("pointer without an infohash of 32 bytes")
    if not isinstance(length, int) or not 0 < length <= MAX_BUNDLE_BYTES:
        raise MalformedError("pointer to a bundle of impossible size", expected=f"1…{MAX_BUNDLE_BYTES}", actual=length)
    if not isinstance(version, int) or not 0 < version < 2**53:
        raise MalformedError("pointer with an impossible timestamp version", actual=version)
    return Pointer(bundle=bundle.hex(), length=length, timestamp_version=version)
