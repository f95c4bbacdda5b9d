"""What of one blob is here, what of that is proven, and what others may read. Pure: fed with pieces and judgements.

A piece comes (`arrived`); every block that is whole then is read and judged elsewhere, and told here (`proved`,
`doubted`). A block that looks wrong may only not be in the file yet: it gets a second look. One that is wrong for good
takes its pieces with it (`fetch_again`).

- have: pieces that passed BitTorrent's check, in this process or before a record of an earlier one claimed them;
- proven: blocks whose BLAKE3 was right, likewise;
- firm: blocks that this process has read and found right, and that are written no more: those others may read;
- leaves: 16 KiB of pieces that aren't here whole. Some lie in proven blocks; others are guesses, begun by a process
  that was killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from samara.fetcher.partial import Recovered
from samara.fetcher.reuse import straddling_leaves
from samara.schemas.bittorrent import LEAF
from samara.schemas.manifest import Block, ReleaseFile
from samara.schemas.ranges import Coverage

Leaves = Mapping[int, Sequence[bool]]  # by piece: which of its leaves


class BlobProgress:
    """`recovered`: what lies here already. `handed_on`: others read the file meanwhile, so every block is read again in
    this process, whatever a record says of it. Sizes in bytes; `reused` of them were here at the beginning.
    """

    def __init__(self, file: ReleaseFile, piece_length: int, recovered: Recovered, *, handed_on: bool) -> None:
        self.piece_length = piece_length
        self._file = file
        self._handed_on = handed_on
        self._coverage = Coverage(file.blocks, piece_length)
        for piece in recovered.pieces:
            self._coverage.add(piece)
        self.have = set(recovered.pieces)
        self.done_bytes = self.reused = sum(map(self._piece_size, self.have))
        self._fetched: set[int] = set()
        self.proven: set[int] = set()
        self.proven_bytes = 0
        for index in recovered.blocks:
            self._prove(file.blocks[index])
        self._doubtful: set[int] = set()
        self._looked_twice: set[int] = set()
        self._firm: set[int] = set()
        self._firm_news: list[tuple[int, bool]] = []
        self._prefix = 0
        self._leaves: Leaves = {}
        self._guesses: Leaves = dict(recovered.begun)

    # -- pieces --------------------------------------------------------------------------------------------------

    @property
    def is_whole(self) -> bool:
        """Whether every piece is here."""
        return not self.pieces_missing

    @property
    def pieces_missing(self) -> int:
        """How many pieces have to come, whole or in part."""
        return self._file.piece_count - len(self.have)

    def have_list(self) -> list[bool]:
        """Of each piece whether it is here."""
        return self._coverage.have.as_list()

    def arrived(self, piece: int) -> tuple[Block, ...]:
        """A piece is here that wasn't: the blocks that are whole since."""
        self._fetched.add(piece)
        self.have.add(piece)
        self.done_bytes += self._piece_size(piece)
        return self._coverage.add(piece)

    def have_before(self, offset: int) -> bool:
        """Whether every piece is here that lies before an offset."""
        return all(piece in self.have for piece in range(offset // self.piece_length))

    def _piece_size(self, piece: int) -> int:
        return min(self.piece_length, self._file.size - piece * self.piece_length)

    # -- blocks --------------------------------------------------------------------------------------------------

    def blocks_of(self, piece: int) -> range:
        """The numbers of the blocks that have any byte in a piece."""
        return self._coverage.blocks(piece)

    def unread(self, blocks: Iterable[Block] | None = None) -> list[Block]:
        """Of these blocks, or else of all that are whole, those that must be read and judged."""
        found = (self._file.blocks[index] for index in self._coverage.complete) if blocks is None else blocks
        known = self._firm if self._handed_on else self.proven
        return [block for block in found if block.index not in known]

    def proved(self, block: Block) -> None:
        """It was read and is right."""
        self._prove(block)
        self._doubtful.discard(block.index)
        if self._handed_on and block.index not in self._firm:
            self._firm.add(block.index)
            self._firm_news.append((block.index, True))

    def doubted(self, block: Block) -> None:
        """It was read and isn't right: it may not be in the file yet."""
        self._doubtful.add(block.index)
        self._disprove(block)  # a record may have claimed it

    @property
    def awaits_second_look(self) -> bool:
        """Whether some block that looked wrong was looked at once."""
        return bool(self._doubtful - self._looked_twice)

    def take_second_looks(self, flushed: frozenset[int]) -> list[Block]:
        """Blocks that looked wrong, and all of whose pieces are in the file by now: to be read again."""
        doubtful = [self._file.blocks[index] for index in self._doubtful]
        found = [block for block in doubtful if flushed.issuperset(self._coverage.pieces(block))]
        for block in found:
            self._doubtful.discard(block.index)
            self._looked_twice.add(block.index)
        return found

    def fetch_again(self, blocks: Iterable[Block]) -> None:
        """These are wrong for good: their pieces must come again, and what shares a piece with them waits too."""
        for block in blocks:
            self._disprove(block)
            uncovered = self._coverage.uncover(block)
            for index in (block.index, *(one.index for one in uncovered.blocks)):
                self._soften(index)
            for piece in uncovered.pieces:
                if piece in self.have:
                    self.have.discard(piece)
                    self.done_bytes -= self._piece_size(piece)
        self._leaves = {}
        self._doubtful.clear()
        self.reused = min(self.reused, self.done_bytes)

    def fetched_blocks(self, *, all_proven: bool) -> Iterator[range]:
        """The pieces of each proven block of which some came over the network. `all_proven`: the whole was proven."""
        for block in self._file.blocks:
            pieces = self._coverage.pieces(block)
            if (all_proven or block.index in self.proven) and not self._fetched.isdisjoint(pieces):
                yield pieces

    def _prove(self, block: Block) -> None:
        if block.index not in self.proven:
            self.proven.add(block.index)
            self.proven_bytes += block.size

    def _disprove(self, block: Block) -> None:
        if block.index in self.proven:
            self.proven.discard(block.index)
            self.proven_bytes -= block.size

    # -- what others may read ------------------------------------------------------------------------------------

    @property
    def firm_prefix(self) -> int:
        """So many bytes from the beginning of a file that is `handed_on` are firm.

        A proven block isn't yet that: where it shares a piece with one that is missing, peers still write into it.
        """
        while self._prefix < len(self._file.blocks) and self._prefix in self._firm:
            self._prefix += 1
        return self._file.blocks[self._prefix - 1].end if self._prefix else 0

    def take_firm_news(self) -> list[tuple[int, bool]]:
        """(block, whether it is firm) of those that came to be so, or not so any more, since this was asked last."""
        news, self._firm_news = self._firm_news, []
        return news

    def _soften(self, index: int) -> None:
        """Bytes of a block are about to be written anew."""
        if index in self._firm:
            self._firm.discard(index)
            self._firm_news.append((index, False))
            self._prefix = min(self._prefix, index)

    # -- leaves --------------------------------------------------------------------------------------------------

    def blocks_under_leaves(self) -> list[Block]:
        """Proven blocks that share a piece with what is missing: to be read again before that part of it is claimed.

        Since they were recorded a liar may have written into their pieces, and a leaf that is wrong would cost the
        honest peer that gives the rest of its piece.
        """
        touched = {index for piece in self._straddling() for index in self.blocks_of(piece) if index in self.proven}
        return [self._file.blocks[index] for index in sorted(touched)]

    def claim_leaves(self, *, wrong: Iterable[Block]) -> None:
        """Of pieces that proven blocks cover in part only the rest is fetched. `wrong`: blocks that aren't proven."""
        for block in wrong:
            self._disprove(block)
        self._leaves = self._straddling()
        self.reused += sum(self._bytes_of(piece, leaves) for piece, leaves in self._leaves.items())
        self.reused += self._guessed_bytes()

    def leaves(self, begun: Leaves) -> Leaves:
        """What is claimed of pieces that aren't here whole; `begun`: what came of them in this process."""
        known = {**self._guesses, **begun, **self._leaves}
        return {piece: leaves for piece, leaves in known.items() if piece not in self.have}

    def is_guessed(self, piece: int) -> bool:
        """Whether leaves of a piece are claimed that nothing proves."""
        return piece in self._guesses

    def withdraw_guesses(self) -> frozenset[int]:
        """One was wrong: none is claimed any more. The pieces they were of."""
        self.reused -= self._guessed_bytes()
        pieces = frozenset(self._guesses)
        self._guesses = {}
        return pieces

    def _straddling(self) -> Leaves:
        claimed = straddling_leaves(self._file.blocks, self.proven, self.piece_length, LEAF)
        return {piece: leaves for piece, leaves in claimed.items() if piece not in self.have}

    def _guessed_bytes(self) -> int:
        guesses = self._guesses.items()
        return sum(self._bytes_of(piece, leaves) for piece, leaves in guesses if piece not in self._leaves)

    def _bytes_of(self, piece: int, leaves: Sequence[bool]) -> int:
        return min(sum(leaves) * LEAF, self._piece_size(piece))
