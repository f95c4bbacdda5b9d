"""Sets of files by their names: what belongs together, and what is missing."""

from __future__ import annotations

import pytest

from samara.schemas.errors import UsageError
from samara.schemas.file_sets import FileSet, file_sets, incomplete_sets, require_complete


def test_a_whole_set_is_one_in_the_order_of_its_numbers() -> None:
    paths = ["b-00002-of-00002.gguf", "README.md", "b-00001-of-00002.gguf"]
    whole = FileSet(present=("b-00001-of-00002.gguf", "b-00002-of-00002.gguf"), count=2, missing=())
    assert file_sets(paths) == (whole,)
    assert incomplete_sets(paths) == ()
    require_complete(paths)


def test_what_is_missing_is_named() -> None:
    (found,) = incomplete_sets(["sub/model-00002-of-00004.safetensors", "sub/model-00003-of-00004.safetensors"])
    assert found.missing == ("sub/model-00001-of-00004.safetensors", "sub/model-00004-of-00004.safetensors")
    assert str(found) == f"{', '.join(found.missing)} of a set of 4 files"


def test_sets_differ_by_folder_name_count_and_ending() -> None:
    paths = [
        "a-00001-of-00001.gguf",
        "b-00001-of-00001.gguf",
        "x/a-00001-of-00001.gguf",
        "a-00001-of-00001.safetensors",
    ]
    assert [one.present for one in file_sets(paths)] == [(path,) for path in paths]
    assert len(incomplete_sets(["a-00001-of-00002.gguf", "a-00002-of-00003.gguf"])) == 2


@pytest.mark.parametrize(
    "name",
    [
        "model.gguf",
        "a-00000-of-00002.gguf",
        "a-00003-of-00002.gguf",
        "a-1-of-2.gguf",
        "a-00001-of-00002",
        "-00001-of-00002.gguf",
    ],
)
def test_other_names_belong_to_no_set(name: str) -> None:
    assert file_sets([name]) == ()


def test_of_a_huge_set_a_message_names_a_few() -> None:
    with pytest.raises(UsageError, match=r"missing: a-00001-of-99999\.gguf, .*, … of a set of 99,999 files") as caught:
        require_complete(["a-00042-of-99999.gguf"])
    assert len(str(caught.value)) < 400
    assert caught.value.next_step
