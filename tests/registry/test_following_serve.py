"""`samara serve --follow`: a NAS that lists and mirrors what another registry lists, with nobody logging in."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.followers import free_ports, node
from support.lying_registry import folder, lying_registry
from support.processes import Process, samara, started
from support.registries import asking, list_shelf, mirroring
from support.swarms import seeding
from support.world import MIB, one_blob

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accept import Rules
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.following import LONGEST_REST, Following, FollowPlan, next_look
from samara.schemas.events import Event, Warned

SIZE = 2 * MIB


def answer(url: str, path: str) -> tuple[int, bytes]:
    """One GET."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def until_given(url: str, b3_hex: str) -> bytes:
    """The blob, as soon as it is there."""
    pause = threading.Event()
    for _ in range(300):
        status, data = answer(url, f"/v1/blobs/{b3_hex}")
        if status == 200:
            return data
        pause.wait(0.1)
    raise AssertionError(f"HTTP {status} after 30 s")


@pytest.mark.long
def test_what_is_listed_elsewhere_is_listed_and_mirrored_here_by_itself(tmp_path: Path) -> None:
    first, second = one_blob(tmp_path / "1", SIZE, seed=1), one_blob(tmp_path / "2", SIZE, seed=2)
    here, there = free_ports(2)
    url = f"http://127.0.0.1:{there}"
    follower = Home(tmp_path / "b")
    with seeding(first) as one, seeding(second) as two:
        source = mirroring(asking(one.endpoint, two.endpoint))
        with node(tmp_path / "a", here, source, first) as upstream:
            options = (
                "--listen", f"127.0.0.1:{there}", "--follow", upstream.url, "--follow-every", "0.1", "--mirror",
                "--no-discovery", "--swarm-listen", "127.0.0.1:0", "--log", "off", "--json",
            )  # fmt: skip
            with started(follower, "serve", *options) as process:
                process.expect("serving")
                assert until_given(url, first.only.b3_hex) == first.source.read_bytes()
                list_shelf(upstream.index, second)  # meanwhile
                assert until_given(url, second.only.b3_hex) == second.source.read_bytes()
                stops_at_once(process)
    again = samara(follower, "serve", "--follow", url, "--origin", url, "--json")
    assert (again.status, "can't follow itself" in again.message) == (2, True)
    assert samara(follower, "serve", "--follow-names", "--json").status == 2


def test_stopped_while_the_other_registry_drips(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with lying_registry() as lying:
        asked = threading.Event()

        def drip(handler: Any) -> None:
            asked.set()
            handler.endless(b" ", pause=0.05)

        lying.answers["/v1/publishers"] = drip
        told = ("--follow", lying.url, "--listen", f"127.0.0.1:{port}", "--log", "off", "--json")
        with started(Home(tmp_path), "serve", *told) as process:
            assert asked.wait(30.0)
            stops_at_once(process)


def stops_at_once(process: Process) -> None:
    """SIGTERM, and it has ended in order."""
    began = time.monotonic()
    process.send(signal.SIGTERM)
    outcome = process.end()
    assert outcome.status == 0, outcome.stderr
    assert time.monotonic() - began < 15.0


def test_one_that_fails_holds_up_no_other_and_is_told_once(tmp_path: Path) -> None:
    published = one_blob(tmp_path / "1", 100_000)
    (here,) = free_ports(1)
    events: list[Event] = []
    with (
        Index.open(Home(tmp_path / "b")) as index,
        lying_registry() as lying,
        node(tmp_path / "a", here, mirroring(asking(peer_to_peer=False)), published) as upstream,
    ):
        lying.listed = [(published.publisher.identity, None)]
        lying.answers[folder(published.publisher.identity) + "timestamp.json"] = lambda handler: handler.give(b"{")
        plan = FollowPlan(origins=("http://127.0.0.1:9", lying.url, upstream.url), every=0.2)
        with Following(index, plan, Rules(claims=ClaimRules(origin="")), on_event=events.append) as following:
            pause = threading.Event()
            for _ in range(600):
                dead, liar, good = following.status()
                if good.releases == 1 and dead.failures >= 3 and liar.last_ok is not None and liar.failed:
                    break
                pause.wait(0.05)
        assert (good.releases, good.trouble, good.failed) == (1, None, 0)
        assert dead.last_ok is None
        assert dead.trouble is not None
        assert [who for who, _ in liar.refused] == [published.publisher.identity]
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert sum("127.0.0.1:9 rests" in one for one in warnings) == 1
    assert sum(lying.url in one for one in warnings) == 1


@pytest.mark.parametrize(("every", "failures", "rest"), [(900, 0, 900), (900, 1, 1800), (900, 9, LONGEST_REST)])
def test_who_fails_is_asked_less_and_less_often(every: float, failures: int, rest: float) -> None:
    assert next_look(every, failures, 0.5) == pytest.approx(rest)
    assert next_look(every, failures, 0.0) == pytest.approx(0.9 * rest)
    assert next_look(every, 10**6, 1.0) < 2 * LONGEST_REST
    assert next_look(86_400, 10**6, 0.5) == 86_400
