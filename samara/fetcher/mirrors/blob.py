"""One blob's side of the pool: its mirrors, its board, its tasks, and what broken connections left of pieces. Pure.

Begins and ends no connection: the pool does, and says so here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from samara.fetcher.mirrors.board import PieceBoard, PieceState
from samara.fetcher.mirrors.piece import PieceProof
from samara.fetcher.mirrors.worker import Fragment, Task
from samara.fetcher.scores import Score
from samara.registry.http.urls import parse_url
from samara.schemas.errors import UsageError


@dataclass(kw_only=True, slots=True)
class Mirror:
    """One URL of one blob. `host`: HOST:PORT, under which connections are counted; `validator`: of its object, once it
    has `answered`; `ranges`: whether it gives parts; `reported`: its failures were told.
    """

    url: str
    host: str
    score: Score
    answered: bool = False
    validator: str | None = None
    ranges: bool = True
    bytes_in: int = 0
    reported: bool = False


class BlobState:
    """What the pool knows of one blob. One that begins anew keeps its mirrors' scores, and what came is still counted.

    `tasks`: those that stand, which is until they end or are let go. `mixed`: pieces that came wrong from several
    sources, which one source alone must bring. `received`: bytes of tasks that have ended. `swarm_*`: how many peers
    bring it, and how fast. `starved_at`: since when nothing is missing but what peers are at.
    """

    def __init__(
        self,
        proof: PieceProof,
        urls: Sequence[str],
        have: Iterable[int],
        *,
        before: BlobState | None = None,
        with_peers: bool,
        began: float,
        first: range = range(0),
        in_order: bool = False,
    ) -> None:
        known: dict[str, Mirror] = {} if before is None else before.mirrors
        self.proof = proof
        self.board = PieceBoard(proof.count, have, first=first, in_order=in_order)
        self.mirrors: dict[str, Mirror] = {url: known.get(url) or _mirror(url) for url in dict.fromkeys(urls)}
        self.fragments: dict[int, Fragment] = {}
        self.tasks: list[Task] = [] if before is None else before.tasks
        self.mixed: set[int] = set()
        self.received: int = 0 if before is None else before.received
        self.swarm_rate = 0.0
        self.swarm_peers = 0
        self.with_peers = with_peers
        self.began = began
        self.starved_at: float | None = None
        self.over = False
        self._for_peers: set[int] = set()
        self._offered: frozenset[int] = frozenset()
        self._offered_until = began
        self._useless = [mirror for url, mirror in self.mirrors.items() if mirror.score.is_banned and url not in known]

    def end(self) -> None:
        """It is done with: only what is counted stays."""
        self.over = True
        self.fragments.clear()
        self._for_peers.clear()

    # -- pieces --------------------------------------------------------------------------------------------------

    def had(self, piece: int) -> None:
        """A piece is in the file."""
        self.board.had(piece)
        self.fragments.pop(piece, None)
        self._for_peers.discard(piece)

    def lost(self, piece: int) -> None:
        """A piece that was handed over isn't in the file: whoever comes first may bring it."""
        if self.board.state(piece) is PieceState.HANDED_OVER:
            self.board.lost(piece)
            self._for_peers.add(piece)

    def take(self, at_most: int, url: str, *, leave: frozenset[int] = frozenset()) -> range:
        """Missing pieces for a mirror, at least one if there is any outside `leave`: first those that have begun."""
        begun = (
            piece
            for piece, fragment in self.fragments.items()
            if self.board.state(piece) is PieceState.MISSING and piece not in leave and self.may_continue(fragment, url)
        )
        span = self.board.take(at_most, leave=leave, start=next(begun, None))
        for piece in span[1:]:
            if piece in self.fragments:  # that much of it need not come again
                self.board.give_back(range(piece, span.stop))
                span = range(span.start, piece)
                break
        self._for_peers.difference_update(span)
        return span

    def take_all(self) -> frozenset[int]:
        """Everything that is missing."""
        wanted = frozenset(self.board.missing())
        while self.board.take(len(self.board)):
            pass
        self._for_peers.clear()
        return wanted

    def give_back(self, pieces: Iterable[int], others: frozenset[int]) -> list[int]:
        """Somebody doesn't bring these; `others` are still at some. Peers are asked for what is missing now."""
        back = self.board.give_back(piece for piece in pieces if piece not in others)
        self._for_peers.update(back)
        return back

    def offer(self, pieces: Iterable[int], *, until: float) -> None:
        """Leave these for peers, until then at least."""
        self._offered, self._offered_until = frozenset(pieces), until

    def offered_at(self, now: float) -> frozenset[int]:
        """What is left for peers."""
        return self._offered if now < self._offered_until else frozenset()

    def take_for_peers(self) -> list[int]:
        """The pieces that nobody here is at any more, each told once."""
        pieces = [piece for piece in sorted(self._for_peers) if self.board.state(piece) is PieceState.MISSING]
        self._for_peers.clear()
        return pieces

    # -- tasks ---------------------------------------------------------------------------------------------------

    def others(self, task: Task) -> frozenset[int]:
        """The pieces that other connections are at."""
        return frozenset(piece for other in self.tasks if other is not task for piece in other.left)

    def cut(self, task: Task, stop: int) -> list[int]:
        """Others may have a task's pieces from `stop` on. Gives those that are missing now."""
        before, task.stop = task.stop, stop
        return self.give_back(range(stop, before), self.others(task))

    def let_go(self, task: Task) -> None:
        """A task that stood was told to end: others may have its pieces at once, however long that takes."""
        task.let_go = True
        self.ended(task)
        self.give_back(task.left, self.others(task))

    def ended(self, task: Task) -> None:
        """Its connection is done with it."""
        self.tasks = [other for other in self.tasks if other is not task]

    def shorten(self) -> list[Task]:
        """What others have brought meanwhile need not come again. Gives the tasks that have nothing left to bring."""
        done = []
        for task in self.tasks:
            stop = task.stop
            while stop > task.piece and self.board.state(stop - 1) in (PieceState.HAD, PieceState.HANDED_OVER):
                stop -= 1
            if stop < task.stop:
                task.stop = stop
                if stop <= task.piece:
                    done.append(task)
        return done

    # -- beginnings of pieces ------------------------------------------------------------------------------------

    def keep(self, fragment: Fragment, mirror: Mirror, *, of_this_version: bool) -> None:
        """What came of a piece before its connection ended, if that can be continued."""
        before = self.fragments.get(fragment.piece)
        is_more = fragment.filled > (0 if before is None else before.filled)
        is_open = self.board.state(fragment.piece) in (PieceState.MISSING, PieceState.TAKEN)
        is_pure = fragment.piece not in self.mixed or len(fragment.urls) == 1
        if is_more and is_open and is_pure and of_this_version and not mirror.score.is_banned:
            self.fragments[fragment.piece] = fragment

    def may_continue(self, fragment: Fragment, url: str) -> bool:
        """Whether a mirror may be asked for the rest of it."""
        return fragment.piece not in self.mixed or fragment.urls == {url}

    def drop_fragments(self, url: str) -> None:
        """Bytes of this mirror are worth nothing any more."""
        self.fragments = {piece: kept for piece, kept in self.fragments.items() if url not in kept.urls}

    # -- mirrors -------------------------------------------------------------------------------------------------

    def may_get_ranges(self, now: float) -> bool:
        """Whether some mirror that gives parts is there, or has brought something and only rests for a while."""
        return any(
            mirror.ranges and (mirror.score.usable_at(now) or (not mirror.score.is_banned and mirror.score.rate))
            for mirror in self.mirrors.values()
        )

    def take_useless(self) -> list[Mirror]:
        """Mirrors whose URLs can't be asked, each told once."""
        useless, self._useless = self._useless, []
        return useless


def _mirror(url: str) -> Mirror:
    """A mirror of which nothing is known yet but what its URL says."""
    try:
        target = parse_url(url)
    except UsageError as error:
        return Mirror(url=url, host="", score=Score().banned(str(error)))
    return Mirror(url=url, host=f"{target.host}:{target.port}", score=Score())
