"""Watching a pull from outside: progress with speed and time left, peers told again, stalls noticed.

Moves no bytes. Fed by the pull's loop with the swarm's events, the transfers and the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from samara.fetcher.carrier import Carrier
from samara.fetcher.mirrors.verdicts import MirrorRejected
from samara.fetcher.plan import has_stalled
from samara.fetcher.transfer import State, Transfer
from samara.schemas.endpoints import format_endpoint
from samara.schemas.errors import NetworkError
from samara.schemas.events import OverallProgress, PullProgress
from samara.schemas.rates import RateMeter
from samara.seeder.swarm_events import (
    WRONG_BYTES,
    Downloading,
    ListenFailed,
    PeerBanned,
    PeerLost,
    SwarmEvent,
    TrackerFailed,
)

PROGRESS_EVERY = 0.25  # seconds
RETELL_EVERY = 3.0  # seconds between tries of told peers while none is connected
ENOUGH = 8 << 10  # bytes that count as a sign of life,
ENOUGH_A_SECOND = 256  # or fewer where one gives up soon
SILENT_FOR = 12.0  # seconds without a byte from connected peers before they are called anew; then twice as long
UTP_AFTER = 10.0  # seconds without anybody over TCP
NAMED = 4  # sources in the message when a pull gives up


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What a pull has to fetch: files and their bytes."""

    files: int = 0
    size: int = 0


