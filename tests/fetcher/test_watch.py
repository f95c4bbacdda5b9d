"""When a pull tells its peers again, and when it gives up. The clock is ours; the swarm only notes what it is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import pytest

from samara.fetcher.mirrors.verdicts import MirrorRejected
from samara.fetcher.sources import SourceLedger
from samara.fetcher.transfer import State, Transfer
from samara.fetcher.watch import RETELL_EVERY, SILENT_FOR, UTP_AFTER, Watch
from samara.schemas.errors import NetworkError
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import Downloading, ListenFailed, PeerBanned, PeerLost

PEER = ("192.0.2.1", 6901)
GIVE_UP = 60.0


@dataclass
class NotingSwarm:
    """Has every torrent, reaches nobody, and remembers what it was asked."""

    asked: list[str] = field(default_factory=list)
    unresolved: dict[str, str] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return True

    def begin(self, name: str, peers: Iterable[tuple[str, int]]) -> dict[str, str]:
        self.asked.append("begin")
        return self.unresolved

    def listen_anew(self) -> None:
        self.asked.append("listen")

    def forgive(self, address: str) -> None:
        self.asked.append(f"forgive {address}")

    def allow_utp(self) -> None:
        self.asked.append("utp")


@dataclass
class StillProgress:
    """What of it is here: the test says so."""

    done_bytes: int = 0


@dataclass
class StillTransfer:
    """A transfer whose figures the test sets."""

    name: str = "t"
    state: State = State.FETCHING
    progress: StillProgress = field(default_factory=StillProgress)
    begun_bytes: int = 0
    peers: int = 0
    ledger: SourceLedger = field(default_factory=SourceLedger)
    called_anew: int = 0

    def call_anew(self, _carrier: object, _now: float) -> None:
        self.called_anew += 1


def watching(*, nobody_else: bool = False) -> tuple[Watch, NotingSwarm, StillTransfer]:
    watch = Watch((PEER,), nobody_else=nobody_else, give_up_after=GIVE_UP, now=0.0)
    return watch, NotingSwarm(), StillTransfer()


def look(watch: Watch, swarm: NotingSwarm, transfer: StillTransfer, now: float) -> None:
    watch.look_after(cast(Swarm, swarm), [cast(Transfer, transfer)], now)


def test_silence_ends_a_pull() -> None:
    watch, swarm, transfer = watching()
    look(watch, swarm, transfer, 0.0)
    look(watch, swarm, transfer, GIVE_UP)
    with pytest.raises(NetworkError, match="nothing came for 60 s"):
        look(watch, swarm, transfer, GIVE_UP + 0.1)


def test_every_finished_piece_starts_the_silence_anew() -> None:
    watch, swarm, transfer = watching()
    for turn in range(10):
        transfer.progress.done_bytes += 1
        look(watch, swarm, transfer, turn * GIVE_UP * 0.9)


def test_so_do_bytes_of_a_piece_that_takes_its_time() -> None:
    """16 MiB over a bad line take longer than anybody would wait in silence."""
    watch, swarm, transfer = watching()
    for turn in range(10):
        transfer.begun_bytes = 16 * 1024 * turn
        look(watch, swarm, transfer, turn * GIVE_UP * 0.9)


@pytest.mark.parametrize("state", [State.FLUSHING, State.COMMITTING])
def test_our_own_work_is_no_silence(state: State) -> None:
    watch, swarm, transfer = watching()
    transfer.state = state
    for turn in range(5):
        look(watch, swarm, transfer, turn * 10 * GIVE_UP)


def test_told_peers_are_told_again_while_nobody_is_there() -> None:
    watch, swarm, transfer = watching()
    watch.handle(cast(Swarm, swarm), Downloading(torrent="t"))
    assert swarm.asked == ["begin"]
    look(watch, swarm, transfer, 0.0)
    look(watch, swarm, transfer, RETELL_EVERY - 0.1)
    assert swarm.asked == ["begin"]
    look(watch, swarm, transfer, RETELL_EVERY)
    assert swarm.asked == ["begin", "begin"]
    transfer.peers = 1
    look(watch, swarm, transfer, 2 * RETELL_EVERY)
    assert swarm.asked == ["begin", "begin"]


def test_utp_is_tried_when_tcp_finds_nobody_for_long() -> None:
    watch, swarm, transfer = watching()
    look(watch, swarm, transfer, 0.0)
    look(watch, swarm, transfer, UTP_AFTER)
    assert "utp" not in swarm.asked
    look(watch, swarm, transfer, UTP_AFTER + RETELL_EVERY)
    assert "utp" in swarm.asked


def test_giving_up_names_who_was_lost_the_last_ones_and_why() -> None:
    watch, swarm, transfer = watching()
    ours = cast(Swarm, swarm)
    for number in range(100):
        watch.handle(ours, PeerLost(endpoint=f"192.0.2.{number}:1", reason="timed out"))
    watch.mirror_failed(
        MirrorRejected(torrent="t", url="http://example.org/x", reason="404 Not Found", banned=False)
    )  # fmt: skip
    watch.handle(ours, PeerBanned(endpoint="192.0.2.200:1"))
    watch.handle(ours, PeerLost(endpoint="192.0.2.200:1", reason="too many corrupt pieces"))
    look(watch, swarm, transfer, 0.0)
    with pytest.raises(NetworkError) as caught:
        look(watch, swarm, transfer, GIVE_UP + 1)
    message = str(caught.value)
    assert "http://example.org/x: 404 Not Found" in message
    assert "192.0.2.200:1: sent wrong bytes" in message
    assert "192.0.2.1:1" not in message
    assert len(message) < 400


def test_a_chosen_port_that_is_taken_ends_a_pull_and_a_random_one_does_not() -> None:
    watch, swarm, _ = watching()
    watch.handle(cast(Swarm, swarm), ListenFailed(endpoint="[::]:0", message="no IPv6 here"))
    with pytest.raises(NetworkError, match=r"can't listen on 127\.0\.0\.1:6901 \(in use\)"):
        watch.handle(cast(Swarm, swarm), ListenFailed(endpoint="127.0.0.1:6901", message="in use"))


@pytest.mark.parametrize("nobody_else", [True, False])
def test_told_peers_without_an_address_end_a_pull_if_there_is_nobody_else(nobody_else: bool) -> None:
    watch, swarm, _ = watching(nobody_else=nobody_else)
    swarm.unresolved = {"192.0.2.1:6901": "can't find its address"}
    if nobody_else:
        with pytest.raises(NetworkError, match="nobody to ask: 192"):
            watch.handle(cast(Swarm, swarm), Downloading(torrent="t"))
    else:
        watch.handle(cast(Swarm, swarm), Downloading(torrent="t"))


def test_a_link_that_is_down_for_a_while_takes_its_names_with_it_and_that_ends_nothing() -> None:
    """Without the link no name has an address; the pull waits for it as for any silence."""
    watch, swarm, transfer = watching(nobody_else=True)
    watch.handle(cast(Swarm, swarm), Downloading(torrent="t"))
    look(watch, swarm, transfer, 0.0)
    swarm.unresolved = {"192.0.2.1:6901": "can't find its address"}
    look(watch, swarm, transfer, RETELL_EVERY)
    assert swarm.asked == ["begin", "begin"]
    with pytest.raises(NetworkError, match="can't find its address"):
        look(watch, swarm, transfer, GIVE_UP + 1)


def test_connected_peers_that_are_silent_are_called_anew_ever_more_seldom() -> None:
    watch, swarm, transfer = watching()
    transfer.peers = 1
    look(watch, swarm, transfer, 0.0)
    called = []
    for second in range(1, int(GIVE_UP)):
        look(watch, swarm, transfer, float(second))
        called.append(transfer.called_anew)
    assert called[int(SILENT_FOR) - 2 : int(SILENT_FOR)] == [0, 1]
    assert called[-1] == 3
    assert swarm.asked.count("listen") == 3


def test_a_byte_now_and_then_is_no_sign_of_life() -> None:
    watch, swarm, transfer = watching()
    transfer.peers = 1
    with pytest.raises(NetworkError, match="nothing came"):
        for second in range(int(GIVE_UP) + 2):
            transfer.ledger.sample(peers=0, mirrors=4 * second)
            look(watch, swarm, transfer, float(second))


def test_who_was_banned_with_others_gets_one_chance_alone() -> None:
    watch, swarm, transfer = watching()
    look(watch, swarm, transfer, 0.0)
    watch.handle(cast(Swarm, swarm), PeerBanned(torrent="t", endpoint="192.0.2.1:6901"))
    for second in range(1, 20):
        look(watch, swarm, transfer, float(second))
    assert swarm.asked.count("forgive 192.0.2.1") == 1
    assert transfer.called_anew == 1
    watch.handle(cast(Swarm, swarm), PeerBanned(torrent="t", endpoint="192.0.2.1:6901"))
    for second in range(20, 40):
        look(watch, swarm, transfer, float(second))
    assert swarm.asked.count("forgive 192.0.2.1") == 1
