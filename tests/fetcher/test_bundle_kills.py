"""SIGKILL at every step of an export and an import: the same command again ends well, and nothing is left over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bundle_kit import exported, two_files, unpacked
from support.world import MIB, Shelf, assert_pulled, trusting_home

from samara.fetcher.bundle_import import STAGING
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.catalog_client import CatalogClient
from samara.registry.trust.pins import TrustFolder

LIMIT = 240.0  # seconds for one driver

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")


VISIBLE = ["replace", "rename", "link"]
EVERY = [*VISIBLE, "fsync", "fdatasync", "mkdir", "write", "chmod", "unlink", "rmdir"]
MOST = 400  # steps: more than there are


@pytest.fixture
def published(tmp_path: Path) -> Shelf:
    return two_files(tmp_path / "shelf", size=3 * MIB)


def drive(act: str, source: Path, targets: list[Path], calls: list[str]) -> list[dict[str, Any]]:
    """Kill at step 1 in the second target, step 2 in the third… until one isn't; each then is finished."""
    case = {"act": act, "source": str(source), "targets": [str(target) for target in targets], "calls": calls}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("bundle_kill_driver.py")], input=json.dumps(case),
        capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = json.loads(done.stdout)
    assert [one["killed"] for one in told] == [True] * (len(told) - 1) + [False], "there are more steps than that"
    return told


def kill_exports(tmp_path: Path, published: Shelf, calls: list[str], *, at_least: int) -> None:
    targets = [tmp_path / "sticks" / str(step) for step in range(MOST)]
    for target in targets:
        target.mkdir(parents=True)
    told = drive("export", published.home.root, targets, calls)
    assert len(told) > at_least, "these steps can't be all"
    for target, one in zip(targets[1:], told, strict=False):
        assert len(one["left"]) <= 1, "a bundle or what a killed export left, never both"
        assert one["killed"] or one["left"] == ["tiny.tar.zst"]
        assert [path.name for path in target.iterdir()] == ["tiny.tar.zst"]
        assert len(unpacked(target / "tiny.tar.zst")) == 4


def kill_imports(tmp_path: Path, published: Shelf, calls: list[str], *, at_least: int) -> None:
    bundle = exported(published, tmp_path / "tiny.tar.zst").path
    homes = [trusting_home(tmp_path / "homes" / str(step), published) for step in range(MOST)]
    told = drive("import", bundle, [home.root for home in homes], calls)
    assert len(told) > at_least, "these steps can't be all"
    for home, one in zip(homes[1:], told, strict=False):
        assert_in_order(one["left"], published)
        assert_pulled(home, published)
        assert not (home.root / STAGING).exists()
        assert version(home, published) == 1


def test_an_export_killed_around_all_that_makes_it_visible(tmp_path: Path, published: Shelf) -> None:
    kill_exports(tmp_path, published, [*VISIBLE, "fdatasync"], at_least=3)


@pytest.mark.long
def test_an_import_killed_around_all_that_makes_it_visible(tmp_path: Path, published: Shelf) -> None:
    kill_imports(tmp_path, published, VISIBLE, at_least=14)


@pytest.mark.long
def test_an_export_killed_at_every_step(tmp_path: Path, published: Shelf) -> None:
    kill_exports(tmp_path, published, EVERY, at_least=5)


@pytest.mark.long
def test_an_import_killed_at_every_step(tmp_path: Path, published: Shelf) -> None:
    kill_imports(tmp_path, published, EVERY, at_least=120)


def assert_in_order(left: list[str], published: Shelf) -> None:
    """Names only with the trust that they follow from, trust only with the bytes, of all that a kill left."""
    blobs = [file.b3_hex in left for file in published.release.files]
    trusted, named = "metadata" in left, [file.path in left for file in published.release.files]
    assert all(blobs) or not trusted, "the catalog was believed before the bytes were there"
    assert trusted or not any(named), "a name was there before the catalog"


def version(home: Home, published: Shelf) -> int:
    with Index.open(home) as index:
        assert index.counts().releases == 1
    state = CatalogClient(TrustFolder(home.trust), published.publisher.identity).stored()
    return 0 if state is None else state.catalog.versions["timestamp"]
