"""Every route is counted by its template, and HEAD works wherever GET does (RFC 9110 §9.3.2)."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from service_kit import ORIGIN, listed
from serving_kit import UNLIMITED, World, world
from support.waiting import eventually

from samara.registry.service.settings import Settings


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = Settings(origin=ORIGIN, rates=UNLIMITED, contact="https://a.example/<abuse>")
    with world(tmp_path_factory.mktemp("routes"), settings=settings) as found:
        yield found


def routes(running: World) -> dict[str, str]:
    """Template → an address of it that answers 200."""
    release = running.release("blob", "v1")
    (file,) = release.files
    assert file.torrent is not None
    identity, digits = release.identity, release.digest.removeprefix("b3:")
    owner = f"/v1/publishers/{identity}"
    hub = "/api/models/acme/blob"
    return {
        "/": "/",
        "/status": "/status",
        "/favicon.ico": "/favicon.ico",
        "/static/{name}": "/static/style.css",
        "/{owner}": "/acme",
        "/{owner}/{model}": "/acme/blob",
        "/{owner}/{model}/badge.svg": "/acme/blob/badge.svg",
        "/{owner}/{model}/releases/{tag}": "/acme/blob/releases/v1",
        "/healthz": "/healthz",
        "/readyz": "/readyz",
        "/metrics": "/metrics",
        "/v1/openapi.json": "/v1/openapi.json",
        "/v1/search": "/v1/search?q=tiny",
        "/v1/models/{owner}/{model}": "/v1/models/acme/blob",
        "/v1/models/{owner}/{model}/releases/{tag}": "/v1/models/acme/blob/releases/v1",
        "/v1/publishers": "/v1/publishers",
        "/v1/publishers/{owner}": owner,
        "/v1/publishers/{owner}/equivocations": f"{owner}/equivocations",
        "/v1/publishers/{owner}/metadata/{name:path}": f"{owner}/metadata/timestamp.json",
        "/v1/namespaces/{name}": "/v1/namespaces/acme",
        "/v1/manifests/{digest}": f"/v1/manifests/{digits}",
        "/v1/envelopes/{digest}": f"/v1/envelopes/{digits}",
        "/v1/releases/{digest}.samara": f"/v1/releases/{digits}.samara",
        "/v1/torrents/{infohash}.torrent": f"/v1/torrents/{file.torrent.v2}.torrent",
        "/v1/blobs/{digest}": f"/v1/blobs/{file.b3_hex}",
        "/v1/blobs/{digest}/{name}": f"/v1/blobs/{file.b3_hex}/blob.bin",
        "/api/models": "/api/models",
        "/api/models/{owner}/{model}": hub,
        "/api/models/{owner}/{model}/revision/{revision:path}": f"{hub}/revision/v1",
        "/api/models/{owner}/{model}/tree/{rest:path}": f"{hub}/tree/v1",
        "/api/models/{owner}/{model}/refs": f"{hub}/refs",
        "/api/models/{owner}/{model}/commits/{revision:path}": f"{hub}/commits/v1",
        "/{owner}/{model}/resolve/{rest:path}": "/acme/blob/resolve/v1/blob.bin",
        "/{owner}/{model}/raw/{rest:path}": "/acme/blob/raw/v1/blob.bin",
    }


def counted(running: World, template: str) -> float:
    labels = {"route": template, "status": "200"}
    return running.service.metrics.registry.get_sample_value("samara_requests_total", labels) or 0.0


def is_counted(running: World, template: str, times: float) -> bool:
    return counted(running, template) == times


def test_every_route_is_counted_and_answers_head_as_it_answers_get(running: World) -> None:
    assert listed(running.service.index, running.release("blob", "v1").identity)
    for template, address in routes(running).items():
        before = counted(running, template)
        got, head = running.ask(address), running.ask(address, method="HEAD")
        assert (got.status, head.status) == (200, 200), address
        assert head.body == b"", address
        eventually(functools.partial(is_counted, running, template, before + 2), template)
        for name in ("content-type", "etag", "accept-ranges", "link"):
            assert template == "/metrics" or head.headers.get(name) == got.headers.get(name), (address, name)
        if template != "/metrics":  # which counts the asking
            assert int(head.headers["content-length"]) == len(got.body), address


def test_what_has_no_route_is_counted_as_such_alone(running: World) -> None:
    metrics = running.service.metrics.registry
    running.ask("/no/such/place/at/all")
    labels = {"route": "(none)", "status": "404"}
    eventually(lambda: metrics.get_sample_value("samara_requests_total", labels) is not None, "(none)")
    (family,) = [one for one in metrics.collect() if one.name == "samara_requests"]
    statuses = {one.labels["status"] for one in family.samples if one.labels.get("route") == "(none)"}
    assert statuses == {"404"}


def test_every_get_route_there_is_was_tried(running: World) -> None:
    found = running.app.openapi()["paths"]
    templates = {path.replace(":path", "") for path in routes(running)}
    asked = {path for path, methods in found.items() if "get" in methods}
    assert asked - templates <= {"/api/whoami-v2", "/v1/namespaces/{name}/claim"}, "nobody's, and the operator's word"


def test_the_contact_stands_on_every_page_and_is_never_markup(running: World) -> None:
    for address in ("/", "/status", "/acme", "/acme/blob", "/nobody"):
        body = running.ask(address, headers={"Accept": "text/html"}).body
        assert b"https://a.example/&lt;abuse&gt;" in body, address
        assert b"<abuse>" not in body
