"""The proxy itself: what it claims to do to connections it does, and what is drawn from a seed is drawn again."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from support.bad_links import CHUNK, BadLink, Manners

MIB = 1 << 20
LIMIT = 30.0  # seconds for anything
DATA = random.Random(5).randbytes(MIB)


@pytest.fixture
def giver() -> Iterator[tuple[str, int]]:
    """Gives DATA to whoever calls, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _address = listener.accept()
                threading.Thread(target=give, args=(caller,), daemon=True).start()

    def give(caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError):
            caller.sendall(DATA)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(LIMIT)


def take(endpoint: tuple[str, int], limit: float = LIMIT) -> tuple[bytes, str]:
    """What comes, and how it ends: "end", "reset" or "silence"."""
    got = b""
    with socket.create_connection(endpoint, timeout=limit) as connection:
        try:
            while chunk := connection.recv(1 << 16):
                got += chunk
        except ConnectionResetError:
            return got, "reset"
        except TimeoutError:
            return got, "silence"
    return got, "end"


def test_what_it_carries_it_carries_unchanged(giver: tuple[str, int]) -> None:
    with BadLink(giver, Manners(hiccup=(0.5, 0.001))) as link:
        assert take(link.endpoint) == (DATA, "end")
        assert (link.passed, link.connections, link.cuts) == (MIB, 1, 0)
        assert 0 < link.hiccups < MIB / 100


def test_it_cuts_where_the_seed_says(giver: tuple[str, int]) -> None:
    def cuts(seed: int) -> list[int]:
        with BadLink(giver, Manners(cut_after=(1, MIB - 1)), seed=seed) as link:
            for _again in range(3):
                assert take(link.endpoint)[1] == "reset"
            assert link.cuts == 3
            return [random.Random(f"{seed}/{number}").randint(1, MIB - 1) for number in (1, 2, 3)] + [link.passed]

    one, again, other = cuts(7), cuts(7), cuts(8)
    assert one == again != other
    assert one[-1] == sum(one[:-1])  # to the byte


def test_it_spares_those_after_the_first(giver: tuple[str, int]) -> None:
    with BadLink(giver, Manners(cut_after=(CHUNK, CHUNK), cuts_at_most=2)) as link:
        assert [take(link.endpoint)[1] for _again in range(4)] == ["reset", "reset", "end", "end"]


def test_it_throttles(giver: tuple[str, int]) -> None:
    with BadLink(giver, Manners(rate=2 * MIB)) as link:
        started = time.monotonic()
        got, _how = take(link.endpoint)
        assert hashlib.sha256(got).digest() == hashlib.sha256(DATA).digest()
        assert time.monotonic() - started > 0.45


@pytest.mark.parametrize("how", ["stall", "silence", "forget"])
def test_it_falls_silent_and_speaks_again(giver: tuple[str, int], how: str) -> None:
    manners = Manners(rate=4 * MIB, stall_after=200_000 if how == "stall" else None)
    with BadLink(giver, manners) as link:  # noqa: SIM117
        with socket.create_connection(link.endpoint, timeout=LIMIT) as connection:
            got = connection.recv(1000)
            if how != "stall":
                getattr(link, how)()
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                while chunk := connection.recv(1 << 16):
                    got += chunk
            assert len(got) < MIB // 2
            link.manners = Manners()
            if how != "silence":  # only what was under way is dead
                assert take(link.endpoint) == (DATA, "end")
            link.speak()
            connection.settimeout(LIMIT)
            while chunk := connection.recv(1 << 16):
                got += chunk
    assert got == DATA


def test_it_moves_to_another_address(giver: tuple[str, int]) -> None:
    with BadLink(giver) as link:
        old = link.endpoint
        link.move("127.0.0.3")
        assert link.endpoint == ("127.0.0.3", old[1])
        assert take(link.endpoint) == (DATA, "end")
        with pytest.raises(ConnectionRefusedError):
            take(old)


def test_it_refuses_and_cuts_when_told(giver: tuple[str, int]) -> None:
    with BadLink(giver, Manners(refuses=True)) as link:
        with contextlib.suppress(ConnectionError):  # it may be gone before the handshake's end
            assert take(link.endpoint)[0] == b""
        link.manners = Manners(rate=MIB)
        with socket.create_connection(link.endpoint, timeout=LIMIT) as connection:
            assert connection.recv(1)
            assert link.cut() == 1
            with pytest.raises(ConnectionResetError):
                while connection.recv(1 << 16):
                    pass
