"""What the Hub's routes answer, byte by byte: headers, conditions, pages, errors, and what hostile requests get."""

from __future__ import annotations

import hashlib
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hub_kit import ODD_NAMES, ORIGIN, Hub, Shop, hub, stock
from support.world import random_file

from samara.registry.service.hub import api

EXPOSED = {"ETag", "X-Repo-Commit", "X-Linked-Etag", "X-Linked-Size", "X-Error-Code", "X-Error-Message", "Link"}


class Answer:
    """A response, read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __getitem__(self, name: str) -> str | None:
        return self.headers.get(name.lower())


def ask(registry: Hub, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """One request, its path sent as it is."""
    connection = http.client.HTTPConnection(urlsplit(registry.url).netloc, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="Host" in named)
        for name, value in {**named, **({} if body is None else {"Content-Length": str(len(body))})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def commit(registry: Hub, name: str) -> str:
    return registry.shop.releases[name].digest[3:43]


@pytest.mark.parametrize(("path", "is_large"), [("tiny-f16.gguf", True), ("README.md", False)])
def test_a_file_comes_with_what_clients_check_it_by(registry: Hub, path: str, is_large: bool) -> None:
    whole = registry.bytes_of("tiny:f16")[path]
    sha256, git = hashlib.sha256(whole).hexdigest(), hashlib.sha1(b"blob %d\0" % len(whole) + whole).hexdigest()
    answers = [ask(registry, f"/acme/tiny/resolve/f16/{path}", method=method) for method in ("GET", "HEAD")]
    for answer in answers:
        assert answer.status == 200
        assert answer["ETag"] == f'"{sha256 if is_large else git}"'
        assert answer["X-Linked-Etag"] == (f'"{sha256}"' if is_large else None)
        assert answer["X-Linked-Size"] == answer["Content-Length"] == str(len(whole))
        assert answer["X-Repo-Commit"] == commit(registry, "tiny:f16")
        assert answer["Accept-Ranges"] == "bytes"
        assert answer["X-Xet-Hash"] is None
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert set((answer["Access-Control-Expose-Headers"] or "").split(", ")) >= EXPOSED
    assert [answer.body for answer in answers] == [whole, b""]


def test_a_range_and_a_condition_are_granted(registry: Hub) -> None:
    path = "/acme/tiny/resolve/f16/tiny-f16.gguf"
    whole = registry.bytes_of("tiny:f16")["tiny-f16.gguf"]
    first = ask(registry, path, Range="bytes=0-0")
    assert (first.status, first.body, first["Content-Range"]) == (206, whole[:1], f"bytes 0-0/{len(whole)}")
    etag = first["ETag"] or ""
    assert ask(registry, path, If_None_Match=etag).status == 304
    rest = ask(registry, path, Range="bytes=1000-", If_Range=etag)
    assert (rest.status, rest.body) == (206, whole[1000:])
    assert ask(registry, path, Range="bytes=1000-", If_Range='"another"').body == whole
    beyond = ask(registry, path, Range=f"bytes={len(whole)}-")
    assert (beyond.status, beyond["Content-Range"]) == (416, f"bytes */{len(whole)}")
    assert beyond["Access-Control-Allow-Origin"] == "*"


def test_a_commit_may_be_kept_for_ever_a_name_may_not(registry: Hub) -> None:
    pinned = ask(registry, f"/acme/tiny/resolve/{commit(registry, 'tiny:f16')}/README.md")
    assert "immutable" in (pinned["Cache-Control"] or "")
    for revision in ("f16", "main"):
        assert ask(registry, f"/acme/tiny/resolve/{revision}/README.md")["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_decoded_once(registry: Hub, name: str) -> None:
    whole = registry.bytes_of("odd:main")[name]
    answer = ask(registry, f"/acme/odd/resolve/main/{quote(name)}")
    assert answer.body == whole
    assert answer["X-Repo-Commit"] == commit(registry, "odd:main")
    assert ask(registry, f"/acme/odd/resolve/main/{quote(quote(name))}").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd",
        "/etc/passwd", "README.md/", "/README.md", "./README.md", "x/../README.md", "readme.md", "README.md%00",
        "README.md%0d%0aX:y", "%ff%fe", "%ed%a0%80", "a" * 3000, "%", "..;/x", "README.md\\", "",
    ],
)  # fmt: skip
def test_no_other_spelling_of_a_path_finds_anything(registry: Hub, path: str) -> None:
    answer = ask(registry, f"/acme/tiny/resolve/f16/{path}")
    assert answer.status in {400, 404}
    assert b"root:" not in answer.body
    assert "x" not in answer.headers
    if answer["X-Error-Code"] is not None:
        assert answer["X-Error-Code"] == "EntryNotFound"
        assert answer["X-Repo-Commit"] == commit(registry, "tiny:f16")
        assert len(answer["X-Error-Message"] or "") <= 300


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/models/acme/nothing", 404, "RepoNotFound"),
        ("/api/models/ACME/tiny", 404, "RepoNotFound"),
        (f"/api/models/{'a' * 52}/tiny", 404, "RepoNotFound"),
        ("/acme/nothing/resolve/main/x", 404, "RepoNotFound"),
        ("/api/models/acme/tiny/revision/q5", 404, "RevisionNotFound"),
        ("/api/models/acme/tiny/revision/refs%2Fpr%2F1", 404, "RevisionNotFound"),
        (f"/api/models/acme/tiny/tree/{'0' * 40}", 404, "RevisionNotFound"),
        ("/api/models/acme/tiny/tree/main/no/such", 404, "EntryNotFound"),
        ("/api/models/acme/tiny/tree/main/README.md", 404, "EntryNotFound"),
        ("/api/models/acme/gone/revision/v1", 410, "RevisionNotFound"),
        ("/api/models/acme/gone", 410, "RevisionNotFound"),
        ("/api/models/acme/gone/refs", 410, "RevisionNotFound"),
        ("/acme/gone/resolve/v1/gone.bin", 410, "RevisionNotFound"),
        ("/acme/gone/raw/v1/gone.bin", 410, "RevisionNotFound"),
        ("/api/models/acme/tiny/tree/main?cursor=-1", 400, None),
        ("/api/models/acme/tiny/tree/main?limit=1e3", 400, None),
        ("/api/models?cursor=x", 400, None),
        ("/api/whoami-v2", 401, None),
    ],
)  # fmt: skip
def test_errors_are_in_the_hubs_form(registry: Hub, path: str, status: int, code: str | None) -> None:
    answer = ask(registry, path)
    assert (answer.status, answer["X-Error-Code"]) == (status, code)
    assert answer["Content-Type"] == "application/json"
    assert answer.json["error"].startswith((answer["X-Error-Message"] or "")[:20])
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer["Cache-Control"] == "no-store"


def test_the_same_revision_has_several_spellings(registry: Hub) -> None:
    shas = {
        ask(registry, f"/api/models/acme/tiny{where}").json["sha"]
        for where in ("", "/revision/main", "/revision/HEAD", "/revision/refs%2Fheads%2Fmain")
    }
    assert len(shas) == 1
    tagged = ask(registry, "/api/models/acme/tiny/revision/refs%2Ftags%2Ff16").json["sha"]
    assert tagged == commit(registry, "tiny:f16")
    assert ask(registry, "/acme/tiny/resolve/refs%2Ftags%2Ff16/README.md")["X-Repo-Commit"] == tagged


def test_raw_is_what_git_would_keep(registry: Hub) -> None:
    whole = registry.bytes_of("tiny:f16")
    pointer = ask(registry, "/acme/tiny/raw/f16/tiny-f16.gguf")
    digest = hashlib.sha256(whole["tiny-f16.gguf"]).hexdigest()
    assert pointer.body.decode().splitlines()[1:] == [f"oid sha256:{digest}", f"size {len(whole['tiny-f16.gguf'])}"]
    tree = {one["path"]: one for one in ask(registry, "/api/models/acme/tiny/tree/f16").json}
    assert pointer["ETag"] == f'"{tree["tiny-f16.gguf"]["oid"]}"'
    assert tree["tiny-f16.gguf"]["lfs"]["pointerSize"] == len(pointer.body)
    assert ask(registry, "/acme/tiny/raw/f16/README.md").body == whole["README.md"]


def test_a_page_is_followed_by_its_commit(registry: Hub) -> None:
    everything = [one["path"] for one in ask(registry, "/api/models/acme/tiny/tree/main?recursive=true").json]
    found, path, pages = [], "/api/models/acme/tiny/tree/main?recursive=true&limit=2", 0
    while path:
        answer = ask(registry, path)
        found += [one["path"] for one in answer.json]
        pages += 1
        link = answer["Link"]
        path = ""
        if link is not None:
            url, relation = link.split(">; ")
            assert relation == 'rel="next"'
            assert url.startswith(f"<{registry.url}/api/models/acme/tiny/tree/{answer['X-Repo-Commit']}?")
            path = url[1 + len(registry.url) :]
    assert found == everything
    assert pages == (len(everything) + 1) // 2
    assert ask(registry, "/api/models/acme/tiny/tree/main?cursor=999999999").json == []
    assert len(ask(registry, "/api/models/acme/tiny/tree/main?limit=0").json) == 1


def test_links_are_for_how_the_client_came(registry: Hub) -> None:
    path = "/api/models/acme/tiny/tree/main?limit=1"
    assert (ask(registry, path, Host="models.example.org")["Link"] or "").startswith(f"<{ORIGIN}/api/models/")
    assert (ask(registry, path, Host="10.1.2.3:80")["Link"] or "").startswith("<http://10.1.2.3:80/api/models/")
    hostile = ask(registry, path, Host='x>; rel="next", <http://evil')
    assert hostile.status == 400 or (hostile["Link"] or "").startswith(f"<{ORIGIN}/api/models/")


def test_models_are_listed_in_pages(registry: Hub) -> None:
    first = ask(registry, "/api/models?author=acme&limit=3&sort=id")
    assert len(first.json) == 3
    url = (first["Link"] or "").split(">")[0][1:]
    second = ask(registry, url.removeprefix(registry.url))
    assert second["Link"] is None
    names = [one["id"] for one in first.json + second.json]
    assert names == ["acme/chat", "acme/moved", "acme/odd", "acme/tiny"]  # without what was withdrawn
    assert ask(registry, "/api/models?author=nobody").json == []
    assert ask(registry, "/api/models?search=" + quote('" OR * NEAR( -x:')).status == 200
    assert ask(registry, "/api/models?search=" + "a" * 1000).status == 400


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"paths":["README.md"]}', "application/json", 200),
        (b"paths=README.md", "application/x-www-form-urlencoded", 200),
        (b"{", "application/json", 400),
        (b"x" * (3 << 20), "application/json", 413),
        (b"x", "text/html", 415),
    ],
)
def test_paths_are_asked_about_within_bounds(registry: Hub, body: bytes, kind: str, status: int) -> None:
    answer = ask(
        registry, "/api/models/acme/tiny/paths-info/f16", method="POST", body=body, Content_Type=kind
    )  # fmt: skip
    assert answer.status == status
    if status == 200:
        assert [one["path"] for one in answer.json] == ["README.md"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/models", "/api/models/acme/tiny", "/api/models/acme/tiny/revision/main", "/api/models/acme/tiny/refs",
        "/api/models/acme/tiny/tree/main/a/b", "/api/models/acme/tiny/paths-info/main", "/acme/tiny/raw/main/x",
        "/acme/tiny/resolve/main/a/b",
    ],
)  # fmt: skip
def test_browsers_may_ask_before_they_ask(registry: Hub, path: str) -> None:
    answer = ask(registry, path, method="OPTIONS", Origin="https://app.example", Access_Control_Request_Method="GET")
    assert (answer.status, answer["Access-Control-Allow-Origin"]) == (204, "*")
    assert {"Range", "Authorization", "Content-Type"} <= set((answer["Access-Control-Allow-Headers"] or "").split(", "))
    assert ask(registry, path, method="DELETE").status == 405


def test_a_withdrawn_release_isnt_found_by_its_commit_either(tmp_path: Path) -> None:
    """Nor is one that was withdrawn before its tag came to mean another."""

    def fill(shop: Shop, folder: Path) -> None:
        for number in range(3):
            name = f"m:{'v1' if number < 2 else 'v2'}"
            shop.publish(name, [random_file(folder / str(number) / "a.bin", 70_000, seed=number)])
            shop.releases[str(number)] = shop.releases[name]
            if number == 0:
                shop.withdraw("m:v1", "the first was bad")
        shop.withdraw("m:v2", "so was the last")

    with hub(tmp_path, fill=fill) as registry:
        for number, expected in ((0, "the first was bad"), (1, None), (2, "so was the last")):
            answer = ask(registry, f"/acme/m/resolve/{commit(registry, str(number))}/a.bin")
            assert answer.status == (200 if expected is None else 410)
            assert expected is None or expected in answer.json["error"]
        main = ask(registry, "/api/models/acme/m").json
        assert main["sha"] == commit(registry, "1")


def test_main_is_the_tag_main_or_latest_if_there_is_one(tmp_path: Path) -> None:
    def fill(shop: Shop, folder: Path) -> None:
        for number, tag in enumerate(("a", "b")):
            shop.publish(f"m:{tag}", [random_file(folder / tag / f"{tag}.bin", 70_000, seed=number)])

    def main(registry: Hub) -> Any:
        return ask(registry, "/api/models/acme/m").json["sha"]

    with hub(tmp_path, fill=fill) as registry:
        together = main(registry)
        assert together not in {commit(registry, "m:a"), commit(registry, "m:b")}
        assert ask(registry, f"/acme/m/resolve/{together}/a.bin").status == 200
        registry.shop.tag("m:a", "latest")
        assert main(registry) == commit(registry, "m:a")
        gone = ask(registry, f"/acme/m/resolve/{together}/a.bin")
        assert (gone.status, gone["X-Error-Code"]) == (404, "RevisionNotFound")
        registry.shop.tag("m:b", "main")
        assert main(registry) == commit(registry, "m:b")
        registry.shop.withdraw("m:b", "no")
        assert main(registry) == commit(registry, "m:a")
        registry.shop.withdraw("m:a", "neither")
        assert ask(registry, "/api/models/acme/m").status == 410


def test_tags_of_one_release_are_one_release(tmp_path: Path) -> None:
    def fill(shop: Shop, folder: Path) -> None:
        shop.publish("m:a", [random_file(folder / "a.bin", 70_000, seed=1)])
        shop.tag("m:a", "b")

    with hub(tmp_path, fill=fill) as registry:
        assert ask(registry, "/api/models/acme/m").json["sha"] == commit(registry, "m:a")
        assert [one["path"] for one in ask(registry, "/api/models/acme/m/tree/main").json] == ["a.bin"]


@pytest.mark.long
def test_a_release_of_many_files_comes_at_once_and_with_their_commits_in_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MAX_EXPANDED", 20)

    def fill(shop: Shop, folder: Path) -> None:
        many = folder / "many"
        many.mkdir()
        for number in range(api.MAX_EXPANDED + 5):
            (many / f"{number:05}.txt").write_text(str(number), encoding="utf-8")
        shop.publish("many:v1", [many])

    with hub(tmp_path, fill=fill) as registry:
        whole = ask(registry, "/api/models/acme/many/tree/v1?recursive=true")
        assert (len(whole.json), whole["Link"]) == (api.MAX_EXPANDED + 5, None)
        expanded = ask(registry, "/api/models/acme/many/tree/v1?recursive=true&expand=true")
        assert len(expanded.json) == api.MAX_EXPANDED
        assert "expand=true" in (expanded["Link"] or "")
        files = registry.client(tmp_path / "client").call("api.list_repo_tree", "acme/many", expand=True)
        assert len(files) == api.MAX_EXPANDED + 5


@pytest.mark.long
def test_only_so_many_releases_are_side_by_side(tmp_path: Path) -> None:
    """The others are found by their tags."""

    def fill(shop: Shop, folder: Path) -> None:
        source = folder / "a.txt"
        for number in range(4):
            source.write_text(str(number), encoding="utf-8")
            shop.publish(f"m:t{number}", [source])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samara.registry.service.hub.revisions.MAX_SIDE_BY_SIDE", 2)
        with hub(tmp_path, fill=fill) as registry:
            found = ask(registry, "/api/models/acme/m/tree/main?recursive=true").json
            assert [one["path"] for one in found if one["type"] == "file"] == ["a.txt", "t2/a.txt"]
            assert ask(registry, "/acme/m/resolve/t0/a.txt").body == b"0"


def test_bytes_that_are_not_here_are_not_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A 404 would be remembered by clients, or taken for leave to do without it."""

    def fill(shop: Shop, folder: Path) -> None:
        stock(shop, folder)
        (folder / "q8" / "extra.bin").unlink()

    with hub(tmp_path, fill=fill) as registry:
        answer = ask(registry, "/acme/tiny/resolve/q8_0/extra.bin")
        assert (answer.status, answer["X-Error-Code"]) == (409, None)
        assert "samara pull acme/tiny:q8_0" in answer.json["error"]
        client = registry.client(tmp_path / "client")
        failed = client.call("hf_hub_download", "acme/tiny", "extra.bin", revision="q8_0")
        assert failed["error"] == "LocalEntryNotFoundError"
        assert list(client.folder.rglob(".no_exist")) == []
