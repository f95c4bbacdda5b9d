"""The pages over HTTP: what caches, browsers and tools are told, and that every link leads somewhere."""

from __future__ import annotations

import http.client
import json
import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from page_kit import Shown

from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.tracker.values import Announce, Torrent
from samara.schemas.errors import StoreError

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
LARGEST = 60_000  # bytes of a page


def ask(
    url: str, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src", "action"} and value:
                self.found.add(value)
            if name == "id" and value:
                self.ids.add(value)


def links(body: bytes) -> _Links:
    """What a page refers to."""
    parser = _Links()
    parser.feed(body.decode())
    return parser


def test_every_link_leads_somewhere(shown: Shown, url: str) -> None:
    """From the front page on, to whatever can be reached; also to manifests, blobs, torrents and envelopes."""
    pending, seen = ["/"], {"/"}
    pages: dict[str, _Links] = {}
    while pending:
        path = pending.pop()
        status, headers, body = ask(url, path, HTML)
        assert status == 200, path
        if headers.get_content_type() != "text/html":
            continue
        pages[path] = links(body)
        for link in pages[path].found:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                assert parts.scheme in {"https", "magnet"}, (path, link)
                continue
            base = urlsplit(path).path if link.startswith(("?", "#")) else ""
            to = (base + link).partition("#")[0]
            if parts.path and not parts.path.startswith("/"):
                raise AssertionError(f"{link} on {path} is relative")
            if parts.fragment and not parts.path and not parts.query:
                assert parts.fragment in pages[path].ids, (path, link)
            if to not in seen and len(seen) < 400:
                seen.add(to)
                pending.append(to)
    kinds = {
        "/v1/manifests/",
        "/v1/envelopes/",
        "/v1/releases/",
        "/v1/torrents/",
        "/v1/blobs/",
        "/static/",
        "/acme/shards?files=2",
    }
    assert {kind for kind in kinds if any(one.startswith(kind) for one in seen)} == kinds
    assert set(shown.paths) - {"/?q=llama&sort=name", "/?q=nothing-is-called-so", "/?license=MIT"} <= seen


def test_pages_are_small(shown: Shown, url: str) -> None:
    sizes = {path: len(ask(url, path)[2]) for path in shown.paths}
    assert {path: size for path, size in sizes.items() if size > LARGEST} == {}


def test_whoever_has_a_page_gets_no_second_copy(shown: Shown, url: str) -> None:
    for path in (*shown.paths, "/acme/llama/badge.svg"):
        status, headers, body = ask(url, path)
        assert status == 200
        assert body
        assert headers["Cache-Control"] == "no-cache"
        again = ask(url, path, {"If-None-Match": headers["ETag"]})
        assert (again[0], again[2], again[1]["ETag"]) == (304, b"", headers["ETag"]), path
        assert ask(url, path, {"If-None-Match": '"another"'})[0] == 200


def test_head_is_get_without_a_body(shown: Shown, url: str) -> None:
    for path in (*shown.paths, "/static/style.css", "/no-such-publisher"):
        status, headers, body = ask(url, path)
        head_status, head_headers, head_body = ask(url, path, method="HEAD")
        assert (head_status, head_body) == (status, b"")
        assert head_headers["Content-Length"] == str(len(body))
        assert head_headers["ETag"] == headers["ETag"]


def test_nothing_may_run_or_come_from_elsewhere(shown: Shown, url: str) -> None:
    for path in (*shown.paths, "/no-such-publisher"):
        _, headers, body = ask(url, path, HTML)
        policy = {one.split()[0]: one.split()[1:] for one in headers["Content-Security-Policy"].split(";")}
        assert policy["default-src"] == ["'none'"]
        assert policy["script-src"] == policy["style-src"] == ["'self'"]
        assert policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
        assert headers.get_all("Content-Security-Policy") == [headers["Content-Security-Policy"]]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert re.findall(rb"<script[^>]*>", body) == re.findall(rb'<script src="/static/copy\.js\?v=\w+" defer>', body)


def test_static_files_may_be_kept_for_ever_under_their_digest(url: str) -> None:
    for link in links(ask(url, "/")[2]).found:
        if link.startswith("/static/"):
            status, headers, _ = ask(url, link)
            assert (status, "immutable" in headers["Cache-Control"]) == (200, True)
            assert "immutable" not in ask(url, link.partition("?")[0])[1]["Cache-Control"]
            assert ask(url, link, {"If-None-Match": headers["ETag"]})[0] == 304
    for path in ("/static/app.py", "/static/..%2f__init__.py", "/static/%2e%2e/__init__.py", "/static/style.css%00"):
        assert 400 <= ask(url, path)[0] < 500, path


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/no-such-publisher", 404), ("/Acme", 404), ("/acme/no-such-model", 404), ("/acme/llama/releases/nope", 404),
        ("/acme/llama/releases/q4_0?version=99", 404), ("/acme/llama/releases/q4_0?version=x", 400),
        ("/acme/llama/releases/q4_0?version=-1", 400), ("/acme/llama/releases/q4_0?version=" + "9" * 30, 400),
        ("/acme/llama?files=0", 400), ("/acme/llama?names=" + "%D9%A3", 400), ("/?page=0", 400), ("/?page=99999", 400),
        ("/?size=huge", 400), ("/?sort=%3Cscript%3E", 400), ("/?q=" + "x" * 290, 400), ("/?q=a%00b", 400),
        ("/%3Cscript%3E", 404), ("/acme/%3Cscript%3Ealert(1)%3C%2Fscript%3E", 404),
    ],
)  # fmt: skip
def test_errors_are_pages_for_people_and_problems_for_tools(url: str, path: str, status: int) -> None:
    found, headers, body = ask(url, path, HTML)
    assert (found, headers.get_content_type()) == (status, "text/html")
    assert headers["Cache-Control"] == "no-store"
    assert b"<h1>" in body
    assert b"<script>" not in body
    found, headers, body = ask(url, path)
    assert (found, headers.get_content_type()) == (status, "application/problem+json")
    assert json.loads(body)["status"] == status


