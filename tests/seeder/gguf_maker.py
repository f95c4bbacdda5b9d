"""Builds GGUF files in memory, byte by byte, so that tests can also build wrong ones."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from samara.schemas.gguf_constants import TENSOR_TYPES, ValueType
from samara.seeder.gguf_facts import read_gguf


def string(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def typed(kind: int, encoding: bytes) -> bytes:
    return struct.pack("<I", kind) + encoding


def text(value: str | bytes) -> bytes:
    return typed(ValueType.STRING, string(value))


def uint32(value: int) -> bytes:
    return typed(ValueType.UINT32, struct.pack("<I", value))


def array(kind: int, count: int, encoding: bytes) -> bytes:
    """An array value; `count` need not be true."""
    return typed(ValueType.ARRAY, array_body(kind, count, encoding))


def array_body(kind: int, count: int, encoding: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + encoding


def texts(values: Iterable[str]) -> bytes:
    items = [string(value) for value in values]
    return array(ValueType.STRING, len(items), b"".join(items))


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor; `data` as long as its type and dimensions make it, `offset` the next free one unless given."""

    name: str = "t"
    dimensions: tuple[int, ...] = (8,)
    kind: int = 0
    data: bytes = bytes(32)
    offset: int | None = None


def tensor(name: str, data: bytes) -> Tensor:
    """A tensor of plain bytes."""
    return Tensor(name=name, dimensions=(len(data),), kind=24, data=data)


def gguf_bytes(
    keys: Mapping[str, bytes] | Iterable[tuple[str, bytes]] = (),
    tensors: Iterable[Tensor] = (),
    *,
    version: int = 3,
    alignment: int = 32,
    key_count: int | None = None,
    tensor_count: int | None = None,
) -> bytes:
    """A whole file. Counts are the true ones unless given; `alignment` isn't written as a key by itself."""
    pairs = list(keys.items() if isinstance(keys, Mapping) else keys)
    tensors = list(tensors)
    infos, data = b"", b""
    for each in tensors:
        offset = len(data) if each.offset is None else each.offset
        rank = len(each.dimensions)
        infos += string(each.name) + struct.pack(f"<I{rank}QIQ", rank, *each.dimensions, each.kind, offset)
        data += padded(each.data, alignment)
    counts = struct.pack(
        "<QQ", len(tensors) if tensor_count is None else tensor_count, len(pairs) if key_count is None else key_count
    )
    head = b"GGUF" + struct.pack("<I", version) + counts + b"".join(string(key) + value for key, value in pairs) + infos
    return padded(head, alignment) + data


def padded(data: bytes, alignment: int = 32) -> bytes:
    return data + bytes(-len(data) % alignment)


def with_value(model: bytes, key: str, value: bytes) -> bytes:
    """The same GGUF (of alignment 32) with another value under a key; everything after it moves, as editors do it."""
    header, _ = read_gguf(io.BytesIO(model), len(model))
    span = next(span for span in header.keys if span.key == key)
    head = model[: span.start] + string(key) + value + model[span.end : header.data_at]
    unpadded = len(head) - (header.data_at - infos_end(model))
    return padded(head[:unpadded]) + model[header.data_at :]


def infos_end(model: bytes) -> int:
    """Where the tensor infos end, before their padding."""
    header, _ = read_gguf(io.BytesIO(model), len(model))
    at = header.tensor_infos_at
    for _ in header.tensors:
        at += 8 + int.from_bytes(model[at : at + 8], "little")
        at += 4 + 8 * int.from_bytes(model[at : at + 4], "little") + 12
    return at


def type_number(name: str) -> int:
    return next(number for number, (each, _, _) in TENSOR_TYPES.items() if each == name)
