"""What two releases share, in words that people know: files, GGUF keys, tensors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from samara.schemas.manifest import Block, ReleaseFile


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDiff:
    """One file against the one of the other release that it is most like. Bytes.

    `old` is None for a file that has no counterpart. `shared`: bytes of blocks that the other has too, wherever they
    lie; `fetch`: the rest. `pieces`: how many BitTorrent pieces hold any of the rest. `parts`: GGUF keys and tensors
    whose bytes differ, and where the difference lies; None where headers aren't at hand.
    """

    path: str
    old: str | None
    size: int
    shared: int
    fetch: int
    pieces: int
    parts: tuple[PartDiff, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PartDiff:
    """A key or tensor. `kind`: "key" or "tensor"; `change`: "changed", "added" or "removed"; `size` in bytes."""

    kind: str
    name: str
    change: str
    size: int


def pair_files(new: Sequence[ReleaseFile], old: Sequence[ReleaseFile]) -> list[tuple[ReleaseFile, ReleaseFile | None]]:
    """Each new file with the old one of the same path, else of the same role with which it shares the most bytes."""
    by_path = {file.path: file for file in old}
    return [(file, by_path.get(file.path) or _likest(file, old)) for file in new]


def diff_blocks(new: Sequence[Block], old: Iterable[Block]) -> tuple[int, tuple[Block, ...]]:
    """(bytes shared, blocks that the old file lacks)."""
    known = {block.digest for block in old}
    missing = tuple(block for block in new if block.digest not in known)
    return sum(block.size for block in new) - sum(block.size for block in missing), missing


def pieces_of_blocks(blocks: Iterable[Block], piece_length: int) -> int:
    """How many pieces hold any byte of these blocks."""
    return len({piece for b in blocks for piece in range(b.offset // piece_length, (b.end - 1) // piece_length + 1)})


def diff_parts(
    kind: str, new: Mapping[str, tuple[int, object]], old: Mapping[str, tuple[int, object]]
) -> list[PartDiff]:
    """`new` and `old`: name → (size in bytes, anything that is equal only where the bytes are)."""
    found = [
        PartDiff(kind=kind, name=name, change="added" if name not in old else "changed", size=size)
        for name, (size, digest) in new.items()
        if name not in old or old[name] != (size, digest)
    ]
    gone = [
        PartDiff(kind=kind, name=name, change="removed", size=size)
        for name, (size, _) in old.items()
        if name not in new
    ]
    return found + gone


def _likest(file: ReleaseFile, old: Sequence[ReleaseFile]) -> ReleaseFile | None:
    alike = [(diff_blocks(file.blocks, other.blocks)[0], other) for other in old if other.role == file.role]
    shared, best = max(alike, key=lambda item: item[0], default=(0, None))
    return best if shared else None
