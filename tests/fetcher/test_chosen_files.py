"""Only some files of a release: chosen by patterns, the others neither fetched nor asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.pulls import Pull, options, pulled
from support.swarms import seeding
from support.world import MIB, random_file, shelf, trusting_home

from samara.fetcher.plan import chosen
from samara.schemas.errors import UsageError


def test_patterns_choose_by_path_and_by_name(tmp_path: Path) -> None:
    names = ["a.gguf", "b.gguf", "notes.bin"]
    published = shelf(tmp_path, [random_file(tmp_path / name, MIB, seed=i) for i, name in enumerate(names)])
    files = published.release.files
    assert [file.path for file in chosen(files, (), ())] == names
    assert [file.path for file in chosen(files, ("*.gguf",), ())] == names[:2]
    assert [file.path for file in chosen(files, ("*.gguf",), ("b*",))] == ["a.gguf"]
    assert [file.path for file in chosen(files, (), ("*.gguf",))] == ["notes.bin"]
    with pytest.raises(UsageError, match=r"a\.gguf, b\.gguf, notes\.bin"):
        chosen(files, ("*.safetensors",), ())


def test_what_is_left_out_is_neither_fetched_nor_shown(tmp_path: Path) -> None:
    small, big = random_file(tmp_path / "small.bin", MIB, seed=1), random_file(tmp_path / "big.bin", 4 * MIB, seed=2)
    published = shelf(tmp_path, [small, big])
    home = trusting_home(tmp_path / "home", published)
    with seeding(published) as peer:
        done = pulled(home, published.file, options(peer.endpoint, include=("small*",)))
        assert peer.uploaded <= 2 * MIB
    assert [file.path for file in done.files] == ["small.bin"]
    assert done.bytes_total == MIB
    assert not home.blob(published.release.files[1].b3_hex).exists()
    with seeding(published) as peer:
        rest = pulled(home, published.file, options(peer.endpoint))
    assert rest.bytes_reused == MIB
    assert [file.path for file in rest.files] == ["small.bin", "big.bin"]


def test_a_pattern_that_fits_nothing_leaves_nothing_behind(tmp_path: Path) -> None:
    published = shelf(tmp_path, [random_file(tmp_path / "only.bin", MIB, seed=1)])
    home = trusting_home(tmp_path / "home", published)
    error = Pull(home, published.file, options(("127.0.0.1", 9), include=("*.gguf",))).error()
    assert "it has only.bin" in str(error)
    assert not home.partials.exists()
