"""The test vectors: what this project makes today, and what a second implementation, written from the spec, reads.

If the second half fails while the first passes, docs/manifest-spec.md doesn't say what the code does: mend the text.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import io
import json
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import second_reader as second
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from release_kit import GONE, IDENTITY, edited, json_values, pointers
from second_reader import Refused
from vector_files import FIXTURES, FOLDER, changed, names, vector

from samara.registry.trust.identity import identity_of
from samara.registry.trust.roots import verify_root_chain
from samara.schemas.envelope import canonical_json, strict_json
from samara.schemas.errors import MalformedError, SamaraError
from samara.schemas.manifest import check_path, parse_manifest
from samara.schemas.release_file import unpack_release
from samara.seeder.gguf_facts import describe

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "docs" / "manifest-spec.md").read_text(encoding="utf-8")
EXAMPLE = vector("example.json")
PACKED = (FOLDER / "example.samara").read_bytes()
MODEL, LICENCE = EXAMPLE["files"]
FILES = {MODEL["path"]: (FIXTURES / "tiny-q8_0.gguf").read_bytes(), LICENCE["path"]: LICENCE["inline"].encode()}
ROOT_V1 = json.loads(EXAMPLE["root"]["text"])
BODY = json.loads(zstandard.ZstdDecompressor().decompress(PACKED))
Files = dict[str, bytes]
MANIFESTS, PATHS = vector("manifests.json"), vector("paths.json")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """scripts/make_vectors.py."""
    spec = importlib.util.spec_from_file_location("make_vectors", ROOT / "scripts" / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_vectors"] = module
    spec.loader.exec_module(module)
    return module


def as_content(name: str, data: bytes) -> bytes:
    """What must not change: of a compressed file what is in it, for compressors may improve."""
    return zstandard.ZstdDecompressor().decompress(data) if name.endswith(".samara") else data


class TestCommitted:
    """Mend with: python scripts/make_vectors.py — if the format was meant to change."""

    def test_the_committed_vectors_are_what_the_code_makes_today(self, maker: ModuleType) -> None:
        made: dict[str, bytes] = maker.vectors()
        assert {path.name for path in FOLDER.iterdir()} == {*made, "manifests.json", "paths.json"}
        for name, data in made.items():
            assert as_content(name, (FOLDER / name).read_bytes()) == as_content(name, data), name

    def test_the_spec_shows_the_same_example_and_table(self, maker: ModuleType) -> None:
        assert maker.with_made_parts(SPEC, (FOLDER / "example.json").read_bytes()) == SPEC

    def test_the_spec_names_every_file_of_vectors(self) -> None:
        section = SPEC.partition("## 14. Test vectors")[2].partition("## 15.")[0]
        assert all(f"`{path.name}`" in section for path in FOLDER.iterdir())

    @pytest.mark.parametrize("name", ["manifest-spec.md", "names-spec.md", "bundles.md", "trust.md", "store.md"])
    def test_every_link_in_a_document_leads_somewhere(self, name: str) -> None:
        here = ROOT / "docs" / name
        for target in links(here.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            path, _, heading = target.partition("#")
            other = ROOT / "docs" / path if path else here
            assert other.exists(), target
            assert not heading or heading in headings(other.read_text(encoding="utf-8")), target


def headings(markdown: str) -> set[str]:
    return {anchor(line.lstrip("# ")) for line in markdown.splitlines() if line.startswith("#")}


def anchor(heading: str) -> str:
    return "".join(c for c in heading.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def links(markdown: str) -> list[str]:
    return [part.partition(")")[0] for part in markdown.split("](")[1:]]


class TestSecondReader:
    def test_it_knows_nothing_of_this_project(self) -> None:
        tree = ast.parse(Path(second.__file__).read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {
            "blake3", "cryptography", "zstandard",
        }  # fmt: skip

    @pytest.mark.parametrize("case", vector("identities.json"), ids=lambda case: case["identity"][:8])
    def test_identities(self, case: dict[str, Any]) -> None:
        assert second.identity_of((case["text"] * case["times"]).encode()) == case["identity"]

    def test_a_root_over_16_kib_has_no_identity(self) -> None:
        for length in (0, 16_385):
            with pytest.raises(Refused):
                second.identity_of(bytes(length))

    def test_the_example_verifies_from_its_identity_and_its_files(self) -> None:
        manifest = second.verify(PACKED, EXAMPLE["root"]["identity"], FILES)
        assert manifest["predicate"]["model"] == "tiny"

    def test_every_value_on_the_way_is_the_examples(self) -> None:
        value = second.unpack(PACKED)
        (root,) = (second.read_base64(one, 1 << 18) for one in value["roots"])
        payload, signatures = second.open_envelope(value["envelope"])
        assert root.decode() == EXAMPLE["root"]["text"]
        assert hashlib.sha256(root).hexdigest() == EXAMPLE["root"]["pieces_root"]
        assert second.identity_of(root) == EXAMPLE["root"]["identity"]
        assert payload.decode() == EXAMPLE["manifest"]["payload"]
        assert second.b3(payload) == EXAMPLE["manifest"]["digest"]
        assert second.pae(payload) == EXAMPLE["manifest"]["pae_begins"].encode() + payload
        ((keyid, signature),) = signatures
        assert (keyid, signature.hex()) == (EXAMPLE["manifest"]["keyid"], EXAMPLE["manifest"]["signature"])

    def test_key_ids_are_digests_of_keys(self) -> None:
        for key in EXAMPLE["keys"].values():
            found = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": key["public"]}}
            assert hashlib.sha256(second.olpc(found).encode()).hexdigest() == key["keyid"]

    def test_the_models_blocks_follow_from_its_header(self) -> None:
        data = FILES[MODEL["path"]]
        ends, data_at, tensors = second.walk_gguf(data)
        header = MODEL["header"]
        assert [24, *(end for _, _, end in header["keys"])] == ends
        assert (header["tensor_infos_at"], header["data_at"]) == (ends[-1], data_at)
        assert [[start, end] for start, end in sorted(tensors)] == [[start, end] for _, start, end in header["tensors"]]
        sizes = second.gguf_layout(ends, data_at, tensors, len(data))
        assert sizes == [block["size"] for block in MODEL["blocks"]]
        assert list(accumulate(sizes, initial=0))[:-1] == [block["offset"] for block in MODEL["blocks"]]

    @pytest.mark.parametrize("name", ["tiny.gguf", "tiny-lora.gguf"])
    def test_other_models_are_cut_alike(self, name: str) -> None:
        data = (FIXTURES / name).read_bytes()
        ends, data_at, tensors = second.walk_gguf(data)
        ours = describe(io.BytesIO(data), len(data))
        assert ours.layout == "gguf-4MiB-v1"
        assert second.gguf_layout(ends, data_at, tensors, len(data)) == list(ours.block_sizes)

    @pytest.mark.parametrize("case", vector("layouts.json"), ids=lambda case: case.get("about", str(case["size"])))
    def test_layouts(self, case: dict[str, Any]) -> None:
        sizes = second.cut([case["size"]]) if case["layout"] == "fixed-4MiB-v1" else gguf_sizes(case)
        assert sum(sizes) == case["size"]
        assert (len(sizes), sizes[:20]) == (case["blocks"], case["first"])
        text = "".join(f"{size}\n" for size in sizes)
        assert hashlib.sha256(text.encode()).hexdigest() == case["sizes_sha256"]

    @pytest.mark.parametrize("case", vector("torrents.json"), ids=lambda case: str(case["size"]))
    def test_torrents(self, case: dict[str, Any]) -> None:
        assert second.piece_length(case["size"]) == case["piece_length"]
        if "names" not in case:
            return
        data = (bytes(range(251)) * (case["size"] // 251 + 1))[: case["size"]]
        assert second.b3(data) == case["b3"]
        for ending, expected in case["names"].items():
            torrent, said = second.torrent_of(data, ending)
            assert (said["v1"], said["v2"], said["pieces_root"]) == (
                expected["v1"],
                expected["v2"],
                case["pieces_root"],
            )
            assert hashlib.sha256(torrent).hexdigest() == expected["sha256_of_torrent"]


def gguf_sizes(case: dict[str, Any]) -> list[int]:
    """Block sizes by the second reader, from run-length encoded parts."""
    ends = list(accumulate((size for size, count in case["keys"] for _ in range(count)), initial=24))
    data_at = ends[-1] + case["infos"]
    at = data_at + case["lead"]
    tensors = []
    for size, padding, count in case["tensors"] * case["times"]:
        for _ in range(count):
            tensors.append((at, at + size))
            at += size + padding
    return second.gguf_layout(ends, data_at, tensors, case["size"])


TAMPERINGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda value: value.update(format="samara-release-2"),
    "no roots": lambda value: value.update(roots=[]),
    "a root twice": lambda value: value.update(roots=value["roots"] * 2),
    "no torrents": lambda value: value.update(torrents=[]),
    "no signature": lambda value: value["envelope"].update(signatures=[]),
    "a signature by nobody": lambda value: value["envelope"]["signatures"][0].update(keyid="00" * 32),
    "another signature": lambda value: value["envelope"]["signatures"][0].update(sig="AAAA" * 21 + "AA=="),
    "a signature twice": lambda value: value["envelope"].update(signatures=value["envelope"]["signatures"] * 2),
    "another type": lambda value: value["envelope"].update(payloadType="application/json"),
}


class TestSecondReaderRefuses:
    def refuses(self, data: bytes, *, pinned: str = EXAMPLE["root"]["identity"], files: Files = FILES) -> None:
        with pytest.raises(Refused):
            second.verify(data, pinned, {**FILES, **files})

    @pytest.mark.parametrize("tamper", TAMPERINGS.values(), ids=TAMPERINGS)
    def test_a_tampered_file(self, tamper: Callable[[dict[str, Any]], object]) -> None:
        value = second.unpack(PACKED)
        tamper(value)
        self.refuses(zstandard.ZstdCompressor().compress(canonical_json(value)))

    def test_a_publisher_that_is_not_pinned(self) -> None:
        self.refuses(PACKED, pinned=vector("identities.json")[0]["identity"])

    def test_files_of_other_bytes(self) -> None:
        self.refuses(PACKED, files={LICENCE["path"]: b"All rights reserved.\n"})
        flipped = bytearray(FILES[MODEL["path"]])
        flipped[500_000] ^= 1
        self.refuses(PACKED, files={MODEL["path"]: bytes(flipped)})

    def test_a_file_with_something_after_its_end(self) -> None:
        self.refuses(PACKED + b"\0")
        self.refuses(PACKED[:-1])
        self.refuses(PACKED + PACKED)


Reader = Callable[[bytes], object]
READERS: list[tuple[Reader, type[Exception]]] = [(parse_manifest, MalformedError), (second.read_manifest, Refused)]
PathReader = Callable[[str], object]
PATH_READERS: list[tuple[PathReader, type[Exception]]] = [
    (check_path, ValueError),
    (second.path_of, Refused),
]
both = pytest.mark.parametrize(("read", "refusal"), READERS, ids=["samara", "second reader"])


# Nearly right more often than chance would have it.
NEARLY: list[Any] = [
    "", "a", "weights", "b3:" + "ab" * 32, "ab" * 32, "ab" * 20, IDENTITY, "https://h", "http://a b", "QQ==", "\ud800",
    "2026-01-02T03:04:05Z", "x" * 64, "x" * 65, "é", 1, 2**53, 2**63, 256_000, 262_144, True, None, [], {}, [None],
]  # fmt: skip
values = json_values | st.sampled_from(NEARLY)
NEARLY_ROOT: list[Any] = [
    2, 64, 65, 2**31, 1.5, {"x": 1.5}, "1.0", "1.0.99", "2.0.0", "1.x", "2027-13-02T03:04:05Z", "ed25519", "rsa",
    'é"\\\n', ["ab" * 32], {"v": 2, "beacon": "ab" * 32}, {"v": 1, "beacon": "ab" * 32, "w": None},
]  # fmt: skip
path_characters = st.sampled_from("ab./ .\\:é\u0301ß\u202e\u2028🦙\x7fcon1¹$")


class TestBothReaders:
    """Hand-written vectors: what every reader takes and refuses."""

    @both
    def test_the_good_manifest(self, read: Reader, refusal: type[Exception]) -> None:
        assert read(json.dumps(MANIFESTS["good"]).encode())

    @both
    @pytest.mark.parametrize("change", MANIFESTS["bad"], ids=names)
    def test_one_change_that_makes_it_bad(self, read: Reader, refusal: type[Exception], change: dict[str, Any]) -> None:
        with pytest.raises(refusal):
            read(json.dumps(changed(MANIFESTS["good"], change)).encode())

    @both
    @pytest.mark.parametrize("paths", PATHS["together"], ids=str)
    def test_paths_that_may_be_together(self, read: Reader, refusal: type[Exception], paths: list[str]) -> None:
        assert read(with_paths(paths))

    @both
    @pytest.mark.parametrize("paths", PATHS["not together"], ids=ascii)
    def test_paths_that_may_not(self, read: Reader, refusal: type[Exception], paths: list[str]) -> None:
        with pytest.raises(refusal):
            read(with_paths(paths))

    @settings(max_examples=120, deadline=None)
    @given(st.sampled_from(pointers(MANIFESTS["good"])), values | st.just(GONE))
    def test_they_agree_on_any_value_anywhere(self, pointer: str, value: Any) -> None:
        payload = json.dumps(edited(MANIFESTS["good"], pointer, value)).encode()
        assert accepts(parse_manifest, payload) == accepts(second.read_manifest, payload)

    @settings(max_examples=120, deadline=None)
    @given(st.sampled_from(pointers(ROOT_V1)), values | st.sampled_from(NEARLY_ROOT) | st.just(GONE))
    def test_they_agree_on_any_root(self, pointer: str, value: Any) -> None:
        root = resigned(edited(ROOT_V1, pointer, value), pointer)
        identity = identity_of(root)
        assert identity == second.identity_of(root)
        assert accepts(lambda data: verify_root_chain(identity, [data]), root) == accepts(
            lambda data: second.read_chain(identity, [data]), root
        )

    @settings(max_examples=120, deadline=None)
    @given(st.sampled_from(pointers(BODY)), values | st.just(GONE))
    def test_they_agree_on_any_file(self, pointer: str, value: Any) -> None:
        data = zstandard.ZstdCompressor().compress(json.dumps(edited(BODY, pointer, value)).encode())
        assert accepts(unpack_release, data) == accepts(second.parts, data)

    def test_they_agree_that_64_levels_are_not_too_deep(self) -> None:
        deep: Any = {}
        for _ in range(30):
            deep = {"x": [deep]}
        payload = json.dumps({**MANIFESTS["good"], "x-deep": deep}).encode()
        assert accepts(parse_manifest, payload)
        assert accepts(second.read_manifest, payload)

    @settings(max_examples=120, deadline=None)
    @given(st.text(path_characters, max_size=8) | st.text(max_size=4))
    def test_they_agree_on_any_path(self, path: str) -> None:
        assert accepts(check_path, path) == accepts(second.path_of, path)

    @settings(max_examples=120, deadline=None)
    @given(st.binary(max_size=30) | st.text('{}[]",:01.eE-nultr\\', max_size=30).map(str.encode))
    def test_they_agree_on_what_is_json(self, data: bytes) -> None:
        assert accepts(lambda text: strict_json(text, "x"), data) == accepts(second.read_json, data)

    @pytest.mark.parametrize(("read", "refusal"), PATH_READERS, ids=["samara", "second reader"])
    def test_paths(self, read: PathReader, refusal: type[Exception]) -> None:
        for path in PATHS["good"]:
            assert read(path) == path
        for case in PATHS["bad"]:
            with pytest.raises(refusal):
                read(case["path"])
                pytest.fail(case["why"])


def resigned(root: Any, pointer: str) -> bytes:
    """A root as bytes, signed again unless the signature itself was changed or there is nothing to sign."""
    with contextlib.suppress(Refused, KeyError, TypeError, IndexError, AttributeError, ValueError):
        if not pointer.startswith("/signatures"):
            key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(EXAMPLE["keys"]["root"]["seed"]))
            root["signatures"][0]["sig"] = key.sign(second.olpc(root["signed"]).encode()).hex()
    return json.dumps(root).encode()


def accepts(read: Callable[[Any], object], value: object) -> bool:
    try:
        read(value)
    except (SamaraError, ValueError, Refused, KeyError, TypeError, AttributeError):
        return False
    return True


def with_paths(paths: list[str]) -> bytes:
    """The good manifest with its last, one-byte file at each of these paths instead of its files."""
    value = json.loads(json.dumps(MANIFESTS["good"]))
    subject, file = value["subject"][-1], value["predicate"]["files"][-1]
    value["subject"] = [{**subject, "name": path} for path in paths]
    value["predicate"]["files"] = [{**file, "path": path} for path in paths]
    return json.dumps(value).encode()
