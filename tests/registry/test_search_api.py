"""/v1/search and /v1/models over HTTP, on both databases: what two real publishers published at a real server."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from service_kit import ORIGIN, Author, registry
from support.world import random_file

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accept import Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.own import list_own
from samara.registry.search import SearchQuery
from samara.registry.service.api_models import links
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Settings
from samara.registry.trust.publishers import load_publisher
from samara.schemas.digests import b3
from samara.seeder.publish import Description

EVIL = '<script>alert("x")</script>\r\nSet-Cookie: a=b'


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A running registry."""

    url: str
    service: Service

    def get(self, path: str, **headers: str) -> Answer:
        """`path` as it is, however odd."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        try:
            connection.putrequest("GET", path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(status=answer.status, headers=found, body=answer.read())
        finally:
            connection.close()

    def search(self, **wanted: object) -> Any:
        """The JSON of a search."""
        answer = self.get(f"/v1/search?{urlencode(wanted)}")
        assert answer.status == 200, answer.body
        return answer.json


def models(found: Any) -> list[str]:
    return [f"{one['owner']['slug']}/{one['model']}" for one in found["models"]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("search-api")
    with registry(folder) as service:
        umbra = Author(home=service.home, publisher=load_publisher(service.home, "umbra"), folder=folder)
        evil = random_file(folder / "evil &%#.bin", 1000, seed=3)
        umbra.publish("evil:v1", [evil], Description(description=EVIL, license=EVIL[:200], upstream_repo=EVIL))
        if request.param == "sqlite":
            list_own(service.home, service.index, now=datetime.now(UTC))
            with RunningServer(create_app(service)) as server:
                yield Registry(url=server.url, service=service)
            return
        acme = Author(home=service.home, publisher=load_publisher(service.home, "acme"), folder=folder)
        server_ = request.getfixturevalue("postgres_server")
        with server_.database() as name:
            home = Home(folder / "other", server_.url(name))
            with Index.open(home) as index:
                for one in (acme, umbra):
                    claim = one.claim(one.publisher.name)
                    accept(index, one.publication(claim=claim), Rules(claims=ClaimRules(origin=ORIGIN)), now=_now())
                other = Service(home=home, index=index, settings=Settings(origin=ORIGIN))
                with RunningServer(create_app(other)) as server:
                    yield Registry(url=server.url, service=other)


def _now() -> datetime:
    return datetime.now(UTC)


class TestSearch:
    def test_everything_is_found_with_its_publisher(self, running: Registry) -> None:
        found = running.search()
        assert sorted(models(found)) == ["acme/blob", "acme/tiny", "umbra/evil", "umbra/other"]
        assert (found["total"], found["is_total"], found["limit"], found["offset"]) == (4, True, 20, 0)

    def test_words_and_filters(self, running: Registry) -> None:
        assert models(running.search(q="TINY q8")) == ["acme/tiny"]
        assert models(running.search(q="tiny"))[0] == "acme/tiny"
        assert models(running.search(architecture="llama")) == ["acme/tiny"]
        assert models(running.search(quantisation="q8_0", license="cc0-1.0")) == ["acme/tiny"]
        assert models(running.search(publisher="umbra", license="mit")) == ["umbra/other"]
        assert models(running.search(min_size=5_000_000)) == ["acme/blob"]
        assert models(running.search(q="nothing like this")) == []

    def test_a_model_shows_the_tags_that_fit(self, running: Registry) -> None:
        (tiny,) = running.search(q="llama tiny", architecture="llama")["models"]
        assert sorted(tag["tag"] for tag in tiny["tags"]) == ["f16", "q8_0"]
        (tag,) = running.search(quantisation="F16")["models"][0]["tags"]
        assert (tag["tag"], tag["architecture"], tag["withdrawn"]) == ("f16", "llama", None)
        assert running.get(tag["url"]).json["release"] == tag

    def test_facets_count_models(self, running: Registry) -> None:
        facets = running.search()["facets"]
        assert facets["architecture"] == [{"value": "llama", "count": 1}]
        assert {"value": "MIT", "count": 1} in facets["license"]

    def test_links_lead_through_all_pages_and_back(self, running: Registry) -> None:
        seen, path, steps = [], "/v1/search?limit=1&sort=name", 0
        while path:
            answer = running.get(path)
            seen += models(answer.json)
            named = dict(map(reversed, re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers.get("link", ""))))
            path, steps = named.get("next", ""), steps + 1
            assert steps < 10
        assert seen == ["acme/blob", "umbra/evil", "umbra/other", "acme/tiny"]
        assert set(named) == {"first", "prev"}
        assert models(running.get(named["prev"]).json) == ["umbra/other"]
        assert "link" not in running.get("/v1/search").headers

    def test_who_has_the_answer_already_gets_304(self, running: Registry) -> None:
        first = running.get("/v1/search?q=tiny")
        again = running.get("/v1/search?q=tiny", If_None_Match=first.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        assert running.get("/v1/search?q=blob", If_None_Match=first.headers["etag"]).status == 200

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("q=" + "x" * 257, 422), ("limit=0", 422), ("limit=101", 422), ("limit=x", 422), ("offset=-1", 422),
            ("offset=10001", 422), ("sort=random", 422), ("min_size=-1", 422), ("max_size=9" + "0" * 30, 422),
            ("license=", 422), ("publisher=" + "x" * 65, 422), ("q=%00", 400), ("architecture=%00", 400),
        ],
    )  # fmt: skip
    def test_what_is_out_of_bounds_is_a_clear_problem(self, running: Registry, query: str, status: int) -> None:
        answer = running.get(f"/v1/search?{query}")
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json["status"] == status

    @pytest.mark.parametrize("text", ['" OR *', "NEAR(", "'; --", "%FF%FE", "%ED%A0%80", "\\", "😀", "a" * 256])
    def test_hostile_words_are_words(self, running: Registry, text: str) -> None:
        answer = running.get(f"/v1/search?q={text if text.startswith('%') else quote(text)}")
        assert (answer.status, answer.json["total"]) == (200, 0)

    def test_nothing_typed_gets_into_a_header(self, running: Registry) -> None:
        answer = running.get("/v1/search?q=a%0d%0aSet-Cookie:+x&publisher=acme&limit=1")
        assert "set-cookie" not in answer.headers
        query = SearchQuery(text='a"\r\nSet-Cookie: x>; rel="next"', license=EVIL[:100], limit=1)
        link = links(query, 5)
        assert link is not None
        assert re.fullmatch(r'</v1/search\?[\w=&%.+-]*>; rel="next"', link)


class TestModels:
    def test_a_model_with_its_names_and_history(self, running: Registry) -> None:
        answer = running.get("/v1/models/acme/tiny").json
        assert answer["owner"]["namespace"] == "acme"
        assert {tag["tag"] for tag in answer["tags"]} == {"q8_0", "f16"}
        assert [one["version"] for one in answer["history"]] == [2, 1]
        identity = answer["owner"]["identity"]
        assert running.get(f"/v1/models/{identity}/tiny").json == answer

    def test_a_release_with_its_files_and_where_they_are(self, running: Registry) -> None:
        release = running.get("/v1/models/acme/tiny/releases/q8_0").json
        manifest = running.get(release["manifest_url"])
        assert b3(manifest.body) == release["release"]["manifest"]
        by_path = {one["path"]: one for one in release["files"]}
        weights = by_path["tiny-q8_0.gguf"]
        assert weights["gguf"]["architecture"] == "llama"
        assert weights["torrent"]
        assert weights["magnet"].startswith("magnet:?")
        assert running.get(weights["torrent"]).status == 200
        assert running.get(by_path["LICENSE"]["blob"]).body == b"CC0 1.0\n"
        assert running.get(release["release_url"]).status == 200

    def test_what_a_publisher_says_is_data(self, running: Registry) -> None:
        answer = running.get("/v1/models/umbra/evil/releases/v1")
        assert answer.headers["content-type"] == "application/json"
        assert "set-cookie" not in answer.headers
        release = answer.json
        assert release["description"] == EVIL
        (file,) = release["files"]
        assert file["blob"].endswith("/evil%20%26%25%23.bin")
        assert running.get("/v1/models/umbra/evil").json["description"] == EVIL

    def test_the_same_again_is_304(self, running: Registry) -> None:
        for path in ("/v1/models/acme/tiny", "/v1/models/acme/tiny/releases/f16"):
            etag = running.get(path).headers["etag"]
            assert running.get(path, If_None_Match=f'"x", W/{etag}').status == 304

    @pytest.mark.parametrize(
        "path",
        [
            "nobody/tiny", "acme/none", "acme/tiny/releases/none", "acme/Tiny", "acme/%00", "%00/tiny", "acme/ti%ffny",
            "a" * 52 + "/tiny", "acme/tiny/releases/%00", "acme/tiny/releases/..%2f..", "acme/..", "acme/con",
            "acme/%3Cb%3E", "acme/tiny/releases/%F0%9F%98%80",
        ],
    )  # fmt: skip
    def test_what_is_not_there_is_a_clear_problem(self, running: Registry, path: str) -> None:
        answer = running.get(f"/v1/models/{path}")
        assert answer.status in {400, 404}
        assert answer.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize("path", ["a" * 65 + "/tiny", "acme/" + "a" * 65, "acme/tiny/releases/" + "a" * 65])
    def test_names_that_are_too_long_are_refused(self, running: Registry, path: str) -> None:
        assert running.get(f"/v1/models/{path}").status == 422
