"""Which files a release has, and what each is for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from samara.schemas.errors import NotFoundError, SamaraError, UsageError
from samara.schemas.events import Event, Note, Warned
from samara.schemas.manifest import MAX_FILES, Role
from samara.seeder.release_files import collect, role_of


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def paths(*named: Path) -> list[str]:
    return [one.path for one in collect(named)]


class TestCollecting:
    def test_files_keep_their_order_and_are_named_by_their_last_part(self, tmp_path: Path) -> None:
        made(tmp_path, "b/z.gguf", "a.txt")
        found = collect([tmp_path / "b" / "z.gguf", tmp_path / "a.txt"])
        assert [(one.path, one.source) for one in found] == [
            ("z.gguf", tmp_path / "b" / "z.gguf"),
            ("a.txt", tmp_path / "a.txt"),
        ]

    def test_a_folder_gives_all_that_is_in_it_by_paths_in_it_sorted(self, tmp_path: Path) -> None:
        folder = made(tmp_path / "repo", "model.bin", "config.json", "1_Pooling/config.json", "a/b/c.txt")
        assert paths(folder) == ["1_Pooling/config.json", "a/b/c.txt", "config.json", "model.bin"]

    def test_files_beside_a_folder(self, tmp_path: Path) -> None:
        made(tmp_path, "repo/config.json", "LICENSE")
        assert paths(tmp_path / "repo", tmp_path / "LICENSE") == ["config.json", "LICENSE"]

    def test_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(made(tmp_path, "config.json", "sub/model.bin"))
        assert paths(Path()) == ["config.json", "sub/model.bin"]

    def test_what_is_hidden_empty_or_a_release_file_stays_out_and_is_told(self, tmp_path: Path) -> None:
        folder = made(tmp_path, ".git/config", ".gitattributes", "sub/.cache/x", "model.bin", "tiny-v1.samara")
        (folder / "empty.py").touch()
        heard: list[Event] = []
        assert [one.path for one in collect([folder], on_event=heard.append)] == ["model.bin"]
        assert heard == [
            Warned(message="empty.py is empty and stays out of the release"),
            Note(message="not part of the release: .git, .gitattributes, sub/.cache, tiny-v1.samara"),
        ]

    if sys.platform != "win32":  # links need a right there

        def test_links_to_files_are_followed(self, tmp_path: Path) -> None:
            """As the Hub's cache has them: snapshots of links to blobs."""
            blob = made(tmp_path, "blobs/abc") / "blobs" / "abc"
            snapshot = tmp_path / "snapshots" / "1" / "sub"
            snapshot.mkdir(parents=True)
            (snapshot / "model.bin").symlink_to(blob)
            assert paths(tmp_path / "snapshots" / "1") == ["sub/model.bin"]

        def test_links_to_folders_are_refused(self, tmp_path: Path) -> None:
            made(tmp_path, "repo/model.bin")
            (tmp_path / "repo" / "loop").symlink_to(tmp_path / "repo")
            with pytest.raises(UsageError, match="a link to a folder"):
                collect([tmp_path / "repo"])

        def test_a_folder_that_may_not_be_read_is_an_error(self, tmp_path: Path) -> None:
            if os.geteuid() == 0:
                pytest.skip("root may read everything")
            (made(tmp_path, "repo/sub/model.bin") / "sub").chmod(0)
            with pytest.raises(SamaraError):
                collect([tmp_path / "repo"])

    @pytest.mark.parametrize("names", [(), (".hidden",)])
    def test_a_folder_without_files_is_refused(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        (tmp_path / "repo").mkdir()
        with pytest.raises(UsageError, match="without files to publish"):
            collect([made(tmp_path / "repo", *names)])

    def test_what_is_not_there_is_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="doesn't exist"):
            collect([tmp_path / "missing"])

    def test_two_files_of_one_name_are_refused_whatever_folder_they_come_from(self, tmp_path: Path) -> None:
        made(tmp_path, "a/sub/model.bin", "b/SUB/MODEL.BIN", "c/config.json", "config.json")
        for named in ((tmp_path / "a", tmp_path / "b"), (tmp_path / "c", tmp_path / "config.json")):
            with pytest.raises(UsageError, match="two files are named"):
                collect(named)

    if sys.platform != "win32":  # it has no files of such names

        @pytest.mark.parametrize("name", ["con.txt", "a\u202eb", "x" * 201, "a /b"])
        def test_names_that_cannot_travel_are_refused(self, tmp_path: Path, name: str) -> None:
            with pytest.raises(UsageError, match="can't publish a file named"):
                collect([made(tmp_path / "repo", name)])

    def test_a_set_that_lacks_a_file_is_refused(self, tmp_path: Path) -> None:
        folder = made(tmp_path, "m-00001-of-00003.gguf", "m-00003-of-00003.gguf")
        for named in ([folder], [folder / "m-00001-of-00003.gguf"]):
            with pytest.raises(UsageError, match=r"m-00002-of-00003\.gguf") as caught:
                collect(named)
            assert "the folder they lie in" in str(caught.value)

    def test_too_many_files_are_refused_without_walking_on(self, tmp_path: Path) -> None:
        made(tmp_path, *(f"{number // 500}/{number}" for number in range(MAX_FILES + 1)))
        with pytest.raises(UsageError, match="too many files"):
            collect([tmp_path])
        (tmp_path / "0" / "0").unlink()
        assert len(collect([tmp_path])) == MAX_FILES

    def test_nothing_is_refused(self) -> None:
        with pytest.raises(UsageError, match="at least one file"):
            collect([])


@pytest.mark.parametrize(
    ("path", "kind", "architecture", "role"),
    [
        ("tiny.gguf", "model", "llama", Role.WEIGHTS),
        ("merged-lora.gguf", "model", "llama", Role.WEIGHTS),
        ("athens.gguf", "adapter", "llama", Role.ADAPTER),
        ("vision.gguf", "mmproj", "clip", Role.PROJECTOR),
        ("vision.gguf", "mmproj", "llama", Role.PROJECTOR),
        ("vision.gguf", "model", "clip", Role.PROJECTOR),
        ("vision.gguf", None, "clip", Role.PROJECTOR),
        ("imatrix.gguf", "imatrix", "unknown", Role.OTHER),
        ("mmproj-model-f16.gguf", None, "unknown", Role.PROJECTOR),
        ("tiny-lora.gguf", None, "llama", Role.ADAPTER),
        ("tiny.gguf", "something new", "llama", Role.WEIGHTS),
        ("tiny-00002-of-00003.gguf", None, "unknown", Role.WEIGHTS),
        ("text_encoder/model-00001-of-00002.safetensors", None, None, Role.WEIGHTS),
        ("adapter_model.safetensors", None, None, Role.ADAPTER),
        ("lora/model.safetensors", None, None, Role.WEIGHTS),
        ("adapter_config.json", None, None, Role.CONFIG),
        ("tokenizer.json", None, None, Role.TOKENIZER),
        ("tokenizer/special_tokens_map.json", None, None, Role.TOKENIZER),
        ("sub/vocab.txt", None, None, Role.TOKENIZER),
        ("1_Pooling/config.json", None, None, Role.CONFIG),
        ("model.safetensors.index.json", None, None, Role.CONFIG),
        ("LICENSE", None, None, Role.LICENCE),
        ("docs/NOTICE.txt", None, None, Role.LICENCE),
        ("README.md", None, None, Role.OTHER),
    ],
)
def test_what_a_file_is_for(path: str, kind: str | None, architecture: str | None, role: Role) -> None:
    assert role_of(path, kind=kind, architecture=architecture) is role
