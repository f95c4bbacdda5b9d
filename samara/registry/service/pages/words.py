"""Numbers, moments and publishers' words as a page says them. Pure; escaping is the templates' business.

What publishers write is shown as plain text: control characters and those that reorder a line are made visible.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from urllib.parse import urlsplit

UNSEEN = "\ufffd"
# Formatting characters that words in some scripts need (joiners), or that do no harm on their own line (marks).
_HARMLESS = frozenset("\u200c\u200d\u200e\u200f\u00ad")
_MAIL = re.compile(r"[a-z0-9._+-]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){0,8}", re.ASCII | re.IGNORECASE)
_WEB_LINK = re.compile(r"https?://[a-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:[/?#][!-~]{0,1024})?", re.ASCII | re.IGNORECASE)


def clean(text: str) -> str:
    """Text of unknown origin without what could reorder or hide what is around it; line feeds and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or _is_seen(c) else UNSEEN for c in text)


def _is_seen(character: str) -> bool:
    if character in _HARMLESS:
        return True
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the cut marked."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def one_line(text: str, limit: int) -> str:
    """The same on one line, cleaned."""
    return shorten(" ".join(clean(text[: 4 * limit]).split()), limit)


def size(count: float) -> str:
    """Bytes in decimal units, as disks and links are sold: 773.2 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 999.95 or unit == "TB":
            return f"{count:,.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError


def short_count(count: int) -> str:
    """How many parameters a model has, as people say it: 1.24 B, 774 M."""
    for limit, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= limit:
            return f"{count / limit:,.3g} {unit}" if count < 1000 * limit else f"{count / limit:,.0f} {unit}"
    return str(count)


def tokens(count: int) -> str:
    """A context length: 131,072 tokens."""
    return f"{count:,} tokens"


def percent(part: int, whole: int) -> str:
    """A share. Never rounded to all or nothing: 100 % is all of it, 0 % is none."""
    if whole <= 0 or part <= 0:
        return "0 %"
    if part >= whole:
        return "100 %"
    tenths = min(999, part * 1000 // whole)
    return f"{tenths / 10:.1f} %" if tenths else "less than 0.1 %"


def plural(count: int, one: str, many: str | None = None) -> str:
    """1 file, 2 files."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def moment(at: float) -> str:
    """UTC epoch seconds → 2026-01-02 03:04 UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "unknown"


def day(at: float) -> str:
    """UTC epoch seconds → 2 Jan 2026."""
    try:
        found = datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return "unknown"
    return f"{found.day} {found:%b %Y}"


def day_of(created: str) -> str:
    """`2026-01-02T03:04:05Z` → 2 Jan 2026."""
    found = datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return f"{found.day} {found:%b %Y}"


def web_link(text: str) -> str | None:
    """`text` if it is a plain http(s) address that a reader may be led to; None for everything else."""
    if len(text) > 1400 or not _WEB_LINK.fullmatch(text):
        return None
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  (raises for a number that is none)
    except ValueError:
        return None
    return text if parts.hostname and parts.username is None else None


def mail_link(text: str) -> str | None:
    """`mailto:` and the address if `text` is a plain one."""
    return f"mailto:{text}" if _MAIL.fullmatch(text) else None


def iso(at: float) -> str:
    """UTC epoch seconds → 2026-01-02T03:04:05Z, for machines."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""
