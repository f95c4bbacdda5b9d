"""POST /v1/publish over the wire: what is answered to the good, the hostile and the half-sent; never a 500."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import zstandard
from service_kit import ORIGIN, Author, author
from support.world import random_file

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Claims, Quotas, Rates, Settings
from samara.registry.trust.own_catalog import nothing, update_catalog
from samara.schemas.publication import MEDIA_TYPE, pack_publication

LIMIT = 4 << 20
SETTINGS = Settings(origin=ORIGIN, quotas=Quotas(publish_bytes=LIMIT), rates=Rates(reads=0, publishes=0))


class Registry:
    """A running one, and what it answers."""

    def __init__(self, service: Service, url: str) -> None:
        self.service = service
        self.address = urlsplit(url)

    def post(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        """(status, the answer's JSON)."""
        said = {"Content-Type": MEDIA_TYPE, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection = http.client.HTTPConnection(self.address.hostname or "", self.address.port, timeout=30)
        try:
            connection.request("POST", "/v1/publish", body, said)
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status != 500, data
            return answer.status, json.loads(data)
        finally:
            connection.close()

    def insist(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """As a client does: it may have two on their way; if it comes too soon, it is told so, and comes again."""
        for _ in range(1000):
            answer = self.post(body)
            if answer[0] != 503:
                return answer
            assert "on their way" in answer[1]["title"]
        raise AssertionError("two publications are on their way for ever")

    def outcomes(self) -> dict[str, float]:
        """What was counted, by outcome."""
        (metric,) = self.service.metrics.publishes.collect()
        return {s.labels["outcome"]: s.value for s in metric.samples if s.name.endswith("_total")}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with serving(tmp_path, SETTINGS) as running:
        yield running


class serving:  # noqa: N801  (used as a function)
    """A registry with settings of its own. A context manager."""

    def __init__(self, tmp_path: Path, settings: Settings) -> None:
        self._index = Index.open(Home(tmp_path / "registry"))
        self._service = Service(home=Home(tmp_path / "registry"), index=self._index, settings=settings)
        self._server = RunningServer(create_app(self._service))

    def __enter__(self) -> Registry:
        self._server.__enter__()
        return Registry(self._service, self._server.url)

    def __exit__(self, *error: Any) -> None:
        self._server.__exit__(*error)
        self._index.close()


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Author:
    made = author(tmp_path_factory.mktemp("acme"), "acme")
    made.publish("blob:v1", [random_file(made.folder / "blob.bin", 900_000, seed=1)])
    return made


def test_a_publication_is_answered_with_what_came_of_it(registry: Registry, acme: Author) -> None:
    body = pack_publication(acme.publication(claim=acme.claim("acme")))
    status, said = registry.post(body)
    assert (status, said["outcome"], said["names"], said["listed"]) == (201, "verified", ["acme"], 1)
    status, said = registry.post(zstandard.compress(body), Content_Encoding="zstd")
    assert (status, said["outcome"]) == (200, "unchanged")
    assert registry.outcomes() == {"verified": 1, "unchanged": 1}


def test_refusals_are_problems_with_a_reason(registry: Registry, tmp_path: Path, acme: Author) -> None:
    registry.post(pack_publication(acme.publication(claim=acme.claim("acme"))))
    other = author(tmp_path / "other", "acme")
    other.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    status, said = registry.post(pack_publication(other.publication(claim=other.claim("acme"))))
    assert (status, said["reason"], said["status"]) == (409, "name-taken", 409)
    assert said["next_step"]
    status, said = registry.post(pack_publication(other.publication(claim=other.claim("v1"))))
    assert (status, said["reason"]) == (403, "name-refused")
    stray = replace(acme.publication(), releases=other.publication().releases)
    assert registry.post(pack_publication(stray))[1]["reason"] == "unlisted"
    assert registry.outcomes() == {"verified": 1, "name-taken": 1, "name-refused": 1, "unlisted": 1}


def test_an_older_catalog_is_a_conflict(registry: Registry, tmp_path: Path) -> None:
    zeta = author(tmp_path / "zeta", "zeta")
    zeta.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    old = pack_publication(zeta.publication())
    update_catalog(zeta.home, zeta.publisher, nothing, signers=zeta.publisher.online_keys(None), now=datetime.now(UTC))
    assert registry.post(pack_publication(zeta.publication()))[0] == 201
    assert registry.post(old) == (409, registry.post(old)[1])
    assert registry.post(old)[1]["reason"] == "stale"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 422),
        (b"d6:format20:samara-publication-1e", {}, 422),
        (b"l" * 200_000, {}, 422),
        (b"x", {"Content_Type": "application/json"}, 415),
        (b"x", {"Content_Type": ""}, 415),
        (b"x", {"Content_Encoding": "br"}, 415),
        (b"x", {"Content_Encoding": "zstd, zstd"}, 415),
        (b"x", {"Content_Encoding": "zstd"}, 400),
        (zstandard.compress(bytes(64 << 20)), {"Content_Encoding": "zstd"}, 413),
        (zstandard.compress(b"x") + b"more", {"Content_Encoding": "zstd"}, 400),
        (zstandard.compress(b"x" * 1000)[:-4], {"Content_Encoding": "zstd"}, 400),
        (bytes(LIMIT + 1), {}, 413),
    ],
)
def test_what_is_no_publication_is_refused(
    registry: Registry, body: bytes, headers: dict[str, str], status: int
) -> None:
    found, said = registry.post(body, **headers)
    assert found == status, said
    assert said["title"]


