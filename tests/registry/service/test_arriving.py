"""Blobs that are asked for while they arrive: never a byte that isn't proven, whoever comes and goes meanwhile.

The fetch is a real growing file whose growth a test decides; that of real swarms is `tests/fetcher/test_pull_through*`.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from serving_kit import PATIENCE, World, in_thread, raw, world

from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.schemas.errors import DiskFullError, NetworkError, SamaraError
from samara.schemas.hops import DIRECTLY, Hops

UNPROVEN = b"\xee"  # what lies in the file where nothing has been proven


class Fetch:
    """One blob on its way: `prove` makes bytes of it good."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.data = data
        self.readers = 0
        self.waits = 0
        self.error: SamaraError | None = None
        self._proven = bytearray(len(data))
        self._changed = threading.Condition()
        path.write_bytes(UNPROVEN * len(data))

    @property
    def size(self) -> int:
        return len(self.data)

    def prove(self, start: int, end: int) -> None:
        """Bytes [start, end) have come and are right."""
        with self.path.open("r+b") as file:
            file.seek(start)
            file.write(self.data[start:end])
        with self._changed:
            self._proven[start:end] = b"\1" * (end - start)
            self._changed.notify_all()

    def fail(self, error: SamaraError) -> None:
        """Nothing more will come."""
        with self._changed:
            self.error = error
            self._changed.notify_all()

    def open(self) -> int:
        return os.open(self.path, os.O_RDONLY)

    def wait(self, beyond: int, timeout: float) -> int:
        raise AssertionError("ranges are asked for")

    def wait_range(self, start: int, end: int, timeout: float) -> bool:
        with self._changed:
            self.waits += 1
            there = self._changed.wait_for(lambda: self.error or 0 not in self._proven[start:end], min(timeout, 0.2))
            if 0 not in self._proven[start:end]:
                return True
            if self.error is not None:
                raise self.error
            return bool(there)

    def close(self) -> None:
        self.readers -= 1


class Bringer:
    """Gives one fetch to everybody."""

    def __init__(self) -> None:
        self.fetch: Fetch | None = None
        self.refusal: SamaraError | None = None
        self.asked = 0

    def is_contested(self, b3: str) -> bool:
        return False

    def bring(self, b3: str, size: int | None = None, *, hops: Hops = DIRECTLY) -> Fetch:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        assert self.fetch is not None
        self.fetch.readers += 1
        return self.fetch


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, bytes]]:
    """A registry that lists a blob of 5 MB which isn't on its disk any more; and what it was."""
    with world(tmp_path_factory.mktemp("arriving")) as found:
        place = found.place(found.file("blob", "v1"))
        data = place.read_bytes()
        place.unlink()
        yield found, data


@pytest.fixture
def bringer(listed: tuple[World, bytes], tmp_path: Path) -> Bringer:
    made = Bringer()
    made.fetch = Fetch(tmp_path / "data", listed[1])
    return made


@pytest.fixture
def served(listed: tuple[World, bytes], bringer: Bringer) -> Iterator[World]:
    service = replace(listed[0].service, bringer=bringer)
    with RunningServer(create_app(service)) as server:
        yield replace(listed[0], service=service, server=server)


def request(served: World, *headers: str) -> bytes:
    path = f"/v1/blobs/{served.file('blob', 'v1').b3_hex}"
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]).encode()


def wait_for_more_waits(fetch: Fetch) -> None:
    until = time.monotonic() + PATIENCE
    enough = fetch.waits + 3
    while fetch.waits < enough:
        assert time.monotonic() < until, "nobody asks for more"
        time.sleep(0.01)


def wait_until_idle(fetch: Fetch) -> None:
    until = time.monotonic() + PATIENCE
    while fetch.readers:
        assert time.monotonic() < until, "a reader stays for ever"
        time.sleep(0.01)


