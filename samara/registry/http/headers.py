"""What an answer's headers promise about its body, and what of them may be believed. Pure.

A server's words are bounded and checked here; what doesn't fit what was asked is BROKEN rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER = 24 * 3600.0  # seconds: no longer is anybody believed
_NUMBER = re.compile(r"[0-9]{1,18}\Z")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)\Z", re.IGNORECASE)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{0,200}"\Z')
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """`start`: offset of its first byte in the object; `length`: bytes, None if only the end will tell; `total`: bytes
    of the whole object, None if not said; `chunked`: how it is sent."""

    start: int
    length: int | None
    total: int | None
    chunked: bool


class BrokenAnswerError(ValueError):
    """The headers contradict HTTP, or what was asked."""


def body_of(status: int, headers: Mapping[str, str], *, start: int, end: int | None) -> Body:
    """What comes after the headers of a 200 or 206 that answers a request for [start, end).

    `headers`: lower-case names. RFC 9110 (14.4, 15.3.7), RFC 9112 (6.3). Raises BrokenAnswerError.
    """
    encodings = {part.strip().lower() for part in headers.get("content-encoding", "").split(",")}
    if encodings & _ENCODINGS:
        raise BrokenAnswerError(f"it is encoded ({headers['content-encoding'][:40]}), which wasn't asked for")
    announced, chunked = _framing(headers)
    if status == 200:
        return Body(start=0, length=announced, total=announced, chunked=chunked)
    if start == 0 and end is None:
        raise BrokenAnswerError("it is a part, and the whole was asked for")
    first, last, total = _content_range(headers.get("content-range", ""))
    expected = _expected_end(end, total, last)
    if first != start or last + 1 != expected:
        asked = f"{start}-{'' if end is None else end - 1}"
        raise BrokenAnswerError(f"it is bytes {first}-{last}, and {asked} was asked for")
    if announced is not None and announced != expected - start:
        raise BrokenAnswerError(f"it announces {announced} bytes for a part of {expected - start}")
    return Body(start=start, length=expected - start, total=total, chunked=chunked)


def validator(headers: Mapping[str, str]) -> str | None:
    """What tells one state of an object from another, fit for If-Range: a strong ETag, else Last-Modified, else None.

    RFC 9110 (13.1.5): a weak ETag isn't; `headers`: lower-case names.
    """
    etag = headers.get("etag", "")
    if _STRONG_ETAG.match(etag):
        return etag
    modified = headers.get("last-modified", "")
    return modified if http_date(modified) is not None and modified.isascii() and modified.isprintable() else None


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """For how many seconds from `now` the server asks to be left alone: 0 … MAX_RETRY_AFTER, None if it doesn't say.

    RFC 9110 (10.2.3): seconds, or a date; a date counts from the server's own clock if it tells that, since ours or its
    may be wrong. `headers`: lower-case names.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:18]), MAX_RETRY_AFTER)
    until = http_date(text)
    if until is None:
        return None
    since = http_date(headers.get("date", "")) or now
    return min(max((until - since).total_seconds(), 0.0), MAX_RETRY_AFTER)


def http_date(text: str) -> datetime | None:
    """A date as HTTP writes it (RFC 9110 5.6.7), in UTC."""
    if not 20 <= len(text) <= 64:
        return None
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _framing(headers: Mapping[str, str]) -> tuple[int | None, bool]:
    """(announced bytes, chunked). A server that says both, or says one in two ways, can't be understood safely."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if coding.strip().lower() != "chunked" or length is not None:
            raise BrokenAnswerError("how long it is isn't said in one clear way")
        return None, True
    if length is None:
        return None, False
    said = {part.strip() for part in length.split(",")}
    one = said.pop()
    if said or not _NUMBER.match(one):
        raise BrokenAnswerError(f"it has no understandable length ({length[:40]!r})")
    return int(one), False


def _content_range(text: str) -> tuple[int, int, int | None]:
    found = _CONTENT_RANGE.match(text.strip())
    if found is None:
        raise BrokenAnswerError(f"it doesn't say which part it is ({text[:60]!r})")
    first, last, total = int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])
    if first > last or (total is not None and last >= total):
        raise BrokenAnswerError(f"it says that it is an impossible part ({text[:60]!r})")
    return first, last, total


def _expected_end(end: int | None, total: int | None, last: int) -> int:
    """Where the part must end: as asked, or where the object does. An open end of an unknown total is up to them."""
    known = [limit for limit in (end, total) if limit is not None]
    return min(known) if known else last + 1
