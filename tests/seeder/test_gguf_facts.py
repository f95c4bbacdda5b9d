"""The header walk: right about good files, plain about bad ones, cheap on all."""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType

import gguf
import pytest
from blake3 import blake3
from gguf_maker import (
    Tensor,
    array,
    array_body,
    gguf_bytes,
    padded,
    string,
    tensor,
    text,
    texts,
    type_number,
    typed,
    uint32,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from samara.schemas.errors import MalformedError
from samara.schemas.gguf import GgufFacts, GgufHeader
from samara.schemas.gguf_constants import TENSOR_TYPES, ValueType
from samara.schemas.layouts import Layout, fixed_blocks
from samara.seeder.gguf_cursor import MAX_STEPS
from samara.seeder.gguf_facts import MAX_KEYS, MAX_TENSORS, Shape, claims_gguf, describe, read_gguf

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
MAKER = ROOT / "scripts" / "make_models.py"
TINY = (FIXTURES / "tiny.gguf").read_bytes()


def read(model: bytes) -> tuple[GgufHeader, GgufFacts]:
    return read_gguf(io.BytesIO(model), len(model))


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated model of a real one's shape, made by a Python that sees the standard library only."""
    path = tmp_path_factory.mktemp("noise") / "noise.gguf"
    subprocess.run([sys.executable, "-I", "-S", MAKER, "big", path, "--preset", "3mb"], check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_models", MAKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_models"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


class TestAgainstTheReferenceReader:
    """`gguf.GGUFReader` takes seconds on a large vocabulary, hence ours; on small files both must agree."""

    @pytest.mark.parametrize("name", ["tiny.gguf", "tiny-q8_0.gguf", "tiny-lora.gguf"])
    def test_on_the_fixtures(self, name: str) -> None:
        self.agrees(FIXTURES / name)

    def test_on_a_generated_model(self, noise: Path) -> None:
        self.agrees(noise)

    def test_on_every_tensor_type_and_a_wide_alignment(self, tmp_path: Path) -> None:
        tensors = [
            Tensor(name=name, dimensions=(block, 3), kind=number, data=bytes(3 * size))
            for number, (name, block, size) in TENSOR_TYPES.items()
        ]
        path = tmp_path / "types.gguf"
        path.write_bytes(gguf_bytes({"general.alignment": uint32(256)}, tensors, alignment=256))
        self.agrees(path)

    @staticmethod
    def agrees(path: Path) -> None:
        reader = gguf.GGUFReader(path)
        with path.open("rb") as file:
            header, facts = read_gguf(file, path.stat().st_size)
        fields = [field for name, field in reader.fields.items() if not name.startswith("GGUF.")]
        assert [(key.key, key.start, key.end) for key in header.keys] == [
            (field.name, field.offset, field.offset + sum(part.nbytes for part in field.parts)) for field in fields
        ]
        assert header.data_at == reader.data_offset
        assert [(span.name, span.start, span.end) for span in header.tensors] == sorted(
            ((each.name, each.data_offset, each.data_offset + each.n_bytes) for each in reader.tensors),
            key=lambda each: each[1],
        )
        assert facts.parameter_count == sum(each.n_elements for each in reader.tensors)
        architecture = reader.fields.get("general.architecture")
        assert facts.architecture == (architecture.contents() if architecture else "unknown")
        context = reader.fields.get(f"{facts.architecture}.context_length")
        assert facts.context_length == (context.contents() if context else None)
        assert facts.has_chat_template == ("tokenizer.chat_template" in reader.fields)


class TestFacts:
    def test_of_the_tiny_model(self) -> None:
        assert read(TINY)[1] == GgufFacts(
            architecture="llama",
            parameter_count=861_312,
            quantisation="F16",
            context_length=512,
            has_chat_template=True,
        )

    def test_of_an_adapter(self) -> None:
        facts = read((FIXTURES / "tiny-lora.gguf").read_bytes())[1]
        assert (facts.quantisation, facts.context_length, facts.has_chat_template) == ("F32", None, False)

    @pytest.mark.parametrize(
        ("number", "name"), [(0, "F32"), (1, "F16"), (2, "Q4_0"), (7, "Q8_0"), (15, "Q4_K_M"), (38, "MXFP4_MOE")]
    )
    def test_quantisation_is_the_file_types_name(self, number: int, name: str) -> None:
        assert read(gguf_bytes({"general.file_type": uint32(number)}))[1].quantisation == name

    @pytest.mark.parametrize("keys", [{}, {"general.file_type": uint32(1024)}], ids=["absent", "guessed"])
    def test_without_a_file_type_it_is_what_most_parameters_are(self, keys: dict[str, bytes]) -> None:
        tensors = [
            Tensor(name="norm", dimensions=(32,), data=bytes(128)),
            Tensor(name="weight", dimensions=(256, 4), kind=type_number("Q6_K"), data=bytes(4 * 210)),
        ]
        assert read(gguf_bytes(keys, tensors))[1].quantisation == "Q6_K"

    def test_a_file_that_says_nothing_has_unknown_facts(self) -> None:
        assert read(gguf_bytes())[1] == GgufFacts(architecture="unknown", parameter_count=0, quantisation="unknown")

    def test_the_context_length_is_that_of_the_architecture_even_if_named_later(self) -> None:
        keys = {
            "clip.context_length": uint32(77),
            "qwen.context_length": typed(ValueType.UINT64, struct.pack("<Q", 2**33)),
            "general.architecture": text("qwen"),
        }
        assert read(gguf_bytes(keys))[1].context_length == 2**33

    def test_an_empty_chat_template_is_none(self) -> None:
        assert not read(gguf_bytes({"tokenizer.chat_template": text("")}))[1].has_chat_template


class TestStructure:
    def test_versions_2_and_3_are_the_same_but_for_their_number(self) -> None:
        old, new = (read(gguf_bytes({"a": text("b")}, [Tensor()], version=version)) for version in (2, 3))
        assert (old[0].version, new[0].version) == (2, 3)
        assert old[0].tensors == new[0].tensors

    def test_tensors_are_ordered_by_place_not_by_name(self) -> None:
        header, _ = read(gguf_bytes({}, [Tensor(name="b", offset=32), Tensor(name="a", offset=0)]))
        assert [span.name for span in header.tensors] == ["a", "b"]

    def test_tensors_may_be_empty_scalar_or_without_padding_at_the_end(self) -> None:
        tensors = [
            Tensor(name="empty", dimensions=(0, 7), data=b""),
            Tensor(name="scalar", dimensions=(), data=bytes(4)),
            Tensor(name="last", dimensions=(3,), data=bytes(12)),
        ]
        model = gguf_bytes({}, tensors)[:-20]
        header, facts = read(model)
        assert [span.end - span.start for span in header.tensors] == [0, 4, 12]
        assert facts.parameter_count == 4
        assert sum(describe(io.BytesIO(model), len(model)).block_sizes) == len(model)

    def test_a_file_without_tensors_may_end_with_its_header(self) -> None:
        model = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("a") + uint32(1)
        assert read(model)[0].data_at == len(model)

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1_024, 12_000))
    def test_what_is_read_does_not_depend_on_how_much_is_read_at_once(self, window: int) -> None:
        assert read_gguf(io.BytesIO(TINY), len(TINY), window=window) == read(TINY)

    def test_strings_longer_than_the_window_are_stepped_over(self) -> None:
        model = gguf_bytes({"a": texts(["x" * 5_000, "", "y" * 1_000] * 20), "b": uint32(1)})
        assert read_gguf(io.BytesIO(model), len(model), window=1_024) == read(model)

    def test_nested_arrays_are_stepped_over(self) -> None:
        inner = array_body(ValueType.STRING, 2, string("x") + string("y")) + array_body(ValueType.UINT16, 3, bytes(6))
        model = gguf_bytes({"a": array(ValueType.ARRAY, 2, inner), "b": uint32(1)})
        assert [key.key for key in read(model)[0].keys] == ["a", "b"]

    def test_a_vocabulary_of_128_thousand_is_walked_in_half_a_megabyte(self, maker: ModuleType, tmp_path: Path) -> None:
        shape = maker.PRESETS["llama-1b"]
        tensors = list(maker.tensors_of(shape))
        head = maker.header_of(shape, tensors)
        path = tmp_path / "sparse.gguf"
        with path.open("w+b") as file:
            file.write(head)
            size = file.truncate(len(head) + sum(maker.padded(each.size) for each in tensors))
            tracemalloc.start()
            header, facts = read_gguf(file, size)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert (len(header.tensors), header.data_at, facts.parameter_count) == (147, len(head), 1_235_814_432)
        assert peak < 1_000_000


