"""What stops a command before it begins: one message, its exit status, nothing lost."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Outcome, pulling, samara, started
from support.swarms import seeding
from support.world import MIB, assert_pulled, one_blob, trusting_home

from samara.registry.home import Home
from samara.registry.index import Index

LOCAL = ("--listen", "127.0.0.1:0", "--no-discovery")


def one_message(done: Outcome, status: int) -> str:
    assert done.status == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.message


@contextlib.contextmanager
def locked_index(home: Home) -> Iterator[None]:
    """Another process in the middle of a long write."""
    with Index.open(home):
        pass
    connection = sqlite3.connect(home.index, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


@pytest.mark.long
def test_an_index_locked_by_another_process(tmp_path: Path) -> None:
    """Every command that writes waits a while first: all of them at once here, it takes that long."""
    shelved = one_blob(tmp_path / "shelf", MIB)
    homes = [trusting_home(tmp_path / name, shelved) for name in ("pull", "seed")]
    with contextlib.ExitStack() as stack:
        for home in homes:
            stack.enter_context(locked_index(home))
        commands = [("pull", shelved.file, *LOCAL), ("seed", *LOCAL)]
        running = [stack.enter_context(started(home, *command)) for home, command in zip(homes, commands, strict=True)]
        for process in running:
            message = one_message(process.end(), 9)
            assert "locked by another process" in message
            assert "wait for it" in message


@pytest.mark.long
def test_what_only_reads_waits_for_no_writer(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", MIB)
    with locked_index(shelved.home):
        for command in (("path", shelved.reference), ("show", shelved.reference), ("audit",)):
            done = samara(shelved.home, *command)
            assert done.status == 0, done.stderr


@pytest.mark.parametrize("command", ["pull", "seed", "path"])
def test_an_index_from_a_newer_version(tmp_path: Path, command: str) -> None:
    shelved = one_blob(tmp_path / "shelf", MIB)
    home = trusting_home(tmp_path / "home", shelved)
    with Index.open(home):
        pass
    with contextlib.closing(sqlite3.connect(home.index)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    arguments = {"pull": (shelved.file, *LOCAL), "seed": LOCAL, "path": (shelved.reference,)}[command]
    message = one_message(samara(home, command, *arguments), 9)
    assert "newer version" in message
    assert "got 9999" in message


def test_a_port_in_use(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", MIB)
    home = trusting_home(tmp_path / "home", shelved)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        seed = samara(home, "seed", "--listen", listen, "--no-discovery")
        with seeding(shelved) as peer:
            pull = samara(
                home, "pull", shelved.file, "--listen", listen, "--no-discovery", "--peer", peer.text
            )  # fmt: skip
    for done in (seed, pull):
        message = one_message(done, 4)
        assert listen in message
        assert "--listen" in message


def test_nobody_to_ask(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", MIB)
    home = trusting_home(tmp_path / "home", shelved)
    message = one_message(samara(home, "pull", shelved.file, *LOCAL), 4)
    assert "nobody to ask" in message
    assert "--peer" in message


def test_a_publisher_nobody_told_us_to_trust(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", MIB)
    message = one_message(samara(Home(tmp_path / "home"), "pull", shelved.file, *LOCAL), 6)
    assert shelved.publisher.identity in message


def test_to_a_folder_where_another_file_has_that_name(tmp_path: Path) -> None:
    """Said before anything is fetched, and the other file is left alone."""
    shelved = one_blob(tmp_path / "shelf", MIB)
    home = trusting_home(tmp_path / "home", shelved)
    taken = tmp_path / "out" / "blob.bin"
    taken.parent.mkdir()
    taken.write_text("mine")
    with seeding(shelved) as peer, pulling(home, shelved.file, "--peer", peer.text, "--to", taken.parent) as pull:
        message = one_message(pull.end(), 2)
        assert peer.uploaded == 0
    assert str(taken) in message
    assert taken.read_text() == "mine"


def test_to_a_folder_on_another_disk_twice(tmp_path: Path, other_disk: Path) -> None:
    """There a copy has to be made; the second time it is recognised."""
    shelved = one_blob(tmp_path / "shelf", MIB)
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        for _ in range(2):
            with pulling(home, shelved.file, "--peer", peer.text, "--to", other_disk) as pull:
                done = pull.end()
            assert done.status == 0, done.stderr
            assert (other_disk / "blob.bin").read_bytes() == shelved.source.read_bytes()
    assert_pulled(home, shelved)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another filesystem than the store's."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second filesystem at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)
