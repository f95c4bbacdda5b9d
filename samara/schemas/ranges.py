"""Which pieces hold a block, which blocks a piece touches, and what is complete. Pure.

Blocks are ours, cut by content; pieces are BitTorrent's, all of one length but the last. They share no borders.
`Bitmap` is a set of numbers below n in n bits, `PieceMap` translates between blocks and pieces of one blob, and
`Coverage` follows a transfer: fed with finished pieces, it gives each block the moment its last byte is there.

    coverage = Coverage(file.blocks, piece_length)
    for block in coverage.add(piece): verify(block)        # bad? fetch coverage.uncover(block).pieces again

Says nothing of whether bytes are right. Offsets and sizes are bytes; pieces and blocks are numbered from 0.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from samara.schemas.errors import MalformedError
from samara.schemas.manifest import Block


def pieces_of(offset: int, size: int, piece_length: int) -> range:
    """The pieces that hold any of the `size` bytes at `offset`; none for no bytes."""
    if offset < 0 or size < 0 or piece_length < 1:
        raise ValueError(f"no such range: {size} bytes at {offset} in pieces of {piece_length}")
    first = offset // piece_length
    return range(first, -(-(offset + size) // piece_length)) if size else range(first, first)


@dataclass(frozen=True, slots=True)
class Bitmap:
    """An unchanging set of numbers in 0 … `size` - 1, one bit each in memory.

    Behaves like a frozenset (`len` counts its members) that knows what is missing. `data` is packed as BEP 3's
    bitfield: number 0 is the highest bit of the first byte, spare bits are zero.
    """

    size: int
    data: bytes

    def __post_init__(self) -> None:
        expected = (self.size + 7) // 8
        if self.size < 0 or len(self.data) != expected:
            raise MalformedError(f"bitmap of {self.size} bits", expected=f"{expected} bytes", actual=len(self.data))
        if self.size % 8 and self.data[-1] & (0xFF >> self.size % 8):
            raise MalformedError(f"bitmap of {self.size} bits has bits beyond its end")

    @classmethod
    def empty(cls, size: int) -> Self:
        """None of `size` numbers."""
        return cls(size, bytes((size + 7) // 8))

    @classmethod
    def full(cls, size: int) -> Self:
        """All of `size` numbers."""
        return cls(size, _flipped(bytes((size + 7) // 8), size))

    @classmethod
    def of(cls, size: int, bits: Iterable[int]) -> Self:
        """These of `size` numbers. Raises IndexError for one that is out of range."""
        return cls.empty(size).with_bits(bits)

    @classmethod
    def from_bytes(cls, data: bytes, size: int) -> Self:
        """What `to_bytes` gave. Raises MalformedError unless it is exactly `size` bits and then zeros."""
        return cls(size, bytes(data))

    def to_bytes(self) -> bytes:
        """The bits as in BEP 3's bitfield message."""
        return self.data

    def as_list(self) -> list[bool]:
        """One bool for each number, as libtorrent's `have_pieces` wants them."""
        bools = [False] * self.size
        for bit in self:
            bools[bit] = True
        return bools

    def __contains__(self, bit: object) -> bool:
        return isinstance(bit, int) and 0 <= bit < self.size and bool(self.data[bit >> 3] & (0x80 >> (bit & 7)))

    def __iter__(self) -> Iterator[int]:
        return _set_bits(self.data)

    def __len__(self) -> int:
        return int.from_bytes(self.data).bit_count()

    @property
    def is_full(self) -> bool:
        """Whether nothing is missing."""
        return len(self) == self.size

    def missing(self) -> Self:
        """The numbers that aren't in it."""
        return type(self)(self.size, _flipped(self.data, self.size))

    def __or__(self, other: Bitmap) -> Self:
        return self._combined(other, int.from_bytes(self.data) | int.from_bytes(other.data))

    def __and__(self, other: Bitmap) -> Self:
        return self._combined(other, int.from_bytes(self.data) & int.from_bytes(other.data))

    def __sub__(self, other: Bitmap) -> Self:
        return self._combined(other, int.from_bytes(self.data) & ~int.from_bytes(other.data))

    def with_bits(self, bits: Iterable[int]) -> Self:
        """This one and `bits`. Raises IndexError for one that is out of range."""
        data = bytearray(self.data)
        for bit in bits:
            _check_index(bit, self.size, "bit")
            data[bit >> 3] |= 0x80 >> (bit & 7)
        return type(self)(self.size, bytes(data))

    def without(self, bits: Iterable[int]) -> Self:
        """This one less `bits`. Raises IndexError for one that is out of range."""
        data = bytearray(self.data)
        for bit in bits:
            _check_index(bit, self.size, "bit")
            data[bit >> 3] &= ~(0x80 >> (bit & 7))
        return type(self)(self.size, bytes(data))

    def _combined(self, other: Bitmap, bits: int) -> Self:
        if self.size != other.size:
            raise ValueError(f"bitmaps of {self.size} and {other.size} bits don't go together")
        return type(self)(self.size, bits.to_bytes(len(self.data)))


_BITS_OF_BYTE = tuple(tuple(bit for bit in range(8) if byte & (0x80 >> bit)) for byte in range(256))


