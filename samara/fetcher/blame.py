"""Who sent wrong bytes of one blob, and how that is known. Pure: fed with what the swarm and the mirrors' pool report.

libtorrent names a banned peer first and the piece after it, so peers are told once the piece is known (`settle`). For a
piece that failed by bytes of our own guess no peer has to answer.
"""

from __future__ import annotations

from collections.abc import Callable

from samara.fetcher.mirrors.verdicts import MirrorRejected
from samara.schemas.bittorrent import TorrentHashes
from samara.schemas.events import OnEvent, SourceRejected
from samara.schemas.pull_record import Evidence, Kind
from samara.seeder.swarm_events import WRONG_BYTES


class Blame:
    """`path`: the file's, as evidence names it; `blocks_of`: the numbers of the blocks that a piece touches.

    `pardoned`: endpoints that were banned by our fault; whoever takes note of one takes it out.
    """

    def __init__(
        self, path: str, hashes: TorrentHashes, blocks_of: Callable[[int], range], on_event: OnEvent
    ) -> None:  # fmt: skip
        self.rejected: list[SourceRejected] = []
        self.evidence: list[tuple[Kind, str, Evidence]] = []
        self.pardoned: list[str] = []
        self._path = path
        self._hashes = hashes
        self._blocks_of = blocks_of
        self._on_event = on_event
        self._banned: list[str] = []
        self._failed_piece: int | None = None

    def mirror_failed(self, rejected: MirrorRejected) -> None:
        """The pool says what is wrong with a mirror."""
        wrong = rejected.wrong
        if wrong is not None:
            found = Evidence(
                file=self._path,
                block=wrong.block if wrong.block is not None else wrong.blocks[0],
                piece=wrong.piece,
                expected=wrong.expected,
                actual=wrong.actual,
            )
            self.evidence.append(("mirror", rejected.url, found))
        self._reject(SourceRejected(source=rejected.url, kind="mirror", reason=rejected.reason))

    def peer_banned(self, endpoint: str) -> None:
        """The swarm has banned a peer; for which piece it says next."""
        self._banned.append(endpoint)

    def piece_failed(self, piece: int) -> None:
        """A piece didn't pass its check."""
        self._failed_piece = piece

    def take_on_ourselves(self) -> list[str]:
        """It failed by our fault: the endpoints that were banned for it, to be talked to again."""
        pardoned, self._banned = self._banned, []
        self.pardoned += pardoned
        return pardoned

    def settle(self) -> None:
        """Tell whoever was banned."""
        banned, self._banned = self._banned, []
        for endpoint in banned:
            self._reject_peer(endpoint)

    def _reject_peer(self, endpoint: str) -> None:
        """A peer was banned for a piece. libtorrent keeps the piece's number alone, not what it got."""
        reason, piece = WRONG_BYTES, self._failed_piece
        if piece is not None:
            blocks = self._blocks_of(piece)
            which = f"block {blocks[0]}" if len(blocks) == 1 else f"blocks {blocks[0]}–{blocks[-1]}"
            expected = "sha1:" + self._hashes.v1_pieces[20 * piece : 20 * piece + 20].hex()
            reason = f"{WRONG_BYTES}: {which} (piece {piece}), expected {expected}"
            found = Evidence(file=self._path, block=blocks[0], piece=piece, expected=expected)
            self.evidence.append(("peer", endpoint, found))
        self._reject(SourceRejected(source=endpoint, kind="peer", reason=reason))

    def _reject(self, rejected: SourceRejected) -> None:
        again = any((one.kind, one.source) == ("peer", rejected.source) for one in self.rejected)
        if not again and rejected not in self.rejected:
            self.rejected.append(rejected)
            self._on_event(rejected)
