"""Backups of the index: whole while others write, durable before they are named, never in the place of something else;
and `samara db`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from index_kit import signed
from support.postgres import PASSWORD, Postgres

from samara.registry import backup
from samara.registry.backup import back_up
from samara.registry.home import ENV_DATABASE, ENV_HOME, Home
from samara.registry.index import Index
from samara.registry.index_postgres import parse_url
from samara.registry.tables import HEAD
from samara.schemas.envelope import Signature
from samara.schemas.errors import DiskFullError, ExitCode, NotFoundError, SamaraError, StoreError, UsageError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    with Index.open(home) as index:
        signed().add_to(index)
    return home


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Where to; beside it nothing may be left."""
    folder = tmp_path / "backups"
    folder.mkdir()
    yield folder / "index.backup"
    assert {path.name for path in folder.iterdir()} <= {"index.backup"}


def releases_in(path: Path, folder: Path) -> int:
    """How many, once it is put back in its place."""
    restored = Home(folder)
    restored.prepare()
    shutil.copyfile(path, restored.index)
    with Index.open(restored) as index:
        assert index.damage() == ()
        return index.counts().releases


class TestAFile:
    def test_it_is_an_index_by_itself(self, home: Home, target: Path, tmp_path: Path) -> None:
        done = back_up(home, target)
        assert (done.kind, done.path, done.size) == ("sqlite", target, target.stat().st_size)
        assert releases_in(target, tmp_path / "restored") == 1
        if sys.platform != "win32":
            assert target.stat().st_mode & 0o777 == 0o600

    def test_what_is_not_yet_in_the_file_itself_is_in_it(self, home: Home, target: Path, tmp_path: Path) -> None:
        with Index.open(home) as index:
            signed(version=2).add_to(index)
            assert home.index.with_name("index.sqlite3-wal").stat().st_size > 0
            back_up(home, target)
        assert releases_in(target, tmp_path / "restored") == 2

    def test_it_is_of_one_moment_while_others_write(self, home: Home, target: Path, tmp_path: Path) -> None:
        """A writer adds a release and its blobs at once, over and over: no copy has half of one."""
        stop, written = threading.Event(), threading.Semaphore(0)

        def write() -> None:
            with Index.open(home) as index:
                version = 2
                while not stop.is_set():
                    made = signed({"a.bin": b"%d" % version * 1000}, version=version)
                    made.signed_by(Signature(keyid="ab" * 32, sig=bytes(50_000))).add_to(index)
                    written.release()
                    version += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            counted = []
            for number in range(5):
                assert written.acquire(timeout=60)
                back_up(home, target, replace=True)
                counted.append(releases_in(target, tmp_path / str(number)))
                with Index.open(Home(tmp_path / str(number))) as index:
                    assert all(index.release_by_digest(one.manifest) for one in index.releases())
                    assert index.counts().blobs == index.counts().releases + 1
        finally:
            stop.set()
            writer.join(60)
        assert counted == sorted(counted)
        assert counted[-1] > counted[0]

    def test_a_writer_that_takes_its_time_is_not_waited_for(self, home: Home, target: Path, tmp_path: Path) -> None:
        with contextlib.closing(sqlite3.connect(home.index, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("DELETE FROM files")
            back_up(home, target)
        assert releases_in(target, tmp_path / "restored") == 1


class TestRefusals:
    def test_where_there_is_no_index(self, tmp_path: Path, target: Path) -> None:
        with pytest.raises(NotFoundError, match="no index"):
            back_up(Home(tmp_path / "none"), target)

    def test_what_is_there_is_kept_unless_it_shall_be_replaced(self, home: Home, target: Path, tmp_path: Path) -> None:
        target.write_bytes(b"older")
        with pytest.raises(UsageError, match="exists already"):
            back_up(home, target)
        assert target.read_bytes() == b"older"
        back_up(home, target, replace=True)
        assert releases_in(target, tmp_path / "restored") == 1

    def test_the_index_itself_a_folder_and_no_folder(self, home: Home, tmp_path: Path) -> None:
        for path in (home.index, tmp_path, tmp_path / "none" / "x"):
            with pytest.raises(SamaraError) as caught:
                back_up(home, path, replace=True)
            assert caught.value.next_step
        with Index.open(home) as index:
            assert index.counts().releases == 1

    def test_a_damaged_index_makes_no_backup(self, home: Home, target: Path) -> None:
        with Index.open(home) as index:
            for number in range(20):
                signed(model=f"m{number}").signed_by(Signature(keyid="ab" * 32, sig=bytes(20_000))).add_to(index)
        target.write_bytes(b"older")
        size = home.index.stat().st_size
        with home.index.open("r+b") as file:
            file.seek(size // 2)
            file.write(b"\xff" * (size // 4))
        with pytest.raises(StoreError):
            back_up(home, target, replace=True)
        assert target.read_bytes() == b"older"

    def test_a_full_disk_leaves_what_was_there(self, home: Home, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        target.write_bytes(b"older")
        real = sqlite3.connect

        def cramped(path: object, **options: object) -> sqlite3.Connection:
            connection = real(path, **options)  # type: ignore[call-overload]
            if path != home.index:
                connection.execute("PRAGMA max_page_count = 3")
            assert isinstance(connection, sqlite3.Connection)
            return connection

        monkeypatch.setattr("samara.registry.backup.sqlite3.connect", cramped)
        with pytest.raises(DiskFullError, match="no room left"):
            back_up(home, target, replace=True)
        assert target.read_bytes() == b"older"

    def test_killed_before_it_is_complete_it_has_no_name(self, home: Home, target: Path) -> None:
        """What is left is called as the sweep's leftovers are."""
        program = (
            "import os, signal, sys; from pathlib import Path; from samara.registry import backup; "
            "from samara.registry.home import Home; "
            "backup.publish_name = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
            "backup.back_up(Home(Path(sys.argv[1])), Path(sys.argv[2]))"
        )
        done = subprocess.run([sys.executable, "-c", program, home.root, target], check=False, timeout=60)
        assert done.returncode != 0
        (left,) = target.parent.iterdir()
        assert left.name.startswith(".samara-tmp-")
        left.unlink()


class TestPostgres:
    def test_it_is_what_pg_restore_reads(
        self, postgres_server: Postgres, postgres_url: str, tmp_path: Path, target: Path
    ) -> None:
        home = Home(tmp_path / "pg", postgres_url)
        with Index.open(home) as index:
            signed().add_to(index)
        done = back_up(home, target)
        assert done.kind == "pg_dump"
        with postgres_server.database() as other:
            restored = subprocess.run(
                ["pg_restore", "--no-owner", f"--host={postgres_server.folder}", f"--port={postgres_server.port}",
                 "--username=postgres", f"--dbname={other}", target],
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            assert restored.returncode == 0, restored.stderr
            with Index.open(Home(tmp_path / "again", postgres_server.url(other))) as index:
                assert index.releases()[0].envelope == signed().envelope

    def test_nobody_sees_the_password_among_its_arguments(
        self, postgres_url: str, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spy = tmp_path / "bin" / "pg_dump"
        spy.parent.mkdir()
        spy.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\nprintf %s "$PGPASSWORD" > {tmp_path}/password\n'
            f'exec {shutil.which("pg_dump")} "$@"\n'
        )
        spy.chmod(0o755)
        home = Home(tmp_path / "pg", postgres_url)
        Index.open(home).close()
        monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")
        back_up(home, target)
        assert PASSWORD not in (tmp_path / "arguments").read_text()
        assert "port=" in (tmp_path / "arguments").read_text()
        assert (tmp_path / "password").read_text() == PASSWORD

    def test_a_database_that_is_gone_or_a_missing_pg_dump_is_said(
        self, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = Home(tmp_path / "pg", "postgresql://u:geheim@127.0.0.1:1/x")
        with pytest.raises(StoreError, match="pg_dump failed") as caught:
            back_up(home, target)
        assert "geheim" not in str(caught.value)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(UsageError, match="pg_dump is not installed"):
            back_up(home, target)
        assert not target.exists()

    def test_odd_values_reach_libpq_as_they_are(self) -> None:
        url = parse_url("postgresql://o'brien:x@/da%5Cta?host=/tmp/a%20b&sslmode=disable")
        parameters = backup._parameters(url)
        assert parameters["user"] == "o'brien"
        assert backup._conninfo({"dbname": "da\\ta", "user": "o'brien"}) == r"dbname='da\\ta' user='o\'brien'"


class TestCommands:
    def command(self, home: Home, *arguments: object) -> tuple[int, str, str]:
        environment = {**os.environ, ENV_HOME: str(home.root), ENV_DATABASE: home.database or "", "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "samara", "db", *map(str, arguments)], env=environment, capture_output=True,
            text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def test_backup_and_its_refusal(self, home: Home, target: Path, tmp_path: Path) -> None:
        status, out, _ = self.command(home, "backup", target, "--json")
        assert (status, json.loads(out)["path"]) == (0, str(target))
        status, _, err = self.command(home, "backup", target)
        assert (status, "exists already" in err) == (ExitCode.USAGE, True)
        assert self.command(home, "backup", "--replace", target)[0] == 0
        assert releases_in(target, tmp_path / "restored") == 1

    def test_status_and_upgrade(self, tmp_path: Path, home: Home) -> None:
        new = Home(tmp_path / "new")
        assert json.loads(self.command(new, "status", "--json")[1])["schema"] is None
        assert not new.root.exists()
        assert "none → " + HEAD in self.command(new, "upgrade")[1]
        assert "nothing to do" in self.command(new, "upgrade")[1]
        told = json.loads(self.command(home, "status", "--json")[1])
        assert (told["schema"], told["is_current"], told["counts"]["releases"]) == (HEAD, True, 1)