def test_half_a_publication_changes_nothing(registry: Registry, acme: Author) -> None:
    """The connection ends in the middle of the body; the next one is served as if nothing had been."""
    body = pack_publication(acme.publication())
    head = f"POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    for end in (0, 1, len(body) // 2, len(body) - 1):
        with socket.create_connection(
            (registry.address.hostname or "", registry.address.port or 0), timeout=10
        ) as sock:
            sock.sendall(head.encode() + body[:end])
    assert registry.service.listings.owners() == ()
    assert registry.insist(body)[0] == 201


def test_a_read_only_registry_takes_nothing(tmp_path: Path, acme: Author) -> None:
    with serving(tmp_path, replace(SETTINGS, accepts_publishes=False)) as registry:
        status, said = registry.post(pack_publication(acme.publication()))
    assert (status, said["reason"], said["error"]) == (403, "read-only", "PublicationRefusedError")


def test_listed_publishers_alone_where_the_operator_says_so(tmp_path: Path, acme: Author) -> None:
    settings = replace(SETTINGS, claims=Claims.LISTED, namespaces={"models": acme.identity})
    other = author(tmp_path / "other", "other")
    other.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    with serving(tmp_path, settings) as registry:
        assert registry.post(pack_publication(acme.publication()))[1]["names"] == ["models"]
        assert registry.post(pack_publication(other.publication()))[1]["reason"] == "not-listed"


def test_a_registry_that_has_no_room_to_work_in_does_not_blame_the_publisher(
    registry: Registry, acme: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = pack_publication(acme.publication())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    status, said = registry.post(body)
    assert (status, said["error"]) == (503, "StoreError")
    assert "reason" not in said
    assert str(tmp_path) not in json.dumps(said)
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert registry.post(body)[0] == 201


def test_full_is_said_as_full(tmp_path: Path, acme: Author) -> None:
    with serving(tmp_path, replace(SETTINGS, quotas=replace(SETTINGS.quotas, stored_bytes=100))) as registry:
        status, said = registry.post(pack_publication(acme.publication()))
    assert (status, said["reason"]) == (507, "quota")


def test_publications_at_once_are_all_answered(registry: Registry, tmp_path: Path) -> None:
    bodies = []
    for number in range(6):
        made = author(tmp_path / f"p{number}", f"p{number}")
        made.publish("x:v1", [random_file(tmp_path / f"{number}.bin", 70_000, seed=number)])
        bodies.append(pack_publication(made.publication(claim=made.claim(f"p{number}"))))
    found: list[tuple[int, dict[str, Any]]] = []
    threads = [threading.Thread(target=lambda body=body: found.append(registry.insist(body))) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [status for status, _ in found] == [201] * 6, found
    assert {owner.namespace for owner in registry.service.listings.owners()} == {f"p{n}" for n in range(6)}


def test_evidence_of_two_catalogs_of_one_version_is_public(registry: Registry, tmp_path: Path) -> None:
    zeta = author(tmp_path / "zeta", "zeta")
    zeta.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    keys = zeta.publisher.online_keys(None)
    before = (zeta.publisher.folder / "catalog").read_bytes()
    update_catalog(zeta.home, zeta.publisher, nothing, signers=keys, now=datetime.now(UTC))
    assert registry.post(pack_publication(zeta.publication()))[0] == 201
    (zeta.publisher.folder / "catalog").write_bytes(before)
    update_catalog(zeta.home, zeta.publisher, lambda _: {"x/v1": None}, signers=keys, now=datetime.now(UTC))
    status, said = registry.post(pack_publication(zeta.publication()))
    assert (status, said["reason"]) == (409, "equivocation")
    connection = http.client.HTTPConnection(registry.address.hostname or "", registry.address.port, timeout=30)
    connection.request("GET", f"/v1/publishers/{zeta.identity}/equivocations")
    (evidence,) = json.loads(connection.getresponse().read())
    connection.close()
    assert evidence["version"] == 2
    assert evidence["known"] != evidence["offered"]
