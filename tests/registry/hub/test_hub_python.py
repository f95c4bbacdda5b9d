"""huggingface_hub, as people have it, with HF_ENDPOINT set to a registry: downloads, the `hf` program, checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_kit import ODD_NAMES, Client, Hub, Json


def in_folder(folder: Path) -> dict[str, bytes]:
    """path → bytes of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_hf_download_gets_a_whole_model_by_its_tag(registry: Hub, client: Client) -> None:
    ended = client.hf("download", "acme/tiny", "--revision", "q8_0", "--quiet")
    assert ended.status == 0, ended.stderr
    folder = Path(ended.stdout.strip())
    assert in_folder(folder) == registry.bytes_of("tiny:q8_0")
    assert folder.name == registry.shop.releases["tiny:q8_0"].digest[3:43]
    asked = [one for one in registry.recorder.take() if "acme/tiny" in one.path]
    assert {one.status for one in asked} == {200}


def test_all_current_releases_are_side_by_side_in_main(registry: Hub, client: Client) -> None:
    folder = Path(client.call("snapshot_download", "acme/tiny"))
    older, newer = registry.bytes_of("tiny:q8_0"), registry.bytes_of("tiny:f16")
    shadowed = older.pop("README.md")
    assert in_folder(folder) == {**older, **newer, "q8_0/README.md": shadowed}
    assert shadowed != newer["README.md"]


def test_a_second_download_asks_only_whether_something_is_new(registry: Hub, client: Client) -> None:
    first = client.call("snapshot_download", "acme/tiny", revision="f16")
    registry.recorder.take()
    assert client.call("snapshot_download", "acme/tiny", revision="f16") == first
    assert [asked.path for asked in registry.recorder.take()] == ["/api/models/acme/tiny/revision/f16"]


def test_hf_hub_download_gets_one_file_of_a_commit(registry: Hub, client: Client) -> None:
    commit = registry.shop.releases["tiny:f16"].digest[3:43]
    path = Path(client.call("hf_hub_download", "acme/tiny", "tiny-f16.gguf", revision=commit))
    assert path.read_bytes() == registry.bytes_of("tiny:f16")["tiny-f16.gguf"]
    assert path.resolve().name == registry.shop.releases["tiny:f16"].files[0].sha256[7:]  # what it is checked by


def test_a_model_is_found_by_its_publishers_identity_too(registry: Hub, client: Client) -> None:
    path = client.call("hf_hub_download", f"{registry.shop.acme.identity}/tiny", "LICENSE", revision="q8_0")
    assert Path(path).read_bytes() == b"CC0 1.0\n"


@pytest.mark.long
def test_what_a_tag_meant_before_is_found_by_its_commit(registry: Hub, client: Client) -> None:
    old = registry.shop.releases["moved:old"].digest[3:43]
    path = client.call("hf_hub_download", "acme/moved", "moved.bin", revision=old)
    assert len(Path(path).read_bytes()) == 200_000
    path = client.call("hf_hub_download", "acme/moved", "moved.bin", revision="v1")
    assert len(Path(path).read_bytes()) == 200_001


def test_names_that_must_be_escaped_arrive_as_they_are(registry: Hub, client: Client) -> None:
    folder = Path(client.call("snapshot_download", "acme/odd"))
    assert in_folder(folder) == registry.bytes_of("odd:main")
    assert set(in_folder(folder)) == set(ODD_NAMES)


def test_a_file_goes_into_a_folder_of_ones_own(registry: Hub, client: Client, tmp_path: Path) -> None:
    ended = client.hf(
        "download", "acme/chat", "weights/model.safetensors", "--local-dir", str(tmp_path / "mine"), "--quiet"
    )
    assert ended.status == 0, ended.stderr
    found = (tmp_path / "mine" / "weights" / "model.safetensors").read_bytes()
    assert found == registry.bytes_of("chat:latest")["weights/model.safetensors"]


def test_hf_cache_verify_checks_what_was_downloaded_and_finds_a_flipped_byte(registry: Hub, client: Client) -> None:
    folder = Path(client.call("snapshot_download", "acme/tiny"))
    assert {path.name for path in folder.iterdir()} >= {
        "tiny-f16.gguf",
        "LICENSE",
    }  # checked by SHA-256, and by git's SHA-1
    sound = client.hf("cache", "verify", "acme/tiny", "--fail-on-missing-files", "--fail-on-extra-files")
    assert sound.status == 0, sound.stderr
    for name in ("tiny-f16.gguf", "LICENSE"):
        path = (folder / name).resolve()
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    damaged = client.hf("cache", "verify", "acme/tiny")
    assert damaged.status != 0
    said = damaged.stdout + damaged.stderr
    assert [name in said for name in ("tiny-f16.gguf", "LICENSE", "README.md")] == [True, True, False], said


