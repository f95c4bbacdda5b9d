"""Addresses of trackers, as people write them (BEP 3). Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from samara.schemas.errors import UsageError

MAX_ANNOUNCE_URL = 1024  # characters; a tracker that knows its users has a secret in it
MAX_TRACKERS = 64  # as many registries as may be configured, and more
_URL = re.compile(r"https?://[A-Za-z0-9.\-_\[\]:]+(/[!-~]*)?\Z")


def check_announce_url(text: str) -> str:
    """The announce URL of an HTTP(S) tracker, as it was given. Raises UsageError."""
    try:
        parts = urlsplit(text)
        fits = bool(_URL.match(text)) and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, or no port
        fits = False
    if not fits or "#" in text or len(text) > MAX_ANNOUNCE_URL:
        raise UsageError(
            "not the address of a tracker", expected="http(s)://HOST[:PORT]/announce", actual=repr(text[:120])
        )
    return text
