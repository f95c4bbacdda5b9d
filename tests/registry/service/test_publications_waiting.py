"""Publications that wait for their turn keep nobody from reading, however many they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from service_kit import ORIGIN, author
from serving_kit import UNLIMITED, World, world
from support.world import random_file

from samara.registry.publications import mirrors
from samara.registry.publications.accept import Rules
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.service import api_publish
from samara.registry.service.settings import Settings
from samara.schemas.networks import parse_networks
from samara.schemas.publication import MEDIA_TYPE, pack_publication
from samara.seeder.publish import Description

WAITING = 48  # more than there are threads for requests
LOOKING_UP = 4  # publications at once


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = Settings(origin=ORIGIN, rates=UNLIMITED, proxies=parse_networks("127.0.0.1/32"))
    with world(tmp_path_factory.mktemp("waiting"), settings=settings) as found:
        yield found


def test_a_crowd_that_waits_to_publish(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each from an address of its own, as who wants to do harm has; those whose turn it is take for ever."""
    arrived, begun, may_end = threading.Semaphore(0), threading.Semaphore(0), threading.Event()
    body = api_publish._body

    async def counted(request: Request, limit: int) -> bytes:
        data = await body(request, limit)
        arrived.release()
        return data

    def endless(*_told: Any) -> None:
        begun.release()
        may_end.wait(60)
        raise PublicationRefusedError(Reason.UNPROVEN, "at last")

    monkeypatch.setattr(api_publish, "_body", counted)
    monkeypatch.setattr(api_publish, "_accept", endless)
    statuses: list[int] = []

    def publish(number: int) -> None:
        headers = {"Content-Type": MEDIA_TYPE, "X-Forwarded-For": f"192.0.2.{number}"}
        statuses.append(served.ask("/v1/publish", method="POST", headers=headers, body=b"x").status)

    crowd = [threading.Thread(target=publish, args=(number,), daemon=True) for number in range(WAITING)]
    try:
        for one in crowd:
            one.start()
        for _ in range(2):
            assert begun.acquire(timeout=30)
        for _ in range(WAITING):
            assert arrived.acquire(timeout=30)
        assert served.ask("/v1/publishers").status == 200
        assert not begun.acquire(blocking=False)
    finally:
        may_end.set()
        for one in crowd:
            one.join(60)
    assert set(statuses) <= {403, 503}
    assert len(statuses) == WAITING


def test_who_waits_for_the_names_of_its_mirrors_holds_no_turn(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may prove at once, all waiting for a DNS that doesn't answer; the next one gets through."""
    begun, may_end = threading.Semaphore(0), threading.Event()

    def slow(_service: Any, data: bytes, _encoding: str | None, aside: api_publish.Aside) -> None:
        if data == b"slow":
            with aside():
                begun.release()
                assert may_end.wait(60)
        raise PublicationRefusedError(Reason.UNPROVEN, "at last")

    monkeypatch.setattr(api_publish, "_accept", slow)
    statuses: list[int] = []

    def publish(number: int) -> None:
        headers = {"Content-Type": MEDIA_TYPE, "X-Forwarded-For": f"192.0.2.{number}"}
        statuses.append(served.ask("/v1/publish", method="POST", headers=headers, body=b"slow").status)

    waiting = [threading.Thread(target=publish, args=(number,), daemon=True) for number in range(4)]
    try:
        for one in waiting:
            one.start()
        for _ in waiting:
            assert begun.acquire(timeout=30)
        got = served.ask("/v1/publish", method="POST", headers={"Content-Type": MEDIA_TYPE}, body=b"quick")
        assert (got.status, statuses) == (403, [])
    finally:
        may_end.set()
        for one in waiting:
            one.join(60)
    assert statuses == [403] * len(waiting)


def test_a_crowd_with_mirrors_whose_dns_is_slow_ends(
    served: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real publications, more of them than there are threads and turns: none waits for what another one holds."""
    may_answer, answered = threading.Event(), threading.Semaphore(0)

    def slow(_host: str, _port: int) -> Sequence[str]:
        may_answer.wait(60)
        return ["1.1.1.1"]

    rules_of = api_publish.rules_of

    def slowly(settings: Settings) -> Rules:
        return replace(rules_of(settings), resolve=slow)

    monkeypatch.setattr(api_publish, "rules_of", slowly)
    monkeypatch.setattr(mirrors, "PATIENCE", 0.1)
    zeta = author(tmp_path / "zeta", "zeta")
    away = Description(mirrors=("https://slow.example/x.bin",))
    zeta.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)], away)
    body = pack_publication(zeta.publication())
    statuses: list[int] = []

    def publish(number: int) -> None:
        headers = {"Content-Type": MEDIA_TYPE, "X-Forwarded-For": f"192.0.2.{number}"}
        statuses.append(served.ask("/v1/publish", method="POST", headers=headers, body=body).status)
        answered.release()

    crowd = [threading.Thread(target=publish, args=(number,), daemon=True) for number in range(16)]
    try:
        for one in crowd:
            one.start()
        for _ in range(len(crowd) - LOOKING_UP):  # they aren't looked up, and say so
            assert answered.acquire(timeout=15)
        assert not answered.acquire(blocking=False)
    finally:
        may_answer.set()
        for one in crowd:
            one.join(15)
    assert sorted(set(statuses)) == [200, 201]
    assert len(statuses) == len(crowd)
