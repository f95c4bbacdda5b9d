"""The block map: how a release's blocks are shared with the release before it and with other models. Pure.

    pieces(files, previous, elsewhere) → BlockMap   what is known of every byte
    draw(map) → Picture                             the same as paths for an SVG, so many squares at most

A block is looked for by its BLAKE3 digest alone: where it lies in the other file doesn't matter. Each byte counts once,
as the first of these that is true: it is in the previous release; earlier in this one; in another model of this
registry; nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from samara.registry.service.pages.words import percent, size
from samara.schemas.manifest import Block, ReleaseFile

CELLS = 480  # squares in a picture: few enough for a page, many enough to see a template that changed
COLUMNS = 60
MAX_STRIPS = 6  # files with squares of their own; the others are drawn together
CELL = 14  # units of a square's side
GAP = 2
_LEAST = 3  # units: of a mixed square, what even one byte of a kind gets


class Kind(StrEnum):
    """Where else a block is."""

    PREVIOUS = "previous"
    REPEATED = "repeated"
    ELSEWHERE = "elsewhere"
    NEW = "new"


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """How much of a release is of one kind."""

    blocks: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """One file, or the small ones together: its bytes in order as (size, kind)."""

    label: str
    size: int
    spans: tuple[tuple[int, Kind], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockMap:
    """A release's bytes by kind. `totals` has every kind."""

    size: int
    totals: Mapping[Kind, Total]
    strips: tuple[Strip, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The squares of one strip, `top` units from the picture's upper edge; its label stands above them."""

    label: str
    size: int
    top: int
    cells: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What to draw. `paths`: SVG path data by kind; `cell_size`: about how many bytes a square stands for."""

    width: int
    height: int
    cell_size: int
    paths: Mapping[Kind, str]
    rows: tuple[Row, ...]


def pieces(
    files: Sequence[ReleaseFile], *, previous: Collection[bytes], elsewhere: Collection[bytes]
) -> BlockMap:  # fmt: skip
    """What is known of every byte. `previous`, `elsewhere`: digests (32 raw bytes) of the blocks that are there."""
    seen: set[bytes] = set()
    blocks, sizes = dict.fromkeys(Kind, 0), dict.fromkeys(Kind, 0)
    found: list[tuple[ReleaseFile, tuple[tuple[int, Kind], ...]]] = []
    for file in files:
        spans = []
        for block in file.blocks:
            kind = _kind(block, previous=previous, elsewhere=elsewhere, seen=seen)
            seen.add(block.digest)
            blocks[kind] += 1
            sizes[kind] += block.size
            spans.append((block.size, kind))
        found.append((file, _joined(spans)))
    return BlockMap(
        size=sum(sizes.values()),
        totals={kind: Total(blocks=blocks[kind], size=sizes[kind]) for kind in Kind},
        strips=_strips(found),
    )


def _kind(block: Block, *, previous: Collection[bytes], elsewhere: Collection[bytes], seen: set[bytes]) -> Kind:
    if block.digest in previous:
        return Kind.PREVIOUS
    if block.digest in seen:
        return Kind.REPEATED
    return Kind.ELSEWHERE if block.digest in elsewhere else Kind.NEW


def _joined(spans: Sequence[tuple[int, Kind]]) -> tuple[tuple[int, Kind], ...]:
    out: list[tuple[int, Kind]] = []
    for length, kind in spans:
        if out and out[-1][1] is kind:
            out[-1] = (out[-1][0] + length, kind)
        else:
            out.append((length, kind))
    return tuple(out)


def _strips(found: Sequence[tuple[ReleaseFile, tuple[tuple[int, Kind], ...]]]) -> tuple[Strip, ...]:
    """The largest files, in the release's order, then the rest as one."""
    by_size = sorted(found, key=lambda one: one[0].size, reverse=True)
    own = MAX_STRIPS if len(found) <= MAX_STRIPS else MAX_STRIPS - 1
    large = {file.path for file, _ in by_size[:own]}
    strips = [
        Strip(label=file.path, size=file.size, spans=spans) for file, spans in found if file.path in large
    ]  # fmt: skip
    rest = [(file, spans) for file, spans in found if file.path not in large]
    if rest:
        strips.append(
            Strip(
                label=f"{len(rest)} smaller files",
                size=sum(file.size for file, _ in rest),
                spans=_joined([span for _, spans in rest for span in spans]),
            )
        )
    return tuple(strips)


def cells(strip: Strip, count: int) -> tuple[Mapping[Kind, int], ...]:
    """A strip in `count` squares of about the same size: bytes of each kind in each of them."""
    found: list[dict[Kind, int]] = [{} for _ in range(count)]
    at, cell = 0, 0
    for left, kind in strip.spans:
        while left:
            end = strip.size * (cell + 1) // count
            if end == at:  # more squares than bytes
                cell += 1
                continue
            here = min(left, end - at)
            found[cell][kind] = found[cell].get(kind, 0) + here
            at, left = at + here, left - here
    return tuple(found)


def draw(blocks: BlockMap) -> Picture:
    """A map as squares, row by row: a square of one kind is filled with it, a mixed one is divided by shares."""
    paths: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    rows, top, drawn = [], 0, 0
    several = len(blocks.strips) > 1
    for strip in blocks.strips:
        count = max(1, min(strip.size, round(CELLS * strip.size / max(blocks.size, 1))))
        top += 18 if several else 0  # room for its label
        rows.append(Row(label=strip.label, size=strip.size, top=top, cells=count))
        for number, cell in enumerate(cells(strip, count)):
            x, y = number % COLUMNS * (CELL + GAP), top + number // COLUMNS * (CELL + GAP)
            for kind, path in _square(cell, x, y):
                paths[kind].append(path)
        top += -(-count // COLUMNS) * (CELL + GAP) + (6 if several else 0)
        drawn += count
    return Picture(
        width=COLUMNS * (CELL + GAP) - GAP,
        height=top,
        cell_size=blocks.size // max(drawn, 1),
        paths={kind: "".join(parts) for kind, parts in paths.items() if parts},
        rows=tuple(rows),
    )


def _square(cell: Mapping[Kind, int], x: int, y: int) -> Iterator[tuple[Kind, str]]:
    heights = shares(cell)
    for kind, height in heights.items():
        yield kind, f"M{x} {y}h{CELL}v{height}h-{CELL}z"
        y += height


def shares(cell: Mapping[Kind, int]) -> dict[Kind, int]:
    """How high each kind stands in a square of `CELL` units: by its bytes, but none that is there is left out."""
    present = [kind for kind in Kind if cell.get(kind)]
    total = sum(cell[kind] for kind in present)
    heights = {kind: max(_LEAST, CELL * cell[kind] // total) for kind in present}
    if heights:
        largest = max(heights, key=lambda kind: cell[kind])
        heights[largest] += CELL - sum(heights.values())
    return heights


def summary(blocks: BlockMap, *, version: int | None) -> str:
    """The map in a sentence or two. `version`: of the release it is compared to; None without one."""
    totals = blocks.totals
    elsewhere = totals[Kind.ELSEWHERE].size
    also = f" {percent(elsewhere, blocks.size)} are in other models of this registry." if elsewhere else ""
    if version is None:
        return f"The first release of this model that is kept here: {size(blocks.size)} to fetch.{also}"
    known = totals[Kind.PREVIOUS].size
    if not known:
        return f"None of the bytes are those of version {version}.{also}"
    missing = totals[Kind.NEW].size + elsewhere
    return (
        f"{percent(known, blocks.size)} of the bytes are those of version {version}:"
        f" whoever has it fetches {size(missing)} instead of {size(blocks.size)}.{also}"
    )
