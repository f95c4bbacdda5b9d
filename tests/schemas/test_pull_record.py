"""Pull records: written sorted, bounded and without secrets; read strictly."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samara.schemas.errors import MalformedError
from samara.schemas.pull_record import (
    MAX_ENDPOINTS,
    MAX_EVIDENCE,
    MAX_FILE,
    MAX_NAME,
    MAX_REASON,
    MAX_RECORD_BYTES,
    MAX_REFERENCES,
    EndpointRecord,
    Evidence,
    Found,
    Kind,
    PullRecord,
    as_recorded,
    merge,
    tidy,
    without_secrets,
)

DIGEST, OTHER = "b3:" + "ab" * 32, "b3:" + "cd" * 32
LIE = Evidence(file="model.gguf", block=17, expected=DIGEST, actual=OTHER)
PEER = EndpointRecord(
    endpoint="192.0.2.7:6901",
    kind="peer",
    found=("told", "lan"),
    bytes_in=1000,
    bytes_out=10,
    blocks_verified=3,
    blocks_rejected=1,
    evidence=(LIE,),
)
MIRROR = EndpointRecord(endpoint="[2001:db8::1]:443", kind="mirror", name="https://example.org/a.gguf")
RECORD = PullRecord(
    started="2026-01-02T03:04:05Z",
    ended="2026-01-02T03:05:00Z",
    references=("acme/tiny:q8_0",),
    outcome="done",
    networks=("10.0.0.0/8", "fd00::/8"),
    endpoints=(MIRROR, PEER),
)


def changed(**fields: Any) -> bytes:
    """RECORD's JSON with other fields; None takes one away."""
    value = {**json.loads(RECORD.as_json()), **fields}
    return json.dumps({name: one for name, one in value.items() if one is not None}).encode()


def with_endpoint(**fields: Any) -> bytes:
    value = json.loads(RECORD.as_json())
    return changed(endpoints=[{**value["endpoints"][0], **fields}])


class TestTheJson:
    def test_is_canonical_sorted_and_comes_back(self) -> None:
        data = RECORD.as_json()
        assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert PullRecord.from_json(data) == tidy(RECORD)
        assert [one["endpoint"] for one in json.loads(data)["endpoints"]] == [MIRROR.endpoint, PEER.endpoint]
        assert json.loads(data)["endpoints"][1]["found"] == ["lan", "told"]

    def test_does_not_depend_on_the_order_in_which_things_happened(self) -> None:
        assert replace(RECORD, endpoints=(PEER, MIRROR)).as_json() == RECORD.as_json()

    def test_of_a_newer_writer_may_have_more_fields(self) -> None:
        assert PullRecord.from_json(changed(colour="green")) == tidy(RECORD)
        assert len(PullRecord.from_json(with_endpoint(colour="green")).endpoints) == 1

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"[]",
            b"{}",
            changed(format="samara-pull-record-2"),
            changed(started=None),
            changed(started="2026-01-02 03:04:05"),
            changed(ended="2026-13-02T03:04:05Z"),
            changed(references="acme/tiny"),
            changed(references=["a"] * (MAX_REFERENCES + 1)),
            changed(outcome=""),
            changed(networks=["10.0.0.1/8"]),
            changed(networks=["everywhere"]),
            changed(endpoints_left_out=-1),
            changed(endpoints_left_out="none"),
            changed(endpoints=[json.loads(RECORD.as_json())["endpoints"][0]] * 2),
            with_endpoint(endpoint="192.0.2.7"),
            with_endpoint(endpoint="192.0.2.7:70000"),
            with_endpoint(endpoint="a\nb:1"),
            with_endpoint(kind="friend"),
            with_endpoint(found=["magic"]),
            with_endpoint(bytes_in=-1),
            with_endpoint(bytes_in=1.0),
            with_endpoint(bytes_in=True),
            with_endpoint(bytes_in=2**53),
            with_endpoint(name=None),
            with_endpoint(evidence=[{"file": "a", "expected": "b3:00"}]),
            with_endpoint(evidence=[{"file": "a"}] * (MAX_EVIDENCE + 1)),
            RECORD.as_json() + b"x",
            b" " * (MAX_RECORD_BYTES + 1),
        ],
    )
    def test_that_is_anything_else_is_refused(self, data: bytes) -> None:
        with pytest.raises(MalformedError):
            PullRecord.from_json(data)

    def test_names_the_field_that_is_wrong(self) -> None:
        with pytest.raises(MalformedError, match=r"endpoints\.0\.kind"):
            PullRecord.from_json(with_endpoint(kind="friend"))

    @pytest.mark.parametrize("field", ["bytes_in", "bytes_out", "blocks_verified", "blocks_rejected"])
    def test_is_not_written_of_what_cannot_be(self, field: str) -> None:
        impossible: dict[str, Any] = {field: -1}
        with pytest.raises(ValueError, match=field):
            replace(RECORD, endpoints=(replace(PEER, **impossible),)).as_json()