def test_files_and_facts_of_a_model_are_told(registry: Hub, client: Client) -> None:
    files, info, models = client.calls(
        ("api.list_repo_files", ["acme/chat"], {}),
        ("api.model_info", ["acme/tiny"], {"revision": "f16", "files_metadata": True}),
        ("api.list_models", [], {"author": "acme", "search": "tiny", "filter": "F16", "limit": 5}),
    )
    assert [one["id"] for one in models] == ["acme/tiny"]
    assert sorted(files) == ["config.json", "tokenizer.json", "tokenizer_config.json", "weights/model.safetensors"]
    assert info["sha"] == registry.shop.releases["tiny:f16"].digest[3:43]
    assert (info["id"], info["author"], info["private"], info["gated"]) == ("acme/tiny", "acme", False, False)
    assert info["gguf"]["architecture"] == "llama"
    assert info["card_data"] is not None
    lfs = {one["rfilename"]: one["lfs"] for one in info["siblings"]}
    assert lfs["README.md"] is None
    assert lfs["tiny-f16.gguf"]["sha256"] == registry.shop.releases["tiny:f16"].files[0].sha256[7:]


def test_tags_and_history_are_told(registry: Hub, client: Client) -> None:
    commits = {tag: registry.shop.releases[f"tiny:{tag}"].digest[3:43] for tag in ("q8_0", "f16")}
    refs, history = client.calls(
        ("api.list_repo_refs", ["acme/tiny"], {}), ("api.list_repo_commits", ["acme/tiny"], {})
    )  # fmt: skip
    assert {tag["name"]: tag["target_commit"] for tag in refs["tags"]} == commits
    (main,) = refs["branches"]
    assert main["target_commit"] not in commits.values()
    assert [one["commit_id"] for one in history] == [main["target_commit"], commits["f16"], commits["q8_0"]]


def test_paths_are_told_and_unknown_ones_left_out(client: Client) -> None:
    found, *there_is = client.calls(
        ("api.get_paths_info", ["acme/chat", ["config.json", "weights", "../x", "no"]], {"expand": True}),
        ("api.file_exists", ["acme/chat", "config.json"], {}),
        ("api.file_exists", ["acme/chat", "config.yaml"], {}),
        ("api.repo_exists", ["acme/chat"], {}),
        ("api.repo_exists", ["acme/nothing"], {}),
    )
    assert [one["path"] for one in found] == ["config.json", "weights"]
    assert found[0]["last_commit"]["title"] == "latest, version 1"
    assert there_is == [True, False, True, False]


def test_a_repository_is_a_file_system(registry: Hub, client: Client) -> None:
    inside, found, part = client.calls(
        ("fs.ls", ["acme/chat/weights"], {"detail": False}),
        ("fs.glob", ["acme/tiny/*.gguf"], {}),
        ("fs.cat_file", ["acme/tiny@f16/tiny-f16.gguf"], {"start": 1000, "end": 5000}),
    )
    assert inside == ["acme/chat/weights/model.safetensors"]
    assert "acme/tiny/tiny-f16.gguf" in found
    assert part.encode("latin-1") == registry.bytes_of("tiny:f16")["tiny-f16.gguf"][1000:5000]


FAILING = [
    ("api.model_info", ["acme/nothing"], {}, "RepositoryNotFoundError", "Repository not found: acme/nothing"),
    ("api.model_info", ["nobody/tiny"], {}, "RepositoryNotFoundError", "Repository not found: nobody/tiny"),
    ("snapshot_download", ["acme/nothing"], {}, "RepositoryNotFoundError", "acme/nothing"),
    ("hf_hub_download", ["acme/nothing", "x"], {}, "RepositoryNotFoundError", "acme/nothing"),
    ("snapshot_download", ["acme/tiny"], {"revision": "q5"}, "RevisionNotFoundError", "Invalid rev id: q5"),
    ("snapshot_download", ["acme/tiny"], {"revision": "0" * 40}, "RevisionNotFoundError", "Invalid rev id: 000"),
    ("hf_hub_download", ["acme/tiny", "no.gguf"], {}, "RemoteEntryNotFoundError", "Entry not found: no.gguf"),
    ("snapshot_download", ["acme/gone"], {"revision": "v1"}, "RevisionNotFoundError", "it forgets its sums <b>"),
    ("snapshot_download", ["acme/gone"], {}, "RevisionNotFoundError", "withdrawn by its publisher"),
    ("hf_hub_download", ["acme/gone", "gone.bin"], {}, "RevisionNotFoundError", "withdrawn by its publisher"),
]


@pytest.fixture(scope="module")
def failures(registry: Hub, tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """All of them in one process: to start it takes longer than to fail."""
    client = registry.client(tmp_path_factory.mktemp("client"))
    return client.calls(*[(function, arguments, named) for function, arguments, named, _, _ in FAILING])


@pytest.mark.parametrize("number", range(len(FAILING)))
def test_what_there_is_not_is_an_error_of_the_right_kind(failures: list[Json], number: int) -> None:
    _, _, _, kind, says = FAILING[number]
    assert kind in failures[number]["kinds"], failures[number]
    assert says in failures[number]["message"]


def test_a_file_that_is_not_there_is_remembered_for_its_commit(registry: Hub, client: Client) -> None:
    client.call("hf_hub_download", "acme/chat", "generation_config.json")
    commit = registry.shop.releases["chat:latest"].digest[3:43]
    assert (client.cache / "models--acme--chat" / ".no_exist" / commit / "generation_config.json").exists()


def test_a_token_is_not_wanted(client: Client) -> None:
    ended = client.hf("download", "acme/tiny", "LICENSE", "--revision", "q8_0", "--token", "hf_" + "a" * 40, "--quiet")
    assert ended.status == 0, ended.stderr
    assert client.call("whoami", token="hf_" + "a" * 40)["message"].startswith("Invalid user token")