@pytest.mark.parametrize("path", ["/acme/llama/no/such/thing", "/v1/nope"])
def test_unknown_routes_too(url: str, path: str) -> None:
    kind = "application/problem+json" if path.startswith("/v1/") else "text/html"
    status, headers, _ = ask(url, path, HTML)
    assert (status, headers.get_content_type()) == (404, kind)


def test_a_method_that_a_page_doesn_t_know_says_which_it_does(url: str) -> None:
    status, headers, body = ask(url, "/acme", HTML, method="DELETE")
    assert (status, headers.get_content_type(), b"<h1>" in body) == (405, "text/html", True)
    assert "GET" in headers["Allow"]


def test_what_pages_beyond_the_last_one_say(url: str) -> None:
    assert b"nothing on this page any more" in ask(url, "/?page=7")[2]
    assert b"Page 2 of 2" in ask(url, "/acme/shards?files=9999")[2]


def test_a_publisher_is_found_by_its_identity_too(shown: Shown, url: str) -> None:
    for path in ("", "/llama", "/llama/releases/q8_0"):
        assert ask(url, f"/{shown.acme}{path}")[2] == ask(url, f"/acme{path}")[2]


def test_a_badge_for_readmes(shown: Shown, url: str) -> None:
    status, headers, body = ask(url, "/acme/llama/badge.svg")
    assert (status, headers.get_content_type()) == (200, "image/svg+xml")
    assert b"q8_0" in body
    assert b"withdrawn" in ask(url, f"/{shown.hostile}/withdrawn/badge.svg")[2]
    assert b"not listed" in ask(url, "/acme/nope/badge.svg")[2]


def test_an_older_version_is_told_from_what_its_name_means_now(url: str) -> None:
    old = ask(url, "/acme/llama/releases/q4_0?version=1")[2].decode()
    assert "q4_0 now means version 3" in old
    assert "samara pull acme/llama@b3:" in old
    assert "samara pull acme/llama:q4_0" in ask(url, "/acme/llama/releases/q4_0")[2].decode()