class TestWhatIsSent:
    def test_bytes_come_as_they_are_proven_and_never_before(self, served: World, bringer: Bringer) -> None:
        fetch = bringer.fetch
        assert fetch is not None
        with raw(served.server) as client:
            client.send(request(served))
            got = b""
            step = 1 << 20
            for start in range(0, fetch.size, step):
                end = min(start + step, fetch.size)
                fetch.prove(start, end)
                if start == 0:
                    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
                while len(client.data) < end:
                    client.data += client.sock.recv(1 << 16)
                got = bytes(client.data)
                assert got == fetch.data[:end]
                if end < fetch.size:
                    wait_for_more_waits(fetch)  # it was asked for more again and again, and hasn't got it
                    assert select.select([client.sock], [], [], 0)[0] == [], "a byte that isn't proven"
            assert client.rest() == fetch.data
        wait_until_idle(fetch)

    def test_a_range_waits_for_its_own_part_only(self, served: World, bringer: Bringer) -> None:
        fetch = bringer.fetch
        assert fetch is not None
        with raw(served.server) as client:
            client.send(request(served, "Range: bytes=3000000-3000999"))
            fetch.prove(2_999_999, 3_001_000)
            head = client.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 206")
            assert b"content-range: bytes 3000000-3000999/5000000" in head
            assert client.rest() == fetch.data[3_000_000:3_001_000]

    def test_head_brings_nothing(self, served: World, bringer: Bringer) -> None:
        got = served.ask(f"/v1/blobs/{served.file('blob', 'v1').b3_hex}", method="HEAD")
        assert (got.status, got.headers["content-length"]) == (200, "5000000")
        assert bringer.asked == 0

    def test_without_a_bringer_it_is_404(self, listed: tuple[World, bytes]) -> None:
        got = listed[0].ask(f"/v1/blobs/{listed[0].file('blob', 'v1').b3_hex}")
        assert got.status == 404


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("error", "status", "said"),
        [
            (NetworkError("nobody has it"), 502, "nobody has it"),
            (DiskFullError("no room left on the disk of /srv/samara"), 507, "this registry has no room left"),
        ],
    )
    def test_a_fetch_that_cannot_begin_is_a_clear_answer(
        self, served: World, bringer: Bringer, error: SamaraError, status: int, said: str
    ) -> None:
        fetch = bringer.fetch
        assert fetch is not None
        path = f"/v1/blobs/{served.file('blob', 'v1').b3_hex}"
        fetch.fail(error)
        got = served.ask(path)
        assert got.status == status and said.encode() in got.body
        assert b"/srv" not in got.body
        bringer.refusal = error
        assert served.ask(path).status == status
        wait_until_idle(fetch)

    def test_a_fetch_that_fails_on_the_way_ends_the_connection(self, served: World, bringer: Bringer) -> None:
        fetch = bringer.fetch
        assert fetch is not None
        with raw(served.server) as client:
            client.send(request(served))
            fetch.prove(0, 1 << 20)
            client.until(b"\r\n\r\n")
            fetch.fail(NetworkError("everybody left"))
            assert client.rest() == fetch.data[: 1 << 20]
        wait_until_idle(fetch)

    def test_a_client_that_goes_away_ends_its_reader_and_nobody_elses(self, served: World, bringer: Bringer) -> None:
        fetch = bringer.fetch
        assert fetch is not None
        with raw(served.server) as stays:
            stays.send(request(served))
            with raw(served.server) as leaves:
                leaves.send(request(served))
                fetch.prove(0, 1 << 20)
                leaves.until(b"\r\n\r\n")
                while len(leaves.data) < 1 << 20:  # so that nothing is on its way when it leaves
                    leaves.data += leaves.sock.recv(1 << 16)
                stays.until(b"\r\n\r\n")
                assert fetch.readers == 2
            until = time.monotonic() + PATIENCE
            while fetch.readers != 1:
                assert time.monotonic() < until
                time.sleep(0.01)
            fetch.prove(1 << 20, fetch.size)
            assert stays.rest() == fetch.data

    def test_many_who_wait_leave_room_for_others(self, served: World, bringer: Bringer) -> None:
        fetch = bringer.fetch
        assert fetch is not None
        with contextlib.ExitStack() as waiting:
            clients = [waiting.enter_context(raw(served.server)) for _ in range(100)]
            for client in clients:
                client.send(request(served, "Range: bytes=0-99"))
            until = time.monotonic() + PATIENCE
            while fetch.readers < 100:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert served.ask("/v1/publishers").status == 200
            in_thread(lambda: fetch.prove(0, 100))
            for client in clients:
                assert client.rest().endswith(fetch.data[:100])
        wait_until_idle(fetch)
