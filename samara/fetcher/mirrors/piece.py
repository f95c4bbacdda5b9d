"""One piece as a mirror sent it, held against the hashes. Pure.

SHA-1 of the piece (BEP 3) is enough to know who lied and is the fastest that there is; what is committed was proven by
BLAKE3, block by block and as a whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from blake3 import blake3

from samara.schemas.bittorrent import TorrentHashes
from samara.schemas.digests import b3_text
from samara.schemas.manifest import Block
from samara.schemas.ranges import PieceMap


@dataclass(frozen=True, kw_only=True, slots=True)
class WrongPiece:
    """What was wrong about a piece: the blocks that it touches, and the digest expected and got.

    `block` is the first that surely is wrong, where a whole one lies in the piece; then the digests are its BLAKE3,
    else the piece's SHA-1.
    """

    piece: int
    blocks: range
    block: int | None
    expected: str
    actual: str

    def __str__(self) -> str:
        if self.block is not None:
            where = f"block {self.block}"
        elif len(self.blocks) == 1:
            where = f"block {self.blocks[0]} (piece {self.piece})"
        else:
            where = f"blocks {self.blocks[0]}–{self.blocks[-1]} (piece {self.piece})"
        return f"wrong bytes in {where}: expected {self.expected}, got {self.actual}"


class PieceProof:
    """Judges the pieces of one blob. Safe to use from several threads."""

    def __init__(self, hashes: TorrentHashes, blocks: tuple[Block, ...]) -> None:
        self.hashes = hashes
        self._blocks = blocks
        self._map = PieceMap([block.size for block in blocks], hashes.piece_length)

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return self._map.piece_count

    def span(self, piece: int) -> tuple[int, int]:
        """Where a piece begins and ends (bytes)."""
        length = self.hashes.piece_length
        return piece * length, min((piece + 1) * length, self.hashes.size)

    def judge(self, piece: int, data: memoryview) -> WrongPiece | None:
        """None if these are the piece's bytes."""
        expected = self.hashes.v1_pieces[20 * piece : 20 * piece + 20]
        actual = hashlib.sha1(data, usedforsecurity=False).digest()
        if actual == expected:
            return None
        touched = self._map.blocks_touching(piece)
        start, end = self.span(piece)
        for index in touched:
            block = self._blocks[index]
            if start <= block.offset and block.end <= end:
                got = blake3(data[block.offset - start : block.end - start]).digest()
                if got != block.digest:
                    return WrongPiece(
                        piece=piece, blocks=touched, block=index, expected=b3_text(block.digest), actual=b3_text(got)
                    )
        return WrongPiece(
            piece=piece, blocks=touched, block=None, expected=f"sha1:{expected.hex()}", actual=f"sha1:{actual.hex()}"
        )