def test_a_withdrawn_version_says_why_and_offers_nothing(url: str) -> None:
    page = ask(url, "/acme/llama/releases/q4_0?version=2")[2].decode()
    assert "Withdrawn by its publisher" in page
    assert "leaks &lt;script&gt;" in page
    for offered in ("samara pull acme", "/v1/blobs/", "magnet:?", "/v1/torrents/"):
        assert offered not in page
    for offered in ("/v1/blobs/", "/v1/torrents/"):  # nor does the registry give what no name means any more
        assert offered not in ask(url, "/acme/llama/releases/q4_0?version=1")[2].decode()


def test_what_releases_share_is_said(shown: Shown, url: str) -> None:
    page = ask(url, "/acme/llama/releases/q4_0")[2].decode()
    assert re.search(r"9\d\.\d % of the bytes are those of version 2", page)
    assert re.search(r'Shared with <a href="/acme/llama">|Shared with', ask(url, "/umbra/tuned")[2].decode())


def test_evidence_against_a_publisher_is_not_overlooked(shown: Shown, url: str) -> None:
    found = ask(url, "/umbra")[2].decode()
    assert "signed two different catalogs under one number" in found
    assert len(set(re.findall(r"b3:[0-9a-f]{64}", found))) == 2
    assert "two different" not in ask(url, "/acme")[2].decode()


def test_keys_and_how_they_changed(url: str) -> None:
    found = ask(url, "/acme")[2].decode()
    assert re.search(r"targets, snapshot, timestamp: [0-9a-f]{16} replaced by [0-9a-f]{16}\.", found)
    assert re.search(r"Root 1\b", found)


def test_a_database_that_is_gone_is_a_503_that_says_when_to_come_back(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def gone(*_args: object, **_kwargs: object) -> None:
        raise StoreError("the database doesn't answer", next_step="try again in a while")

    with RunningServer(create_app(shown.service)) as server:
        monkeypatch.setattr("samara.registry.listings.Listings.overview", gone)
        status, headers, body = ask(server.url, "/status", HTML)
        assert (status, headers["Retry-After"], headers.get_content_type()) == (503, "5", "text/html")
        assert b"at the moment" in body
        assert b"the database doesn" not in body, "trouble of this machine is its operator's to read"
        monkeypatch.undo()
        assert ask(server.url, "/status", HTML)[0] == 200


def test_whether_the_bytes_are_here_is_said_and_only_then_a_download_offered(url: str) -> None:
    """The registry has acme's files on its own disk; of umbra it only took the manifests."""
    here, elsewhere = (ask(url, path)[2].decode() for path in ("/acme/llama", "/umbra/tuned"))
    assert "is here; each of its blocks was checked" in here
    assert " download>" in here
    assert "is not here: it comes from peers and mirrors" in elsewhere
    assert " download>" not in elsewhere
    assert "/v1/torrents/" in elsewhere


def test_the_swarm_now_and_over_time(shown: Shown, url: str) -> None:
    listings, tracker = shown.service.listings, shown.service.tracker
    owner = listings.owner("acme")
    assert owner is not None
    release = shown.service.manifests.release(listings.model(owner, "llama")[0].manifest)
    assert release is not None
    file = release.files[0]
    assert file.torrent is not None
    v1, v2 = bytes.fromhex(file.torrent.v1), bytes.fromhex(file.torrent.v2)
    assert "0 seeders and 0 leechers" in ask(url, "/acme/llama")[2].decode()
    tracker.publish([Torrent(b3=file.b3, v1=v1, v2=v2)])
    try:
        for number in range(3):
            told = Announce(infohash=v1, peer_id=bytes([number]) * 20, port=7000, is_whole=number < 2)
            tracker.announce(told, bytes([198, 51, 100, number]), shown.service.clock())
        page = ask(url, "/acme/llama")[2].decode()
    finally:
        tracker.publish([])
    assert "2 seeders and 1 leecher of" in page
    samples = listings.samples(file.b3, since=0)
    table = page.partition("The most peers at once")[2].partition("</table>")[0]
    assert str(max(one.seeders for one in samples)) in re.findall(r'<td class="number">(\d+)</td>', table)
    assert page.count('class="seeders"') == 2  # the area, and its key
    assert 'class="seeders"' not in ask(url, "/acme/shards")[2].decode()  # where nobody was seen
