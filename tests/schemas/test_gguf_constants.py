"""The tables kept here are those of the `gguf` package, which is too heavy to depend on."""

from __future__ import annotations

import gguf

from samara.schemas import gguf_constants as ours


def test_magic_alignment_and_newest_version_are_the_packages() -> None:
    assert int.from_bytes(ours.MAGIC, "little") == gguf.GGUF_MAGIC
    assert ours.DEFAULT_ALIGNMENT == gguf.GGUF_DEFAULT_ALIGNMENT
    assert max(ours.VERSIONS) == gguf.GGUF_VERSION


def test_value_types_are_the_packages() -> None:
    assert {kind.name: kind.value for kind in ours.ValueType} == {kind.name: kind.value for kind in gguf.GGUFValueType}


def test_scalar_sizes_are_those_the_packages_reader_uses() -> None:
    theirs = gguf.GGUFReader.gguf_scalar_to_np
    assert {kind.name: size for kind, size in ours.SCALAR_BYTES.items()} == {
        kind.name: form().itemsize for kind, form in theirs.items()
    }
    assert {kind.name for kind in ours.UNSIGNED} == {kind.name for kind in theirs if "UINT" in kind.name}
    assert {kind.name for kind in ours.SIGNED} == {kind.name for kind in theirs if kind.name.startswith("INT")}


def test_tensor_types_are_the_packages() -> None:
    theirs = {kind.value: (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    assert theirs == ours.TENSOR_TYPES


def test_file_types_are_the_packages() -> None:
    theirs = {
        kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in gguf.LlamaFileType
        if kind is not gguf.LlamaFileType.GUESSED
    }
    assert theirs == ours.FILE_TYPES
