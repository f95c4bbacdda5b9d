"""Which content coding a client takes (RFC 9110 §12.5.3). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_CODINGS = 32  # looked at in one request
_CODING = re.compile(
    r"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32})[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?[ \t]*\Z"
)


def takes(coding: str, accept_encoding: Sequence[str]) -> bool:
    """Whether `coding` is welcome, and not less than the bytes as they are. No header: only as they are."""
    qualities = _qualities(accept_encoding)
    other = qualities.get("*")
    wanted = qualities.get(coding, 0.0 if other is None else other)
    plain = qualities.get("identity", 0.0)
    return wanted > 0 and wanted >= plain


def _qualities(values: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in ",".join(values).split(",")[:MAX_CODINGS]:
        match = _CODING.match(part)
        if match is not None:
            found.setdefault(match[1].lower(), float(match[2] or 1))
    return found
