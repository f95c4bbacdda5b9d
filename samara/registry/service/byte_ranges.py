"""What to answer to a request for unchanging bytes: conditions and ranges of RFC 9110 §13 and §14. Pure.

A blob has one strong ETag and no modification date, so conditions on dates never hold anything up. One range is
granted; a header with several is ignored, as is one that can't be understood (§14.2 allows both): whoever asks for a
thousand overlapping ones gets the bytes once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_TAGS = 64  # entity tags looked at in one header
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(?:([0-9]{1,19})-([0-9]{1,19})?|-([0-9]{1,19}))[ \t]*\Z", re.IGNORECASE)
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What to send: `status` 200, 206, 304, 412 or 416, and bytes [start, end), none unless it is 200 or 206."""

    status: int
    start: int = 0
    end: int = 0

    @property
    def size(self) -> int:
        """Bytes to send."""
        return self.end - self.start

    def content_range(self, size: int) -> str | None:
        """The Content-Range of an object of `size` bytes; None where there is none."""
        if self.status == 206:
            return f"bytes {self.start}-{self.end - 1}/{size}"
        return f"bytes */{size}" if self.status == 416 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The headers that decide, each as often as it was sent."""

    method: str = "GET"
    if_match: Sequence[str] = ()
    if_none_match: Sequence[str] = ()
    if_range: Sequence[str] = ()
    ranges: Sequence[str] = ()

    @classmethod
    def of(cls, method: str, headers: Mapping[str, Sequence[str]]) -> Wanted:
        """`headers`: values by name in lower case."""
        return cls(
            method=method,
            if_match=headers.get("if-match", ()),
            if_none_match=headers.get("if-none-match", ()),
            if_range=headers.get("if-range", ()),
            ranges=headers.get("range", ()),
        )


def part_of(wanted: Wanted, *, etag: str, size: int) -> Part:
    """Decide, in the order of RFC 9110 §13.2.2. `etag`: the strong tag without quotes; `size` ≥ 1 bytes."""
    if wanted.if_match and not _is_among(wanted.if_match, etag, weak=False):
        return Part(status=412)
    if wanted.if_none_match and _is_among(wanted.if_none_match, etag, weak=True):
        return Part(status=304)
    whole = Part(status=200, end=size)
    if wanted.method != "GET" or len(wanted.ranges) != 1:
        return whole
    if wanted.if_range and (len(wanted.if_range) != 1 or wanted.if_range[0].strip() != f'"{etag}"'):
        return whole
    return _range(wanted.ranges[0].strip(), size) or whole


def _range(text: str, size: int) -> Part | None:
    found = _RANGE.match(text)
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        length = min(int(suffix), size)
        return Part(status=206, start=size - length, end=size) if length else Part(status=416)
    start = int(first)
    if last is not None and int(last) < start:
        return None  # invalid, not unsatisfiable (§14.1.2)
    if start >= size:
        return Part(status=416)
    return Part(status=206, start=start, end=size if last is None else min(int(last) + 1, size))


def _is_among(values: Sequence[str], etag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags names `etag`; `*` names whatever there is. `weak`: compared weakly (§8.8.3.2)."""
    if [value.strip() for value in values] == ["*"]:
        return True
    found = 0
    for value in values:
        for tag in _TAG.finditer(value):
            found += 1
            if found > MAX_TAGS:
                return False
            if tag[2] == etag and (weak or not tag[1]):
                return True
    return False
