"""A page of another origin in a real browser loads models: preflights, exposed headers, transformers.js."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hub_kit import Hub
from node_kit import packages
from playwright.sync_api import Browser, Page, sync_playwright

pytestmark = pytest.mark.long  # real parts that take their time: the longer suite

CHROMIUM = "/usr/bin/chromium"
LIBRARY = "@huggingface/transformers/dist/transformers.min.js"

ASK = """async ([url, options]) => {
    const response = await fetch(url, options);
    const body = await response.text();
    return {status: response.status, headers: Object.fromEntries(response.headers), body};
}"""
LOAD = """async ([host, repository]) => {
    const {AutoConfig, AutoTokenizer, env} = await import("/transformers.js");
    env.remoteHost = host;
    env.allowLocalModels = false;
    env.useBrowserCache = false;
    const config = await AutoConfig.from_pretrained(repository);
    const tokenizer = await AutoTokenizer.from_pretrained(repository);
    return [config.model_type, tokenizer.encode("The seed flies away")];
}"""


@contextlib.contextmanager
def site(files: dict[str, tuple[str, Path | bytes]]) -> Iterator[str]:
    """Somebody's web site: path → (media type, contents)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, contents = files.get(self.path, ("text/plain", b""))
            data = contents if isinstance(contents, bytes) else contents.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(registry: Hub, chromium: Browser) -> Iterator[Page]:
    """A page of another origin. It asks nobody but its own site and the registry."""
    files: dict[str, tuple[str, Path | bytes]] = {
        "/": ("text/html", b"<!doctype html><title>app</title>"),
        "/transformers.js": ("text/javascript", packages() / LIBRARY),
    }
    with site(files) as origin:
        opened = chromium.new_page()
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(origin)
        registry.recorder.take()
        yield opened
        opened.close()
        assert [url for url in asked if not url.startswith((origin + "/", registry.url + "/"))] == []


def ask(page: Page, url: str, **options: Any) -> Any:
    return page.evaluate(ASK, [url, options])


def test_a_page_may_ask_for_a_range_and_read_what_a_file_is(registry: Hub, page: Page) -> None:
    headers = {"Range": "bytes=0-3", "Authorization": "Bearer hf_xxx"}
    found = ask(page, f"{registry.url}/acme/tiny/resolve/f16/tiny-f16.gguf", headers=headers)
    assert (found["status"], found["body"]) == (206, "GGUF")
    weights = next(file for file in registry.shop.releases["tiny:f16"].files if file.path == "tiny-f16.gguf")
    assert found["headers"]["etag"] == found["headers"]["x-linked-etag"] == f'"{weights.sha256[7:]}"'
    assert found["headers"]["x-repo-commit"] == registry.shop.releases["tiny:f16"].digest[3:43]
    assert found["headers"]["content-range"] == f"bytes 0-3/{weights.size}"
    assert [asked.method for asked in registry.recorder.take()] == ["OPTIONS", "GET"]


def test_a_page_may_ask_about_paths_and_read_why_something_is_refused(registry: Hub, page: Page) -> None:
    found = ask(
        page, f"{registry.url}/api/models/acme/chat/paths-info/main", method="POST",
        headers={"Content-Type": "application/json"}, body='{"paths": ["config.json"]}',
    )  # fmt: skip
    assert found["status"] == 200
    assert "config.json" in found["body"]
    refused = ask(page, f"{registry.url}/acme/chat/resolve/main/no.json")
    assert (refused["status"], refused["headers"]["x-error-code"]) == (404, "EntryNotFound")
    beyond = ask(page, f"{registry.url}/acme/chat/resolve/main/config.json", headers={"Range": "bytes=99999-"})
    assert beyond["status"] == 416


def test_transformers_js_loads_a_tokenizer_in_a_page(registry: Hub, page: Page) -> None:
    assert page.evaluate(LOAD, [registry.url, "acme/chat"]) == ["llama", [1, 2, 3, 0]]
    assert {asked.status for asked in registry.recorder.take() if "tokenizer.json" in asked.path} <= {200, 206}
