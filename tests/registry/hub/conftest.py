"""What the Hub's clients share: a registry, and a client of it with a cache of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_kit import Client, Hub, hub


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with hub(tmp_path_factory.mktemp("hub")) as opened:
        yield opened


@pytest.fixture
def client(registry: Hub, tmp_path: Path) -> Client:
    registry.recorder.take()
    return registry.client(tmp_path / "client")
