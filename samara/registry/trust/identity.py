"""A publisher's identity: the BitTorrent v2 infohash of its root version 1, as 52 base32 digits. Pure.

It commits to the whole first root (all keys, all thresholds), not to one key, and is at once the address from which
that root can be had. It never changes, whatever later roots rotate.
"""

from __future__ import annotations

import base64
import hashlib
import re

from samara.schemas.bittorrent import LEAF, magnet, single_leaf_v2_info
from samara.schemas.errors import MalformedError
from samara.schemas.references import URI_SCHEME, check_identity

ROOT_V1_NAME = "1.root.json"
MAX_ROOT_V1_BYTES = LEAF  # one Merkle leaf: the identity needs no piece layer to be checked


def identity_of(root_v1: bytes) -> str:
    """Root version 1 as signed, byte for byte → identity. Raises MalformedError beyond 16 KiB."""
    if not 0 < len(root_v1) <= MAX_ROOT_V1_BYTES:
        raise MalformedError(
            "root version 1 has a wrong size", expected=f"1…{MAX_ROOT_V1_BYTES} bytes", actual=len(root_v1)
        )
    infohash = hashlib.sha256(single_leaf_v2_info(ROOT_V1_NAME, root_v1)).digest()
    return base64.b32encode(infohash).decode().rstrip("=").lower()


def infohash_of(identity: str) -> str:
    """Identity → v2 infohash, 64 hex digits."""
    return base64.b32decode(identity.upper() + "====").hex()


def root_magnet(identity: str) -> str:
    """Where root version 1 can be had from (BEP 9, BEP 52): `magnet:?xt=urn:btmh:1220<hex>`."""
    return magnet(None, infohash_of(identity))


def identity_uri(identity: str) -> str:
    """`samara:<identity>`."""
    return URI_SCHEME + identity


def grouped(identity: str) -> str:
    """In 13 groups of four, for comparing by eye or over the telephone."""
    return " ".join(identity[i : i + 4] for i in range(0, len(identity), 4))


def read_identity(text: str) -> str:
    """What a person pasted or scanned (grouped, upper case as in QR codes, a `samara:` URI, also of a release) →
    identity. Raises UsageError.
    """
    plain = re.sub(r"[\s-]+", "", text).lower()
    if plain.startswith(URI_SCHEME):
        plain = plain.removeprefix(URI_SCHEME).removeprefix("//").partition("/")[0].partition("?")[0]
    return check_identity(plain)
