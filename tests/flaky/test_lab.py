"""The lab itself: what it claims to do to links it does, and it leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import NO_LAB, PERIOD, Lab, Weather, namespaces, places_of, ruleset, sweep, there_is_no_lab

LIMIT = 30.0  # seconds for anything
MIB = 1 << 20
needs_lab = pytest.mark.skipif(there_is_no_lab(), reason=NO_LAB)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("near", "far") as made:
        yield made


def give(lab: Lab, size: int) -> int:
    """Let "far" give `size` bytes to whoever calls; its port."""
    with lab["far"].entered():
        listener = socket.create_server((lab.address("far"), 0))

    def serve() -> None:
        with contextlib.suppress(OSError), listener, listener.accept()[0] as caller:
            caller.sendall(bytes(size))

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def call(lab: Lab, port: int, limit: float = LIMIT) -> socket.socket:
    with lab["near"].entered():
        return socket.create_connection((lab.address("far"), port), timeout=limit)


def take(connection: socket.socket) -> int:
    """Bytes until the end, or until nothing comes."""
    got = 0
    with connection, contextlib.suppress(TimeoutError):
        while chunk := connection.recv(1 << 16):
            got += len(chunk)
    return got


@needs_lab
def test_machines_hear_each_other_and_nobody_else(lab: Lab) -> None:
    assert take(call(lab, give(lab, MIB))) == MIB
    with socket.create_server(("127.0.0.1", 0)) as own, lab["near"].entered():
        # this machine's loopback isn't theirs, and there is no way out
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(own.getsockname(), timeout=LIMIT)
        with pytest.raises(OSError, match="unreachable"):
            socket.create_connection(("192.0.2.1", 9), timeout=LIMIT)


@needs_lab
def test_this_thread_comes_home_again(lab: Lab) -> None:
    before = Path("/proc/thread-self/ns/net").readlink()
    with pytest.raises(KeyError), lab["near"].entered():
        assert Path("/proc/thread-self/ns/net").readlink() != before
        raise KeyError
    assert Path("/proc/thread-self/ns/net").readlink() == before


@needs_lab
def test_a_cap_holds(lab: Lab) -> None:
    lab.rate("near", mbit=8)
    port = give(lab, MIB)
    started = time.monotonic()
    assert take(call(lab, port)) == MIB
    assert time.monotonic() - started > 0.8  # 1 MiB at 1 MB/s, less what may pass at once


@needs_lab
def test_so_many_packets_are_lost(lab: Lab) -> None:
    lab.weather("near", Weather(lost=10.0, seed=3))
    assert take(call(lab, give(lab, MIB))) == MIB
    assert lab.hits("near", "lost") > MIB / 1500 / 10 * 0.8
    lab.weather("near", Weather())
    assert take(call(lab, give(lab, MIB))) == MIB
    assert lab.hits("near", "lost") == 0


@needs_lab
def test_connections_are_reset(lab: Lab) -> None:
    lab.weather("near", Weather(resets=1, seed=1))
    with pytest.raises(ConnectionResetError):
        take(call(lab, give(lab, 4 * MIB)))
    assert lab.hits("near", "resets") == 1


@needs_lab
@pytest.mark.parametrize("how", ["down", "silent", "silent-after", "forgotten"])
def test_a_dead_link_is_silent_and_comes_back(lab: Lab, how: str) -> None:
    """No error, no reset: the connection stays open, and goes on when the link is back."""
    if how == "silent-after":
        lab.weather("near", Weather(silent_after=(lab.address("far"), 300_000)))
    lab.rate("near", mbit=40)
    connection = call(lab, give(lab, 4 * MIB))
    got = len(connection.recv(1000))
    if how == "down":
        lab.down("near")
    elif how == "silent":
        lab.weather("near", Weather(silent=True))
    elif how == "forgotten":
        lab.weather("near", Weather(forgotten=lab.connected_ports("near")))
        assert take(call(lab, give(lab, MIB))) == MIB  # new ones are fine
    connection.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while chunk := connection.recv(1 << 16):
            got += len(chunk)
    assert got < 4 * MIB
    if how == "down":
        lab.up("near")
    else:
        assert lab.hits("near", "silenced") > 0
        lab.weather("near", Weather())
    connection.settimeout(LIMIT)
    assert got + take(connection) == 4 * MIB


@needs_lab
def test_a_machine_moves(lab: Lab) -> None:
    old = lab.address("far")
    new = lab.move("far", 77)
    assert new != old
    assert take(call(lab, give(lab, MIB))) == MIB
    with lab["near"].entered(), pytest.raises(OSError, match=r"timed out|No route"):
        socket.create_connection((old, 9), timeout=0.3)


SLEEPS = ("sh", "-c", "echo in; exec sleep 600 >&-")  # says when it is in its namespace


@needs_lab
def test_nothing_is_left_of_a_lab(lab: Lab) -> None:
    with Lab("alone") as other:
        other.names_from("alone", "198.18.0.1")
        name = other["alone"].namespace
        sleeper = subprocess.Popen([*other["alone"].wrap, *SLEEPS], stdout=subprocess.PIPE)
        assert sleeper.stdout is not None
        with sleeper.stdout:
            assert sleeper.stdout.readline() == b"in\n"
        assert name in namespaces()
        assert Path("/etc/netns", name).exists()
    assert sleeper.wait(LIMIT) == -signal.SIGKILL
    assert name not in namespaces()
    assert not Path("/etc/netns", name).exists()
    assert lab["near"].namespace in namespaces()


KILLED = """
import subprocess, sys
from support.lab import Lab
with Lab("one", "two") as lab:
    sleeper = subprocess.Popen([*lab["one"].wrap, *sys.argv[1:]], stdout=subprocess.PIPE)
    sleeper.stdout.readline()
    print(lab["one"].namespace, sleeper.pid, flush=True)
    sys.stdin.read()
"""


@needs_lab
def test_what_a_killed_test_left_is_swept(lab: Lab) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, *SLEEPS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        namespace, sleeper = child.stdout.readline().split()
        assert namespace not in sweep()  # it lives
        child.kill()
        child.wait(LIMIT)
        left = [name for name in namespaces() if f"-{child.pid}-" in name]
        assert len(left) == 3  # two machines and their switch
        sweep()  # another worker of this run may have been faster
    assert [name for name in namespaces() if f"-{child.pid}-" in name] == []
    assert _has_ended(int(sleeper))
    assert lab["near"].namespace in namespaces()


def _has_ended(pid: int) -> bool:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True  # nobody's child any more: whoever inherits it will reap it
        except (FileNotFoundError, ProcessLookupError):
            return True
        threading.Event().wait(0.01)
    return False


def test_places_are_drawn_from_the_seed_and_are_as_many_as_asked() -> None:
    weather = Weather(lost=3.0, resets=5, seed=11)
    places = places_of(weather)
    assert places == places_of(Weather(lost=3.0, resets=5, seed=11))
    assert places != places_of(Weather(lost=3.0, resets=5, seed=12))
    assert sorted(places.values()) == ["cut"] * 5 + ["lose"] * 30
    assert all(0 <= place < PERIOD for place in places)
    assert places_of(Weather()) == {}


def test_rules_name_what_they_do() -> None:
    assert "vmap" not in ruleset(Weather())
    assert "quota over 1000 bytes goto silence" in ruleset(Weather(silent_after=("198.18.0.9", 1000)))
    assert "postrouting" in ruleset(Weather(silent=True))
    with pytest.raises(ValueError, match="no such weather"):
        Weather(lost=101)
