"""SIGKILL while a registry mirrors, at every point of a fetch and of an eviction: it goes on where it was, and whatever
lies in the store meanwhile, somebody answers for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.registries import list_shelf, registry_home, withdraw
from support.swarms import seeding
from support.world import MIB, Shelf, leftovers, random_file, shelf

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.sweep import AGE, sweep

SIZE = 2 * MIB
LIMIT = 240.0  # seconds for one driver

# Windows has no fork; the code killed here is the same there
pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL"), pytest.mark.long]

FETCH = [
    ["piece:2"], ["after-verify:1"], ["before-record:1"], ["after-record:1"],
    ["before-rename:1"], ["after-rename:1"], ["before-index:1"], ["after-index:1"],
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of one case."""

    label: str
    home: Home
    killed: list[bool]
    lay: list[list[tuple[str, bool]]]
    from_peers: int
    evicted: int
    held: int


@pytest.mark.long
def test_killed_in_a_fetch(tmp_path: Path) -> None:
    published = make(tmp_path, "acme")
    for told in drive(tmp_path, [published], FETCH):
        assert told.killed == [True], told.label
        if "piece" not in told.label and "verify" not in told.label:
            assert told.from_peers == 0, f"{told.label}: every byte was there"
        require_right(told, [published])


def test_killed_in_an_eviction(tmp_path: Path) -> None:
    """One blob has to go for another: killed at some of the fsyncs, renames and unlinks of that."""
    old, new = make(tmp_path, "acme"), make(tmp_path, "umbra")
    killed = 0
    for told in drive(tmp_path, [old], [[f"step:{number}"] for number in (6, 13)], then=new, quota=SIZE):
        killed += sum(told.killed)
        require_right(told, [new])
        assert not told.home.blob(old.only.b3_hex).exists()
    assert killed, "too late to mean anything"


@pytest.mark.long
def test_killed_all_the_way_through_an_eviction_and_a_fetch(tmp_path: Path) -> None:
    step = 0
    while True:
        old, new = make(tmp_path / str(step), "acme"), make(tmp_path / str(step), "umbra")
        cases = [[f"step:{number}"] for number in range(step + 2, step + 18, 2)]
        for told in drive(tmp_path / str(step), [old], cases, then=new, quota=SIZE):
            step += 2
            require_right(told, [new])
            if told.killed == [False]:
                assert step > 15, "these steps can't be all"
                return


def make(tmp_path: Path, name: str) -> Shelf:
    """One publisher's blob."""
    root = tmp_path / name
    return shelf(root, [random_file(root / "blob.bin", SIZE, seed=len(name))], reference=f"{name}/m:v1")


def require_right(told: Told, here: list[Shelf]) -> None:
    """These blobs and no others are whole, recorded, and kept; at no kill did anything lie there that nobody owns."""
    for moment in told.lay:
        assert all(owned for _name, owned in moment), f"{told.label}: {moment}"
    for one in here:
        assert told.home.blob(one.only.b3_hex).read_bytes() == one.source.read_bytes()
        with Index.open(told.home) as index:
            assert index.location_at(told.home.blob(one.only.b3_hex)) is not None
    assert told.held == len(here), told.label
    sweep(told.home, now=time.time() + AGE)  # what was being written aside goes an hour later
    assert leftovers(told.home) == []


def drive(
    tmp_path: Path, first: list[Shelf], cases: list[list[str]], *, then: Shelf | None = None, quota: int | None = None
) -> list[Told]:
    """Run the driver on these cases, each with a home of its own. With `then` the home mirrors `first` before, and
    another listing pushes it out.
    """
    driver = Path(__file__).with_name("mirror_kill_driver.py")
    with ExitStack() as stack:
        peers = [stack.enter_context(seeding(one)).endpoint for one in [*first, *([then] if then else [])]]
        asked: list[dict[str, Any]] = []
        for number, moments in enumerate(cases):
            with registry_home(tmp_path / f"home-{number}", *first) as (home, _index):
                case = {"home": str(home.root), "peers": peers, "quota": quota, "here": 1, "moments": moments}
                asked.append(case)
        if then is not None:
            run(driver, [{**case, "moments": []} for case in asked])
            for case in asked:
                with Index.open(Home(Path(str(case["home"])))) as index:
                    list_shelf(index, then)
                    for one in first:  # its bytes are less wanted than those of what was listed last
                        withdraw(index, one)
        return [
            Told(label=" ".join(moments), home=Home(Path(str(case["home"]))), **told)
            for moments, case, told in zip(cases, asked, run(driver, asked), strict=True)
        ]


def run(driver: Path, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One process of the driver."""
    done = subprocess.run(
        [sys.executable, driver], input=json.dumps(cases), capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
