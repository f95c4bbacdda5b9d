"""Reads the header of a GGUF: where its parts lie, and the facts a person chooses a model by.

    shape = describe(file, size)              any file: its layout, block sizes and, for a GGUF, its facts
    header, facts = read_gguf(file, size)     a file that must be one

Decodes only the keys that facts need, and of arrays of strings (most of a real header) nothing but lengths. Every
length and count is held against the file's size before it is used, and against the limits here and in gguf_cursor.py:
no file costs more than a few MB of memory or a second or two, whatever it claims. Reads no tensor data and judges no
tokenizer: a file this module accepts may still be refused by an engine.

Little-endian GGUF v2 and v3. Format: ggml's docs/gguf.md; what it leaves open is decided as llama.cpp does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import BinaryIO, Final, NamedTuple

from samara.schemas.errors import MalformedError
from samara.schemas.gguf import GgufFacts, GgufHeader, KeySpan, TensorSpan
from samara.schemas.gguf_constants import (
    DEFAULT_ALIGNMENT,
    FILE_TYPES,
    MAGIC,
    MAX_DIMENSIONS,
    SCALAR_BYTES,
    TENSOR_TYPES,
    VERSIONS,
    ValueType,
)
from samara.schemas.layouts import Layout, fixed_blocks, gguf_blocks
from samara.seeder.gguf_cursor import DAMAGED, WINDOW, Cursor

# Limits of what we are willing to walk: several times what real models need, small enough to be harmless.
MAX_KEYS: Final = 4_096  # real headers have tens
MAX_KEY_BYTES: Final = 1_024  # the format allows 65,535; real ones have tens
MAX_TENSORS: Final = 16_384  # large mixtures of experts have one or two thousand
MAX_TENSOR_NAME_BYTES: Final = 128  # llama.cpp 64, stable-diffusion.cpp 128
MAX_NESTING: Final = 4
NESTED_ARRAY_STEPS: Final = 16  # an array within an array costs us about as much as so many strings
MAX_ARCHITECTURE_BYTES: Final = 64
MAX_TYPE_BYTES: Final = 32  # the longest word in use has 8

ARCHITECTURE: Final = "general.architecture"
ALIGNMENT: Final = "general.alignment"
TYPE: Final = "general.type"
FILE_TYPE: Final = "general.file_type"
CHAT_TEMPLATE: Final = "tokenizer.chat_template"
CONTEXT_LENGTH: Final = ".context_length"

UNKNOWN: Final = "unknown"

_NEWER: Final = "a newer version of samara may know it"


class Shape(NamedTuple):
    """How to cut one file, and what is known of it.

    `warning` says why a file that claims to be GGUF is cut as if it weren't; otherwise it is None. `kind`: what a GGUF
    says it is (`general.type`), as "model", "adapter" or "mmproj"; None if it doesn't say.
    """

    layout: Layout
    block_sizes: tuple[int, ...]
    facts: GgufFacts | None
    warning: str | None
    kind: str | None = None

    @property
    def claims_gguf(self) -> bool:
        """Whether the file has GGUF's magic, understood or not: it decides the torrent's file name."""
        return self.facts is not None or self.warning is not None


def describe(file: BinaryIO, size: int) -> Shape:
    """The layout and block sizes of any file; for a GGUF its facts as well. Moves the file's position.

    A file without GGUF's magic is cut by `fixed`; one that has it but is malformed is too, with a warning. Raises
    OSError if the file can't be read.
    """
    if not claims_gguf(file):
        return Shape(Layout.FIXED, fixed_blocks(size), None, None)
    try:
        header, facts, kind = _read(file, size, WINDOW)
    except MalformedError as error:
        warning = f"starts like a GGUF but is not one that can be read, so it is cut by {Layout.FIXED}: {error}"
        return Shape(Layout.FIXED, fixed_blocks(size), None, warning)
    return Shape(Layout.GGUF, gguf_blocks(header, size), facts, None, kind)


def claims_gguf(file: BinaryIO) -> bool:
    """Whether the file starts with GGUF's magic. Moves the file's position."""
    file.seek(0)
    return file.read(len(MAGIC)) == MAGIC


def read_gguf(file: BinaryIO, size: int, *, window: int = WINDOW) -> tuple[GgufHeader, GgufFacts]:
    """The structure and the facts of a GGUF of `size` bytes. Moves the file's position.

    Raises MalformedError, saying what was expected and found, for anything that breaks the format or our limits;
    OSError if the file can't be read. `window` (at least 1,024 bytes) is how much is read at once.
    """
    header, facts, _kind = _read(file, size, window)
    return header, facts


def _read(file: BinaryIO, size: int, window: int) -> tuple[GgufHeader, GgufFacts, str | None]:
    cursor = Cursor(file, size, window)
    version = _read_version(cursor)
    cursor.where = "counts"
    tensor_count = cursor.count(MAX_TENSORS, "tensors")
    key_count = cursor.count(MAX_KEYS, "keys")
    keys, known = _read_keys(cursor, key_count)
    tensor_infos_at = cursor.at
    alignment = _alignment(known)
    infos = _read_tensor_infos(cursor, tensor_count, alignment)
    # A file without tensors may end with its header; padding up to nothing is optional.
    padded = -(-cursor.at // alignment) * alignment
    data_at = padded if infos else min(padded, size)
    header = GgufHeader(
        version=version,
        keys=keys,
        tensor_infos_at=tensor_infos_at,
        data_at=data_at,
        tensors=_place_tensors(infos, data_at, size),
    )
    kind = known.get(TYPE)
    assert not isinstance(kind, int)
    return header, _facts(known, infos), kind


# What the header says that we use: integers and text as they are, of a chat template its length.
_Known = dict[str, int | str]


class _TensorInfo(NamedTuple):
    offset: int  # from the start of the tensor data
    length: int
    elements: int
    type_name: str
    name: str


def _read_version(cursor: Cursor) -> int:
    magic = cursor.take(len(MAGIC))
    if magic != MAGIC:
        raise MalformedError("not a GGUF: wrong magic", expected=repr(MAGIC), actual=repr(magic))
    raw = cursor.take(4)
    version = int.from_bytes(raw, "little")
    if version in VERSIONS:
        return version
    wanted = " or ".join(map(str, VERSIONS))
    if (swapped := int.from_bytes(raw, "big")) in VERSIONS:
        raise MalformedError(
            "GGUF byte order", expected=f"little-endian version {wanted}", actual=f"big-endian version {swapped}"
        )
    raise MalformedError("GGUF version", expected=wanted, actual=version)


def _read_keys(cursor: Cursor, count: int) -> tuple[tuple[KeySpan, ...], _Known]:
    spans: dict[str, KeySpan] = {}
    known: _Known = {}
    for number in range(1, count + 1):
        cursor.where = f"key {number} of {count}"
        start = cursor.at
        key = cursor.text(MAX_KEY_BYTES)
        cursor.where = f"key {key!r}"
        if key in spans:
            raise MalformedError(f"GGUF {cursor.where} is there twice")
        kind = cursor.value_type()
        if key == ARCHITECTURE:
            known[key] = _read_architecture(cursor, kind)
        elif key == TYPE and kind is ValueType.STRING:
            _read_type(cursor, known)
        elif key == CHAT_TEMPLATE:
            _require_string(cursor, kind)
            known[key] = length = cursor.u64()
            cursor.skip(length)
        elif key in (ALIGNMENT, FILE_TYPE) or key.endswith(CONTEXT_LENGTH):
            known[key] = cursor.integer(kind)
        else:
            _skip_value(cursor, kind)
        spans[key] = KeySpan(key=key, start=start, end=cursor.at)
    return tuple(spans.values()), known


def _read_architecture(cursor: Cursor, kind: ValueType) -> str:
    _require_string(cursor, kind)
    name = cursor.text(MAX_ARCHITECTURE_BYTES)
    # It is printed to terminals of people who did not make the file.
    if not name.isprintable():
        raise MalformedError(f"GGUF {cursor.where}: not a name", actual=repr(name))
    return name


def _read_type(cursor: Cursor, known: _Known) -> None:
    """Note the type if it is a word. Whatever it is, it decides nothing about how the file is cut."""
    length = cursor.u64()
    if length > MAX_TYPE_BYTES:
        cursor.skip(length)
        return
    word = cursor.take(length)
    if word.isalpha():
        known[TYPE] = word.decode("ascii")


def _require_string(cursor: Cursor, kind: ValueType) -> None:
    if kind is not ValueType.STRING:
        raise MalformedError(f"GGUF {cursor.where}: wrong type", expected="a string", actual=kind.name)


def _skip_value(cursor: Cursor, kind: ValueType) -> None:
    if kind is ValueType.STRING:
        cursor.skip(cursor.u64())
    elif kind is ValueType.ARRAY:
        _skip_array(cursor, 1)
    else:
        cursor.skip(SCALAR_BYTES[kind])


def _skip_array(cursor: Cursor, depth: int) -> None:
    if depth > MAX_NESTING:
        raise MalformedError(f"GGUF {cursor.where}: arrays nested too deep", expected=f"at most {MAX_NESTING}")
    kind, count = cursor.value_type(), cursor.u64()
    if kind is ValueType.STRING:
        cursor.skip_strings(count)
    elif kind is ValueType.ARRAY:
        cursor.require_each(count, 4 + 8)
        cursor.spend(count * NESTED_ARRAY_STEPS)
        for _ in range(count):
            _skip_array(cursor, depth + 1)
    else:
        cursor.skip(count * SCALAR_BYTES[kind])


def _alignment(known: _Known) -> int:
    alignment = known.get(ALIGNMENT, DEFAULT_ALIGNMENT)
    assert isinstance(alignment, int)
    if alignment < 1 or alignment & (alignment - 1):
        raise MalformedError(f"GGUF key {ALIGNMENT!r}", expected="a power of two", actual=alignment)
    return alignment


def _read_tensor_infos(cursor: Cursor, count: int, alignment: int) -> list[_TensorInfo]:
    infos: dict[str, _TensorInfo] = {}
    for number in range(1, count + 1):
        cursor.where = f"tensor {number} of {count}"
        name = cursor.text(MAX_TENSOR_NAME_BYTES)
        cursor.where = f"tensor {name!r}"
        if name in infos:
            raise MalformedError(f"GGUF {cursor.where} is there twice")
        infos[name] = _read_tensor_info(cursor, name, alignment)
    return list(infos.values())


def _read_tensor_info(cursor: Cursor, name: str, alignment: int) -> _TensorInfo:
    rank = cursor.u32()
    if rank > MAX_DIMENSIONS:
        raise MalformedError(
            f"GGUF {cursor.where}: too many dimensions", expected=f"at most {MAX_DIMENSIONS}", actual=rank
        )
    dimensions = [cursor.u64() for _ in range(rank)]
    type_number = cursor.u32()
    offset = cursor.u64()
    if type_number not in TENSOR_TYPES:
        raise MalformedError(f"GGUF {cursor.where}: unknown tensor type", actual=type_number, next_step=_NEWER)
    type_name, block_elements, block_bytes = TENSOR_TYPES[type_number]
    row = dimensions[0] if dimensions else 1
    if row % block_elements:
        raise MalformedError(
            f"GGUF {cursor.where}: row length", expected=f"a multiple of {block_elements} for {type_name}", actual=row
        )
    if offset % alignment:
        raise MalformedError(f"GGUF {cursor.where}: offset", expected=f"a multiple of {alignment}", actual=offset)
    elements = math.prod(dimensions)
    return _TensorInfo(offset, elements // block_elements * block_bytes, elements, type_name, name)


def _place_tensors(infos: Iterable[_TensorInfo], data_at: int, size: int) -> tuple[TensorSpan, ...]:
    """The tensors by position, once they are known to lie within the file and apart from each other."""
    spans = tuple(
        TensorSpan(name=info.name, start=data_at + info.offset, end=data_at + info.offset + info.length)
        for info in sorted(infos)
    )
    for span in spans:
        if span.end > size:
            raise MalformedError(
                f"GGUF tensor {span.name!r} runs past the end of the file",
                expected=f"an end within {size} bytes",
                actual=span.end,
                next_step=DAMAGED,
            )
    for span, following in pairwise(spans):
        if following.start < span.end:
            raise MalformedError(
                f"GGUF tensor {following.name!r} overlaps {span.name!r}",
                expected=f"a start at {span.end} or later",
                actual=following.start,
            )
    return spans


def _facts(known: _Known, infos: list[_TensorInfo]) -> GgufFacts:
    # Some image models name no architecture; their structure is sound all the same.
    architecture = str(known.get(ARCHITECTURE, UNKNOWN))
    context_length = known.get(architecture + CONTEXT_LENGTH)
    assert not isinstance(context_length, str)
    if context_length is not None and not 0 <= context_length < 2**63:
        raise MalformedError(
            f"GGUF key {architecture + CONTEXT_LENGTH!r}", expected="0 to 2^63-1", actual=context_length
        )
    return GgufFacts(
        architecture=architecture,
        parameter_count=sum(info.elements for info in infos),
        quantisation=_quantisation(known, infos),
        context_length=context_length,
        has_chat_template=bool(known.get(CHAT_TEMPLATE)),
    )


def _quantisation(known: _Known, infos: list[_TensorInfo]) -> str:
    """The file type by name; if it is absent or of no name, the tensor type that most parameters have."""
    file_type = known.get(FILE_TYPE)
    if isinstance(file_type, int) and file_type in FILE_TYPES:
        return FILE_TYPES[file_type]
    parameters: Counter[str] = Counter()
    for info in infos:
        parameters[info.type_name] += info.elements
    return parameters.most_common(1)[0][0] if parameters else UNKNOWN
