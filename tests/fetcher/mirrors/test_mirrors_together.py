"""Several mirrors at once, real servers on loopback: work is shared, who fails costs no more than was under way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from mirror_kit import MIB, PIECE, Asked, Blob, Manners, Rig, blob, serving

from samara.fetcher.mirrors import crew, spans
from samara.fetcher.mirrors.direct import Direct
from samara.fetcher.mirrors.handing_out import PER_HOST

CHUNK = 64 << 10  # bytes that a server may have sent which nobody took: its buffer, and what TCP holds
SIZE = 8 * MIB


@pytest.fixture
def wanted(tmp_path: Path) -> Blob:
    return blob(tmp_path, SIZE)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules by a quicker clock."""
    monkeypatch.setattr(spans, "TOO_YOUNG", 0.3)
    monkeypatch.setattr(spans, "WORTH_TAKING", 0.6)


def test_one_mirror_gives_everything_once(tmp_path: Path, wanted: Blob) -> None:
    with serving(wanted.data) as only, Rig(tmp_path, wanted) as rig:
        rig.add(only.url)
        rig.run()
        assert rig.received == only.sent == SIZE
        assert rig.pool.bytes_from(wanted.name) == {only.url: SIZE}
    assert rig.rejected == []
    assert set(rig.ears.gave) == set(range(wanted.proof.count))


def test_only_what_is_missing_is_asked_for(tmp_path: Path, wanted: Blob) -> None:
    have = frozenset({0, 1, 7, 8, 9, 20, wanted.proof.count - 1})
    with serving(wanted.data) as only, Rig(tmp_path, wanted) as rig:
        rig.add(only.url, have=have)
        rig.run()
        assert rig.received == only.sent == SIZE - len(have) * PIECE
    assert set(rig.ears.gave).isdisjoint(have)


def test_a_last_piece_of_one_byte(tmp_path: Path) -> None:
    wanted = blob(tmp_path, 5 * PIECE + 1)
    with serving(wanted.data) as only, Rig(tmp_path, wanted) as rig:
        rig.add(only.url)
        rig.run()
        assert only.sent == len(wanted.data)


def test_mirrors_of_different_speed_end_together(tmp_path: Path, impatient: None) -> None:
    """Each gives by what it can: nobody sits idle while another still has much before it."""
    wanted = blob(tmp_path, 24 * MIB)
    rates = {"slow": 0.4e6, "middle": 1.2e6, "fast": 3.6e6}  # of each of three connections
    with (
        serving(wanted.data, rate=rates["slow"]) as slow,
        serving(wanted.data, rate=rates["middle"]) as middle,
        serving(wanted.data, rate=rates["fast"]) as fast,
        Rig(tmp_path, wanted) as rig,
    ):
        started = time.monotonic()
        rig.add(slow.url, middle.url, fast.url)
        rig.run()
        took = time.monotonic() - started
        sent = slow.sent + middle.sent + fast.sent
        assert slow.sent > MIB
        assert slow.sent < middle.sent < fast.sent
        # 8 connections at once, of which the fast one has 3: what all give together, and not what the slowest needs
        assert took < 3 * len(wanted.data) / (3 * rates["fast"] + 3 * rates["middle"])
    assert sent <= len(wanted.data) + 8 * (PIECE + CHUNK), "what was cut short, once for each connection"
    assert rig.rejected == []


def test_no_host_gets_more_connections_than_is_polite(tmp_path: Path) -> None:
    wanted = blob(tmp_path, 16 * MIB)
    with serving(wanted.data, rate=1.5e6) as one, Rig(tmp_path, wanted) as rig:
        rig.add(one.url, one.url + "?again")  # two URLs of one host count as one host
        rig.run()
        assert one.most_at_once == PER_HOST
        assert one.connections <= PER_HOST + 2, "connections are kept and used again"


def test_there_are_not_more_connections_than_are_of_use(tmp_path: Path) -> None:
    wanted = blob(tmp_path, 24 * MIB)
    with (
        serving(wanted.data, rate=1.5e6) as one,
        serving(wanted.data, rate=1.5e6) as other,
        serving(wanted.data, rate=1.5e6) as third,
        Rig(tmp_path, wanted) as rig,
    ):
        rig.add(one.url, other.url, third.url)
        rig.run()
        assert len(rig.pool._crew) == crew.AT_ONCE
        for source in (one, other, third):
            assert source.connections <= source.most_at_once + 2, "connections are kept and used again"


