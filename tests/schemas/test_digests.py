"""Digests as text and as bytes."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from release_kit import digest_bytes

from samara.schemas.digests import b3, b3_hex, b3_raw, b3_text, sha256_raw, sha256_text
from samara.schemas.errors import UsageError


@given(digest_bytes)
def test_text_and_bytes_are_the_same_digest(raw: bytes) -> None:
    assert b3_raw(b3_text(raw)) == raw
    assert sha256_raw(sha256_text(raw)) == raw
    assert b3_hex(b3_text(raw)) == raw.hex()


@given(st.binary(max_size=200))
def test_b3_is_what_b3sum_prints(data: bytes) -> None:
    assert b3(data) == "b3:" + blake3(data).hexdigest() == b3(bytearray(data)) == b3(memoryview(data))


def test_the_digest_of_nothing_is_the_published_one() -> None:
    assert b3(b"") == "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b3:",
        "ab" * 32,
        "sha256:" + "ab" * 32,
        "B3:" + "ab" * 32,
        "b3:" + "AB" * 32,
        "b3:" + "ab" * 31,
        "b3:" + "ab" * 33,
        "b3:" + "ab" * 32 + "\n",
        " b3:" + "ab" * 32,
        "b3:" + "xy" * 32,
        "b3:" + "٣٤" * 32,
    ],
)
def test_nothing_else_is_a_digest(text: str) -> None:
    with pytest.raises(UsageError, match="not a digest") as caught:
        b3_raw(text)
    assert caught.value.expected == "b3:<64 lower-case hex digits>"


def test_one_algorithm_is_never_taken_for_the_other() -> None:
    with pytest.raises(UsageError):
        sha256_raw(b3_text(bytes(32)))


@given(st.text(max_size=80))
def test_any_text_is_a_digest_or_a_usage_error(text: str) -> None:
    try:
        raw = b3_raw(text)
    except UsageError:
        return
    assert b3_text(raw) == text
