"""@huggingface/hub and transformers.js under node, as npm has them, with a registry as their Hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hub_kit import ODD_NAMES, Client, Hub
from node_kit import call, run

pytestmark = pytest.mark.long  # real parts that take their time: the longer suite


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_files_are_listed_with_what_they_are_checked_by(registry: Hub, client: Client) -> None:
    found = {one["path"]: one for one in call(client, "listFiles", repo="acme/chat", recursive=True, expand=True)}
    assert set(found) == {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "weights",
        "weights/model.safetensors",
    }
    weights = registry.bytes_of("chat:latest")["weights/model.safetensors"]
    assert found["weights/model.safetensors"]["lfs"]["oid"] == sha256(weights)
    assert found["weights"]["type"] == "directory"
    assert found["config.json"]["lastCommit"]["id"] == registry.shop.releases["chat:latest"].digest[3:43]
    inside = call(client, "listFiles", repo="acme/chat", path="weights")
    assert [one["path"] for one in inside] == ["weights/model.safetensors"]


@pytest.mark.parametrize("revision", ["main", "f16", "commit"])
def test_a_file_is_downloaded_whole_and_in_parts(registry: Hub, client: Client, revision: str) -> None:
    if revision == "commit":
        revision = registry.shop.releases["tiny:f16"].digest[3:43]
    whole = registry.bytes_of("tiny:f16")["tiny-f16.gguf"]
    found = call(client, "downloadFile", repo="acme/tiny", path="tiny-f16.gguf", revision=revision)
    assert found == {"size": len(whole), "whole": sha256(whole), "part": sha256(whole[1000:5000])}
    probe, part, all_of_it = registry.recorder.take()
    assert (probe.headers["range"], probe.answered["content-range"]) == ("bytes=0-0", f"bytes 0-0/{len(whole)}")
    assert (part.headers["range"], part.status) == ("bytes=1000-4999", 206)
    assert all_of_it.status == 200


def test_what_a_download_would_be_is_told(registry: Hub, client: Client) -> None:
    found = call(client, "fileDownloadInfo", repo="acme/chat", path="config.json")
    whole = registry.bytes_of("chat:latest")["config.json"]
    assert found["size"] == len(whole)
    assert found["url"].startswith(client.url)
    assert "xet" not in found
    git = hashlib.sha1(b"blob %d\0" % len(whole) + whole).hexdigest()
    assert found["etag"] == f'"{git}"'
    assert call(client, "fileDownloadInfo", repo="acme/chat", path="no.json") is None
    assert call(client, "downloadFile", repo="acme/chat", path="no.json") is None


def test_a_snapshot_lies_where_huggingface_hub_would_put_it(registry: Hub, client: Client) -> None:
    cache = client.cache
    cache.mkdir(parents=True)
    folder = Path(call(client, "snapshotDownload", repo="acme/tiny", revision="q8_0", cacheDir=str(cache)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == registry.bytes_of("tiny:q8_0")
    registry.recorder.take()
    assert client.call("hf_hub_download", "acme/tiny", "extra.bin", revision=folder.name) == str(folder / "extra.bin")
    assert registry.recorder.take() == []
    assert client.hf("cache", "verify", "acme/tiny", "--revision", folder.name).status == 0


def test_models_are_found_and_described(client: Client) -> None:
    names = {one["name"] for one in call(client, "listModels", search={"owner": "acme"})}
    assert names == {"acme/tiny", "acme/chat", "acme/odd", "acme/moved"}
    found = call(client, "listModels", search={"query": "tiny", "tags": ["gguf", "license:cc0-1.0", "q8_0"]})
    assert [one["name"] for one in found] == ["acme/tiny"]
    info = call(client, "modelInfo", name="acme/tiny", additionalFields=["sha", "tags"])
    assert (info["name"], info["private"], info["gated"], len(info["sha"])) == ("acme/tiny", False, False, 40)
    assert {"gguf", "llama", "Q8_0", "license:cc0-1.0"} <= set(info["tags"])
    assert [one["title"] for one in call(client, "listCommits", repo="acme/tiny")] == [
        "2 releases side by side", "f16, version 2", "q8_0, version 1",
    ]  # fmt: skip


def test_what_there_is_and_what_not(client: Client) -> None:
    assert call(client, "fileExists", repo="acme/chat", path="config.json") is True
    assert call(client, "fileExists", repo="acme/chat", path="config.yaml") is False
    assert call(client, "repoExists", repo="acme/chat") is True
    assert call(client, "repoExists", repo="acme/nothing") is False
    assert [one["path"] for one in call(client, "pathsInfo", repo="acme/chat", paths=["weights", "no"])] == ["weights"]
    refused = call(client, "checkRepoAccess", repo="acme/nothing")
    assert refused["status"] == 404
    assert refused["error"].startswith("Repository not found: acme/nothing")
    gone = call(client, "modelInfo", name="acme/gone")
    assert gone["status"] == 410
    assert "it forgets its sums <b>" in gone["error"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_that_people_escape_for_it_arrive(registry: Hub, client: Client, name: str) -> None:
    """@huggingface/hub puts a path into the URL as it is: whoever has odd names escapes them first."""
    from urllib.parse import quote

    found = call(client, "downloadFile", repo="acme/odd", path=quote(name))
    assert found["whole"] == sha256(registry.bytes_of("odd:main")[name])


def test_transformers_js_loads_a_tokenizer_and_a_config(registry: Hub, client: Client) -> None:
    found = run(client, "transformers.mjs", "acme/chat")
    assert (found["ids"], found["type"], found["size"]) == ([1, 2, 3, 0], "llama", 64)
    sizes = {path: len(data) for path, data in registry.bytes_of("chat:latest").items()}
    assert found["totals"] == {path: sizes[path] for path in ("tokenizer.json", "tokenizer_config.json")}


def test_transformers_js_loads_by_commit_and_says_what_there_is_not(registry: Hub, client: Client) -> None:
    commit = registry.shop.releases["chat:latest"].digest[3:43]
    assert run(client, "transformers.mjs", "acme/chat", commit)["type"] == "llama"
    where = f"{client.url}/acme/%s/resolve/main/config.json"
    missing = run(client, "transformers.mjs", "acme/nothing")["error"]
    assert missing == f'Could not locate file: "{where % "nothing"}".'
    withdrawn = run(client, "transformers.mjs", "acme/gone")["error"]
    assert withdrawn == f'Error (410) occurred while trying to load file: "{where % "gone"}".'
