"""SIGKILL while things are removed or made: what others need is whole; what is left over goes when it has rested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from index_kit import ACME, Signed, signed
from support.world import leftovers

from samara.fetcher.clean import prune
from samara.fetcher.housekeeping import DAY, Rules
from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.store import commit_blob, link_view, stamp_at
from samara.registry.sweep import AGE, sweep, sweep_folder

LIMIT = 120.0  # seconds for one driver
ASIDE = TEMPORARY_PREFIX + "0011223344556677"
ONE, SHARED, TWO = b"one" * 40_000, b"both" * 30_000, b"two" * 50_000
RELEASES = {"a": {"one.bin": ONE, "shared.bin": SHARED}, "b": {"two.bin": TWO, "shared.bin": SHARED}}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")


def furnished(root: Path) -> tuple[Home, dict[str, Signed]]:
    """A home with two releases that share a file."""
    home = Home(root)
    made = {}
    with Index.open(home) as index:
        for version, (tag, files) in enumerate(RELEASES.items(), start=1):
            release = made[tag] = signed(files, tag=tag, version=version)
            release.add_to(index, now=time.time() - 60)
            for file in release.release.files:
                blob = home.blob(file.b3_hex)
                if not blob.exists():
                    (home.root / "incoming").write_bytes(files[file.path])
                    commit_blob(home, file.b3_hex, home.root / "incoming")
                stamp = stamp_at(blob)
                assert stamp is not None
                index.set_location(file.b3, blob, stamp, in_store=True, verified_at=1.0)
                link_view(home, blob, Path("acme", "tiny", tag, file.path))
    return home, made


def blob_of(made: dict[str, Signed], tag: str, name: str) -> str:
    return next(file.b3_hex for file in made[tag].release.files if file.path == name)


def drive(cases: list[dict[str, object]]) -> list[bool]:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("space_kill_driver.py")], input=json.dumps(cases),
        capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    killed: list[bool] = json.loads(done.stdout)
    return killed


def assert_whole(home: Home, tag: str) -> None:
    for name, data in RELEASES[tag].items():
        view = home.models / "acme" / "tiny" / tag / name
        assert view.read_bytes() == data
        with Index.open(home) as index:
            release = next(one for one in index.holdings().releases if one.tag == tag)
            blob = home.blob(next(file.b3 for file in release.files if file.path == name).removeprefix("b3:"))
            assert index.location_at(blob) is not None
        assert view.samefile(blob)


def pruned(home: Home) -> None:
    """Two days later."""
    prune(home, Rules(), now=time.time() + 2 * DAY, dry_run=False)


@pytest.mark.parametrize("act", ["rm", "prune"])
@pytest.mark.long
def test_killed_while_removing(tmp_path: Path, act: str) -> None:
    """Whatever step it dies at: the release is known and whole, or forgotten; what is left, a later prune removes."""
    steps = range(1, 22)
    homes = {step: furnished(tmp_path / str(step) / "home") for step in steps}
    for home, made in homes.values():
        if act == "prune":  # version 2 of the same name takes its place, then only the old one may go
            with Index.open(home) as index:
                index.forget_release(made["a"].digest)
    cases: list[dict[str, object]] = [
        {"home": str(homes[step][0].root), "act": act, "argument": f"samara:{ACME}/tiny:a", "step": step}
        for step in steps
    ]
    killed = drive(cases)
    assert killed.count(True) > 6
    assert not killed[-1], "these steps can't be all"
    for home, _made in homes.values():
        assert_whole(home, "b")
        with Index.open(home) as index:
            tags = {release.tag for release in index.holdings().releases}
        if "a" in tags:
            assert_whole(home, "a")
            continue
        pruned(home)
        assert_whole(home, "b")
        needed = {file.name for file in home.blobs.glob("*/*")}
        assert len(needed) == 2
        assert {path.name for path in home.models.rglob("*") if path.is_file()} == {"two.bin", "shared.bin"}
        assert leftovers(home) == []


@pytest.mark.parametrize("act", ["view", "inline", "end", "to", "clone"])
def test_what_a_kill_leaves_is_swept_an_hour_later(tmp_path: Path, act: str) -> None:
    steps = range(1, 13)
    cases: list[dict[str, object]] = []
    homes = []
    for step in steps:
        home, made = furnished(tmp_path / str(step) / "home")
        homes.append(home)
        argument = {"view": blob_of(made, "b", "two.bin"), "inline": "ab" * 32}.get(act, blob_of(made, "a", "one.bin"))
        if act == "inline":
            home.blob(argument).parent.mkdir()
        if act in {"end", "clone"}:
            (home.partials / argument).mkdir(parents=True)
        if act == "end":
            (home.partials / argument / "record").write_bytes(b"{}")
        cases.append({"home": str(home.root), "act": act, "argument": argument, "step": step})
    killed = drive(cases)
    assert killed.count(True) > 2
    for home in homes:
        aside = [*home.root.rglob(TEMPORARY_PREFIX + "*"), *home.root.parent.glob(f"to/{TEMPORARY_PREFIX}*")]
        sweep(home, now=time.time())
        sweep_folder(home.root.parent / "to", now=time.time())
        assert all(path.exists() for path in aside), "what is young may be in use"
        sweep(home, now=time.time() + AGE + 1)
        sweep_folder(home.root.parent / "to", now=time.time() + AGE + 1)
        left = [*home.root.rglob(TEMPORARY_PREFIX + "*"), *home.root.parent.glob(f"to/{TEMPORARY_PREFIX}*")]
        assert left == []
        if act == "end":
            assert list(home.partials.iterdir()) == []
        assert_whole(home, "b")


class TestSweep:
    def test_young_things_stay(self, tmp_path: Path) -> None:
        home, _ = furnished(tmp_path / "home")
        (home.root / ASIDE).mkdir()
        (home.root / ASIDE / "inner").write_bytes(b"x")
        os.utime(home.root / ASIDE, (1, 1))
        assert sweep(home, now=time.time()) == 0, "something young is in it"
        assert sweep(home, now=time.time() + AGE + 1) == 1

    def test_an_import_under_way_stays_however_long_it_takes(self, tmp_path: Path) -> None:
        from filelock import FileLock

        home, _ = furnished(tmp_path / "home")
        staging = home.root / (TEMPORARY_PREFIX + "import")
        staging.mkdir()
        with FileLock(home.root / "import.lock"):
            assert sweep(home, now=time.time() + 10 * AGE) == 0
        assert sweep(home, now=time.time() + 10 * AGE) == 1
        assert not staging.exists()

    def test_a_transfer_that_is_held_or_has_bytes_stays(self, tmp_path: Path) -> None:
        from filelock import FileLock

        home, _ = furnished(tmp_path / "home")
        held, begun, empty = (home.partials / (digit * 64) for digit in "abc")
        for folder in (held, begun, empty):
            folder.mkdir(parents=True)
            (folder / "lock").touch()
        (begun / "data").write_bytes(b"half")
        with FileLock(held / "lock"):
            assert sweep(home, now=time.time() + AGE + 1) == 1
        assert {path.name[0] for path in home.partials.iterdir()} == {"a", "b"}

    def test_keys_trust_and_other_peoples_files_stay(self, tmp_path: Path) -> None:
        home, _ = furnished(tmp_path / "home")
        kept = [home.keys / ASIDE, home.trust / "x" / ASIDE]
        kept += [tmp_path / "to" / name for name in (".samara-tmp-notes", "file", f"sub/{ASIDE}")]
        for path in kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (tmp_path / "to" / ASIDE).mkdir()
        assert sweep(home, now=time.time() + 10 * DAY) == 0
        assert sweep_folder(tmp_path / "to", now=time.time() + 10 * DAY) == 0
        assert all(path.exists() for path in kept)

    def test_nothing_is_here(self, tmp_path: Path) -> None:
        assert sweep(Home(tmp_path / "home"), now=time.time()) == 0
        assert sweep_folder(tmp_path / "missing", now=time.time()) == 0
        assert not (tmp_path / "home").exists()
