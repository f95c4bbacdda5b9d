"""llama.cpp's `-hf` with HF_ENDPOINT set to a registry. It is llama.cpp's own downloader that asks (it is compiled into
xllamacpp, of the extra "run"), not a copy of its requests.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from hub_kit import Client, Ended, Hub

DRIVER = Path(__file__).with_name("llama_driver.py")


def load(client: Client, *arguments: str, **environment: str) -> Ended:
    return client.run(sys.executable, DRIVER, *arguments, **environment)


def blob(client: Client, sha256: str) -> Path:
    return client.cache / "models--acme--tiny" / "blobs" / sha256


@pytest.mark.parametrize(
    ("arguments", "tag"),
    [
        (["acme/tiny"], "q8_0"),  # it likes Q4_K_M and Q8_0 best
        (["acme/tiny:F16"], "f16"),
        (["acme/tiny", "tiny-f16.gguf"], "f16"),
    ],
    ids=["best", "by quantisation", "by file"],
)
def test_a_model_is_found_downloaded_and_runs(registry: Hub, client: Client, arguments: list[str], tag: str) -> None:
    ended = load(client, *arguments)
    assert ended.status == 0, ended.stderr[-3000:]
    assert ended.json == "5"
    (weights,) = [file for file in registry.shop.releases[f"tiny:{tag}"].files if file.path.endswith(".gguf")]
    kept = blob(client, weights.sha256[7:])
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == kept.name
    asked = registry.recorder.take()
    commit = asked[-1].answered["x-repo-commit"]
    assert [(one.method, one.path, one.status) for one in asked] == [
        ("GET", "/api/models/acme/tiny/refs", 200),
        ("GET", f"/api/models/acme/tiny/tree/{commit}?recursive=true", 200),
        ("HEAD", f"/acme/tiny/resolve/{commit}/{weights.path}", 200),
        ("GET", f"/acme/tiny/resolve/{commit}/{weights.path}", 200),
    ]


def test_the_other_name_of_the_endpoint_works_too(client: Client) -> None:
    assert load(client, "acme/tiny", HF_ENDPOINT="", MODEL_ENDPOINT=client.url).json == "5"


def test_a_download_goes_on_where_it_stopped(registry: Hub, client: Client) -> None:
    (weights,) = [file for file in registry.shop.releases["tiny:q8_0"].files if file.path.endswith(".gguf")]
    whole = registry.bytes_of("tiny:q8_0")[weights.path]
    begun = blob(client, weights.sha256[7:] + ".downloadInProgress")
    begun.parent.mkdir(parents=True)
    begun.write_bytes(whole[:500_000])
    ended = load(client, "acme/tiny")
    assert ended.json == "5", ended.stderr[-3000:]
    assert blob(client, weights.sha256[7:]).read_bytes() == whole
    last = registry.recorder.take()[-1]
    assert (last.headers["range"], last.status) == ("bytes=500000-", 206)
    assert last.answered["content-range"] == f"bytes 500000-{len(whole) - 1}/{len(whole)}"


def test_what_was_downloaded_is_not_fetched_again(registry: Hub, client: Client) -> None:
    assert load(client, "acme/tiny").json == "5"
    registry.recorder.take()
    assert load(client, "acme/tiny").json == "5"
    assert {one.path.split("/")[1] for one in registry.recorder.take()} == {"api"}


@pytest.mark.parametrize(
    ("repository", "says"),
    [
        ("acme/nothing", "GET failed (404): Repository not found: acme/nothing"),
        ("acme/gone", "GET failed (410): acme/gone was withdrawn by its publisher: it forgets its sums"),
    ],
)
def test_what_there_is_not_is_said(client: Client, repository: str, says: str) -> None:
    ended = load(client, repository)
    assert ended.status != 0
    assert says in ended.stderr
