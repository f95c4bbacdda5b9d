"""Stopping a pull with SIGKILL, Ctrl-C and SIGTERM, and going on."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from support.processes import pulling
from support.swarms import seeding
from support.world import MIB, PIECE, assert_pulled, one_blob, trusting_home

SIZE = 16 * MIB
LINK = 10_000_000  # bytes per second
BURST = LINK // 10  # the cap is handed out ten times a second, all at once

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@posix
def test_killed_at_63_percent_and_resumed(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=LINK) as peer:
        with pulling(home, shelved.file, "--peer", peer.text) as pull:
            pull.expect("pull_progress", lambda line: line["done"] >= 0.63 * line["total"])
            pull.send(signal.SIGKILL)
            killed = pull.end()
        with pulling(home, shelved.file, "--peer", peer.text) as pull:
            done = pull.end()
        given = peer.uploaded
    assert killed.status == -signal.SIGKILL
    assert done.status == 0, done.stderr
    had = max(line["done"] for line in killed.named("pull_progress"))
    assert done.result["bytes_reused"] >= had - 3 * PIECE
    assert given - SIZE <= 3 * PIECE + BURST, f"{given - SIZE} bytes came twice"
    (planned,) = done.named("pull_planned")
    assert planned["bytes_to_fetch"] <= SIZE - had + BURST + PIECE
    assert planned["bytes_here"] == done.result["bytes_reused"] == SIZE - planned["bytes_to_fetch"]
    assert_pulled(home, shelved)


@posix
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupted_and_resumed(tmp_path: Path, stop: signal.Signals) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=LINK) as peer:
        with pulling(home, shelved.file, "--peer", peer.text) as pull:
            pull.expect("pull_progress", lambda line: line["done"] >= 0.5 * line["total"])
            pull.send(stop)
            stopped = pull.end()
        with pulling(home, shelved.file, "--peer", peer.text) as pull:
            done = pull.end()
        given = peer.uploaded
    assert stopped.status == 130
    assert "interrupted" in stopped.message
    assert "again" in stopped.message
    assert "Traceback" not in stopped.stderr
    assert done.status == 0, done.stderr
    had = max(line["done"] for line in stopped.named("pull_progress"))
    assert done.result["bytes_reused"] >= had
    assert given - SIZE <= 3 * PIECE + BURST, f"{given - SIZE} bytes came twice"
    assert_pulled(home, shelved)


@posix
def test_ctrl_c_while_nobody_answers(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", MIB)
    home = trusting_home(tmp_path / "home", shelved)
    with pulling(home, shelved.file, "--peer", "127.0.0.1:9") as pull:
        pull.expect("pull_progress")
        pull.send(signal.SIGINT)
        stopped = pull.end()
    assert stopped.status == 130
    assert "interrupted" in stopped.message