def test_a_stalled_mirror_loses_its_work_to_others(tmp_path: Path, wanted: Blob, impatient: None) -> None:
    """Long before its time is out, and its half piece is the only loss."""
    with (
        serving(wanted.data, stall_after=PIECE + PIECE // 2) as stuck,
        serving(wanted.data, rate=4e6) as well,
        Rig(tmp_path, wanted, stall_timeout=30.0) as rig,
    ):
        rig.add(stuck.url, well.url)
        rig.until(lambda: len(rig.have) == wanted.proof.count, limit=20.0)
        assert rig.path.read_bytes() == wanted.data
        assert len(stuck.asked) <= 3
        assert well.sent <= SIZE - len(stuck.asked) * PIECE + 8 * PIECE
        rig.until(lambda: not rig.pool.is_busy, limit=5.0)  # nobody waits for what nobody needs any more


def test_a_mirror_that_stalls_alone_is_asked_again_for_the_rest(tmp_path: Path, wanted: Blob) -> None:
    def once(asked: Asked, usual: Manners) -> Manners:
        return usual if asked.number else Manners(data=usual.data, stall_after=3 * PIECE + 1000)

    with serving(wanted.data) as only, Rig(tmp_path, wanted, stall_timeout=0.5) as rig:
        only.how = once
        rig.add(only.url)
        rig.run()
        assert rig.received == only.sent == SIZE
    assert any(asked.start == only.asked[0].start + 3 * PIECE + 1000 for asked in only.asked), "to the byte"


def test_what_has_come_survives_a_request_that_nobody_answered(tmp_path: Path, wanted: Blob) -> None:
    half = PIECE // 2

    with serving(wanted.data) as only, Rig(tmp_path, wanted, stall_timeout=1.0) as rig:

        def how(asked: Asked, usual: Manners) -> Manners:
            rest = [one for one in only.asked if one.start == only.asked[0].start + half]
            return Manners(
                data=usual.data, stall_after=half if asked.number == 0 else None, silent=rest[:1] == [asked]
            )  # fmt: skip

        only.how = how
        rig.add(only.url)
        rig.run()
        assert sum(asked.start == only.asked[0].start + half for asked in only.asked) == 2
        assert rig.received == SIZE


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.long
def test_resets_at_random_bytes_cost_nothing_that_has_come(tmp_path: Path, wanted: Blob, seed: int) -> None:
    """Dozens of resets, most of them within a piece: whoever goes on asks for the rest, to the byte."""
    import random

    rng = random.Random(seed)
    cuts = [rng.randrange(1000, 2 * PIECE) for _ in range(40)]

    def cut(asked: Asked, usual: Manners) -> Manners:
        at = cuts[asked.number] if asked.number < len(cuts) else None
        return Manners(data=usual.data, reset_after=at)

    with serving(wanted.data) as one, Rig(tmp_path, wanted) as rig:
        one.how = cut
        rig.add(one.url)
        rig.run()
        assert len(one.asked) > len(cuts) // 2
        # an RST throws away what the other side hasn't read yet: at most a buffer each time, sent but not received
        assert rig.received <= SIZE + 2 * CHUNK, "bytes that came were asked for again"
        assert one.sent <= SIZE + len(cuts) * CHUNK
    assert all("something" not in reason for reason in rig.reasons(one.url))


def test_a_link_that_never_lasts_for_a_whole_piece_arrives_all_the_same(tmp_path: Path) -> None:
    wanted = blob(tmp_path, 2 * MIB)
    with serving(wanted.data, reset_after=PIECE // 3) as one, Rig(tmp_path, wanted) as rig:
        rig.add(one.url)
        rig.run()
        assert rig.received == len(wanted.data)
    assert len(one.asked) >= 3 * wanted.proof.count


def test_two_broken_pieces_side_by_side_are_both_gone_on_with(tmp_path: Path) -> None:
    """A span ends where a piece begins that has come in part: that part need not come again."""
    wanted = blob(tmp_path, 2 * MIB)

    def cut(asked: Asked, usual: Manners) -> Manners:
        return usual if asked.number >= 3 else Manners(data=usual.data, stall_after=PIECE - 1000)

    with serving(wanted.data) as one, Rig(tmp_path, wanted, stall_timeout=30.0) as rig:
        one.how = cut
        rig.add(one.url)
        rig.until(lambda: one.sent == rig.received == 3 * (PIECE - 1000))
        rig.pool.pause()
        rig.until(lambda: not rig.pool.is_busy)
        rig.pool.go_on()
        rig.run()
        assert one.sent == rig.received == len(wanted.data)


def test_pausing_keeps_what_has_come_of_each_piece(tmp_path: Path, wanted: Blob) -> None:
    with serving(wanted.data, rate=1e6) as one, Rig(tmp_path, wanted) as rig:
        rig.add(one.url)
        for pause in range(1, 4):
            rig.until(lambda: rig.received > pause * MIB)  # noqa: B023  (called at once)
            rig.pool.pause()
            rig.until(lambda: not rig.pool.is_busy)
            before = len(one.asked)
            for _ in range(5):
                rig.step()
            assert len(one.asked) == before, "nobody is asked during a pause"
            rig.pool.go_on()
        one.usually(rate=None)
        rig.run()
        assert rig.received == SIZE
    assert rig.rejected == []


# -- who says no -------------------------------------------------------------------------------------------------------


def test_an_absent_object_is_told_once_and_the_other_mirror_gives_it(tmp_path: Path, wanted: Blob) -> None:
    with serving(wanted.data, status=404) as absent, serving(wanted.data) as well, Rig(tmp_path, wanted) as rig:
        rig.add(absent.url, well.url)
        rig.run()
        assert len(absent.asked) <= PER_HOST
        assert well.sent == SIZE
    news = [one for one in rig.rejected if one.is_news]
    assert [(one.url, one.reason) for one in news] == [(absent.url, "answered HTTP 404 (Not Found)")]


def test_a_mirror_that_asks_for_time_gets_it(tmp_path: Path, wanted: Blob) -> None:
    def busy(asked: Asked, usual: Manners) -> Manners:
        return usual if asked.number >= 3 else Manners(data=b"", status=429, headers="Retry-After: 4\r\n")

    with serving(wanted.data) as one, Rig(tmp_path, wanted) as rig:
        one.how = busy
        rig.add(one.url)
        rig.until(lambda: len(rig.rejected) == 3)
        refused = time.monotonic()
        rig.until(lambda: len(one.asked) > 3)
        assert time.monotonic() - refused > 3.0, "asked again before its time"  # by lot alone it would be 2 s at most
        rig.run()
        assert rig.received == SIZE


def test_a_url_that_is_none_is_named_and_asked_of_nobody(tmp_path: Path, wanted: Blob) -> None:
    """A manifest may have any text of printable ASCII there."""
    nonsense = ("http://[::1/x", "http://example.org:99999999/x", "http://127.1/x")
    with serving(wanted.data) as well, Rig(tmp_path, wanted) as rig:
        rig.add(*nonsense, well.url)
        rig.run()
    assert [(one.url, one.banned) for one in rig.rejected] == [(url, True) for url in nonsense]


def test_a_private_address_is_refused_and_noted(tmp_path: Path, wanted: Blob) -> None:
    with serving(wanted.data) as one, Rig(tmp_path, wanted, only_public=True) as rig:
        rig.add(one.url)
        rig.until(lambda: bool(rig.rejected))
        rig.until(lambda: not rig.pool.is_busy)
        assert one.connections == 0
        assert rig.pool.is_hopeless(wanted.name, time.monotonic() + 1e6)
    assert [(kind, url) for kind, url, _why in rig.ears.refusals][:1] == [("mirror", one.url)]
    assert "loopback" in rig.rejected[0].reason


class Noting(Direct):
    """Remembers which pieces peers would be kept from at this moment."""

    def __init__(self, wait: Callable[[float], None]) -> None:
        super().__init__(wait)
        self.held: set[int] = set()

    def hold_back(self, name: str, pieces: Iterable[int]) -> None:
        self.held |= set(pieces)

    def ask_for(self, name: str, pieces: Iterable[int]) -> None:
        self.held -= set(pieces)


@pytest.mark.parametrize("trouble", ["gone", "liar", "paused"])
def test_what_no_mirror_is_at_any_more_is_asked_of_peers(tmp_path: Path, wanted: Blob, trouble: str) -> None:
    """All that it was asked for was held back from them."""

    def how(asked: Asked, usual: Manners) -> Manners:
        if asked.number >= 3:
            return Manners(data=b"", status=410)
        lies = frozenset(range(2 * PIECE, SIZE, PIECE)) if trouble == "liar" else frozenset[int]()
        return Manners(data=usual.data, stall_after=3 * PIECE, flips=lies)

    with serving(wanted.data) as one, Rig(tmp_path, wanted, stall_timeout=1.0) as rig:
        rig.direct = noting = Noting(rig.pool.wait)
        one.how = how
        rig.add(one.url)
        soon = time.monotonic() + 100
        rig.until(lambda: len(noting.held) > SIZE // PIECE // 2)
        if trouble == "paused":
            rig.pool.pause()
        rig.until(lambda: not rig.pool.is_busy and (rig.pool._paused or rig.pool.is_hopeless(wanted.name, soon)))
        rig.step()
        assert noting.held <= rig.have
        assert len(rig.have) < wanted.proof.count


# -- who gives no ranges -----------------------------------------------------------------------------------------------


def test_a_server_without_ranges_alone_is_read_from_its_beginning(tmp_path: Path, wanted: Blob) -> None:
    have = frozenset({0, 1, 2, 15, wanted.proof.count - 1})
    with serving(wanted.data, ranges=False) as only, Rig(tmp_path, wanted) as rig:
        rig.add(only.url, have=have)
        rig.run()
        assert only.asked[-1].start == 0
        read = [asked for asked in only.asked if asked.start == 0]
        assert len(read) == 1
        assert set(rig.ears.gave).isdisjoint(have)
        # those who asked for ranges first hung up as soon as they saw what came
        assert rig.received == SIZE - PIECE, "up to the last missing piece"


def test_a_server_without_ranges_beside_others_is_left_alone(tmp_path: Path, wanted: Blob) -> None:
    with (
        serving(wanted.data, ranges=False) as stubborn,
        serving(wanted.data, rate=3e6) as well,
        Rig(tmp_path, wanted) as rig,
    ):
        rig.add(stubborn.url, well.url)
        rig.run()
        assert rig.received <= SIZE + 2 * PIECE
        # it may have been asked for its beginning by chance, which it can give like anybody else
        assert len(stubborn.asked) <= PER_HOST


def test_a_server_without_ranges_is_not_read_while_another_only_rests(tmp_path: Path, wanted: Blob) -> None:
    """One whose connections break rests for a moment between them: no reason to read a whole file meanwhile."""
    with (
        serving(wanted.data, ranges=False) as stubborn,
        serving(wanted.data, reset_after=PIECE * 3 // 2) as flaky,
        Rig(tmp_path, wanted) as rig,
    ):
        rig.add(stubborn.url, flaky.url, have=frozenset({0}))
        rig.run()
        assert all(asked.start for asked in stubborn.asked)
        assert set(rig.ears.gave.values()) == {flaky.url}


def test_a_server_without_ranges_is_used_when_the_others_are_dead(tmp_path: Path, wanted: Blob) -> None:
    """One that answers 404 isn't banned, it rests: no reason not to ask the only one that has the bytes."""
    with (
        serving(wanted.data, ranges=False) as stubborn,
        serving(wanted.data, status=404) as absent,
        Rig(tmp_path, wanted) as rig,
    ):
        rig.add(stubborn.url, absent.url)
        rig.run(limit=20.0)
        # the first request for its beginning was answered like any other
        assert rig.received <= SIZE + spans.FIRST_SPAN


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["before-the-head", "within-the-body"])
@pytest.mark.long
def test_closing_while_everything_hangs_takes_no_time(tmp_path: Path, wanted: Blob, where: str) -> None:
    hang: dict[str, Any] = {"silent": True} if where == "before-the-head" else {"stall_after": 1000}
    with (
        serving(wanted.data, **hang) as one,
        serving(wanted.data, **hang) as other,
        serving(wanted.data, **hang) as third,
        Rig(tmp_path, wanted, stall_timeout=600.0) as rig,
    ):
        rig.add(one.url, other.url, third.url)
        rig.until(lambda: one.at_once + other.at_once + third.at_once == crew.AT_ONCE)
        before = time.monotonic()
        rig.pool.close()
        assert time.monotonic() - before < 5.0
        if where == "before-the-head":  # there it is the client that can end them
            rig.client.close()
        for source in (one, other, third):
            source.wait(lambda server: server.at_once == 0)


def test_a_writer_that_stands_still_stops_the_mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody writes piles up in memory, up to a bound; then nothing more is read."""
    monkeypatch.setattr(crew, "WAITING", 3 * MIB)
    wanted = blob(tmp_path, 40 * MIB)
    with serving(wanted.data) as one, serving(wanted.data) as other, Rig(tmp_path, wanted) as rig:
        rig.add(one.url, other.url)
        rig.step()
        bound = crew.WAITING + 2 * PER_HOST * 2 * PIECE
        before, still = -1, 0
        while still < 20:  # nobody calls tick: until nothing has come for a second
            threading.Event().wait(0.05)  # there is no event for nothing happening
            still = still + 1 if rig.received == before else 0
            before = rig.received
        assert crew.WAITING // 2 < rig.received <= bound
        rig.run()
        assert rig.received <= len(wanted.data) + 8 * PIECE


def test_a_mistake_in_a_worker_is_heard_and_not_waited_for(tmp_path: Path, wanted: Blob) -> None:
    class Mistaken(Exception):  # noqa: N818
        pass

    def mistaken(_n: int) -> float:
        raise Mistaken

    with serving(wanted.data) as one, Rig(tmp_path, wanted, pace=mistaken) as rig:
        rig.add(one.url)
        with pytest.raises(Mistaken):
            rig.run(limit=20.0)
