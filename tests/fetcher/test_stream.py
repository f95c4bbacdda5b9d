"""Verified bytes in order while they come: nothing wrong, nothing out of order, nothing for whoever leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.mirrors import mirror
from support.processes import environment, pulling
from support.pulls import Pull, options, pulled
from support.swarms import LIAR, seeding, seeding_part
from support.world import MIB, Shelf, assert_pulled, flipped_copy, one_blob, random_file, shelf, trusting_home

from samara.fetcher.stream import STDOUT
from samara.schemas.errors import ExitCode, NetworkError, UsageError

SIZE = 8 * MIB


@pytest.fixture
def shelved(tmp_path: Path) -> Shelf:
    return one_blob(tmp_path / "shelf", SIZE)


class Reader(threading.Thread):
    """Reads a pipe to its end, at most `stop_after` bytes."""

    def __init__(self, pipe: Path, *, stop_after: int | None = None) -> None:
        super().__init__(daemon=True)
        self.data = bytearray()
        self._pipe = pipe
        self._stop_after = stop_after
        self.start()

    def run(self) -> None:
        with self._pipe.open("rb", buffering=0) as opened:
            while chunk := opened.read(1 << 16):
                self.data += chunk
                if self._stop_after is not None and len(self.data) >= self._stop_after:
                    return

    def whole(self) -> bytes:
        self.join(60)
        assert not self.is_alive()
        return bytes(self.data)


def pipe_at(path: Path) -> Path:
    os.mkfifo(path)
    return path


def test_through_a_pipe_while_it_comes(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    pipe = pipe_at(tmp_path / "pipe")
    reader = Reader(pipe)
    with (
        seeding(shelved, up=3_000_000) as peer,
        pulling(home, shelved.file, "--peer", peer.text, "--stream", pipe) as p,
    ):
        p.expect("pull_progress", lambda line: line["done"] > SIZE * 3 // 4)
        early = len(reader.data)
        assert p.end().status == 0
    assert early > 0
    assert reader.whole() == shelved.source.read_bytes()
    assert pipe.exists()  # it was ours before
    assert_pulled(home, shelved)


def test_a_pipe_that_is_made_is_removed(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    pipe = tmp_path / "pipe"
    readers: list[Reader] = []
    with seeding(shelved) as peer:
        pull = Pull(
            home,
            shelved.file,
            options(peer.endpoint, stream=pipe),
            on_event=lambda _event: readers.append(Reader(pipe)) if pipe.exists() and not readers else None,
        )
        pull.result()
    assert readers[0].whole() == shelved.source.read_bytes()
    assert not pipe.exists()


def test_what_is_here_already_is_streamed_too(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        pulled(home, shelved.file, options(peer.endpoint))
    reader = Reader(pipe_at(tmp_path / "pipe"))
    pulled(home, shelved.file, options(stream=tmp_path / "pipe"))
    assert reader.whole() == shelved.source.read_bytes()


def test_to_stdout_and_nothing_else_there(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        command = [sys.executable, "-m", "samara", "pull", str(shelved.file), "--peer", peer.text, "--no-discovery"]
        done = subprocess.run(
            [*command, "--listen", "127.0.0.1:0", "--stream", str(STDOUT)],
            env=environment(home), capture_output=True, timeout=60, check=True,
        )  # fmt: skip
    assert done.stdout == shelved.source.read_bytes()


def test_a_reader_that_leaves_does_not_stop_the_pull(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    reader = Reader(pipe_at(tmp_path / "pipe"), stop_after=1)
    with seeding(shelved) as peer:
        pulled(home, shelved.file, options(peer.endpoint, stream=tmp_path / "pipe"))
    assert reader.whole()
    assert_pulled(home, shelved)


def test_a_pull_that_fails_gives_no_more_than_was_proven(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    reader = Reader(pipe_at(tmp_path / "pipe"))
    half = shelved.only.piece_count // 2
    with seeding_part(shelved, half) as peer:
        pull = Pull(home, shelved.file, options(peer.endpoint, stream=tmp_path / "pipe", give_up_after=1.0))
        assert isinstance(pull.error(), NetworkError)
    got = reader.whole()
    assert 0 < len(got) < SIZE
    assert shelved.source.read_bytes().startswith(got)


def test_a_liar_s_bytes_never_reach_the_reader(tmp_path: Path, shelved: Shelf) -> None:
    wrong = tmp_path / "wrong" / "blob.bin"
    flipped_copy(shelved.source, wrong, range(1000, SIZE, 64 * 1024))
    (tmp_path / "again").mkdir()
    reader = Reader(pipe_at(tmp_path / "pipe"))
    with mirror(wrong.parent, host=LIAR) as liar:
        lied = shelf(tmp_path / "again", [shelved.source], mirrors=(liar.of("blob.bin"),))
        home = trusting_home(tmp_path / "home", lied)
        with seeding(lied, up=3_000_000) as peer:
            pulled(home, lied.file, options(peer.endpoint, stream=tmp_path / "pipe"))
        assert liar.requests
    assert reader.whole() == shelved.source.read_bytes()


def test_one_file_at_a_time(tmp_path: Path) -> None:
    files = [random_file(tmp_path / "shelf" / name, MIB, seed=seed) for seed, name in enumerate(("a.bin", "b.bin"))]
    shelved = shelf(tmp_path / "shelf", files)
    home = trusting_home(tmp_path / "home", shelved)
    with pytest.raises(UsageError, match="one file"):
        pulled(home, shelved.file, options(stream=tmp_path / "pipe"))
    assert not (tmp_path / "pipe").exists()
    reader = Reader(pipe_at(tmp_path / "pipe"))
    with seeding(shelved) as peer:
        pulled(home, shelved.file, options(peer.endpoint, stream=tmp_path / "pipe", include=("b.bin",)))
    assert reader.whole() == files[1].read_bytes()


def test_a_file_of_that_name_is_left_alone(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    taken = tmp_path / "taken"
    taken.write_bytes(b"mine")
    with seeding(shelved) as peer, pytest.raises(UsageError, match="no pipe"):
        pulled(home, shelved.file, options(peer.endpoint, stream=taken))
    assert taken.read_bytes() == b"mine"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_behind_stdout_is_no_success(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer, Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "samara", "pull", str(shelved.file), "--peer", peer.text, "--no-discovery"]
        done = subprocess.run(
            [*command, "--listen", "127.0.0.1:0", "--stream", "-"],
            env=environment(home), stdout=full, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == ExitCode.DISK_FULL
    assert b"Traceback" not in done.stderr
    assert_pulled(home, shelved)
