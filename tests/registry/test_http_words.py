"""URLs and headers as they are read: one meaning or none, and never an exception that isn't ours."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from samara.registry.http.failures import HttpError
from samara.registry.http.headers import (
    MAX_RETRY_AFTER,
    BrokenAnswerError,
    body_of,
    http_date,
    retry_after,
    validator,
)
from samara.registry.http.urls import follow, parse_url
from samara.schemas.errors import UsageError

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
labels = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)
names = st.lists(labels, min_size=1, max_size=4).map(".".join).filter(lambda name: name[-1].isalpha())
hosts = st.one_of(
    names,
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)
ports = st.one_of(st.none(), st.integers(1, 65535))
paths = st.text(string.ascii_letters + string.digits + "/-._~%+=&", max_size=30).map(lambda text: "/" + text)
urls = st.builds(
    lambda scheme, host, port, path: f"{scheme}://{host}{'' if port is None else f':{port}'}{path}",
    st.sampled_from(["http", "https"]),
    hosts,
    ports,
    paths,
)

# --- URLs -----------------------------------------------------------------------------------------------------------


@given(urls)
def test_a_url_is_read_as_the_standard_library_reads_it_and_written_so_that_it_is_read_the_same(url: str) -> None:
    target = parse_url(url)
    parts = urlsplit(url)
    assert target.host == parts.hostname or ":" in target.host
    assert target.port == (parts.port or {"http": 80, "https": 443}[parts.scheme])
    assert target.path == parts.path
    assert parse_url(target.url) == target


@given(
    st.one_of(
        st.text(), st.text().map("http://".__add__), st.text(st.characters(max_codepoint=300)).map("https://h".__add__)
    )
)
def test_any_text_is_a_url_or_a_usage_error(text: str) -> None:
    try:
        target = parse_url(text)
    except UsageError:
        return
    assert target.url.isascii()
    assert target.url.isprintable()
    assert not set(target.url) & set(' "<>\\^`{|}#')
    assert target.authority.count("@") == 0
    assert parse_url(target.url) == target


@given(urls, st.text(st.characters(max_codepoint=255)))
def test_any_location_is_followed_or_refused(url: str, location: str) -> None:
    here = parse_url(url)
    try:
        there = follow(here, location)
    except HttpError:
        return
    assert parse_url(there.url) == there
    assert (here.scheme, there.scheme) != ("https", "http")


@given(st.ip_addresses(v=4), st.sampled_from(["{}", "0x{:x}", "{:o}", "0{:o}"]))
def test_a_number_is_never_taken_for_a_name(address: IPv4Address, form: str) -> None:
    """Resolvers read them as addresses (inet_aton), and a proxy's resolver too, where nobody judges them."""
    one, *rest = address.packed
    for text in (form.format(int(address)), f"{form.format(one)}.{int.from_bytes(bytes(rest))}"):
        with pytest.raises(UsageError):
            parse_url(f"http://{text}/")


@pytest.mark.parametrize(
    ("text", "host", "address"),
    [
        ("http://EXAMPLE.org./", "example.org", None),
        ("http://xn--bcher-kva.example/", "xn--bcher-kva.example", None),
        ("http://[::FFFF:127.0.0.1]/", "::ffff:7f00:1", "::ffff:7f00:1"),
        ("http://[2001:DB8::0:1]/", "2001:db8::1", "2001:db8::1"),
        ("http://_a.b-c.example/", "_a.b-c.example", None),
    ],
)
def test_hosts_have_one_spelling(text: str, host: str, address: str | None) -> None:
    target = parse_url(text)
    assert target.host == (str(IPv6Address(host)) if ":" in host else host)
    assert target.address == (None if address is None else target.host)


@pytest.mark.parametrize(
    "host",
    [
        *("bücher.example", "①27.0.0.1", "127。0。0。1"),
        *("-a.example", "a-.example", "a..example", ".example", "a%41.example", "a,b", "a*b"),
        *("a" * 64 + ".example", ".".join(["a"] * 130)),
        *("1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.04", "a.0x1", "a.1", "[::1%eth0]", "[1.2.3.4]", "[::g]"),
        *("[::1]x", "a[::1]", "a:b:80", "a:8 0", "a:+80", "a:8_0", "[::1]:80:80", "[::1]]", "[]"),
    ],
)
def test_hosts_that_cannot_be(host: str) -> None:
    with pytest.raises(UsageError):
        parse_url(f"http://{host}/")


