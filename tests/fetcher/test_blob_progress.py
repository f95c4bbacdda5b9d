"""What a transfer believes of its blob: figures that always add up, and who is told to have lied."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from samara.fetcher.blame import Blame
from samara.fetcher.blob_progress import BlobProgress
from samara.fetcher.mirrors.verdicts import MirrorRejected
from samara.fetcher.partial import Recovered
from samara.schemas.bittorrent import LEAF, TorrentHashes
from samara.schemas.events import Event, SourceRejected
from samara.schemas.manifest import Block, ReleaseFile, blocks_of
from samara.schemas.ranges import Bitmap

PIECE = 16 * LEAF  # of every blob up to 512 MiB
SIZES = [PIECE, 2 * LEAF, PIECE + 5 * LEAF + 100, 300, 3 * PIECE, LEAF, 7]  # borders within pieces, and on them
SIZE = sum(SIZES)
PIECES = -(-SIZE // PIECE)
BLOCKS = blocks_of([(size, bytes([number]) * 32) for number, size in enumerate(SIZES)])


BLOB = ReleaseFile(
    path="m.gguf", size=SIZE, b3="", sha256="", role="weights", layout="", blocks=BLOCKS, torrent=None, mirrors=(),
    gguf=None, inline=None,
)  # fmt: skip


def begun(pieces: set[int], blocks: set[int], *, handed_on: bool) -> BlobProgress:
    recovered = Recovered(pieces=Bitmap.of(PIECES, pieces), blocks=Bitmap.of(len(SIZES), blocks), checked=0)
    made = BlobProgress(BLOB, PIECE, recovered, handed_on=handed_on)
    made.claim_leaves(wrong=())
    return made


def bytes_of(pieces: set[int]) -> int:
    return sum(min(PIECE, SIZE - piece * PIECE) for piece in pieces)


def covered(block: Block) -> set[int]:
    return set(range(block.offset // PIECE, -(-block.end // PIECE)))


DOES = st.sampled_from(["arrives", "is right", "looks wrong", "is wrong", "is flushed"])


@settings(max_examples=200)
@given(
    had=st.sets(st.integers(0, PIECES - 1)),
    proven=st.sets(st.integers(0, len(SIZES) - 1)),
    handed_on=st.booleans(),
    story=st.lists(st.tuples(DOES, st.integers(0, 99)), max_size=60),
)
def test_whatever_happens_the_figures_add_up(
    had: set[int], proven: set[int], handed_on: bool, story: list[tuple[str, int]]
) -> None:
    """Told against a model that keeps nothing but sets. Only blocks all of whose pieces are here are ever judged."""
    proven = {index for index in proven if covered(BLOCKS[index]) <= had}
    progress = begun(had, proven, handed_on=handed_on)
    here, right, firm = set(had), set(proven), set[int]()
    to_read = {block.index for block in progress.unread()}
    assert to_read == {b.index for b in BLOCKS if covered(b) <= here and (handed_on or b.index not in right)}
    said: dict[int, bool] = {}
    for what, number in story:
        if what == "arrives" and (piece := number % PIECES) not in here:
            here.add(piece)
            whole = {block.index for block in progress.unread(progress.arrived(piece))}
            assert whole == {
                b.index for b in BLOCKS if piece in covered(b) <= here and b.index not in (firm if handed_on else right)
            }
            to_read |= whole
        elif what == "is flushed":
            to_read |= {block.index for block in progress.take_second_looks(frozenset(here))}
        elif to_read and what in {"is right", "looks wrong"}:
            block = BLOCKS[sorted(to_read)[number % len(to_read)]]
            to_read.discard(block.index)
            if what == "is right":
                progress.proved(block)
                right.add(block.index)
                firm |= {block.index} if handed_on else set()
            else:
                progress.doubted(block)
                right.discard(block.index)
                assert progress.awaits_second_look or block.index in progress._looked_twice
        elif what == "is wrong":
            whole_ones = [block for block in BLOCKS if covered(block) <= here]
            if whole_ones:
                block = whole_ones[number % len(whole_ones)]
                progress.fetch_again([block])
                neighbours = {b.index for b in whole_ones if covered(b) & covered(block)}
                here -= covered(block)
                right.discard(block.index)
                firm -= neighbours
                to_read -= neighbours
        assert progress.have == here
        assert progress.done_bytes == bytes_of(here)
        assert progress.pieces_missing == PIECES - len(here)
        assert progress.proven == right
        assert progress.proven_bytes == sum(SIZES[index] for index in right)
        assert 0 <= progress.reused <= SIZE
        said.update(progress.take_firm_news())
        assert {index for index, is_firm in said.items() if is_firm} == firm
        prefix = next((index for index in range(len(SIZES)) if index not in firm), len(SIZES))
        assert progress.firm_prefix == sum(SIZES[:prefix])


def test_a_guess_that_was_wrong_takes_all_guesses_with_it() -> None:
    some, more = ([True] * count + [False] * (16 - count) for count in (2, 3))
    recovered = Recovered(
        pieces=Bitmap.of(PIECES, {0}), blocks=Bitmap.empty(len(SIZES)), checked=0, begun={1: some, 3: some}
    )
    progress = BlobProgress(BLOB, PIECE, recovered, handed_on=False)
    progress.claim_leaves(wrong=())
    assert progress.reused == PIECE + 4 * LEAF
    assert progress.leaves({3: more}) == {1: some, 3: more}
    assert progress.is_guessed(1)
    progress.withdraw_guesses()
    assert progress.reused == PIECE
    assert progress.leaves({}) == {}
    assert not progress.is_guessed(1)


# -- who lied ----------------------------------------------------------------------------------------------------------


def blame(told: list[Event]) -> Blame:
    hashes = TorrentHashes(
        size=SIZE, piece_length=PIECE, v1_pieces=bytes(20 * PIECES), pieces_root=bytes(32), v2_layer=b""
    )
    return Blame("m.gguf", hashes, lambda piece: range(piece, piece + 2), told.append)


def test_a_banned_peer_is_told_with_the_piece_that_is_named_after_it() -> None:
    told: list[Event] = []
    found = blame(told)
    found.peer_banned("127.0.0.2:1")
    assert not told
    found.piece_failed(2)
    found.settle()
    found.settle()
    (said,) = told
    assert isinstance(said, SourceRejected)
    assert (said.source, said.kind) == ("127.0.0.2:1", "peer")
    assert "blocks 2–3 (piece 2), expected sha1:" + "00" * 20 in said.reason
    assert [(kind, source, one.piece) for kind, source, one in found.evidence] == [("peer", "127.0.0.2:1", 2)]


def test_for_our_own_guess_nobody_is_blamed() -> None:
    told: list[Event] = []
    found = blame(told)
    found.peer_banned("127.0.0.2:1")
    found.piece_failed(2)
    assert found.take_on_ourselves() == found.pardoned == ["127.0.0.2:1"]
    found.settle()
    assert not told
    assert not found.rejected


def test_the_same_of_a_mirror_is_told_once() -> None:
    told: list[Event] = []
    found = blame(told)
    for reason in ("slow", "slow", "slower"):
        found.mirror_failed(MirrorRejected(torrent="t", url="http://a/m", reason=reason, banned=False))
    assert [one.reason for one in found.rejected] == ["slow", "slower"]
