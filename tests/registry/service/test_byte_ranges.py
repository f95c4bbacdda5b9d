"""Conditions and ranges against RFC 9110, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samara.registry.service.byte_ranges import Part, Wanted, part_of
from samara.registry.service.codings import takes
from samara.registry.service.downloads import content_disposition

SIZE = 1000
TAG = "ab" * 32
WHOLE = (200, 0, SIZE)

# Range → (status, start, end); the section of RFC 9110 that says so
RANGES = [
    ("bytes=0-499", (206, 0, 500), "14.1.2"),
    ("bytes=500-999", (206, 500, 1000), "14.1.2"),
    ("bytes=-500", (206, 500, 1000), "14.1.2"),
    ("bytes=999-", (206, 999, 1000), "14.1.2"),
    ("bytes=0-0", (206, 0, 1), "14.1.2"),
    ("bytes=-1", (206, 999, 1000), "14.1.2"),
    ("bytes=0-", (206, 0, 1000), "14.1.2"),
    ("bytes=0-99999", (206, 0, 1000), "14.1.2: a last position beyond the end means the end"),
    ("bytes=-99999", (206, 0, 1000), "14.1.2: a suffix longer than the whole is the whole"),
    ("BYTES=1-2", (206, 1, 3), "14.1: units are case-insensitive"),
    ("bytes= 1-2 ", (206, 1, 3), "5.6.3: optional whitespace"),
    ("bytes=1000-", (416, 0, 0), "14.1.2: unsatisfiable"),
    ("bytes=1000-2000", (416, 0, 0), "14.1.2: unsatisfiable"),
    ("bytes=9999999999999999999-", (416, 0, 0), "14.1.2: unsatisfiable"),
    ("bytes=-0", (416, 0, 0), "14.1.2: unsatisfiable"),
    ("bytes=5-4", WHOLE, "14.2: invalid, ignored"),
    ("bytes=", WHOLE, "14.2: invalid, ignored"),
    ("bytes=-", WHOLE, "14.2: invalid, ignored"),
    ("bytes=a-b", WHOLE, "14.2: invalid, ignored"),
    ("bytes=--1", WHOLE, "14.2: invalid, ignored"),
    ("bytes=1 -2", WHOLE, "14.2: invalid, ignored"),
    ("bytes=+1-2", WHOLE, "14.2: invalid, ignored"),
    ("bytes=१-२", WHOLE, "14.2: digits are ASCII"),
    ("bytes=1-2\n", (206, 1, 3), "5.5: surrounding whitespace is no part of a value"),
    ("bytes=" + "9" * 5000 + "-", WHOLE, "14.2: too large to mean anything"),
    ("bytes", WHOLE, "14.2: invalid, ignored"),
    ("", WHOLE, "14.2: invalid, ignored"),
    ("items=0-5", WHOLE, "14.2: an unknown unit is ignored"),
    ("bytes=0-0,2-2", WHOLE, "14.2: several may be ignored"),
    ("bytes=" + ",".join(["0-"] * 1000), WHOLE, "14.2: overlapping ranges are never amplified"),
]


@pytest.mark.parametrize(("text", "expected", "section"), RANGES, ids=[row[0][:30] for row in RANGES])
def test_a_range_means_what_the_rfc_says(text: str, expected: tuple[int, int, int], section: str) -> None:
    part = part_of(Wanted(ranges=(text,)), etag=TAG, size=SIZE)
    assert (part.status, part.start, part.end) == expected, section


CONDITIONS = [
    (Wanted(if_none_match=(f'"{TAG}"',)), 304),
    (Wanted(if_none_match=(f'W/"{TAG}"',)), 304),  # §13.1.2: compared weakly
    (Wanted(if_none_match=(f'"x", "{TAG}"',)), 304),
    (Wanted(if_none_match=('"x"', f'"{TAG}"')), 304),
    (Wanted(if_none_match=("*",)), 304),
    (Wanted(if_none_match=('"x"',)), 200),
    (Wanted(if_none_match=(TAG,)), 200),  # no tag without its quotes
    (Wanted(if_none_match=("",)), 200),
    (Wanted(method="HEAD", if_none_match=(f'"{TAG}"',)), 304),
    (Wanted(if_match=(f'"{TAG}"',)), 200),
    (Wanted(if_match=("*",)), 200),
    (Wanted(if_match=(f'W/"{TAG}"',)), 412),  # §13.1.1: compared strongly
    (Wanted(if_match=('"x"',)), 412),
    (Wanted(if_match=('"x"',), if_none_match=(f'"{TAG}"',)), 412),  # §13.2.2: If-Match goes first
    (Wanted(if_none_match=(f'"{TAG}"',), ranges=("bytes=0-1",)), 304),  # §13.2.2: before Range
    (Wanted(if_match=(f'"{TAG}"',), ranges=("bytes=0-1",)), 206),
    (Wanted(if_range=(f'"{TAG}"',), ranges=("bytes=0-1",)), 206),
    (Wanted(if_range=(f'W/"{TAG}"',), ranges=("bytes=0-1",)), 200),  # §13.1.5: strong or nothing
    (Wanted(if_range=('"x"',), ranges=("bytes=0-1",)), 200),
    (Wanted(if_range=("Sun, 06 Nov 1994 08:49:37 GMT",), ranges=("bytes=0-1",)), 200),  # there is no date to match
    (Wanted(if_range=('"x"',), ranges=("bytes=5000-",)), 200),  # §13.1.5: not even 416
    (Wanted(if_range=(f'"{TAG}"', '"x"'), ranges=("bytes=0-1",)), 200),
    (Wanted(method="HEAD", ranges=("bytes=0-1",)), 200),  # §14.2: Range is for GET alone
    (Wanted(ranges=("bytes=0-1", "bytes=2-3")), 200),
    (Wanted(if_none_match=(", ".join(f'"{n}"' for n in range(100)) + f', "{TAG}"',)), 200),  # too many to look at
]


@pytest.mark.parametrize(("wanted", "status"), CONDITIONS)
def test_conditions_are_decided_in_the_rfcs_order(wanted: Wanted, status: int) -> None:
    assert part_of(wanted, etag=TAG, size=SIZE).status == status


@given(text=st.text(max_size=60) | st.from_regex(r"bytes=[0-9,\- ]{0,20}", fullmatch=True), size=st.integers(1, 2**53))
def test_whatever_is_asked_for_lies_within_the_blob(text: str, size: int) -> None:
    part = part_of(Wanted(ranges=(text,)), etag=TAG, size=size)
    assert part.status in {200, 206, 416}
    assert 0 <= part.start <= part.end <= size
    assert (part.size > 0) == (part.status != 416)


def test_content_range_says_what_is_sent() -> None:
    assert Part(status=206, start=5, end=10).content_range(100) == "bytes 5-9/100"
    assert Part(status=416).content_range(100) == "bytes */100"
    assert Part(status=200, end=100).content_range(100) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ((), False),
        (("zstd",), True),
        (("gzip, zstd",), True),
        (("zstd;q=0",), False),
        (("zstd;q=0.5, identity",), False),
        (("zstd;q=1, identity;q=0.5",), True),
        (("*",), True),
        (("*;q=0",), False),
        (("*, zstd;q=0",), False),
        (("ZSTD",), True),
        (("zstd;q=1.5",), False),
        (("zstd;q=abc",), False),
        (("gzip",), False),
        (("identity",), False),
        ((",".join(["x"] * 1000) + ",zstd",), False),
    ],
)
def test_zstd_is_for_who_takes_it(header: tuple[str, ...], expected: bool) -> None:
    assert takes("zstd", header) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "attachment"),
        ("tiny.gguf", 'attachment; filename="tiny.gguf"'),
        ("a/b/../tiny.gguf", 'attachment; filename="tiny.gguf"'),
        ("..\\..\\evil.exe", 'attachment; filename="evil.exe"'),
        ('x"; f="evil', "attachment; filename=\"x_; f=_evil\"; filename*=UTF-8''x%22%3B%20f%3D%22evil"),
        ("a\r\nSet-Cookie: x", "attachment; filename=\"aSet-Cookie: x\""),
        ("..", "attachment"),
        ("Größe.gguf", "attachment; filename=\"Gr__e.gguf\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.gguf"),
        ("50%.gguf", "attachment; filename=\"50_.gguf\"; filename*=UTF-8''50%25.gguf"),
        ("\ud800x", 'attachment; filename="x"'),
        ("\u202egpj.exe", 'attachment; filename="gpj.exe"'),
    ],
)  # fmt: skip
def test_a_file_name_can_end_neither_header_nor_quotes(name: str | None, expected: str) -> None:
    assert content_disposition(name) == expected


@given(st.text(max_size=300))
def test_every_name_makes_a_header_of_printable_ascii(name: str) -> None:
    header = content_disposition(name)
    assert header.isascii() and header.isprintable() and len(header) < 1200