class TestGeneratedModels:
    def test_the_same_bytes_come_out_everywhere(self, noise: Path) -> None:
        assert blake3(noise.read_bytes()).hexdigest()[:16] == "bb307d9c192a9e99"

    def test_no_two_blocks_are_equal(self, noise: Path) -> None:
        model = noise.read_bytes()
        at, digests = 0, []
        for size in describe(io.BytesIO(model), len(model)).block_sizes:
            digests.append(blake3(model[at : at + size]).digest())
            at += size
        assert len(set(digests)) == len(digests) > 40

    def test_another_seed_makes_another_model(self, maker: ModuleType, noise: Path) -> None:
        out = io.BytesIO()
        assert maker.write_big(out, maker.PRESETS["3mb"], 1) == noise.stat().st_size
        assert out.getvalue() != noise.read_bytes()

    def test_weights_are_finite_and_of_sane_scale(self, noise: Path) -> None:
        for each in gguf.GGUFReader(noise).tensors:
            weights = gguf.quants.dequantize(each.data, each.tensor_type)
            assert 0.005 < abs(weights).mean() < 1.1, each.name
            assert abs(weights).max() < 10, each.name


VALUE = uint32(7)
FILE_END = "runs past the end of the file"

MALFORMED: dict[str, tuple[bytes, str]] = {
    "wrong magic": (b"GGML" + bytes(60), "wrong magic: expected b'GGUF', got b'GGML'"),
    "magic alone": (b"GGUF", f"preamble {FILE_END}: expected an end within 4 bytes, got 8 — the file is truncated"),
    "version 1": (gguf_bytes(version=1), "version: expected 2 or 3, got 1"),
    "version 4": (gguf_bytes(version=4), "version: expected 2 or 3, got 4"),
    "big-endian": (gguf_bytes(version=3 << 24), "expected little-endian version 2 or 3, got big-endian version 3"),
    "cut off in the counts": (gguf_bytes()[:20], FILE_END),
    "too many keys": (gguf_bytes(key_count=MAX_KEYS + 1), "too many keys: expected at most 4096, got 4097"),
    "keys by the billion": (gguf_bytes(key_count=2**63), "too many keys"),
    "too many tensors": (gguf_bytes(tensor_count=MAX_TENSORS + 1), "too many tensors: expected at most 16384"),
    "more keys than there are": (gguf_bytes({"a": VALUE}, key_count=2, alignment=1), f"key 2 of 2 {FILE_END}"),
    "a key as long as memory": (
        gguf_bytes(key_count=1, alignment=1) + struct.pack("<Q", 2**62),
        "text too long: expected at most 1024 bytes",
    ),
    "a key not in UTF-8": (
        gguf_bytes(key_count=1, alignment=1) + string(b"\xff") + VALUE,
        "UTF-8",
    ),
    "a key twice": (gguf_bytes([("a", VALUE), ("a", VALUE)]), "key 'a' is there twice"),
    "an unknown value type": (gguf_bytes({"a": typed(13, bytes(8))}), "expected 0 to 12, got 13"),
    "a value past the end": (gguf_bytes({"a": typed(ValueType.FLOAT64, b"")}, alignment=1), f"key 'a' {FILE_END}"),
    "a string past the end": (
        gguf_bytes({"a": typed(ValueType.STRING, struct.pack("<Q", 2**63))}),
        f"key 'a' {FILE_END}: expected an end within 64 bytes, got 9223372036854775853",
    ),
    "an array past the end": (gguf_bytes({"a": array(ValueType.FLOAT64, 2**60, b"")}), FILE_END),
    "strings by the billion": (gguf_bytes({"a": array(ValueType.STRING, 2**61, b"")}), FILE_END),
    "an array's string past the end": (
        gguf_bytes({"a": array(ValueType.STRING, 1, struct.pack("<Q", 2**64 - 1))}),
        FILE_END,
    ),
    "an array's inner string past the end": (
        gguf_bytes({"a": array(ValueType.STRING, 2, struct.pack("<QQ", 2**64 - 1, 0))}),
        FILE_END,
    ),
    "an array of nothing known": (gguf_bytes({"a": array(99, 1, bytes(8))}), "unknown value type"),
    "arrays by the billion": (gguf_bytes({"a": array(ValueType.ARRAY, 2**50, b"")}), FILE_END),
    "arrays without end": (
        gguf_bytes({"a": array(ValueType.ARRAY, 1, array_body(ValueType.ARRAY, 1, b"") * 2_000)}),
        "nested too deep: expected at most 4",
    ),
    "an alignment of 0": (gguf_bytes({"general.alignment": uint32(0)}), "expected a power of two, got 0"),
    "an alignment of 48": (gguf_bytes({"general.alignment": uint32(48)}), "expected a power of two, got 48"),
    "an alignment in words": (gguf_bytes({"general.alignment": text("32")}), "expected an integer, got STRING"),
    "an alignment beyond the file": (gguf_bytes({"general.alignment": uint32(2**31)}, [Tensor()]), FILE_END),
    "an architecture in numbers": (gguf_bytes({"general.architecture": uint32(1)}), "expected a string, got UINT32"),
    "an architecture too long": (
        gguf_bytes({"general.architecture": text("x" * 65)}),
        "expected at most 64 bytes, got 65",
    ),
    "an architecture that steers terminals": (gguf_bytes({"general.architecture": text("a\x1b[2J")}), "not a name"),
    "a chat template in numbers": (gguf_bytes({"tokenizer.chat_template": uint32(1)}), "expected a string"),
    "a negative context length": (
        gguf_bytes({"x.context_length": typed(ValueType.INT32, b"\xff" * 4), "general.architecture": text("x")}),
        "key 'x.context_length': expected 0 to 2^63-1, got -1",
    ),
    "a context length in words": (gguf_bytes({"x.context_length": text("512")}), "expected an integer, got STRING"),
    "more tensors than there are": (gguf_bytes(tensor_count=1, alignment=1), f"tensor 1 of 1 {FILE_END}"),
    "a tensor twice": (gguf_bytes({}, [Tensor(), Tensor()]), "tensor 't' is there twice"),
    "a tensor's name too long": (gguf_bytes({}, [Tensor(name="x" * 129)]), "expected at most 128 bytes, got 129"),
    "five dimensions": (gguf_bytes({}, [Tensor(dimensions=(1,) * 5)]), "expected at most 4, got 5"),
    "an unknown tensor type": (
        gguf_bytes({}, [Tensor(kind=4)]),
        "tensor 't': unknown tensor type: got 4 — a newer version of samara may know it",
    ),
    "a row of half a block": (
        gguf_bytes({}, [Tensor(dimensions=(48,), kind=2)]),
        "row length: expected a multiple of 32 for Q4_0, got 48",
    ),
    "a scalar of a block type": (gguf_bytes({}, [Tensor(dimensions=(), kind=2)]), "expected a multiple of 32"),
    "an offset not aligned": (gguf_bytes({}, [Tensor(offset=16)]), "offset: expected a multiple of 32, got 16"),
    "a tensor past the end": (
        gguf_bytes({}, [Tensor(name="blk.0", dimensions=(9,))]),
        f"tensor 'blk.0' {FILE_END}: expected an end within 96 bytes, got 100 — the file is truncated or damaged",
    ),
    "a tensor larger than numbers": (gguf_bytes({}, [Tensor(dimensions=(2**63,) * 4)]), FILE_END),
    "a tensor far out": (gguf_bytes({}, [Tensor(offset=2**63)]), FILE_END),
    "tensors that overlap": (
        gguf_bytes({}, [Tensor(name="a", dimensions=(16,), data=bytes(64)), Tensor(name="b", offset=32)]),
        "tensor 'b' overlaps 'a'",
    ),
}