class TestTidying:
    def test_two_notes_of_one_endpoint_become_one_with_their_sums(self) -> None:
        again = replace(PEER, found=("dht",), evidence=(replace(LIE, block=2), LIE), refused="not allowed")
        assert merge([PEER, MIRROR, again]) == (
            MIRROR,
            replace(
                PEER,
                found=("dht", "lan", "told"),
                bytes_in=2000,
                bytes_out=20,
                blocks_verified=6,
                blocks_rejected=2,
                refused="not allowed",
                evidence=(replace(LIE, block=2), LIE),
            ),
        )

    def test_one_address_in_two_parts_stays_two(self) -> None:
        assert len(merge([PEER, replace(PEER, kind="dht")])) == 2

    def test_too_many_endpoints_are_counted_and_liars_stay(self) -> None:
        crowd = [replace(PEER, endpoint=f"192.0.2.7:{port}", evidence=(), blocks_rejected=0) for port in range(1, 5001)]
        crowd.append(replace(PEER, endpoint="198.51.100.9:1", bytes_in=0, bytes_out=0))
        quiet = replace(MIRROR, endpoint="198.51.100.10:1", bytes_in=1)
        written = PullRecord.from_json(replace(RECORD, endpoints=(quiet, *crowd)).as_json())
        assert len(written.endpoints) == MAX_ENDPOINTS
        assert written.endpoints_left_out == 5002 - MAX_ENDPOINTS
        assert "198.51.100.9:1" in {one.endpoint for one in written.endpoints}
        assert quiet.endpoint not in {one.endpoint for one in written.endpoints}

    def test_too_much_evidence_is_counted(self) -> None:
        lies = tuple(replace(LIE, block=at) for at in range(MAX_EVIDENCE))
        pair = (replace(PEER, evidence=lies), replace(PEER, endpoint="192.0.2.8:1", evidence=lies[:5]))
        written = PullRecord.from_json(replace(RECORD, endpoints=pair, evidence_left_out=1).as_json())
        assert [len(one.evidence) for one in written.endpoints] == [MAX_EVIDENCE, 0]
        assert written.evidence_left_out == 6

    def test_the_largest_record_can_be_read(self) -> None:
        def wide(number: int, length: int) -> str:
            return (f"{number:05d}" + "\U0001f331" * length)[:length]

        peers = tuple(
            replace(
                PEER,
                endpoint=f"{'x' * 290}:{port}",
                name=wide(port, MAX_NAME),
                found=get_args(Found),
                refused=wide(port, MAX_REASON),
                bytes_in=2**53 - 1,
                bytes_out=2**53 - 1,
                evidence=(Evidence(file=wide(port, MAX_FILE), block=2**53 - 1, piece=2**53 - 1, expected=DIGEST),),
            )
            for port in range(10_000, 10_000 + MAX_ENDPOINTS)
        )
        references = tuple(wide(number, 10_000) for number in range(MAX_REFERENCES))
        data = replace(RECORD, endpoints=peers, references=references).as_json()
        assert MAX_RECORD_BYTES // 2 < len(data) <= MAX_RECORD_BYTES
        assert len(PullRecord.from_json(data).endpoints) == MAX_ENDPOINTS

    def test_odd_words_are_made_printable_and_short(self) -> None:
        odd = replace(PEER, name="evil\x1b[2J\udcff", refused="x" * 1000)
        (written,) = PullRecord.from_json(replace(RECORD, endpoints=(odd,)).as_json()).endpoints
        assert written.name == "evil?[2J?"
        assert written.refused == "x" * (MAX_REASON - 1) + "…"

    @pytest.mark.parametrize(
        ("met", "written"),
        [
            ("192.0.2.7:6901", "192.0.2.7:6901"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[fe80::1%eth0]:1", "[fe80::1%eth0]:1"),
            ("bücher.example:443", "b?cher.example:443"),
            ("example.org", "example.org:0"),
            ("a\nb:99999", "[a?b:99999]:0"),
            ("", "?:0"),
            ("x" * 5000 + ":1", "x" * 290 + ":1"),
        ],
    )
    def test_any_endpoint_can_be_written(self, met: str, written: str) -> None:
        (read,) = PullRecord.from_json(replace(RECORD, endpoints=(replace(PEER, endpoint=met),)).as_json()).endpoints
        assert read.endpoint == written

    def test_networks_are_written_as_networks(self) -> None:
        assert tidy(replace(RECORD, networks=("fd00::1/8", "10.1.2.3/8", "10.0.0.0/8"))).networks == RECORD.networks

    @given(
        st.lists(
            st.builds(
                EndpointRecord,
                endpoint=st.sampled_from(["192.0.2.1:1", "[::1]:65535", "example.org:80"]) | st.text(max_size=400),
                kind=st.sampled_from(get_args(Kind)),
                name=st.text(max_size=20) | st.just("https://a:b@example.org/x?key=1#y"),
                found=st.lists(st.sampled_from(get_args(Found)), max_size=3).map(tuple),
                bytes_in=st.integers(0, 2**40),
                refused=st.none() | st.text(max_size=300),
                evidence=st.lists(
                    st.builds(
                        Evidence,
                        file=st.text(max_size=5),
                        block=st.none() | st.integers(0, 9),
                        expected=st.sampled_from([None, DIGEST, "sha1:" + "0" * 40]),
                    ),
                    max_size=3,
                ).map(tuple),
            ),
            max_size=6,
        )
    )
    def test_whatever_was_met_can_be_written_and_read_and_tidying_is_done_once(self, met: list[EndpointRecord]) -> None:
        record = replace(RECORD, endpoints=tuple(met))
        read = PullRecord.from_json(record.as_json())
        assert read == tidy(record) == tidy(read)
        assert sum(one.bytes_in for one in read.endpoints) == sum(one.bytes_in for one in met)


class TestSecrets:
    @pytest.mark.parametrize(
        ("url", "kept"),
        [
            ("https://user:word@example.org:8443/a/b.gguf?X-Amz-Signature=5&x=1", "https://example.org:8443/a/b.gguf"),
            ("https://example.org?token=1", "https://example.org"),
            ("https://example.org/a#token=1?", "https://example.org/a"),
            ("http://us@er:word@example.org/a@b", "http://example.org/a@b"),
            ("https://example.org/a@b", "https://example.org/a@b"),
            ("acme/tiny@b3:00", "acme/tiny@b3:00"),
            ("socks5://user:word@127.0.0.1:1080", "socks5://127.0.0.1:1080"),
        ],
    )
    def test_of_a_url_are_left_out(self, url: str, kept: str) -> None:
        assert without_secrets(url) == kept

    def test_are_in_no_record(self) -> None:
        told = replace(PEER, kind="proxy", name="user:secret@proxy.example:3128")
        record = replace(RECORD, endpoints=(told,), references=("https://u:secret@example.org/tiny.samara?k=secret",))
        assert b"secret" not in record.as_json()
        assert b"proxy.example:3128" in record.as_json()


@pytest.mark.parametrize(
    ("told", "recorded"),
    [
        ("acme/tiny", "acme/tiny:latest"),
        ("acme/tiny:q8_0", "acme/tiny:q8_0"),
        ("./tiny.samara", "./tiny.samara"),
        ("caf\udce9.samara", "caf?.samara"),
    ],
)
def test_a_reference_is_recorded_in_one_spelling(told: str, recorded: str) -> None:
    assert as_recorded(told) == recorded == as_recorded(recorded)
