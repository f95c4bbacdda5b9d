"""The `.samara` file: what goes in comes out, and no file costs more than its bounds."""

from __future__ import annotations

import base64
import json
import os
import tracemalloc
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from release_kit import GONE, HEX64, edited, json_values, pointers

from samara.schemas.bittorrent import MAX_TORRENT_BYTES
from samara.schemas.envelope import Envelope, Signature, canonical_json
from samara.schemas.errors import MalformedError, SamaraError
from samara.schemas.release_file import (
    FORMAT,
    MAX_COMPRESSED_BYTES,
    MAX_JSON_BYTES,
    MAX_ROOT_BYTES,
    MAX_ROOTS,
    ReleaseBundle,
    pack_release,
    unpack_release,
)

BUNDLE = ReleaseBundle(
    roots=(b"root 1", b"root 2"),
    envelope=Envelope(payload=b'{"a":1}', signatures=(Signature(keyid=HEX64, sig=bytes(64)),)),
    torrents=(b"d4:infodee",),
)
PACKED = pack_release(BUNDLE)
BODY: Any = json.loads(zstandard.ZstdDecompressor().decompress(PACKED))

MIB = 1 << 20
SKIPPABLE_FRAME = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


def frame(content: bytes, *, says_its_size: bool = True, window_log: int | None = None) -> bytes:
    """One zstd frame."""
    if window_log is None:
        return zstandard.ZstdCompressor(level=3, write_content_size=says_its_size).compress(content)
    wide = zstandard.ZstdCompressionParameters(window_log=window_log)
    stream = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    return stream.compress(content) + stream.flush()


def packed(value: Any) -> bytes:
    return frame(canonical_json(value))


def refused(data: bytes) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        unpack_release(data)
    return caught.value


byte_lists = st.lists(st.binary(min_size=1, max_size=60), max_size=4).map(tuple)
bundles = st.builds(
    ReleaseBundle,
    roots=byte_lists,
    envelope=st.builds(
        Envelope,
        payload=st.binary(min_size=1, max_size=300),
        signatures=st.builds(Signature, keyid=st.just(HEX64), sig=st.binary(min_size=1, max_size=64)).map(
            lambda s: (s,)
        ),
    ),
    torrents=byte_lists,
)


@given(bundles)
def test_a_bundle_survives_being_packed_and_unpacked(bundle: ReleaseBundle) -> None:
    assert unpack_release(pack_release(bundle)) == bundle
    assert pack_release(bundle) == pack_release(bundle)


def test_a_frame_may_keep_its_size_to_itself_or_come_in_flushed_pieces() -> None:
    body = canonical_json(BODY)
    assert unpack_release(frame(body, says_its_size=False)) == BUNDLE
    stream = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    pieces = [stream.compress(body[i : i + 7]) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for i in range(0, len(body), 7)]  # fmt: skip  # noqa: E501
    assert unpack_release(b"".join(pieces) + stream.flush()) == BUNDLE


def test_fields_nobody_knows_are_ignored() -> None:
    assert unpack_release(packed({**BODY, "x-new": {"a": [1]}})) == BUNDLE


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/format", GONE),
        ("/format", "samara-release-2"),
        ("/format", FORMAT.upper()),
        ("/format", None),
        ("/roots", GONE),
        ("/roots", {}),
        ("/roots", [""]),
        ("/roots", ["%%%%"]),
        ("/roots", [None]),
        ("/roots", ["AA=="] * (MAX_ROOTS + 1)),
        ("/roots", [base64.b64encode(bytes(MAX_ROOT_BYTES + 1)).decode()]),
        ("/envelope", GONE),
        ("/envelope", []),
        ("/envelope/payloadType", "application/json"),
        ("/torrents", GONE),
        ("/torrents", "AA=="),
        ("/torrents", ["AA=="] * 4097),
        ("/torrents", [base64.b64encode(bytes(MAX_TORRENT_BYTES + 1)).decode()]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_another_shape_is_refused(pointer: str, value: Any) -> None:
    refused(packed(edited(BODY, pointer, value)))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"format":"samara-release-1","format":"x"}', b"\xff"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    refused(frame(body))


