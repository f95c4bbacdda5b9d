"""One piece against the hashes: right, or with the block and both digests that show who lied."""

from __future__ import annotations

import hashlib
import random

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from samara.fetcher.mirrors.piece import PieceProof
from samara.schemas.bittorrent import TorrentHashes
from samara.schemas.digests import b3_text
from samara.schemas.manifest import Block, blocks_of

LENGTH = 1000  # no torrent has such pieces; judging doesn't care


def proof(data: bytes, cuts: list[int]) -> PieceProof:
    assert sum(cuts) == len(data)
    entries, at = [], 0
    for cut in cuts:
        entries.append((cut, blake3(data[at : at + cut]).digest()))
        at += cut
    pieces = [data[at : at + LENGTH] for at in range(0, len(data), LENGTH)]
    sha1 = b"".join(hashlib.sha1(piece, usedforsecurity=False).digest() for piece in pieces)
    hashes = TorrentHashes(
        size=len(data), piece_length=LENGTH, pieces_root=bytes(32), v1_pieces=sha1, v2_layer=bytes(32 * len(pieces))
    )
    return PieceProof(hashes, blocks_of(entries))


@given(
    cuts=st.lists(st.integers(1, 2500), min_size=1, max_size=12),
    seed=st.integers(0, 2**32),
    where=st.integers(0, 2**32),
    bit=st.integers(0, 7),
)
def test_every_flipped_bit_is_found_and_its_block_is_named(cuts: list[int], seed: int, where: int, bit: int) -> None:
    data = random.Random(seed).randbytes(sum(cuts))
    judging = proof(data, cuts)
    at = where % len(data)
    wrong = bytearray(data)
    wrong[at] ^= 1 << bit
    ends = [sum(cuts[: n + 1]) for n in range(len(cuts))]
    touched = next(n for n, end in enumerate(ends) if at < end)
    assert judging.count == -(-len(data) // LENGTH)
    for piece in range(judging.count):
        start, end = judging.span(piece)
        assert (start, end) == (piece * LENGTH, min(len(data), (piece + 1) * LENGTH))
        assert judging.judge(piece, memoryview(data)[start:end]) is None
        verdict = judging.judge(piece, memoryview(wrong)[start:end])
        if not start <= at < end:
            assert verdict is None
            continue
        assert verdict is not None
        assert verdict.piece == piece
        assert touched in verdict.blocks
        first, last = ends[touched] - cuts[touched], ends[touched]
        if start <= first and last <= end:
            assert verdict.block == touched
            assert verdict.expected == b3_text(blake3(data[first:last]).digest())
            assert verdict.actual == b3_text(blake3(wrong[first:last]).digest())
        else:
            assert verdict.block is None, "of a block that lies in the piece only in part nothing can be shown"
            assert verdict.expected == "sha1:" + hashlib.sha1(data[start:end], usedforsecurity=False).hexdigest()
            assert verdict.actual == "sha1:" + hashlib.sha1(wrong[start:end], usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("cuts", "piece", "at", "says"),
    [
        ([500, 500, 1000], 0, 600, "block 1: expected b3:"),
        ([2000], 1, 1200, "block 0 (piece 1): expected sha1:"),
        ([600, 1400], 0, 700, "blocks 0–1 (piece 0): expected sha1:"),
    ],
)
def test_what_is_said_names_the_place_and_both_digests(cuts: list[int], piece: int, at: int, says: str) -> None:
    data = random.Random(1).randbytes(2000)
    wrong = bytearray(data)
    wrong[at] ^= 1
    judging = proof(data, cuts)
    start, end = judging.span(piece)
    verdict = judging.judge(piece, memoryview(wrong)[start:end])
    assert says in str(verdict)
    assert ", got " in str(verdict)


def test_a_block_is_where_the_manifest_says() -> None:
    """The last piece is shorter, and so may its block be."""
    data = random.Random(2).randbytes(2100)
    judging = proof(data, [1000, 1000, 100])
    assert isinstance(judging._blocks[2], Block)
    assert judging.span(2) == (2000, 2100)
    assert judging.judge(2, memoryview(data)[2000:]) is None
    verdict = judging.judge(2, memoryview(bytes(100)))
    assert verdict is not None
    assert verdict.block == 2
