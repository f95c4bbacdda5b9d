"""A reader that goes away: what was asked for is done all the same, and the exit code tells how it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import environment
from support.swarms import seeding
from support.world import MIB, assert_pulled, one_blob, trusting_home

from samara.registry.home import Home


def without_reader(home: Home, stream: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    """Run `samara` with `stream` a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, "-m", "samara", *map(str, arguments)],
            env=environment(home), stdin=subprocess.DEVNULL, timeout=60, check=False,
            stdout=writer if stream == "stdout" else subprocess.PIPE,
            stderr=writer if stream == "stderr" else subprocess.PIPE,
        )  # fmt: skip
    finally:
        os.close(writer)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_pull_goes_on(tmp_path: Path, stream: str, form: tuple[str, ...]) -> None:
    shelved = one_blob(tmp_path / "shelf", MIB)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        local = ("--listen", "127.0.0.1:0", "--no-discovery", "--peer", peer.text)
        done = without_reader(home, stream, "pull", shelved.file, *local, *form)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in (done.stderr or b"")
    assert_pulled(home, shelved)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    ("arguments", "status"), [(("show", "missing.samara", "--json"), 3), (("no-such-command",), 2), (("--help",), 0)]
)
def test_the_exit_code_stays(tmp_path: Path, stream: str, arguments: tuple[str, ...], status: int) -> None:
    assert without_reader(Home(tmp_path), stream, *arguments).returncode == status


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("arguments", [("pause", "--list"), ("ls", "--json"), ("records",)])
def test_a_result_that_finds_no_room_is_no_success(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "samara", *arguments],
            env=environment(Home(tmp_path)), stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
            timeout=60, check=False,
        )  # fmt: skip
    if arguments == ("records",):
        assert done.returncode in {0, 7}  # nothing to say is nothing to write
    else:
        assert done.returncode == 7
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
