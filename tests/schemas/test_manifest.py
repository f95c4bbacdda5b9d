"""The manifest: what it says comes back, and everything it must not say is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from release_kit import (
    GONE,
    HEX64,
    IDENTITY,
    Digests,
    edited,
    json_values,
    manifests,
    pointers,
    sample,
    sample_payload,
)
from vector_files import changed, names, vector

from samara.schemas.bittorrent import piece_length_for
from samara.schemas.digests import b3
from samara.schemas.envelope import canonical_json
from samara.schemas.errors import ExitCode, MalformedError, SamaraError
from samara.schemas.layouts import BLOCK, MAX_BLOCKS
from samara.schemas.manifest import (
    PREDICATE_TYPE,
    Predicate,
    Role,
    build_payload,
    check_path,
    parse_manifest,
)

patient = settings(max_examples=40, deadline=None)
FILE = "/predicate/files/0"


def refused(value: Any) -> MalformedError:
    """The error that a JSON value gives as a manifest."""
    with pytest.raises(MalformedError) as caught:
        parse_manifest(value if isinstance(value, bytes) else json.dumps(value).encode())
    assert caught.value.exit_code is ExitCode.INTEGRITY
    assert "\n" not in str(caught.value)
    return caught.value


class TestRoundTrip:
    @patient
    @given(manifests())
    def test_what_was_written_is_read(self, made: tuple[Predicate, list[Digests]]) -> None:
        predicate, digests = made
        payload = build_payload(predicate, digests)
        release = parse_manifest(payload)
        assert release.digest == b3(payload)
        assert (release.identity, release.publisher_name) == (predicate.publisher.identity, predicate.publisher.name)
        for field in ("model", "tag", "version", "created", "license", "description", "upstream", "base_model"):
            assert getattr(release, field) == getattr(predicate, field)
        assert [(file.b3, file.sha256) for file in release.files] == digests
        for file, entry in zip(release.files, predicate.files, strict=True):
            for field in ("path", "size", "role", "layout", "torrent", "gguf"):
                assert getattr(file, field) == getattr(entry, field)
            assert file.mirrors == tuple(entry.mirrors or ())
            assert [(b.size, f"b3:{b.digest.hex()}") for b in file.blocks] == [(b.size, b.b3) for b in entry.blocks]
            assert (file.inline is None) == (entry.inline is None)

    @patient
    @given(manifests())
    def test_blocks_lie_end_to_end_from_the_start_of_the_file(self, made: tuple[Predicate, list[Digests]]) -> None:
        for file in parse_manifest(build_payload(*made)).files:
            assert file.blocks[0].offset == 0
            assert file.blocks[-1].end == file.size
            assert all(a.end == b.offset for a, b in zip(file.blocks, file.blocks[1:], strict=False))

    @patient
    @given(manifests())
    def test_the_bytes_are_canonical_and_the_same_each_time(self, made: tuple[Predicate, list[Digests]]) -> None:
        payload = build_payload(*made)
        assert canonical_json(json.loads(payload)) == payload == build_payload(*made)

    def test_the_digest_is_of_the_bytes_as_they_are_not_of_what_they_mean(self) -> None:
        spaced = json.dumps(sample(), indent=1).encode()
        assert parse_manifest(spaced).digest == b3(spaced) != parse_manifest(sample_payload()).digest

    def test_a_release_says_its_size_and_its_portable_name(self) -> None:
        release = parse_manifest(sample_payload())
        assert release.size == 256_000 + 18 + 1
        assert release.uri == f"samara:{IDENTITY}/tiny:q8_0"
        assert release.files[0].magnet == f"magnet:?xt=urn:btih:{'cd' * 20}&xt=urn:btmh:1220{HEX64}&dn=model.gguf"
        assert release.files[1].magnet is None


class TestUnknown:
    def test_fields_nobody_knows_are_ignored_everywhere(self) -> None:
        value = sample()
        objects = ["", *(p for p in pointers(value) if isinstance(at(value, p), dict))]
        for place in objects:
            value = edited(value, f"{place}/x-new", {"deep": [1, {"er": None}]})
        assert parse_manifest(json.dumps(value).encode()).files == parse_manifest(sample_payload()).files

    @pytest.mark.parametrize("other", ["urn:x-samara:release:v2", "https://slsa.dev/provenance/v1", "", None, 7, GONE])
    def test_another_major_version_is_refused_before_anything_else_is_judged(self, other: Any) -> None:
        error = refused(edited(edited(sample(), "/predicateType", other), "/predicate", 5))
        assert error.expected == PREDICATE_TYPE
        assert "newer samara" in str(error)

    def test_a_role_or_layout_nobody_knows_is_somebody_elses_business(self) -> None:
        value = edited(edited(sample(), f"{FILE}/role", "vocoder"), f"{FILE}/layout", "clever-1MiB-v7")
        assert parse_manifest(json.dumps(value).encode()).files[0].layout == "clever-1MiB-v7"


NOT_JSON = {
    "nothing": b"",
    "no JSON": b"{",
    "more after the end": sample_payload() + b"{}",
    "a key twice": sample_payload().replace(b'"tag":"q8_0"', b'"tag":"q8_0","tag":"q4_0"'),
    "a key twice where nobody looks": sample_payload().replace(b'"tag"', b'"x":{"y":1,"y":1},"tag"'),
    "NaN": sample_payload().replace(b'"version":3', b'"version":NaN'),
    "infinity where nobody looks": sample_payload().replace(b'"version"', b'"x":-Infinity,"version"'),
    "a number of 5,000 digits": sample_payload().replace(b'"version":3', b'"version":' + b"3" * 5000),
    "nested a hundred thousand deep": b"[" * 100_000 + b"]" * 100_000,
    "nested where nobody looks": sample_payload().replace(
        b'"tag"', b'"x":' + b"[" * 90_000 + b"]" * 90_000 + b',"tag"'
    ),
    "millions of values": b"[" + b"[]," * 1_100_000 + b"[]]",
    "a byte order mark": b"\xef\xbb\xbf" + sample_payload(),
    "UTF-16": sample_payload().decode().encode("utf-16"),
    "Latin-1": sample_payload().replace(b"Small.", b"Sm\xe4ll."),
    "half a surrogate pair in bytes": sample_payload().replace(b"Small.", b"\xed\xa0\x80"),
    "half a surrogate pair": sample_payload().replace(b"Small.", b"\\ud800"),
    "a list": b"[]",
    "text": b'"x"',
    "null": b"null",
}


@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_one_clean_json_object_is_refused(data: bytes) -> None:
    refused(data)


def at(value: Any, pointer: str) -> Any:
    """What lies at `pointer`."""
    for step in pointer.lstrip("/").split("/"):
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def block(size: int, digest: str = "b3:" + "03" * 32) -> dict[str, object]:
    return {"size": size, "b3": digest}


@pytest.mark.parametrize("change", vector("manifests.json")["bad"], ids=names)
def test_a_wrong_field_is_refused(change: dict[str, Any]) -> None:
    error = refused(changed(sample(), change))
    assert str(error).startswith(("manifest ", "inline bytes of LICENSE"))
    assert len(str(error)) < 400


def test_the_message_says_which_field() -> None:
    error = refused(edited(sample(), f"{FILE}/blocks/0/size", 0))
    assert str(error).startswith("manifest field predicate.files.0.blocks.0.size: ")


def with_files(*paths: str) -> bytes:
    """A manifest of one small file at each of these paths."""
    value = sample()
    subject, file = value["subject"][2], value["predicate"]["files"][2]
    value["subject"] = [{**subject, "name": path} for path in paths]
    value["predicate"]["files"] = [{**file, "path": path} for path in paths]
    return json.dumps(value).encode()


PATHS = vector("paths.json")


class TestPaths:
    @pytest.mark.parametrize("path", PATHS["good"])
    def test_a_portable_path_stays_as_it_is(self, path: str) -> None:
        assert check_path(path) == path
        assert parse_manifest(with_files(path)).files[0].path == path

    @pytest.mark.parametrize("case", PATHS["bad"], ids=lambda case: case["why"])
    def test_a_path_that_could_harm_or_not_exist_everywhere_is_refused(self, case: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=r"path|surrogates"):
            check_path(case["path"])
        refused(with_files(case["path"]))

    @pytest.mark.parametrize("paths", PATHS["not together"], ids=ascii)
    def test_two_paths_that_some_disk_takes_for_one_are_refused(self, paths: list[str]) -> None:
        assert "path" in str(refused(with_files(*paths)))

    def test_a_path_has_at_most_64_parts(self) -> None:
        assert check_path("/".join(["a"] * 64))
        with pytest.raises(ValueError, match="too deep"):
            check_path("/".join(["a"] * 65))

    @pytest.mark.parametrize("paths", PATHS["together"], ids=str)
    def test_paths_that_only_begin_alike_may_stand_side_by_side(self, paths: list[str]) -> None:
        assert [file.path for file in parse_manifest(with_files(*paths)).files] == paths

    def test_as_many_files_as_allowed_and_not_one_more(self) -> None:
        assert parses(with_files(*map(str, range(4096))))
        assert not parses(with_files(*map(str, range(4097))))


def parses(payload: bytes) -> bool:
    try:
        parse_manifest(payload)
    except MalformedError:
        return False
    return True


class TestBlocks:
    def with_blocks(self, size: int, blocks: list[dict[str, object]]) -> bytes:
        value = edited(edited(sample(), f"{FILE}/size", size), f"{FILE}/blocks", blocks)
        return json.dumps(edited(value, f"{FILE}/torrent/piece_length", piece_length_for(size))).encode()

    def test_as_many_blocks_as_allowed_and_not_one_more(self) -> None:
        assert parses(self.with_blocks(MAX_BLOCKS, [block(1)] * MAX_BLOCKS))
        assert not parses(self.with_blocks(MAX_BLOCKS + 1, [block(1)] * (MAX_BLOCKS + 1)))

    def test_a_block_is_no_larger_than_a_reader_can_hold(self) -> None:
        assert parses(self.with_blocks(2 * BLOCK, [block(BLOCK), block(BLOCK)]))
        assert not parses(self.with_blocks(2 * BLOCK, [block(BLOCK + 1), block(BLOCK - 1)]))

    def test_except_in_files_that_have_too_many_bytes_for_small_ones(self) -> None:
        size = 4096 * 2 * BLOCK
        assert parses(self.with_blocks(size, [block(2 * BLOCK)] * 4096))
        assert not parses(self.with_blocks(size - 1, [block(2 * BLOCK - 1), *[block(2 * BLOCK)] * 4095]))

    def test_the_only_block_of_a_file_has_the_files_digest(self) -> None:
        blob = "b3:" + sample()["subject"][0]["digest"]["blake3"]
        assert parses(self.with_blocks(256_000, [block(256_000, blob)]))
        assert "only block" in str(refused(self.with_blocks(256_000, [block(256_000)])))


class TestOneBlobOneTruth:
    """Two files may be the same blob; then everything said of its bytes must be the same."""

    def twice(self) -> Any:
        value, again = sample(), sample()
        value["subject"].append({**again["subject"][0], "name": "copy.gguf"})
        value["predicate"]["files"].append({**again["predicate"]["files"][0], "path": "copy.gguf"})
        return value

    def test_a_blob_may_have_two_paths(self) -> None:
        value = edited(edited(self.twice(), "/predicate/files/3/role", "other"), "/predicate/files/3/mirrors", [])
        release = parse_manifest(json.dumps(value).encode())
        assert release.files[0].b3 == release.files[3].b3

    @pytest.mark.parametrize(
        ("pointer", "value"),
        [
            ("/subject/3/digest/sha256", HEX64),
            ("/predicate/files/3/layout", "fixed-1MiB-v1"),
            ("/predicate/files/3/blocks", [block(200_000), block(56_000)]),
            ("/predicate/files/3/torrent/v2", "00" * 32),
        ],
    )
    def test_but_not_two_descriptions(self, pointer: str, value: Any) -> None:
        assert "one blake3 digest" in str(refused(edited(self.twice(), pointer, value)))


class TestFuzz:
    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(pointers(sample())), json_values | st.just(GONE))
    def test_any_value_anywhere_gives_a_release_or_a_malformed_error(self, pointer: str, value: Any) -> None:
        payload = json.dumps(edited(sample(), pointer, value)).encode()
        try:
            release = parse_manifest(payload)
        except SamaraError as error:
            assert isinstance(error, MalformedError)
        else:
            assert release.size == sum(block.size for file in release.files for block in file.blocks)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_damaged_bytes_give_a_release_or_a_malformed_error(self, data: st.DataObject) -> None:
        payload = bytearray(sample_payload())
        start = data.draw(st.integers(0, len(payload)))
        end = data.draw(st.integers(start, min(len(payload), start + 20)))
        payload[start:end] = data.draw(st.binary(max_size=20))
        try:
            parse_manifest(bytes(payload))
        except SamaraError as error:
            assert isinstance(error, MalformedError)

    @settings(max_examples=60, deadline=None)
    @given(st.text(max_size=30))
    def test_a_path_that_passes_stays_inside_its_folder(self, path: str) -> None:
        try:
            check_path(path)
        except ValueError:
            return
        assert not path.startswith(("/", "."))
        assert not {"", ".", ".."} & set(path.split("/"))
        assert "\\" not in path
        assert path.isprintable()


def test_a_release_is_chosen_by_the_facts_of_its_weights_whatever_is_larger_or_comes_first() -> None:
    release = parse_manifest(sample_payload())
    weights = next(file for file in release.files if file.gguf is not None)
    assert weights.gguf is not None
    projector = replace(
        weights,
        role=Role.PROJECTOR,
        size=10 * weights.size,
        gguf=weights.gguf.model_copy(update={"architecture": "clip"}),
    )
    adapter = replace(projector, role=Role.ADAPTER)
    plain = replace(weights, gguf=None)
    chosen = replace(release, files=(plain, projector, weights)).facts
    assert chosen == weights.gguf
    assert replace(release, files=(plain, projector, adapter)).facts == projector.gguf
    assert replace(release, files=(plain,)).facts is None