class Watch:
    """One pull's watcher. `peers`: (host, port) that people told us of; `nobody_else`: no others can turn up."""

    def __init__(
        self, peers: Sequence[tuple[str, int]], *, nobody_else: bool, give_up_after: float, now: float
    ) -> None:
        self._peers = peers
        self._nobody_else = nobody_else
        self._give_up_after = give_up_after
        self._meters: dict[str, RateMeter] = {}
        self._last_progress = self._told_at = self._alone_since = now
        self._last_bytes = self._last_arrived = -1
        self._banned: dict[str, int] = {}
        self._on_parole: tuple[tuple[str, int], ...] = ()
        self._parole_failed = False
        self._patience = SILENT_FOR
        self._shown_at = 0.0
        self._losses: dict[str, str] = {}

    def handle(self, carrier: Carrier, happened: SwarmEvent) -> None:
        """Tell a fresh torrent its peers; remember why the last connection was lost."""
        if isinstance(happened, Downloading) and happened.torrent in carrier:
            told = self._on_parole or self._peers
            if self._lost_all(carrier.begin(happened.torrent, told)) and self._nobody_else:
                raise NetworkError(f"nobody to ask: {self._why()}", next_step="check the address after --peer")
        elif isinstance(happened, PeerLost):
            if self._losses.get(happened.endpoint) != WRONG_BYTES:  # what comes after that says less
                self._lost(happened.endpoint, happened.reason)
        elif isinstance(happened, PeerBanned):
            self._lost(happened.endpoint, WRONG_BYTES)
            self._banned[happened.endpoint] = self._banned.get(happened.endpoint, 0) + 1
            self._parole_failed = bool(self._on_parole)
            self._on_parole = ()
        elif isinstance(happened, TrackerFailed):
            self._lost(happened.url, happened.reason)
        elif isinstance(happened, ListenFailed) and happened.was_chosen:
            raise happened.as_error()

    def pardon(self, endpoint: str) -> None:
        """A peer was banned for what wasn't its fault."""
        self._banned.pop(endpoint, None)
        self._losses.pop(endpoint, None)

    def mirror_failed(self, rejected: MirrorRejected) -> None:
        """Remember why a mirror brings nothing."""
        self._lost(rejected.url, rejected.reason)

    def nobody_left(self) -> NetworkError:
        """Every source has failed for good."""
        return NetworkError(
            f"nobody has it ({self._why()})", next_step="everything fetched so far is kept: try again later"
        )

    def slept(self, now: float) -> None:
        """The process stood still, or was told to: silence until now means nothing."""
        self._last_progress = self._told_at = self._alone_since = now

    def progress(self, transfers: Sequence[Transfer], now: float) -> Iterator[PullProgress]:
        """Where each transfer stands, a few times a second and at its end."""
        due = now - self._shown_at >= PROGRESS_EVERY
        if due:
            self._shown_at = now
        for transfer in transfers:
            if due or transfer.state is State.DONE:
                meter = self._meters.setdefault(transfer.name, RateMeter(total=transfer.file.size))
                rate, eta = meter.at(transfer.progress.done_bytes, now)
                yield PullProgress(
                    path=transfer.file.path,
                    blob=transfer.file.b3,
                    total=transfer.file.size,
                    done=transfer.progress.done_bytes,
                    verified=transfer.progress.proven_bytes,
                    rate=rate,
                    eta=eta,
                    peers=transfer.peers if transfer.state is State.FETCHING else 0,
                    from_peers=transfer.ledger.from_peers,
                    from_mirrors=transfer.ledger.from_mirrors,
                )

    def overall(self, transfers: Sequence[Transfer], planned: Planned, now: float) -> Iterator[OverallProgress]:
        """All transfers of the pull together, those to come included, as often as `progress`; nothing for one alone."""
        if planned.files < 2 or now != self._shown_at:
            return
        meter = self._meters.setdefault("", RateMeter(total=planned.size))
        done = sum(transfer.progress.done_bytes for transfer in transfers)
        rate, eta = meter.at(done, now)
        yield OverallProgress(
            files=planned.files,
            files_done=sum(transfer.state is State.DONE for transfer in transfers),
            total=planned.size,
            done=done,
            rate=rate,
            eta=eta,
        )

    def look_after(self, carrier: Carrier, transfers: Sequence[Transfer], now: float) -> None:
        """Tell peers again while nobody is there. Raises NetworkError when nothing has come for too long."""
        fetching = [transfer for transfer in transfers if transfer.state is State.FETCHING]
        # not only pieces: one of a large model takes minutes on a slow link; nor all bytes: some send what nobody wants
        got = sum(t.progress.done_bytes + t.begun_bytes + t.ledger.from_mirrors for t in transfers)
        # and enough of them: who drips only pretends to be there
        enough = min(ENOUGH, ENOUGH_A_SECOND * self._give_up_after)
        arrived = sum(transfer.progress.done_bytes for transfer in transfers)
        if not fetching or arrived != self._last_arrived or not 0 <= got - self._last_bytes < enough:
            self._last_arrived, self._last_bytes = arrived, got
            self._last_progress, self._patience = now, SILENT_FOR
            return
        silent = now - self._last_progress
        if self._parole_failed and fetching:
            self._parole_failed = False
            self._give_another_chance(carrier, fetching, now)
        elif silent >= self._patience:
            # connections that are dead without knowing it: an address that changed, a router that forgot
            self._patience *= 2
            connected = [transfer for transfer in fetching if transfer.peers]
            if not self._give_another_chance(carrier, fetching, now) and connected:
                carrier.listen_anew()
                for transfer in connected:
                    transfer.call_anew(carrier, now)
        alone = [transfer for transfer in fetching if transfer.peers == 0]
        if not alone:
            self._alone_since = now
        elif now - self._told_at >= RETELL_EVERY:
            self._told_at = now
            if now - self._alone_since > UTP_AFTER:
                carrier.allow_utp()
            for transfer in alone:
                # begin, for one whose start went unheard; who has no address now may have one when the link is back
                self._lost_all(carrier.begin(transfer.name, self._on_parole or self._peers))
            if not self._on_parole:
                self._give_another_chance(carrier, alone, now)
        if has_stalled(now=now, last_progress=self._last_progress, give_up_after=self._give_up_after):
            raise NetworkError(
                f"nothing came for {self._give_up_after:.0f} s ({self._why()})",
                next_step="everything fetched so far is kept: run the same command again later",
            )

    def _give_another_chance(self, carrier: Carrier, transfers: Sequence[Transfer], now: float) -> bool:
        """Nobody brings anything, and some were banned: of pieces that several gave, libtorrent blames all. One at a
        time is asked again, alone: whoever is banned then has only himself to blame. False if there is nobody.
        """
        for peer in self._on_parole:  # it was silent: the next one
            self._banned[format_endpoint(peer)] += 1
        self._on_parole = ()
        for peer in self._peers:
            if self._banned.get(format_endpoint(peer)) == 1:
                self._on_parole = (peer,)
                carrier.forgive(peer[0])
                for transfer in transfers:
                    transfer.call_anew(carrier, now)
                return True
        return False

    def _lost(self, source: str, reason: str) -> None:
        self._losses.pop(source, None)  # the latest last
        self._losses[source] = reason
        while len(self._losses) > NAMED:
            del self._losses[next(iter(self._losses))]

    def _lost_all(self, lost: Mapping[str, str]) -> bool:
        """Remember who can't be reached; whether that is everybody we were told of."""
        for source, reason in lost.items():
            self._lost(source, reason)
        return bool(lost) and len(lost) == len(set(self._peers))

    def _why(self) -> str:
        """The last few sources and what became of them."""
        named = [f"{source}: {reason}" for source, reason in self._losses.items()]
        return "; ".join(named) or "nobody answered"