class TestMalformed:
    @pytest.mark.parametrize("case", MALFORMED)
    def test_is_refused_with_a_message_that_says_why(self, case: str) -> None:
        model, message = MALFORMED[case]
        with pytest.raises(MalformedError) as caught:
            read(model)
        assert message in str(caught.value)

    @settings(deadline=None)
    @given(st.integers(0, len(TINY) - 1))
    def test_every_truncation_of_a_good_file_is_refused(self, kept: int) -> None:
        with pytest.raises(MalformedError):
            read(TINY[:kept])

    def test_a_file_that_shrinks_meanwhile_is_refused(self) -> None:
        with pytest.raises(MalformedError, match="became shorter while it was read"):
            read_gguf(io.BytesIO(TINY[:5_000]), len(TINY))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (array(ValueType.STRING, MAX_STEPS + 1, b""), "more array elements than any model has"),
            (array(ValueType.ARRAY, MAX_STEPS, b""), "more array elements than any model has"),
            (array(ValueType.UINT8, 2**30, b""), "header is too large: expected at most 268435456 bytes"),
            (typed(ValueType.STRING, struct.pack("<Q", 2**30)), "header is too large"),
        ],
    )
    def test_a_huge_file_cannot_ask_for_endless_work(self, value: bytes, message: str, tmp_path: Path) -> None:
        path = tmp_path / "sparse.gguf"
        with path.open("w+b") as file:
            file.write(gguf_bytes({"a": value}))
            size = file.truncate(2**40)
            with pytest.raises(MalformedError, match=message):
                read_gguf(file, size)


