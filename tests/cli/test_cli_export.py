"""`samara export`: what other programs find, and that nobody's files are harmed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import Samara, make_samara
from support.world import random_file

from samara.schemas.errors import ExitCode

FIXTURES = Path(__file__).parents[1] / "fixtures"
MODEL = "tiny.gguf"
ALL = (MODEL, "LICENSE", "notes.bin")


@pytest.fixture
def samara(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Samara]:
    yield from make_samara(tmp_path, monkeypatch, capsys)


@pytest.fixture
def here(samara: Samara) -> Samara:
    """A machine with acme/tiny:q8_0 in place."""
    samara.publisher()
    shutil.copy(FIXTURES / "tiny-q8_0.gguf", samara.folder / MODEL)
    (samara.folder / "LICENSE").write_text("Do as you please.\n")
    random_file(samara.folder / "notes.bin", 100_000, seed=3)
    samara("publish", *ALL, "--as", "acme/tiny:q8_0")
    return samara


@pytest.fixture
def stored(here: Samara) -> Samara:
    """Another machine that has it in its store."""
    identity = here.json("publisher", "show", "acme")["identity"]
    here("bundle", "export", "acme/tiny:q8_0", "stick.tar.zst")
    here.use("there")
    here("trust", "add", "acme", "--identity", identity, "--yes")
    here("bundle", "import", "stick.tar.zst")
    return here


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_same(samara: Samara, folder: Path) -> None:
    for name in ALL:
        assert (folder / name).read_bytes() == (samara.folder / name).read_bytes()


class TestToAFolder:
    def test_from_the_store(self, stored: Samara) -> None:
        done = stored.json("export", "acme/tiny:q8_0", "--to", "out")
        assert_same(stored, stored.folder / "out")
        assert {file["how"] for file in done["files"]} <= {"reflink", "hardlink"}

    def test_again_changes_nothing(self, stored: Samara) -> None:
        stored("export", "acme/tiny:q8_0", "--to", "out")
        assert {file["how"] for file in stored.json("export", "acme/tiny:q8_0", "--to", "out")["files"]} == {"same"}

    def test_files_in_place_are_never_hard_linked(self, here: Samara) -> None:
        done = here.json("export", "acme/tiny:q8_0", "--to", "out")
        assert {file["how"] for file in done["files"]} <= {"reflink", "copy"}
        assert_same(here, here.folder / "out")
        assert all(not (here.folder / "out" / name).samefile(here.folder / name) for name in ALL)

    def test_what_is_in_the_way_stays(self, stored: Samara) -> None:
        (stored.folder / "out").mkdir()
        (stored.folder / "out" / MODEL).write_text("mine")
        assert "move it away" in stored("export", "acme/tiny:q8_0", "--to", "out", code=ExitCode.USAGE).err
        assert (stored.folder / "out" / MODEL).read_text() == "mine"

    def test_what_is_not_here(self, here: Samara) -> None:
        random_file(here.folder / "notes.bin", 100_000, seed=4)
        assert "samara verify" in here("export", "acme/tiny:q8_0", "--to", "out", code=ExitCode.NOT_FOUND).err
        here("export", "acme/tiny:f16", "--to", "out", code=ExitCode.NOT_FOUND)
        assert not (here.folder / "out").exists()

    @pytest.mark.parametrize("to", [(), ("--to", "a", "--ollama"), ("--hf-cache", "a", "--ollama", "b")])
    def test_one_place(self, here: Samara, to: tuple[str, ...]) -> None:
        here("export", "acme/tiny:q8_0", *to, code=ExitCode.USAGE)

    def test_never_into_the_store(self, stored: Samara) -> None:
        stored("export", "acme/tiny:q8_0", "--to", str(stored.home.models), code=ExitCode.USAGE)


class TestToTheHubCache:
    def test_its_layout(self, stored: Samara) -> None:
        done = stored.json("export", "acme/tiny:q8_0", "--hf-cache", "hub")
        repository = stored.folder / "hub" / "models--acme--tiny"
        commit = done["revision"]
        assert (len(commit), commit) == (40, done["manifest"].removeprefix("b3:")[:40])
        assert (repository / "refs" / "q8_0").read_text() == commit
        assert_same(stored, repository / "snapshots" / commit)
        for name in ALL:
            pointer = repository / "snapshots" / commit / name
            assert os.readlink(pointer) == f"../../blobs/{sha256(stored.folder / name)}"  # noqa: PTH115
        assert {path.name for path in (repository / "blobs").iterdir()} == {
            sha256(stored.folder / name) for name in ALL
        }

    def test_where_the_library_looks(self, stored: Samara) -> None:
        stored.setenv(HF_HUB_CACHE=str(stored.folder / "usual"))
        stored("export", "acme/tiny:q8_0", "--hf-cache")
        assert (stored.folder / "usual" / "models--acme--tiny" / "refs" / "q8_0").is_file()

    def test_again_and_with_half_of_it_gone(self, stored: Samara) -> None:
        done = stored.json("export", "acme/tiny:q8_0", "--hf-cache", "hub")
        snapshot = stored.folder / "hub" / "models--acme--tiny" / "snapshots" / done["revision"]
        (snapshot / MODEL).resolve().unlink()
        (snapshot / "LICENSE").unlink()
        stored("export", "acme/tiny:q8_0", "--hf-cache", "hub")
        assert_same(stored, snapshot)

    def test_the_real_library_finds_it_offline(self, stored: Samara) -> None:
        python = os.environ.get("SAMARA_TEST_HUB_PYTHON", sys.executable)
        if subprocess.run([python, "-c", "import huggingface_hub"], capture_output=True, check=False).returncode:
            pytest.skip("huggingface_hub is not installed")
        stored("export", "acme/tiny:q8_0", "--hf-cache", "hub")
        script = (
            "import sys; from huggingface_hub import hf_hub_download, snapshot_download\n"
            "found = {'cache_dir': sys.argv[1], 'revision': 'q8_0', 'local_files_only': True}\n"
            "print(hf_hub_download('acme/tiny', 'tiny.gguf', **found))\n"
            "print(snapshot_download('acme/tiny', **found))\n"
        )
        done = subprocess.run(
            [python, "-c", script, str(stored.folder / "hub")], capture_output=True, text=True, check=True, timeout=60,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        model, snapshot = map(Path, done.stdout.splitlines())
        assert sha256(model) == sha256(stored.folder / MODEL)
        assert_same(stored, snapshot)


class TestToOllama:
    def test_its_layout(self, stored: Samara) -> None:
        done = stored.json("export", "acme/tiny:q8_0", "--ollama", "models")
        models = stored.folder / "models"
        assert done["name"] == "acme/tiny:q8_0"
        manifest = json.loads((models / "manifests/registry.ollama.ai/acme/tiny/q8_0").read_text())
        layers = {layer["mediaType"].rpartition(".")[2]: layer for layer in manifest["layers"]}
        assert set(layers) == {"model", "license"}
        for layer in (*manifest["layers"], manifest["config"]):
            blob = models / "blobs" / layer["digest"].replace(":", "-")
            assert (f"sha256:{sha256(blob)}", blob.stat().st_size) == (layer["digest"], layer["size"])
        assert layers["model"]["digest"] == f"sha256:{sha256(stored.folder / MODEL)}"
        config = json.loads((models / "blobs" / manifest["config"]["digest"].replace(":", "-")).read_text())
        assert (config["model_format"], config["model_family"], config["file_type"]) == ("gguf", "llama", "Q8_0")

    def test_where_ollama_looks(self, stored: Samara) -> None:
        stored.setenv(OLLAMA_MODELS=str(stored.folder / "usual"))
        stored("export", "acme/tiny:q8_0", "--ollama")
        stored("export", "acme/tiny:q8_0", "--ollama")
        assert (stored.folder / "usual" / "manifests/registry.ollama.ai/acme/tiny/q8_0").is_file()

    def test_what_it_cannot_run(self, here: Samara) -> None:
        here("publish", "notes.bin", "--as", "acme/notes:v1")
        refused = here("export", "acme/notes:v1", "--ollama", "models", code=ExitCode.USAGE)
        assert "GGUF" in refused.err
        assert not (here.folder / "models").exists()

    def test_a_wrong_blob_in_the_way_stays(self, stored: Samara) -> None:
        blob = stored.folder / "models" / "blobs" / f"sha256-{sha256(stored.folder / MODEL)}"
        blob.parent.mkdir(parents=True)
        blob.write_text("mine")
        stored("export", "acme/tiny:q8_0", "--ollama", "models", code=ExitCode.USAGE)
        assert blob.read_text() == "mine"
        assert not (stored.folder / "models" / "manifests").exists()
