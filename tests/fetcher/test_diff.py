"""`diff`: what two releases share, by block, GGUF key and tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.models import gguf
from support.world import MIB, PIECE, Shelf, random_file, shelf

from samara.fetcher.diff import diff
from samara.schemas.errors import NotFoundError


def releases(root: Path, old: list[Path], new: list[Path]) -> tuple[Shelf, Shelf]:
    first = shelf(root, old, reference="acme/model:v1")
    return first, shelf(root, new, reference="acme/model:v2", publisher=first.publisher)


def test_an_edit_is_named_by_key_and_tensor(tmp_path: Path) -> None:
    old = gguf(tmp_path / "old" / "model.gguf")
    new = gguf(tmp_path / "new" / "model.gguf", template="another template", tuned={3: 77})
    first, second = releases(tmp_path, [old], [new])
    found = diff(first.home, first.reference, second.reference)
    (file,) = found.files
    assert file.parts is not None
    assert {(part.kind, part.name, part.change) for part in file.parts} == {
        ("key", "tokenizer.chat_template", "changed"),
        ("tensor", "blk.3.weight", "changed"),
    }
    assert MIB <= file.fetch < MIB + 2 * 65536
    assert file.shared + file.fetch == file.size == second.size
    assert file.pieces <= file.fetch // PIECE + 4


def test_the_same_release_shares_everything(tmp_path: Path) -> None:
    first, _ = releases(tmp_path, [gguf(tmp_path / "a.gguf")], [gguf(tmp_path / "b.gguf", template="x")])
    found = diff(first.home, first.reference, first.reference)
    assert found.fetch == 0
    assert found.files[0].pieces == 0


def test_a_renamed_file_is_recognised_and_a_new_one_is_all_new(tmp_path: Path) -> None:
    old = gguf(tmp_path / "old-name.gguf")
    renamed = gguf(tmp_path / "new-name.gguf", template="edited")
    added = random_file(tmp_path / "notes.bin", MIB, seed=5000)
    first, second = releases(tmp_path, [old], [renamed, added])
    found = {file.path: file for file in diff(first.home, first.reference, second.reference).files}
    assert found["new-name.gguf"].old == "old-name.gguf"
    assert found["notes.bin"].old is None
    assert found["notes.bin"].fetch == MIB


def test_without_the_bytes_blocks_tell_what_they_can(tmp_path: Path) -> None:
    old, new = gguf(tmp_path / "old" / "m.gguf"), gguf(tmp_path / "new" / "m.gguf", tuned={0: 9000})
    first, second = releases(tmp_path, [old], [new])
    new.unlink()
    (file,) = diff(first.home, first.reference, second.reference).files
    assert file.parts is None
    assert file.fetch == MIB


def test_what_is_gone_is_said(tmp_path: Path) -> None:
    a, b = random_file(tmp_path / "a.bin", MIB, seed=1), random_file(tmp_path / "b.bin", MIB, seed=2)
    first, second = releases(tmp_path, [a, b], [a])
    assert diff(first.home, first.reference, second.reference).gone == ("b.bin",)


def test_an_unknown_release_is_named(tmp_path: Path) -> None:
    first, _ = releases(tmp_path, [gguf(tmp_path / "a.gguf")], [gguf(tmp_path / "b.gguf", template="x")])
    with pytest.raises(NotFoundError, match="acme/model:v9"):
        diff(first.home, first.reference, "acme/model:v9")


def test_a_release_file_may_be_compared_before_anything_is_pulled(tmp_path: Path) -> None:
    first, second = releases(tmp_path, [gguf(tmp_path / "a.gguf")], [gguf(tmp_path / "b.gguf", template="x")])
    assert diff(first.home, first.reference, str(second.file)).new == second.release
