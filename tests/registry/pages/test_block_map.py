"""The block map as a pure function: every byte is counted once, and the picture shows what the numbers say."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from samara.registry.service.pages.block_map import (
    CELL,
    CELLS,
    COLUMNS,
    MAX_STRIPS,
    BlockMap,
    Kind,
    cells,
    draw,
    pieces,
    shares,
    summary,
)
from samara.schemas.manifest import Block, ReleaseFile, blocks_of

DIGESTS = [bytes([number]) * 32 for number in range(12)]


def file(path: str, blocks: list[tuple[int, bytes]]) -> ReleaseFile:
    """A file of these blocks."""
    made = blocks_of(blocks)
    return ReleaseFile(
        path=path, size=sum(block.size for block in made), b3="b3:" + "0" * 64, sha256="sha256:" + "0" * 64,
        role="weights", layout="x", blocks=made, torrent=None, mirrors=(), gguf=None, inline=b"",
    )  # fmt: skip


sizes = st.one_of(st.integers(1, 9), st.integers(1, 1 << 40))
some_blocks = st.lists(st.tuples(sizes, st.sampled_from(DIGESTS)), min_size=1, max_size=40)
some_files = st.lists(some_blocks, min_size=1, max_size=9).map(
    lambda many: [file(f"file-{number}", blocks) for number, blocks in enumerate(many)]
)
some_digests = st.sets(st.sampled_from(DIGESTS))
maps = st.builds(lambda files, a, b: pieces(files, previous=a, elsewhere=b), some_files, some_digests, some_digests)


@given(some_files, some_digests, some_digests)
def test_every_byte_is_of_one_kind(files: list[ReleaseFile], previous: set[bytes], elsewhere: set[bytes]) -> None:
    found = pieces(files, previous=previous, elsewhere=elsewhere)
    blocks: list[Block] = [block for one in files for block in one.blocks]
    assert found.size == sum(total.size for total in found.totals.values()) == sum(block.size for block in blocks)
    assert sum(total.blocks for total in found.totals.values()) == len(blocks)
    assert found.totals[Kind.PREVIOUS].size == sum(block.size for block in blocks if block.digest in previous)
    fresh = {block.digest for block in blocks} - previous
    assert found.totals[Kind.ELSEWHERE].blocks == len(fresh & elsewhere)
    assert found.totals[Kind.NEW].blocks == len(fresh - elsewhere)
    assert sum(strip.size for strip in found.strips) == found.size
    assert len(found.strips) <= MAX_STRIPS
    for strip in found.strips:
        assert sum(size for size, _ in strip.spans) == strip.size
        assert all(a[1] != b[1] for a, b in zip(strip.spans, strip.spans[1:], strict=False))


@given(maps, st.integers(1, 700))
def test_squares_share_out_every_byte(blocks: BlockMap, count: int) -> None:
    for strip in blocks.strips:
        some = min(count, strip.size)
        found = cells(strip, some)
        for kind in Kind:
            assert sum(cell.get(kind, 0) for cell in found) == sum(size for size, one in strip.spans if one is kind)
        largest = -(-strip.size // some)
        assert all(0 < sum(cell.values()) <= largest for cell in found)


@given(st.dictionaries(st.sampled_from(list(Kind)), st.integers(1, 1 << 50), min_size=1))
def test_a_mixed_square_shows_every_kind_that_is_in_it(cell: dict[Kind, int]) -> None:
    heights = shares(cell)
    assert heights.keys() == cell.keys()
    assert sum(heights.values()) == CELL
    assert all(height > 0 for height in heights.values())


@given(maps)
def test_a_picture_is_bounded_and_shows_every_kind_that_there_is(blocks: BlockMap) -> None:
    picture = draw(blocks)
    assert picture.paths.keys() == {kind for kind, total in blocks.totals.items() if total.size}
    drawn = [
        (int(x), int(y), int(v)) for path in picture.paths.values()
        for x, y, v in re.findall(r"M(\d+) (\d+)h14v(\d+)h-14z", path)
    ]  # fmt: skip
    assert "".join(picture.paths.values()).count("M") == len(drawn)
    squares = {(x, y) for x, y, v in drawn if v == CELL}
    assert all(x + CELL <= picture.width and y + v <= picture.height for x, y, v in drawn)
    assert sum(row.cells for row in picture.rows) <= CELLS + MAX_STRIPS
    assert len(drawn) <= len(Kind) * (CELLS + MAX_STRIPS)
    assert len(squares) == len([None for *_, v in drawn if v == CELL]), "two squares on each other"
    assert sum(v for *_, v in drawn) == CELL * sum(row.cells for row in picture.rows)


def test_a_little_that_changed_in_much_is_still_seen() -> None:
    before = [(4 << 20, number.to_bytes(32, "big")) for number in range(16_384)]
    after = [*before[:9000], (65_536, b"n" * 32), *before[9001:]]
    found = pieces([file("model.gguf", after)], previous={digest for _, digest in before}, elsewhere=())
    picture = draw(found)
    assert picture.paths[Kind.NEW].count("M") == 1
    assert picture.paths[Kind.PREVIOUS].count("M") == CELLS
    assert len("".join(picture.paths.values())) < 16_000
    assert max(row.cells for row in picture.rows) == CELLS == 8 * COLUMNS
    assert summary(found, version=3) == (
        "99.9 % of the bytes are those of version 3: whoever has it fetches 65.5 kB instead of 68.7 GB."
    )


def test_what_is_said_in_words() -> None:
    a, b, c = ((1000, digest) for digest in DIGESTS[:3])
    files = [file("x", [a, b, c, c])]
    first = pieces(files, previous=(), elsewhere=())
    assert summary(first, version=None) == "The first release of this model that is kept here: 4.0 kB to fetch."
    assert first.totals[Kind.REPEATED].size == 1000
    other = pieces(files, previous=(), elsewhere={DIGESTS[0]})
    assert summary(other, version=2) == (
        "None of the bytes are those of version 2. 25.0 % are in other models of this registry."
    )
    same = pieces(files, previous=set(DIGESTS), elsewhere={DIGESTS[0]})
    assert summary(same, version=2).startswith("100 % of the bytes are those of version 2: whoever has it fetches 0 B")


def test_files_beyond_the_first_few_are_drawn_together() -> None:
    files = [file(f"{number}.bin", [(number + 1, DIGESTS[number])]) for number in range(10)]
    found = pieces(files, previous=(), elsewhere=())
    assert [strip.label for strip in found.strips] == [*(f"{n}.bin" for n in range(5, 10)), "5 smaller files"]
    assert found.strips[-1].size == 1 + 2 + 3 + 4 + 5
