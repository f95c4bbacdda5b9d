"""Manifests are parsed once and kept within bounds; a damaged one is said to be damaged."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from index_kit import signed

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.service.manifests import Manifests
from samara.schemas.errors import StoreError, UsageError
from samara.schemas.manifest import Release, parse_manifest


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.open(Home(root=tmp_path)) as opened:
        yield opened


def test_a_manifest_is_parsed_once(index: Index) -> None:
    release = signed()
    release.add_to(index)
    manifests = Manifests(index)
    found = manifests.release(release.digest)
    assert found == release.release
    assert manifests.release(release.digest) is found
    assert manifests.release("b3:" + "0" * 64) is None
    with pytest.raises(UsageError):
        manifests.release("b3:../..")


@pytest.mark.parametrize("bounds", [{"max_kept": 2}, {"max_blocks": 4}], ids=["by number", "by blocks"])
def test_what_was_asked_for_longest_ago_goes_first(index: Index, bounds: dict[str, int]) -> None:
    releases = [signed(version=version) for version in (1, 2, 3)]  # of two blocks each
    for release in releases:
        release.add_to(index)
    manifests = Manifests(index, **bounds)
    first, second = manifests.release(releases[0].digest), manifests.release(releases[1].digest)
    assert manifests.release(releases[0].digest) is first
    manifests.release(releases[2].digest)
    assert manifests.release(releases[0].digest) is first
    assert manifests.release(releases[1].digest) is not second


def test_a_release_larger_than_all_that_is_kept_stays_alone_until_another_comes(index: Index) -> None:
    small, large = signed({"a.bin": b"a"}), signed(version=2)
    small.add_to(index)
    large.add_to(index)
    manifests = Manifests(index, max_blocks=1)
    first = manifests.release(small.digest)
    kept = manifests.release(large.digest)
    assert kept is not None
    assert manifests.release(large.digest) is kept
    again = manifests.release(small.digest)
    assert again == first
    assert again is not first
    assert manifests.release(large.digest) is not kept


def test_many_who_ask_at_once_have_it_parsed_once(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    release = signed()
    release.add_to(index)
    manifests, parsed, all_there = Manifests(index), [], threading.Barrier(8)

    def parse(payload: bytes) -> Release:
        parsed.append(payload)
        return parse_manifest(payload)

    monkeypatch.setattr("samara.registry.service.manifests.parse_manifest", parse)

    def ask(_number: int) -> Release | None:
        all_there.wait()
        return manifests.release(release.digest)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(8)))
    assert len(parsed) == 1
    assert all(one is found[0] for one in found)


@pytest.mark.parametrize("damage", [b"{}", signed(version=2).envelope.payload], ids=["no manifest", "another one"])
def test_a_manifest_that_rotted_is_an_error_that_says_so(tmp_path: Path, index: Index, damage: bytes) -> None:
    release = signed()
    release.add_to(index)
    with sqlite3.connect(tmp_path / "index.sqlite3") as database:
        database.execute("UPDATE releases SET payload = ?", (damage,))
    database.close()
    with pytest.raises(StoreError, match="damaged"):
        Manifests(index).release(release.digest)