def _set_bits(data: bytes) -> Iterator[int]:
    for at, byte in enumerate(data):
        for bit in _BITS_OF_BYTE[byte]:
            yield at * 8 + bit


def _flipped(data: bytes, size: int) -> bytes:
    every = ((1 << size) - 1) << (-size % 8)
    return (int.from_bytes(data) ^ every).to_bytes(len(data))


class PieceMap:
    """How the blocks and pieces of one blob lie on each other. Doesn't change.

    `block_sizes` in file order, each ≥ 1. A few bytes of memory for each piece and block.
    """

    def __init__(self, block_sizes: Sequence[int], piece_length: int) -> None:
        if piece_length < 1 or min(block_sizes, default=0) < 1:
            raise ValueError("a blob has blocks of at least one byte, and pieces too")
        self.piece_length = piece_length
        self._borders = array("Q", accumulate(block_sizes, initial=0))
        self.size = self._borders[-1]
        self.block_count = len(block_sizes)
        self.piece_count = -(-self.size // piece_length)
        self._first_block = array("L")
        block = 0
        for start in range(0, self.size, piece_length):
            while self._borders[block + 1] <= start:
                block += 1
            self._first_block.append(block)

    def pieces_of(self, block: int) -> range:
        """The pieces that hold any byte of the block."""
        _check_index(block, self.block_count, "block")
        offset = self._borders[block]
        return pieces_of(offset, self._borders[block + 1] - offset, self.piece_length)

    def blocks_touching(self, piece: int) -> range:
        """The blocks that have any byte in the piece."""
        _check_index(piece, self.piece_count, "piece")
        first = last = self._first_block[piece]
        end = min((piece + 1) * self.piece_length, self.size)
        while self._borders[last + 1] < end:
            last += 1
        return range(first, last + 1)

    def blocks_covered(self, pieces: Bitmap) -> Bitmap:
        """The blocks all of whose bytes lie in `pieces`: those that can be verified."""
        _check_size(pieces, self.piece_count, "pieces")
        broken = (block for piece in pieces.missing() for block in self.blocks_touching(piece))
        return Bitmap.full(self.block_count).without(broken)

    def pieces_covered(self, blocks: Bitmap) -> Bitmap:
        """The pieces all of whose bytes lie in `blocks`: those that proven blocks allow us to claim."""
        _check_size(blocks, self.block_count, "blocks")
        broken = (piece for block in blocks.missing() for piece in self.pieces_of(block))
        return Bitmap.full(self.piece_count).without(broken)


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncovered:
    """What a bad block takes with it: `pieces` to fetch again, and `blocks`, complete before, that wait for them."""

    pieces: range
    blocks: tuple[Block, ...]


class Coverage:
    """Follows which blocks of one blob are complete while pieces come and go. Not for several threads at once.

    `blocks` are all of the blob's, in order. A piece costs as much as the blocks it touches, a whole transfer as much
    as its blocks and pieces together.
    """

    def __init__(self, blocks: Sequence[Block], piece_length: int) -> None:
        self._blocks = blocks
        self._map = PieceMap([block.size for block in blocks], piece_length)
        self._have = bytearray(self._map.piece_count)
        self._lacking = array("L", (len(self._map.pieces_of(block)) for block in range(self._map.block_count)))

    @property
    def have(self) -> Bitmap:
        """The pieces that are there."""
        return Bitmap.of(len(self._have), (piece for piece, there in enumerate(self._have) if there))

    @property
    def complete(self) -> Bitmap:
        """The numbers of the blocks all of whose bytes are there."""
        return Bitmap.of(len(self._lacking), (block for block, lacking in enumerate(self._lacking) if not lacking))

    def pieces(self, block: Block) -> range:
        """The pieces that hold any byte of the block."""
        return self._map.pieces_of(block.index)

    def blocks(self, piece: int) -> range:
        """The numbers of the blocks that have any byte in the piece."""
        return self._map.blocks_touching(piece)

    def add(self, piece: int) -> tuple[Block, ...]:
        """A piece is there: the blocks that are complete since. A piece that was there changes nothing."""
        _check_index(piece, len(self._have), "piece")
        if self._have[piece]:
            return ()
        self._have[piece] = 1
        complete = []
        for block in self._map.blocks_touching(piece):
            self._lacking[block] -= 1
            if not self._lacking[block]:
                complete.append(self._blocks[block])
        return tuple(complete)

    def uncover(self, block: Block) -> Uncovered:
        """A block is bad: forget every piece that holds some of it.

        Its neighbours in those pieces wait again too: their bytes are about to be written anew.
        """
        pieces = self.pieces(block)
        waiting: list[Block] = []
        for piece in pieces:
            if not self._have[piece]:
                continue
            self._have[piece] = 0
            for touched in self._map.blocks_touching(piece):
                if not self._lacking[touched]:
                    waiting.append(self._blocks[touched])
                self._lacking[touched] += 1
        return Uncovered(pieces=pieces, blocks=tuple(waiting))


def _check_index(index: int, count: int, what: str) -> None:
    if not 0 <= index < count:
        raise IndexError(f"{what} {index} of {count}")


def _check_size(bitmap: Bitmap, count: int, what: str) -> None:
    if bitmap.size != count:
        raise ValueError(f"the blob has {count} {what}, the bitmap {bitmap.size}")
