"""Digests as text: `b3:<64 hex>` (BLAKE3) and `sha256:<64 hex>`. Pure.

In memory and in the index a digest is its 32 raw bytes; on paper it is text with its algorithm in front, so that the
two can never be mistaken for each other.
"""

from __future__ import annotations

import re
from typing import Annotated

from blake3 import blake3
from pydantic import StringConstraints

from samara.schemas.errors import UsageError

B3_PREFIX = "b3:"
SHA256_PREFIX = "sha256:"

_HEX64 = re.compile(r"[0-9a-f]{64}\Z")

B3Text = Annotated[str, StringConstraints(pattern=r"^b3:[0-9a-f]{64}$", max_length=67)]
Hex64 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", max_length=64)]
Hex40 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$", max_length=40)]


def b3(data: bytes | bytearray | memoryview) -> str:
    """The BLAKE3 digest of `data` as text."""
    return B3_PREFIX + blake3(data).hexdigest()


def b3_text(raw: bytes) -> str:
    """32 raw bytes → `b3:<64 hex>`."""
    return B3_PREFIX + raw.hex()


def b3_raw(text: str) -> bytes:
    """`b3:<64 hex>` → 32 raw bytes. Raises UsageError for anything else."""
    return _raw(text, B3_PREFIX)


def sha256_text(raw: bytes) -> str:
    """32 raw bytes → `sha256:<64 hex>`."""
    return SHA256_PREFIX + raw.hex()


def sha256_raw(text: str) -> bytes:
    """`sha256:<64 hex>` → 32 raw bytes. Raises UsageError for anything else."""
    return _raw(text, SHA256_PREFIX)


def b3_hex(text: str) -> str:
    """`b3:<64 hex>` → the 64 hex digits, as they are used in file names."""
    return b3_raw(text).hex()


def _raw(text: str, prefix: str) -> bytes:
    digits = text[len(prefix) :] if text.startswith(prefix) else ""
    if not _HEX64.match(digits):
        raise UsageError("not a digest", expected=f"{prefix}<64 lower-case hex digits>", actual=repr(text[:80]))
    return bytes.fromhex(digits)
