"""A registry over PostgreSQL: what a server that goes and comes back does to its clients, and several instances on one
database. Real servers, real HTTP.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from service_kit import ORIGIN, Author, author, tiny_files
from support.postgres import PASSWORD, Postgres, postgres

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Settings
from samara.schemas.publication import MEDIA_TYPE, pack_publication


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as own:
        yield own


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Author:
    folder = tmp_path_factory.mktemp("authors")
    made = author(folder, "acme")
    made.publish("tiny:q8_0", tiny_files(folder / "files"))
    return made


def ask(url: str, path: str, data: bytes | None = None) -> tuple[int, Message, Any]:
    """(status, headers, JSON or text)."""
    request = urllib.request.Request(url + path, data=data, headers={"Content-Type": MEDIA_TYPE})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, _body(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, _body(error)


def _body(answer: Any) -> Any:
    data = answer.read()
    return json.loads(data) if "json" in answer.headers.get("Content-Type", "") else data.decode()


def test_a_database_that_is_gone_is_503_and_nothing_is_lost_when_it_is_back(
    server: Postgres, acme: Author, tmp_path: Path
) -> None:
    with server.database() as name, Index.open(Home(tmp_path, server.url(name)), migrate=False) as index:
        service = Service(home=Home(tmp_path, server.url(name)), index=index, settings=Settings(origin=ORIGIN))
        with RunningServer(create_app(service)) as running:
            publication = pack_publication(acme.publication(claim=acme.claim("acme")))
            assert ask(running.url, "/v1/publish", publication)[0] in {200, 201}
            before = ask(running.url, "/v1/search")[2]
            assert before["total"] == 1
            digest = before["models"][0]["tags"][0]["manifest"].removeprefix("b3:")
            paths = (
                "/v1/search?q=tiny",
                "/v1/models/acme/tiny",
                "/v1/publishers",
                f"/v1/envelopes/{digest}",
                "/readyz",
            )
            server.stop()
            try:
                for path in (*paths, *paths):
                    status, headers, problem = ask(running.url, path)
                    assert status == 503, path
                    assert PASSWORD not in json.dumps(problem)
                assert ask(running.url, "/healthz")[0] == 200
                status, headers, problem = ask(running.url, "/v1/publish", publication)
                assert (status, headers["Content-Type"]) == (503, "application/problem+json")
                assert int(headers["Retry-After"]) > 0
            finally:
                server.start()
            for path in paths:
                assert ask(running.url, path)[0] == 200, path
            assert ask(running.url, "/v1/search")[2] == before
            acme.publish("tiny:again", tiny_files(acme.folder / "again"))
            later = pack_publication(acme.publication())
            assert ask(running.url, "/v1/publish", later)[2]["listed"] == 2


def test_what_one_instance_takes_in_the_other_one_shows_at_once(server: Postgres, acme: Author, tmp_path: Path) -> None:
    with server.database() as name:
        homes = [Home(tmp_path / number, server.url(name)) for number in "12"]
        with Index.open(homes[0]) as first, Index.open(homes[1]) as second:
            services = [
                Service(home=home, index=index, settings=Settings(origin=ORIGIN))
                for home, index in zip(homes, (first, second), strict=True)
            ]
            with RunningServer(create_app(services[0])) as one, RunningServer(create_app(services[1])) as other:
                assert ask(other.url, "/v1/search?q=tiny")[2]["total"] == 0
                publication = pack_publication(acme.publication(claim=acme.claim("acme")))
                assert ask(one.url, "/v1/publish", publication)[0] in {200, 201}
                assert ask(other.url, "/v1/search?q=tiny")[2]["total"] == 1
                assert ask(other.url, "/v1/publish", publication)[2]["outcome"] == "unchanged"
