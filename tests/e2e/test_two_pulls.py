"""Two processes that want the same blob share one transfer; whoever is left finishes it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from support.processes import Line, pulling
from support.swarms import seeding
from support.world import MIB, PIECE, assert_pulled, one_blob, random_file, shelf, trusting_home

SIZE = 8 * MIB
LINK = 8_000_000  # bytes per second

# a stopped process keeps its lock: so the other one surely finds it taken
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP and SIGKILL")


def has_begun(progress: Line) -> bool:
    return bool(progress["done"] > 0)


def fetched(result: Line) -> int:
    return int(result["bytes_from_peers"] + result["bytes_from_mirrors"])


def test_two_pulls_of_one_blob_are_one_transfer(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with (
        seeding(shelved, up=LINK) as peer,
        pulling(home, shelved.file, "--peer", peer.text) as one,
    ):
        one.expect("pull_progress", has_begun)
        one.send(signal.SIGSTOP)
        with pulling(home, shelved.file, "--peer", peer.text) as two:
            two.expect("waiting_for_other")
            one.send(signal.SIGCONT)
            first, second = one.end(), two.end()
        given = peer.uploaded
    assert (first.status, second.status) == (0, 0), first.stderr + second.stderr
    assert fetched(first.result) == given == SIZE
    assert fetched(second.result) == 0
    assert second.result["bytes_reused"] == SIZE
    assert second.result["files"] == first.result["files"]
    assert_pulled(home, shelved)


@pytest.mark.long
def test_when_the_first_is_killed_the_second_goes_on(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with (
        seeding(shelved, up=LINK) as peer,
        pulling(home, shelved.file, "--peer", peer.text) as one,
    ):
        one.expect("pull_progress", has_begun)
        one.send(signal.SIGSTOP)
        with pulling(home, shelved.file, "--peer", peer.text) as two:
            two.expect("waiting_for_other")
            one.send(signal.SIGKILL)
            assert one.end().status == -signal.SIGKILL
            second = two.end()
        given = peer.uploaded
    assert second.status == 0, second.stderr
    assert second.result["bytes_reused"] > 0
    assert given - SIZE <= 3 * PIECE + LINK // 10
    assert_pulled(home, shelved)


def test_two_releases_with_a_blob_in_common(tmp_path: Path) -> None:
    """Pulled at the same time, in opposite orders: no deadlock, the common blob comes once."""
    files = tmp_path / "files"
    common = [random_file(files / f"common-{number}.bin", 2 * MIB, seed=number) for number in (1, 2)]
    one = shelf(tmp_path, common, reference="acme/one:v1")
    two = shelf(tmp_path, common[::-1], reference="acme/two:v1", publisher=one.publisher)
    home = trusting_home(tmp_path / "home", one)
    with (
        seeding(one, up=LINK) as peer,
        pulling(home, one.file, "--peer", peer.text) as first,
    ):
        first.expect("pull_progress", has_begun)
        first.send(signal.SIGSTOP)
        with pulling(home, two.file, "--peer", peer.text) as second:
            second.expect("waiting_for_other")
            first.send(signal.SIGCONT)
            done = [first.end(), second.end()]
        given = peer.uploaded
    assert [outcome.status for outcome in done] == [0, 0], done[0].stderr + done[1].stderr
    assert sum(fetched(outcome.result) for outcome in done) == given == one.size
    assert_pulled(home, one)
    assert_pulled(home, two)
