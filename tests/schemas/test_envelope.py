"""The DSSE envelope's shape, and the two readers everything of ours goes through: JSON and base64."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from release_kit import GONE, HEX64, edited, json_values, pointers

from samara.schemas.envelope import (
    MAX_JSON_MARKS,
    MAX_PAYLOAD_BYTES,
    MAX_SIGNATURES,
    PAYLOAD_TYPE,
    Envelope,
    Signature,
    base64_bytes,
    canonical_json,
    parse_envelope,
    strict_json,
)
from samara.schemas.errors import MalformedError, SamaraError

ENVELOPE = Envelope(
    payload=b'{"a":1}',
    signatures=(Signature(keyid=HEX64, sig=bytes(64)), Signature(keyid="cd" * 32, sig=b"\x01" * 64)),
)
WIRE: Any = ENVELOPE.as_dict()

signatures = st.builds(Signature, keyid=st.binary(min_size=32, max_size=32).map(bytes.hex), sig=st.binary(min_size=1, max_size=512))  # fmt: skip  # noqa: E501
envelopes = st.builds(
    Envelope,
    payload=st.binary(min_size=1, max_size=200),
    signatures=st.lists(signatures, min_size=1, max_size=4, unique_by=lambda one: one.keyid).map(tuple),
)


@given(envelopes)
def test_an_envelope_survives_being_written_and_read(envelope: Envelope) -> None:
    assert parse_envelope(json.loads(json.dumps(envelope.as_dict()))) == envelope


def test_fields_nobody_knows_are_ignored() -> None:
    assert parse_envelope(edited(edited(WIRE, "/x-new", 1), "/signatures/0/cert", "…")) == ENVELOPE


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/payloadType", GONE),
        ("/payloadType", "application/json"),
        ("/payloadType", PAYLOAD_TYPE + " "),
        ("/payloadType", ["application/vnd.in-toto+json"]),
        ("/payload", GONE),
        ("/payload", ""),
        ("/payload", 5),
        ("/payload", "eyJ"),
        ("/payload", "eyJhIjoxfQ"),
        ("/payload", "eyJhIjoxfQ==\n"),
        ("/payload", "eyJhIjoxfR=="),
        ("/payload", "eyJhIjox-_=="),
        ("/payload", "é" * 4),
        ("/payload", "A" * (MAX_PAYLOAD_BYTES // 3 * 4 + 8)),
        ("/signatures", GONE),
        ("/signatures", []),
        ("/signatures", {}),
        ("/signatures", [WIRE["signatures"][0]] * 2),
        ("/signatures", [{"keyid": f"{i:064x}", "sig": "AA=="} for i in range(MAX_SIGNATURES + 1)]),
        ("/signatures/0", "x"),
        ("/signatures/0/keyid", GONE),
        ("/signatures/0/keyid", HEX64.upper()),
        ("/signatures/0/keyid", HEX64 + "\n"),
        ("/signatures/0/sig", GONE),
        ("/signatures/0/sig", ""),
        ("/signatures/0/sig", HEX64 + "!"),
        ("/signatures/0/sig", base64.b64encode(bytes(513)).decode()),
    ],
    ids=lambda value: str(value)[:30],
)
def test_another_shape_is_refused(pointer: str, value: Any) -> None:
    with pytest.raises(MalformedError):
        parse_envelope(edited(WIRE, pointer, value))


@pytest.mark.parametrize("value", [None, [], "x", 5, {}])
def test_what_is_no_envelope_at_all_is_refused(value: object) -> None:
    with pytest.raises(MalformedError):
        parse_envelope(value)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(pointers(WIRE)), json_values | st.just(GONE))
def test_any_value_anywhere_gives_an_envelope_or_a_malformed_error(pointer: str, value: Any) -> None:
    try:
        parse_envelope(edited(WIRE, pointer, value))
    except SamaraError as error:
        assert isinstance(error, MalformedError)


class TestBase64:
    @given(st.binary(min_size=1, max_size=100))
    def test_bytes_have_one_text(self, data: bytes) -> None:
        assert base64_bytes(base64.b64encode(data).decode(), "x", limit=100) == data

    @given(st.text("Ab1+/=-_ \n", max_size=9))
    def test_and_every_other_text_is_refused(self, text: str) -> None:
        try:
            data = base64_bytes(text, "x", limit=100)
        except MalformedError:
            return
        assert base64.b64encode(data).decode() == text

    @pytest.mark.parametrize("size", [1, 2, 3, 99, 100])
    def test_the_limit_is_exact(self, size: int) -> None:
        text = base64.b64encode(bytes(size)).decode()
        assert base64_bytes(text, "x", limit=size) == bytes(size)
        with pytest.raises(MalformedError):
            base64_bytes(text, "x", limit=size - 1)


class TestJson:
    @given(json_values)
    def test_canonical_json_reads_back_and_is_the_same_again(self, value: Any) -> None:
        try:
            written = canonical_json(value)
        except ValueError:  # an infinity, or half a surrogate pair: not JSON, so not written
            return
        assert canonical_json(strict_json(written, "x")) == written

    def test_canonical_json_has_sorted_keys_no_spaces_and_plain_utf8(self) -> None:
        assert canonical_json({"b": [1, None], "a": "é\n"}) == '{"a":"é\\n","b":[1,null]}'.encode()

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": float("-inf")}])
    def test_what_json_cannot_say_is_not_written(self, value: object) -> None:
        with pytest.raises(ValueError, match="JSON"):
            canonical_json(value)

    def test_a_document_may_have_many_values_but_not_any_number(self) -> None:
        least = b"[" + b"1," * (MAX_JSON_MARKS - 1) + b"1]"
        assert isinstance(strict_json(least, "x"), list)
        with pytest.raises(MalformedError, match="too many values"):
            strict_json(b"[" + least + b"]", "x")

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=40) | st.text('{}[]",:0123456789.eE+-nulltrue\\ ', max_size=40).map(str.encode))
    def test_any_bytes_are_json_or_malformed(self, data: bytes) -> None:
        try:
            strict_json(data, "x")
        except SamaraError as error:
            assert isinstance(error, MalformedError)
            assert "\n" not in str(error)
