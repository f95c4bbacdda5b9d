"""One registry and one browser for all tests of pages: making them takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_kit import Shown, browser, build
from playwright.sync_api import Browser

from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The registry."""
    folder: Path = tmp_path_factory.mktemp("pages")
    index, found = build(folder)
    with index:
        yield found


@pytest.fixture(scope="session")
def url(shown: Shown) -> Iterator[str]:
    """Where it answers."""
    with RunningServer(create_app(shown.service)) as server:
        yield server.url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser."""
    with browser() as opened:
        yield opened
