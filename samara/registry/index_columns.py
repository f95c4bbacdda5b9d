"""Columns as values. SQLite gives whatever a row holds, whatever its column's type says: here it is looked at. Pure.

ValueError and TypeError mean a row that rotted; `samara.registry.index_database` calls it damage.
"""

from __future__ import annotations

from pathlib import Path

from samara.schemas.digests import b3_text

_DIGEST_BYTES = 32


def text_of(value: str) -> str:
    """A column's text."""
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text belongs")
    return value


def bytes_of(value: bytes) -> bytes:
    """A column's bytes."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} where bytes belong")
    return value


def digest_of(raw: bytes) -> str:
    """A digest's column as `b3:` text."""
    if len(raw) != _DIGEST_BYTES:
        raise ValueError(f"a digest of {len(raw)} bytes")
    return b3_text(raw)


def path_of(text: str) -> Path:
    """A path's column."""
    if "\0" in text_of(text):
        raise ValueError("a path with a zero byte")
    return Path(text)
