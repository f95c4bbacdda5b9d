"""Sizes as people write them. Pure."""

from __future__ import annotations

import re

from samara.schemas.errors import UsageError

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kmgtKMGT]?)(i?)[bB]?\Z")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """`500G`, `1.5TB`, `512MiB` → bytes; k, M, G, T are powers of 1000, with an i of 1024. Raises UsageError."""
    found = _SIZE.match(text.strip())
    size = int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].lower()]) if found else 0
    if not 1 <= size < 2**60:
        raise UsageError("not a size", expected="bytes such as 500G or 1.5T", actual=repr(text[:80]))
    return size
