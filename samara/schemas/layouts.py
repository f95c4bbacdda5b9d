"""Layouts: the rules that cut a blob into blocks. Pure: sizes and header positions in, block sizes out.

A layout's result is a tuple of block sizes in file order; they are positive and add up to the blob's size, so there is
no other way to write "covers exactly, no overlap". What the blocks hash to is not decided here.

`fixed-4MiB-v1` cuts every 4 MiB.

`gguf-4MiB-v1` cuts where a GGUF's own parts begin, so that an edit leaves every other part's blocks unchanged, wherever
the bytes moved to. In this order a file is

1. the preamble (24 bytes) and the header's key-values; one whose encoding is 64 KiB or more is a region alone,
2. the tensor infos with their padding: one region,
3. the tensor data; each tensor of 64 KiB or more is a region alone.

Neighbours smaller than 64 KiB within 1 and within 3 are grouped in file order: a group is closed when the next
neighbour would take it over 64 KiB, or is large. Each region is then cut every 4 MiB from its start. Padding (and
whatever follows the last tensor) belongs to what precedes it, but does not make a small tensor large.

What an edit costs, then: of equal length, the blocks that hold it; of a small key to another length, its group and, if
neighbours now fit otherwise, the groups between the nearest large keys; and the tensor infos, whose padding may change.

Never more than 16,384 blocks. If the regions alone are more than half of that, 64 KiB doubles until they are not (only
odd files of very many small parts); then 4 MiB doubles until the blocks fit (files of about 64 GiB and more).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import chain, pairwise
from typing import Final

from samara.schemas.errors import UsageError
from samara.schemas.gguf import GgufHeader

BLOCK: Final = 4 * 1024 * 1024
GROUP: Final = 64 * 1024
MAX_BLOCKS: Final = 16_384


class Layout(StrEnum):
    """The layouts there are. A name carries every parameter: other cuts are another name."""

    FIXED = "fixed-4MiB-v1"
    GGUF = "gguf-4MiB-v1"


def block_sizes(layout: str, size: int, header: GgufHeader | None = None) -> tuple[int, ...]:
    """The block sizes, in bytes and in file order, of a blob of `size` bytes under the layout of that name.

    `header` is needed for `gguf-4MiB-v1` and ignored otherwise. Raises UsageError for a name that isn't a layout's.
    """
    if layout == Layout.FIXED:
        return fixed_blocks(size)
    if layout == Layout.GGUF:
        if header is None:
            raise ValueError(f"{Layout.GGUF} needs the file's header")
        return gguf_blocks(header, size)
    raise UsageError("unknown layout", expected=" or ".join(Layout), actual=repr(layout[:40]))


def fixed_blocks(size: int) -> tuple[int, ...]:
    """`fixed-4MiB-v1`: the block sizes of any blob of `size` bytes; none for an empty one."""
    return _cut([size] if size else [])


def gguf_blocks(header: GgufHeader, size: int) -> tuple[int, ...]:
    """`gguf-4MiB-v1`: the block sizes of a GGUF of `size` bytes whose parts lie where `header` says."""
    keys, data = _key_parts(header), _data_parts(header, size)
    infos = header.data_at - header.tensor_infos_at
    small = GROUP
    while len(regions := [*_group(keys, small), *([infos] if infos else []), *_group(data, small)]) > MAX_BLOCKS // 2:
        small *= 2
    return _cut(regions)


# A part is (bytes that decide whether it is large, bytes it spans with its padding).
_Part = tuple[int, int]


def _key_parts(header: GgufHeader) -> list[_Part]:
    preamble = header.keys[0].start if header.keys else header.tensor_infos_at
    return [(preamble, preamble), *((key.end - key.start,) * 2 for key in header.keys)]


def _data_parts(header: GgufHeader, size: int) -> list[_Part]:
    if not header.tensors:
        rest = size - header.data_at
        return [(rest, rest)] if rest else []
    lead = header.tensors[0].start - header.data_at
    starts = chain((tensor.start for tensor in header.tensors), (size,))
    spans = (following - start for start, following in pairwise(starts))
    parts = [(tensor.end - tensor.start, span) for tensor, span in zip(header.tensors, spans, strict=True)]
    return [(lead, lead), *parts] if lead else parts


def _group(parts: Sequence[_Part], small: int) -> Iterator[int]:
    """Sizes of the regions that `parts` make: large ones alone, small neighbours together up to `small` bytes."""
    pending = 0
    for own, span in parts:
        large = own >= small
        if pending and (large or pending + span > small):
            yield pending
            pending = 0
        if large:
            yield span
        else:
            pending += span
    if pending:
        yield pending


def _cut(regions: Sequence[int]) -> tuple[int, ...]:
    """Cut each region every 4 MiB from its start, or every doubled 4 MiB if there would be too many blocks."""
    block = BLOCK
    while sum(-(-region // block) for region in regions) > MAX_BLOCKS:
        block *= 2
    return tuple(min(block, region - at) for region in regions for at in range(0, region, block))
