"""Publications that are hostile by their form or their number: each is answered, memory and threads stay bounded, and
who only reads goes on reading.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard
from attack_kit import Reader, Site, memory_of, reading, site, threads_of
from catalog_kit import Edition, raw_entry
from service_kit import author
from support.clocks import Clock
from support.processes import Process
from support.world import random_file
from trust_kit import NOW, Line, line_of

from samara.registry.home import Home
from samara.registry.trust.signing import sign_payload
from samara.schemas.envelope import MAX_JSON_MARKS
from samara.schemas.publication import MEDIA_TYPE, Publication, pack_publication
from samara.schemas.release_file import ReleaseBundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
MIB = 1 << 20
ZSTD = {"Content-Encoding": "zstd"}
WAIT = 20.0  # seconds that a reader may wait at worst: machines that run tests are busy


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Process]]:
    """A registry at the time of the kit's keys."""
    folder = tmp_path_factory.mktemp("flooded")
    clock = Clock(folder / "clock", int((NOW - datetime.now(UTC)).total_seconds()) + 10)
    place = site(Home(folder / "registry"), "--behind", "127.0.0.1/32", "--reads", "0")
    with place.serving(wrap=clock.wrap) as process:
        yield place, process


def signed(line: Line, payload: bytes) -> bytes:
    """A publication that every signature proves, of a release that says `payload`."""
    edition = Edition(line=line, entries={"tiny/v1": raw_entry(payload)})
    envelope = sign_payload(payload, line.online_keys[:1])
    release = ReleaseBundle(roots=(), envelope=envelope, torrents=())
    return zstandard.compress(pack_publication(Publication(metadata=edition.bundle, releases=(release,))))


def absurd(line: Line) -> dict[str, bytes]:
    """Bodies of some kilobytes that would like to be more."""
    half = MAX_JSON_MARKS // 2 - 100
    return {
        "bomb": zstandard.compress(bytes(64 * MIB - 1)),
        "larger bomb": zstandard.compress(bytes(300 * MIB)),
        "nested": signed(line, b"[" * 1_000_000 + b"]" * 1_000_000),
        "NaN": signed(line, b'{"a":NaN}'),
        "twice": signed(line, b'{"_type":1,"_type":2}'),
        "values": signed(line, b"[" + b",".join([b"{}"] * half) + b"]"),
        "digits": signed(line, b"[" + b"9" * 5000 + b"]"),
        "text": signed(line, b'["' + b"a" * (20 * MIB) + b'"]'),
        "lists": zstandard.compress(b"l" + b"le" * 10_000_000 + b"e"),
    }


class Peak:
    """The most memory and threads that a process had while the block lasted, and what it had before."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.before = self.memory = memory_of(pid)
        self.threads = threads_of(pid)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.memory = max(self.memory, memory_of(self._pid))
            self.threads = max(self.threads, threads_of(self._pid))

    @property
    def grown(self) -> int:
        """Bytes."""
        return self.memory - self.before


def assert_unharmed(reader: Reader) -> None:
    """Who reads was always answered."""
    assert reader.statuses == {200}
    assert reader.slowest < WAIT


def test_what_is_absurd_costs_little(served: tuple[Site, Process]) -> None:
    place, process = served
    bodies = absurd(line_of(1))
    with reading(place) as reader, Peak(process.pid) as peak:
        for number, (name, body) in enumerate(bodies.items()):
            assert len(body) < 64 * 1024, name
            told = place.ask("/v1/publish", body, headers={**ZSTD, "X-Forwarded-For": f"192.0.2.{number}"})
            assert told.status in {403, 413, 422}, (name, told)
            assert len(str(told.body)) < 2000, name
    assert_unharmed(reader)
    assert peak.grown < 400 * MIB
    assert peak.threads < 32
    assert place.ask("/v1/publishers").body["total"] == 0


@contextlib.contextmanager
def half_sent(place: Site, body: bytes, count: int, addresses: int) -> Iterator[None]:
    """So many publications whose second half doesn't come."""
    with contextlib.ExitStack() as stack:
        for number in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", place.port), timeout=60))
            head = (
                f"POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Type: {MEDIA_TYPE}\r\n"
                f"X-Forwarded-For: 198.51.100.{number % addresses}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            sock.sendall(head.encode() + body[: len(body) // 2])
        yield


def test_publications_that_stop_half_way_keep_nobody_from_publishing(
    served: tuple[Site, Process], tmp_path: Path
) -> None:
    place, process = served
    # its clock is in the past, where nothing that is signed today has expired
    acme = author(tmp_path / "acme", "acme")
    acme.publish("x:v1", [random_file(tmp_path / "x.bin", 70_000, seed=1)])
    body = pack_publication(acme.publication())
    with reading(place) as reader, Peak(process.pid) as peak:
        with half_sent(place, body, 200, 100):
            told = place.publish(body, address="192.0.2.200")
            assert told.status == 201
            busy = place.publish(body, address="198.51.100.7")
            assert (busy.status, busy.headers["retry-after"]) == (503, "5"), "this client has two on their way"
        waiting = threading.Event()
        for _ in range(600):  # until it is noticed that they left
            if place.publish(body, address="198.51.100.7").status == 200:
                break
            waiting.wait(0.1)
        else:
            raise AssertionError("who left counts as there for ever")
    assert_unharmed(reader)
    assert peak.threads < 32
    assert peak.grown < 100 * MIB


def crowd(place: Site, count: int, body: bytes, coding: dict[str, str], address: Callable[[int], str]) -> Counter[int]:
    """Statuses that so many who publish at once get."""
    told: Counter[int] = Counter()
    lock = threading.Lock()

    def one(number: int) -> None:
        try:
            status = place.ask("/v1/publish", body, headers={**coding, "X-Forwarded-For": address(number)}).status
        except (OSError, http.client.HTTPException):
            status = 0
        with lock:
            told[status] += 1

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return told


def everywhere(number: int) -> str:
    """An address for each."""
    return f"10.{number // 250}.{number % 250}.1"


@pytest.mark.long
@pytest.mark.parametrize(
    ("count", "body", "coding", "address", "statuses"),
    [
        pytest.param(1000, b"", ZSTD, everywhere, {403, 503}, id="from-everywhere"),
        pytest.param(1000, b"", ZSTD, lambda _: "192.0.2.1", {403, 429, 503}, id="from-one"),
        pytest.param(1000, os.urandom(MIB), {}, everywhere, {0, 422, 503}, id="large"),
        pytest.param(200, zstandard.compress(bytes(64 * MIB - 1)), ZSTD, everywhere, {422, 503}, id="bombs"),
    ],
)
def test_a_thousand_who_publish_at_once(
    served: tuple[Site, Process], count: int, body: bytes, coding: dict[str, str], address: Callable[[int], str],
    statuses: set[int],
) -> None:  # fmt: skip
    """Most are told to come again, some are refused for what they send, and reading goes on."""
    place, process = served
    body = body or signed(line_of(1), b'{"a":1}')
    with reading(place) as reader, Peak(process.pid) as peak:
        told = crowd(place, count, body, coding, address)
    print(f"{dict(told)}; reader waited ≤ {reader.slowest:.2f} s; {peak.grown >> 20} MiB, {peak.threads} threads")
    assert told.total() == count
    assert set(told) <= statuses
    assert told[0] < count / 2  # who sends on while it is refused may not hear why
    assert_unharmed(reader)
    assert peak.grown < 768 * MIB
    assert peak.threads < 32