class TestContainer:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x28\xb5\x2f",
            b"{}",
            b"PK\x03\x04",
            b"<!doctype html>",
            b"version https://git-lfs.github.com/spec/v1\n",
        ],
    )
    def test_what_is_not_zstd_is_no_samara_file(self, data: bytes) -> None:
        assert "not a .samara file" in str(refused(data))

    @pytest.mark.parametrize(
        "more",
        [b"\0", b"garbage" * 100, PACKED, SKIPPABLE_FRAME, frame(b"")],
        ids=["a zero", "garbage", "the same again", "a skippable frame", "an empty frame"],
    )
    def test_nothing_may_follow_the_frame(self, more: bytes) -> None:
        assert "goes on after its end" in str(refused(PACKED + more))

    def test_nothing_may_come_before_the_frame(self) -> None:
        refused(SKIPPABLE_FRAME + PACKED)
        refused(frame(b"") + PACKED)

    def test_a_file_that_ends_early_is_refused_wherever_it_ends(self) -> None:
        checked = zstandard.ZstdCompressor(write_checksum=True).compress(canonical_json(BODY))
        for data in (PACKED, checked):
            for end in range(4, len(data)):
                assert "ends early" in str(refused(data[:end]))

    def test_a_flipped_bit_is_refused_or_changes_only_what_proves_itself(self) -> None:
        for at in range(len(PACKED) * 8):
            damaged = bytearray(PACKED)
            damaged[at // 8] ^= 1 << at % 8
            try:
                unpack_release(bytes(damaged))
            except SamaraError as error:
                assert isinstance(error, MalformedError)

    def test_a_file_over_the_limit_is_not_even_looked_at(self) -> None:
        assert "too large" in str(refused(PACKED + bytes(MAX_COMPRESSED_BYTES)))


class TestBombs:
    """A few kilobytes that ask for gigabytes."""

    def peak_of_refusing(self, data: bytes) -> int:
        assert len(data) < 100_000
        tracemalloc.start()
        try:
            refused(data)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("says_its_size", [True, False])
    def test_a_frame_that_unpacks_to_too_much_is_given_up_at_the_bound(self, says_its_size: bool) -> None:
        bomb = frame(bytes(4 * MAX_JSON_BYTES), says_its_size=says_its_size)
        assert self.peak_of_refusing(bomb) < 1.5 * MAX_JSON_BYTES

    def test_a_frame_that_lies_about_its_size_is_not_believed(self) -> None:
        # magic; descriptor: 8 bytes of size, one segment; 2^60 bytes; one raw block of 1 byte, the last
        lie = b"\x28\xb5\x2f\xfd" + b"\xe0" + (2**60).to_bytes(8, "little") + b"\x09\x00\x00" + b"x"
        assert self.peak_of_refusing(lie) < MIB

    def test_a_window_wider_than_ours_is_refused(self) -> None:
        assert self.peak_of_refusing(frame(bytes(32 * MIB), window_log=27)) < MIB
        body = canonical_json({**BODY, "x": "y" * (9 * MIB)})
        assert unpack_release(frame(body, window_log=23)) == BUNDLE

    @pytest.mark.parametrize("unit", [b"[],", b"{},", b'"",', b"0,"])
    def test_a_body_of_nothing_but_values_is_refused_before_it_is_parsed(self, unit: bytes) -> None:
        body = b"[" + unit * (20 * MIB // len(unit)) + b"0]"
        assert self.peak_of_refusing(frame(body)) < 3 * len(body)

    def test_a_body_of_nothing_but_brackets_is_refused(self) -> None:
        assert self.peak_of_refusing(frame(b"[" * MIB)) < 10 * MIB


class TestFuzz:
    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(pointers(BODY)), json_values | st.just(GONE))
    def test_any_value_anywhere_gives_a_bundle_or_a_malformed_error(self, pointer: str, value: Any) -> None:
        try:
            unpack_release(frame(json.dumps(edited(BODY, pointer, value)).encode()))
        except SamaraError as error:
            assert isinstance(error, MalformedError)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def test_any_bytes_after_the_magic_give_a_malformed_error(self, data: bytes) -> None:
        refused(PACKED[:4] + data)

    def test_random_bytes_are_refused(self) -> None:
        refused(os.urandom(1000))
