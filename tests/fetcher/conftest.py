"""What tests of pulls share: a web server of the folder where their shelf's files are made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mirrors import Mirror, mirror


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Mirror]:
    with mirror(tmp_path / "shelf" / "files") as made:
        yield made