# --- which part -----------------------------------------------------------------------------------------------------

sizes = st.integers(1, 10**15)


@given(sizes, st.data())
def test_an_honest_part_is_accepted_and_is_what_was_asked_for(size: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.one_of(st.none(), st.integers(start + 1, 2 * size)))
    assume((start, end) != (0, None))
    stop = size if end is None else min(end, size)
    headers = {"content-range": f"bytes {start}-{stop - 1}/{size}", "content-length": str(stop - start)}
    body = body_of(206, headers, start=start, end=end)
    assert (body.start, body.length, body.total) == (start, stop - start, size)


@given(sizes, st.data(), st.integers(-3, 3), st.integers(-3, 3), st.integers(-3, 3))
def test_one_that_is_wrong_by_a_byte_is_not(size: int, data: st.DataObject, one: int, two: int, three: int) -> None:
    assume(one or two or three)
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    headers = {
        "content-range": f"bytes {start + one}-{stop - 1 + two}/{size}",
        "content-length": str(stop - start + three),
    }
    with pytest.raises(BrokenAnswerError):
        body_of(206, headers, start=start, end=stop)


@given(
    st.sampled_from([200, 206]),
    st.dictionaries(
        st.sampled_from(["content-range", "content-length", "transfer-encoding", "content-encoding"]), st.text()
    ),
    st.integers(0, 100),
    st.one_of(st.none(), st.integers(101, 200)),
)
def test_any_headers_are_understood_or_broken(
    status: int, headers: dict[str, str], start: int, end: int | None
) -> None:
    try:
        body = body_of(status, headers, start=start, end=end)
    except BrokenAnswerError:
        return
    assert body.start in (0, start)
    assert body.length is None or 0 <= body.length < 10**18


# --- validators and dates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"etag": '"a"'}, '"a"'),
        ({"etag": '""'}, '""'),
        ({"etag": 'W/"a"'}, None),
        ({"etag": 'W/"a"', "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, "Wed, 21 Oct 2015 07:28:00 GMT"),
        ({"etag": '"a"', "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, '"a"'),
        ({"etag": "a"}, None),
        ({"etag": '"a", "b"'}, None),
        ({"etag": '"a\r\nX: y"'}, None),
        ({"etag": '"' + "a" * 300 + '"'}, None),
        ({"last-modified": "yesterday"}, None),
        ({"last-modified": "Wed, 21 Oct 2015 07:28:00 GMT\r\nX: y"}, None),
    ],
)
def test_a_validator_is_strong_or_a_date_or_none(headers: dict[str, str], expected: str | None) -> None:
    assert validator(headers) == expected


@given(st.text())
def test_any_validator_fits_a_header(text: str) -> None:
    for headers in ({"etag": text}, {"etag": f'"{text}"'}, {"last-modified": text}):
        found = validator(headers)
        assert found is None or (found.isascii() and found.isprintable() and len(found) <= 256)


@given(st.integers(0, 10**9))
def test_seconds_to_wait_are_those_said_within_reason(seconds: int) -> None:
    assert retry_after({"retry-after": str(seconds)}, NOW) == min(seconds, MAX_RETRY_AFTER)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_a_date_to_wait_for_counts_from_the_servers_clock_if_it_tells_it(seconds: int, wrong_by: int) -> None:
    theirs = NOW + timedelta(seconds=wrong_by)
    until = format_datetime(theirs + timedelta(seconds=seconds), usegmt=True)
    expected = min(max(seconds, 0), MAX_RETRY_AFTER)
    assert retry_after({"retry-after": until, "date": format_datetime(theirs, usegmt=True)}, NOW) == expected
    assert retry_after({"retry-after": until}, theirs) == expected


@given(st.text(), st.text())
def test_any_words_are_a_time_to_wait_or_none(wait: str, date: str) -> None:
    found = retry_after({"retry-after": wait, "date": date}, NOW)
    assert found is None or 0 <= found <= MAX_RETRY_AFTER


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_all_three_forms_of_a_date_are_read(text: str) -> None:
    assert http_date(text) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