class TestAnyFile:
    @pytest.mark.parametrize("content", [b"", b"GG", b"not a model", bytes(10_000_000)])
    def test_a_file_without_the_magic_is_cut_by_fixed_and_that_is_no_news(self, content: bytes) -> None:
        assert not claims_gguf(io.BytesIO(content))
        shape = describe(io.BytesIO(content), len(content))
        assert shape == (Layout.FIXED, fixed_blocks(len(content)), None, None, None)

    @pytest.mark.parametrize("case", [case for case, (model, _) in MALFORMED.items() if model.startswith(b"GGUF")])
    def test_a_malformed_gguf_is_cut_by_fixed_and_says_so(self, case: str) -> None:
        model, message = MALFORMED[case]
        layout, sizes, facts, warning, _kind = describe(io.BytesIO(model), len(model))
        assert (layout, sizes, facts) == (Layout.FIXED, fixed_blocks(len(model)), None)
        assert warning is not None
        assert "cut by fixed-4MiB-v1" in warning
        assert message in warning

    def test_importing_the_reader_does_not_import_numpy(self) -> None:
        code = "import sys, samara.seeder.gguf_facts; sys.exit('numpy' in sys.modules or 'gguf' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


SEEDS = [
    TINY[: read(TINY)[0].data_at + 4_096],
    gguf_bytes(
        {"general.architecture": text("llama"), "a": texts(["x", "yy", ""]), "general.alignment": uint32(64)},
        [tensor("a", bytes(100)), tensor("b", bytes(70))],
        alignment=64,
    ),
    gguf_bytes({"a": array(ValueType.ARRAY, 1, array_body(ValueType.ARRAY, 1, array_body(ValueType.STRING, 0, b"")))}),
]
INTERESTING = [0, 1, 7, 8, 9, 31, 2**16, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with some bytes, lengths or whole stretches replaced, and perhaps an end of it missing."""
    model = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(len(model) - 1, 4_000)))
        patch = draw(
            st.binary(min_size=1, max_size=12)
            | st.sampled_from(INTERESTING).map(lambda number: struct.pack("<Q", number))
            | st.sampled_from(INTERESTING).map(lambda number: struct.pack("<I", number % 2**32))
        )
        model[at : at + draw(st.sampled_from([0, len(patch)]))] = patch
    return bytes(model[: draw(st.none() | st.integers(4, len(model)))])


class TestFuzz:
    @settings(max_examples=300, deadline=5_000)
    @given(damaged() | st.binary(max_size=200).map(lambda rest: b"GGUF\x03\0\0\0" + rest))
    def test_any_damage_is_read_or_refused_within_a_few_megabytes(self, model: bytes) -> None:
        tracemalloc.start()
        try:
            layout, sizes, facts, warning, _kind = describe(io.BytesIO(model), len(model))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4_000_000
        assert sum(sizes) == len(model)
        if model.startswith(b"GGUF"):
            assert (layout is Layout.GGUF) == (facts is not None) == (warning is None)

    def test_the_most_tensors_and_keys_allowed_cost_a_few_megabytes(self) -> None:
        names = [(f"{i:05}".ljust(120, "x"), VALUE) for i in range(MAX_KEYS)]
        infos = b"".join(
            string(f"{i:05}".ljust(120, "x")) + struct.pack("<IQIQ", 1, 0, 24, 0) for i in range(MAX_TENSORS)
        )
        head = gguf_bytes(names, tensor_count=MAX_TENSORS, alignment=1) + infos
        model = padded(head)
        tracemalloc.start()
        header, _ = read(model)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (len(header.keys), len(header.tensors)) == (MAX_KEYS, MAX_TENSORS)
        assert peak < 10_000_000


class TestWhatAFileSaysItIs:
    def shape(self, *keys: tuple[str, bytes]) -> Shape:
        model = gguf_bytes(keys, [tensor("t", bytes(100_000))])
        shape = describe(io.BytesIO(model), len(model))
        assert shape.layout is Layout.GGUF
        other = model.replace(b"general.type", b"general.typo")
        assert shape.block_sizes == describe(io.BytesIO(other), len(other)).block_sizes, "it decides no cut"
        return shape

    @pytest.mark.parametrize("word", ["model", "adapter", "mmproj"])
    def test_is_read(self, word: str) -> None:
        assert self.shape(("general.type", text(word)), ("a", uint32(1))).kind == word

    @pytest.mark.parametrize(
        "value",
        [uint32(7), text(""), text("x" * 33), text("a\nb"), text(b"\xff"), text("two words"), texts(["adapter"])],
    )
    def test_is_nothing_where_it_is_no_word_and_the_file_is_a_gguf_all_the_same(self, value: bytes) -> None:
        assert self.shape(("general.type", value), ("a", uint32(1))).kind is None

    def test_is_nothing_where_it_is_not_said(self) -> None:
        assert self.shape(("a", uint32(1))).kind is None

    def test_in_the_fixtures(self) -> None:
        kinds = {}
        for name in ("tiny.gguf", "tiny-lora.gguf"):
            with (FIXTURES / name).open("rb") as file:
                kinds[name] = describe(file, (FIXTURES / name).stat().st_size).kind
        assert kinds == {"tiny.gguf": "model", "tiny-lora.gguf": "adapter"}
