"""Blocks over pieces: every answer held against plain sets of byte positions."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from samara.schemas.errors import MalformedError
from samara.schemas.manifest import Block, blocks_of
from samara.schemas.ranges import Bitmap, Coverage, PieceMap, pieces_of

block_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=30)
piece_lengths = st.integers(1, 64)


def blob(sizes: list[int]) -> tuple[Block, ...]:
    return blocks_of([(size, bytes(32)) for size in sizes])


def bytes_of_blocks(sizes: list[int]) -> list[set[int]]:
    starts = accumulate(sizes, initial=0)
    return [set(range(start, start + size)) for start, size in zip(starts, sizes, strict=False)]


def bytes_of_pieces(size: int, length: int) -> list[set[int]]:
    return [set(range(start, min(start + length, size))) for start in range(0, size, length)]


# --- pieces_of ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 500), st.integers(0, 500), piece_lengths)
def test_pieces_of_a_range_are_those_of_its_bytes(offset: int, size: int, length: int) -> None:
    assert set(pieces_of(offset, size, length)) == {at // length for at in range(offset, offset + size)}


def test_pieces_of_large_files_are_exact() -> None:
    assert pieces_of(2**52 + 1, 2**24, 2**24) == range(2**28, 2**28 + 2)
    assert pieces_of(2**52, 2**24, 2**24) == range(2**28, 2**28 + 1)


@pytest.mark.parametrize("wrong", [(-1, 1, 1), (0, -1, 1), (0, 1, 0)])
def test_pieces_of_no_range_are_a_bug(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no such range"):
        pieces_of(*wrong)


# --- Bitmap ---------------------------------------------------------------------------------------------------------


@st.composite
def bitmaps(draw: st.DrawFn, size: int | None = None) -> tuple[Bitmap, set[int]]:
    count = draw(st.integers(0, 100)) if size is None else size
    members = draw(st.sets(st.integers(0, count - 1))) if count else set()
    return Bitmap.of(count, members), members


@given(bitmaps())
def test_a_bitmap_is_a_set_that_knows_what_is_missing(pair: tuple[Bitmap, set[int]]) -> None:
    bitmap, members = pair
    everything = set(range(bitmap.size))
    assert list(bitmap) == sorted(members)
    assert list(bitmap.missing()) == sorted(everything - members)
    assert len(bitmap) == len(members)
    assert bool(bitmap) == bool(members)
    assert bitmap.is_full == (members == everything)
    assert all((bit in bitmap) == (bit in members) for bit in range(-1, bitmap.size + 9))
    assert bitmap.as_list() == [bit in members for bit in range(bitmap.size)]
    assert bitmap == Bitmap.of(bitmap.size, sorted(members, reverse=True))
    assert hash(bitmap) == hash(Bitmap.of(bitmap.size, members))
    assert bitmap.missing().missing() == bitmap


@given(bitmaps())
def test_a_bitmap_survives_being_written(pair: tuple[Bitmap, set[int]]) -> None:
    bitmap, _ = pair
    data = bitmap.to_bytes()
    assert len(data) == (bitmap.size + 7) // 8
    assert Bitmap.from_bytes(data, bitmap.size) == bitmap


@given(st.integers(0, 100), st.data())
def test_bitmaps_combine_like_sets(size: int, data: st.DataObject) -> None:
    one, a = data.draw(bitmaps(size))
    two, b = data.draw(bitmaps(size))
    assert set(one | two) == a | b
    assert set(one & two) == a & b
    assert set(one - two) == a - b
    assert set(one.with_bits(b)) == a | b
    assert set(one.without(b)) == a - b
    assert set(one) == a


@given(st.integers(0, 300))
def test_full_and_empty_bitmaps(size: int) -> None:
    assert list(Bitmap.full(size)) == list(range(size))
    assert list(Bitmap.empty(size)) == []
    assert Bitmap.full(size) == Bitmap.empty(size).missing() == Bitmap.of(size, range(size))


def test_bits_are_packed_as_in_bep_3() -> None:
    assert Bitmap.of(10, [0, 7, 8]).to_bytes() == b"\x81\x80"
    assert Bitmap.full(10).to_bytes() == b"\xff\xc0"


@pytest.mark.parametrize(
    ("data", "size"), [(b"", 1), (b"\0", 0), (b"\0\0", 8), (b"\0", 9), (b"\x01", 7), (b"\xff\xff", 10), (b"", -1)]
)
def test_bytes_that_are_no_such_bitmap_are_malformed(data: bytes, size: int) -> None:
    with pytest.raises(MalformedError):
        Bitmap.from_bytes(data, size)


@pytest.mark.parametrize("bit", [-1, 5, 8])
def test_a_bit_out_of_range_is_a_bug(bit: int) -> None:
    with pytest.raises(IndexError):
        Bitmap.of(5, [bit])
    with pytest.raises(IndexError):
        Bitmap.full(5).without([bit])


def test_bitmaps_of_different_sizes_do_not_combine() -> None:
    one, two = Bitmap.empty(5), Bitmap.empty(6)
    for combine in (Bitmap.__or__, Bitmap.__and__, Bitmap.__sub__):
        with pytest.raises(ValueError, match="5 and 6"):
            combine(one, two)


# --- PieceMap -------------------------------------------------------------------------------------------------------


@given(block_sizes, piece_lengths)
def test_a_piece_map_knows_what_touches_what(sizes: list[int], length: int) -> None:
    piece_map = PieceMap(sizes, length)
    blocks, pieces = bytes_of_blocks(sizes), bytes_of_pieces(sum(sizes), length)
    assert (piece_map.size, piece_map.block_count, piece_map.piece_count) == (sum(sizes), len(sizes), len(pieces))
    for block, wanted in enumerate(blocks):
        assert list(piece_map.pieces_of(block)) == [i for i, held in enumerate(pieces) if held & wanted]
    for piece, held in enumerate(pieces):
        assert list(piece_map.blocks_touching(piece)) == [i for i, wanted in enumerate(blocks) if held & wanted]


@given(block_sizes, piece_lengths, st.data())
def test_covered_means_every_byte(sizes: list[int], length: int, data: st.DataObject) -> None:
    piece_map = PieceMap(sizes, length)
    blocks, pieces = bytes_of_blocks(sizes), bytes_of_pieces(sum(sizes), length)
    have_pieces, numbers = data.draw(bitmaps(len(pieces)))
    there = set().union(*(pieces[i] for i in numbers))
    assert list(piece_map.blocks_covered(have_pieces)) == [i for i, wanted in enumerate(blocks) if wanted <= there]
    have_blocks, numbers = data.draw(bitmaps(len(blocks)))
    there = set().union(*(blocks[i] for i in numbers))
    assert list(piece_map.pieces_covered(have_blocks)) == [i for i, held in enumerate(pieces) if held <= there]


def test_a_terabyte_is_mapped_exactly() -> None:
    block, piece = 128 << 20, 16 << 20
    piece_map = PieceMap([block] * 8191 + [1], piece)
    assert piece_map.piece_count == 8191 * 8 + 1
    assert piece_map.blocks_touching(8191 * 8) == range(8191, 8192)
    assert piece_map.pieces_of(8190) == range(8190 * 8, 8191 * 8)
    assert piece_map.blocks_covered(Bitmap.full(piece_map.piece_count)).is_full


@pytest.mark.parametrize(("sizes", "length"), [([], 1), ([0], 1), ([5, -1], 1), ([1], 0)])
def test_a_blob_without_bytes_is_a_bug(sizes: list[int], length: int) -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        PieceMap(sizes, length)


def test_numbers_and_bitmaps_of_another_blob_are_a_bug() -> None:
    piece_map = PieceMap([3, 4], 2)
    for block in (-1, 2):
        with pytest.raises(IndexError):
            piece_map.pieces_of(block)
    for piece in (-1, 4):
        with pytest.raises(IndexError):
            piece_map.blocks_touching(piece)
    with pytest.raises(ValueError, match="the blob has 4 pieces, the bitmap 5"):
        piece_map.blocks_covered(Bitmap.empty(5))
    with pytest.raises(ValueError, match="the blob has 2 blocks, the bitmap 4"):
        piece_map.pieces_covered(Bitmap.empty(4))


# --- Coverage -------------------------------------------------------------------------------------------------------


@given(block_sizes, piece_lengths, st.randoms(use_true_random=False))
def test_each_block_is_given_once_the_moment_it_is_complete(sizes: list[int], length: int, random: Any) -> None:
    blocks = blob(sizes)
    coverage = Coverage(blocks, length)
    piece_map = PieceMap(sizes, length)
    order = list(range(piece_map.piece_count))
    random.shuffle(order)
    have = Bitmap.empty(len(order))
    given_so_far: list[Block] = []
    for piece in order:
        have = have.with_bits([piece])
        before = len(given_so_far)
        given_so_far += coverage.add(piece)
        assert coverage.add(piece) == ()
        assert coverage.have == have
        assert coverage.complete == piece_map.blocks_covered(have)
        assert {block.index for block in given_so_far} == set(coverage.complete)
        assert all(piece in coverage.pieces(block) for block in given_so_far[before:])
    assert sorted(given_so_far, key=lambda block: block.index) == list(blocks)


def test_a_bad_block_takes_its_pieces_and_their_other_blocks_along() -> None:
    first, second, third, fourth = blocks = blob([10, 10, 10, 10])
    coverage = Coverage(blocks, 15)  # pieces: 0-14, 15-29, 30-39
    for piece in range(3):
        coverage.add(piece)
    gone = coverage.uncover(second)
    assert gone.pieces == range(2)
    assert sorted(gone.blocks, key=lambda block: block.index) == [first, second, third]
    assert list(coverage.complete) == [fourth.index]
    assert list(coverage.have) == [2]
    assert coverage.add(0) == (first,)
    assert coverage.add(1) == (second, third)


def test_a_bad_block_whose_pieces_are_gone_already_costs_nothing_more() -> None:
    blocks = blob([4, 4, 4])
    coverage = Coverage(blocks, 6)
    assert coverage.uncover(blocks[1]).blocks == ()
    assert coverage.uncover(blocks[1]).pieces == range(2)
    coverage.add(0)
    coverage.add(1)
    coverage.uncover(blocks[0])
    assert [block.index for block in coverage.uncover(blocks[1]).blocks] == [2]


def test_pieces_that_are_not_there_are_a_bug() -> None:
    coverage = Coverage(blob([5]), 2)
    for piece in (-1, 3):
        with pytest.raises(IndexError):
            coverage.add(piece)


class CoverageAgainstSets(RuleBasedStateMachine):
    """Any sequence of pieces coming and blocks going bad leaves Coverage where plain sets are."""

    @initialize(sizes=block_sizes, length=piece_lengths)
    def begin(self, sizes: list[int], length: int) -> None:
        self.blocks = blob(sizes)
        self.map = PieceMap(sizes, length)
        self.coverage = Coverage(self.blocks, length)
        self.have: set[int] = set()

    def complete(self) -> set[int]:
        return set(self.map.blocks_covered(Bitmap.of(self.map.piece_count, self.have)))

    @rule(data=st.data())
    def a_piece_comes(self, data: st.DataObject) -> None:
        piece = data.draw(st.integers(0, self.map.piece_count - 1))
        before = self.complete()
        self.have.add(piece)
        new = self.coverage.add(piece)
        assert [block.index for block in new] == sorted(self.complete() - before)

    @rule()
    def all_the_rest_comes(self) -> None:
        before = self.complete()
        new = [block.index for piece in range(self.map.piece_count) for block in self.coverage.add(piece)]
        self.have = set(range(self.map.piece_count))
        assert sorted(new) == sorted(self.complete() - before)

    @precondition(lambda self: self.complete())
    @rule(data=st.data())
    def a_block_is_bad(self, data: st.DataObject) -> None:
        bad = data.draw(st.sampled_from(sorted(self.complete())))
        before = self.complete()
        gone = self.coverage.uncover(self.blocks[bad])
        self.have -= set(gone.pieces)
        assert gone.pieces == self.map.pieces_of(bad)
        assert sorted(block.index for block in gone.blocks) == sorted(before - self.complete())
        assert bad in before - self.complete()

    @invariant()
    def both_agree(self) -> None:
        assert set(self.coverage.have) == self.have
        assert set(self.coverage.complete) == self.complete()


TestCoverageAgainstSets = CoverageAgainstSets.TestCase
TestCoverageAgainstSets.settings = settings(max_examples=40, deadline=None)
