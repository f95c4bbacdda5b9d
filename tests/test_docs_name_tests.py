"""Documents that say which test holds something name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMED = re.compile(r"`([a-z_]+(?:/[a-z_]+)*)/(test_[a-z_0-9]+)::([A-Za-z_0-9:]+)`")
DOCUMENTS = ["reliability.md", "trust.md"]
FILES = re.compile(r"`((?:tests/[a-z_/]+/)?test_[a-z_0-9]+\.py)`")  # with its folder, or alone


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_is_named_exists(document: str) -> None:
    named = NAMED.findall((ROOT / "docs" / document).read_text(encoding="utf-8"))
    assert len(named) > 30
    missing = [
        f"{folder}/{module}::{name}"
        for folder, module, name in named
        if f"def {name.rpartition(':')[2]}(" not in _text(folder, module)
    ]
    assert missing == []


@pytest.mark.parametrize("document", ["registry.md", "api.md"])
def test_every_file_of_tests_that_is_named_exists(document: str) -> None:
    named = FILES.findall((ROOT / "docs" / document).read_text(encoding="utf-8"))
    assert len(named) > 2
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert [name for name in named if name not in there | {path.rpartition("/")[2] for path in there}] == []


def _text(folder: str, module: str) -> str:
    path = ROOT / "tests" / folder / f"{module}.py"
    return path.read_text(encoding="utf-8") if path.exists() else ""
