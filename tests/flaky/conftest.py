"""What the tests of bad links share: a release, and links of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from link_kit import LabLinks, Links, MakeLinks, ProxyLinks
from support.lab import NO_LAB, there_is_no_lab
from support.world import MIB, Shelf, one_blob, trusting_home

from samara.registry.home import Home


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Where there is a lab the proxy's variant of a test belongs to the longer suite, else it is the test."""
    if "make_links" in metafunc.fixturenames:
        proxy_marks = [] if there_is_no_lab() else [pytest.mark.long]
        metafunc.parametrize(
            "make_links",
            [
                pytest.param("lab", marks=pytest.mark.skipif(there_is_no_lab(), reason=NO_LAB)),
                pytest.param("proxy", marks=proxy_marks),
            ],
            indirect=True,
        )


@pytest.fixture
def make_links(request: pytest.FixtureRequest, seed: int) -> MakeLinks:
    kind = request.param

    def make(seeders: int = 1) -> AbstractContextManager[Links]:
        return LabLinks(seeders) if kind == "lab" else ProxyLinks(seeders, seed=seed)

    return make


@pytest.fixture(scope="session")
def shelved(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A release of one file; 8 pieces. Its home is the seeders'."""
    return one_blob(tmp_path_factory.mktemp("shelf"), 2 * MIB)


@pytest.fixture
def home(tmp_path: Path, shelved: Shelf) -> Iterator[Home]:
    """A fetcher's home that has nothing yet."""
    yield trusting_home(tmp_path / "home", shelved)
