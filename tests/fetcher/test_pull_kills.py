"""SIGKILL at every point of the crash order: the same command again ends with the right bytes, nothing fetched twice
but what was in flight, and nothing left over.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.swarms import seeding
from support.world import MIB, PIECE, Shelf, assert_pulled, one_blob, trusting_home

from samara.registry.home import Home

SIZE = 6 * MIB
LINK = 10_000_000  # bytes per second
IN_FLIGHT = 3 * PIECE + LINK // 10  # of the one connected peer; its cap is handed out ten times a second, all at once
LIMIT = 120.0  # seconds for one driver
OFTEN, NEVER = 0.05, 999.0  # seconds between checkpoints

# Windows has no fork; the code killed here is the same there
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

# the crash order in the middle of a transfer, where checkpoints make it happen often
UNDER_WAY = {
    "first-bytes": ["piece:1", "piece:12"],
    "verify": ["before-verify:1", "after-verify:1"],
    "sync": ["before-sync:1", "after-sync:1", "after-sync:2"],
    "record": ["before-record:1", "after-record:1", "before-record:2", "after-record:2"],
}
# and at its end, where each of these happens once if no checkpoint came before
AT_THE_END = {
    "verify": ["before-verify:2", "after-verify:1"],
    "sync": ["before-sync:1", "after-sync:1"],
    "record": ["before-record:1", "after-record:1"],
    "rename": ["before-rename:1", "after-rename:1"],
    "index": ["before-index:1", "after-index:1"],
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of one case: a home, kills, and a last pull."""

    label: str
    home: Home
    killed: list[bool]
    reused: int
    from_peers: int
    given: int


@pytest.mark.parametrize("moments", UNDER_WAY.values(), ids=UNDER_WAY.keys())
def test_killed_under_way(tmp_path: Path, moments: list[str]) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    for told in drive(tmp_path, shelved, [[moment] for moment in moments], checkpoint=OFTEN, up=LINK):
        assert told.killed == [True], told.label
        assert told.given - SIZE <= IN_FLIGHT, f"{told.label}: {told.given - SIZE} bytes came twice"
        assert told.reused + told.from_peers == SIZE, told.label
        assert_pulled(told.home, shelved)


@pytest.mark.parametrize("moments", AT_THE_END.values(), ids=AT_THE_END.keys())
@pytest.mark.long
def test_killed_at_the_end(tmp_path: Path, moments: list[str]) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    for told in drive(tmp_path, shelved, [[moment] for moment in moments], checkpoint=NEVER):
        assert told.killed == [True], told.label
        assert told.reused + told.from_peers == SIZE, told.label
        if "verify" not in told.label:
            assert told.given == SIZE, f"{told.label}: every byte was there"
            assert told.from_peers == 0, told.label
        assert_pulled(told.home, shelved)


@pytest.mark.long
def test_killed_again_and_again(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    moments = ["piece:2", "before-record:1", "after-sync:1", "piece:3", "after-verify:1", "after-record:2"]
    (told,) = drive(tmp_path, shelved, [moments], checkpoint=OFTEN, up=LINK)
    assert sum(told.killed) >= 4
    assert told.given - SIZE <= IN_FLIGHT * sum(told.killed)
    assert_pulled(told.home, shelved)


@pytest.mark.long
def test_killed_at_every_step(tmp_path: Path) -> None:
    """Before and after each fsync, rename and link of a pull, until one comes through: nothing is ever left over."""
    shelved = one_blob(tmp_path / "shelf", MIB)
    step = 0
    while True:
        cases = [[f"step:{number}"] for number in range(step + 1, step + 11)]
        for told in drive(tmp_path / str(step), shelved, cases, checkpoint=NEVER):
            assert_pulled(told.home, shelved)
            step += 1
            if told.killed == [False]:
                assert step > 20, "these steps can't be all"
                return


@pytest.mark.long
@pytest.mark.parametrize("checkpoint", [OFTEN, NEVER], ids=["checkpoints-often", "no-checkpoints"])
def test_fifty_kills_at_random(tmp_path: Path, checkpoint: float) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    generator = random.Random(20260102)
    cases = [[f"event:{generator.randrange(1, 16)}" for _ in range(5)] for _ in range(10)]
    done = drive(tmp_path, shelved, cases, checkpoint=checkpoint, up=LINK)
    assert sum(sum(told.killed) for told in done) >= 15, "too late to mean anything"
    for told in done:
        assert told.given - SIZE <= IN_FLIGHT * sum(told.killed), f"{told.label}: {told.given - SIZE} bytes came twice"
        assert_pulled(told.home, shelved)


def drive(tmp_path: Path, published: Shelf, cases: list[list[str]], *, checkpoint: float, up: int = 0) -> list[Told]:
    """Run the driver on these cases, each with a home and a seeder of its own."""
    driver = Path(__file__).with_name("pull_kill_driver.py")
    homes = [trusting_home(tmp_path / f"home-{number}", published) for number in range(len(cases))]
    with ExitStack() as stack:
        peers = [stack.enter_context(seeding(published, up=up)) for _ in cases]
        asked = [
            {
                "home": str(home.root),
                "release": str(published.file),
                "host": peer.endpoint[0],
                "port": peer.endpoint[1],
                "checkpoint": checkpoint,
                "moments": moments,
            }
            for home, peer, moments in zip(homes, peers, cases, strict=True)
        ]
        done = subprocess.run(
            [sys.executable, driver], input=json.dumps(asked), capture_output=True, text=True, check=False,
            timeout=LIMIT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [
            Told(label=" ".join(moments), home=home, given=peer.uploaded, **told)
            for moments, home, peer, told in zip(cases, homes, peers, json.loads(done.stdout), strict=True)
        ]
