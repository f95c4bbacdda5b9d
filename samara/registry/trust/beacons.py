"""The beacon's public half from its seed, for rooms that must not know a cryptographic library."""

from __future__ import annotations

from samara.schemas.errors import UsageError


def public_of_seed(seed: bytes) -> bytes:
    """An Ed25519 seed (32 bytes, RFC 8032) → its public key (32 bytes). Raises UsageError for another length."""
    from samara.registry.trust.library import Ed25519PrivateKey

    if len(seed) != 32:
        raise UsageError("not an Ed25519 seed", expected="32 bytes", actual=f"{len(seed)} bytes")
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
