"""SIGKILL at random times, over and over in one pull: nothing false is ever claimed, little comes twice, all is right
at the end and nothing is left over.
"""

from __future__ import annotations

import random
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from process_kit import IN_FLIGHT, LINK, Killer, assert_claims_are_true, fetched, finish, hold
from support.processes import Process, pulling
from support.swarms import seeding
from support.world import MIB, assert_pulled, one_blob, trusting_home

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP and SIGKILL")


@pytest.mark.parametrize(
    ("kills", "size"), [(10, 20 * MIB), pytest.param(100, 120 * MIB, marks=pytest.mark.long)], ids=["ten", "a-hundred"]
)
def test_kills_in_one_pull(tmp_path: Path, dice: random.Random, kills: int, size: int) -> None:
    shelved = one_blob(tmp_path / "shelf", size)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=LINK) as peer:
        killer = Killer(home=home, published=shelved, peer=peer, dice=dice)
        killer.kill(kills)
        last = finish(home, shelved, peer.text)
        given = peer.uploaded
    assert sum(advance > 0 for advance in killer.advances) >= kills // 3, "most died before a byte came"
    assert given - size <= IN_FLIGHT * sum(advance > 0 for advance in killer.advances)
    assert last.result["bytes_reused"] + fetched(last) <= size + IN_FLIGHT


@pytest.mark.parametrize(
    ("kills", "size"), [(6, 12 * MIB), pytest.param(60, 80 * MIB, marks=pytest.mark.long)], ids=["six", "sixty"]
)
def test_two_pulls_fight_and_one_is_killed_each_time(
    tmp_path: Path, dice: random.Random, kills: int, size: int
) -> None:
    """Either may hold the transfer or wait for it when it dies; another takes its place at once."""
    shelved = one_blob(tmp_path / "shelf", size)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=LINK) as peer, ExitStack() as stack:

        def another() -> Process:
            return stack.enter_context(pulling(home, shelved.file, "--peer", peer.text))

        two = [another(), another()]
        for left in range(kills, 0, -1):
            rest = (shelved.size - peer.uploaded) / LINK  # seconds
            hold(min(dice.uniform(0.2, 2.0) * rest / (left + 1), rest / 2))
            victim = dice.randrange(2)
            two[victim].send(signal.SIGKILL)
            assert two[victim].end().status == -signal.SIGKILL
            assert_claims_are_true(home, shelved)
            two[victim] = another()
        outcomes = [pull.end() for pull in two]
        given = peer.uploaded
    assert [outcome.status for outcome in outcomes] == [0, 0], outcomes[0].stderr + outcomes[1].stderr
    assert given - size <= IN_FLIGHT * kills
    assert_pulled(home, shelved)
