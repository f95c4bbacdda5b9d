"""Real PostgreSQL servers in temporary folders: one for a test run, or one of a test's own to stop and start.

They listen on loopback (a password is asked for) and on a socket in their own folder (none is). Sorting is by ICU's
rules, as on servers that were set up for people, so nothing may rely on the order of bytes. PostgreSQL refuses to run
as root: there its programs run as the user `postgres` that Debian's package makes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    import psycopg

PASSWORD = "s3cret/p@ss word"
_LIMIT = 120.0  # seconds that a server may take to start or stop
_numbers = itertools.count()


class Postgres:
    """A server. Not running until `start`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._data = folder / "data"
        self._process: subprocess.Popen[str] | None = None
        secret = folder / "secret"
        secret.write_text(PASSWORD, encoding="utf-8")
        user = _user()
        if user is not None:
            for path in (folder, secret):
                shutil.chown(path, user)
        done = subprocess.run(
            [*_as_user(), program("initdb"), "--pgdata", self._data, "--username=postgres", f"--pwfile={secret}",
             "--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8",
             "--locale-provider=icu", "--icu-locale=en", "--no-sync", "--no-instructions"],
            capture_output=True, text=True, check=False, timeout=_LIMIT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": "off",  # nothing here outlives the folder
            "shared_buffers": "32MB",
            "max_connections": 60,
            "log_min_messages": "log",
        }
        told = [f"-c{name}={value}" for name, value in settings.items()]
        self._process = subprocess.Popen(
            [*_as_user(), program("postgres"), "-D", self._data, *told],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        seen = []
        for line in self._process.stderr:
            seen.append(line)
            if "database system is ready to accept connections" in line:
                break
        else:
            raise AssertionError("PostgreSQL didn't start: " + "".join(seen[-10:]))
        threading.Thread(target=self._drain, args=(self._process,), daemon=True).start()

    def stop(self, *, at_once: bool = False) -> None:
        """Break every connection and stop it ("fast shutdown"); `at_once`: as if its machine lost power."""
        if self._process is None:
            return
        if self._process.poll() is None:
            pid = int((self._data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
            os.kill(pid, signal.SIGQUIT if at_once else signal.SIGINT)
        self._process.wait(_LIMIT)
        self._process = None

    def revive(self) -> None:
        """Start it if it ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
            self.start()

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        """What SAMARA_DATABASE is set to."""
        return f"postgresql+psycopg://postgres:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """The same by the socket in the file system."""
        return f"postgresql+psycopg://postgres@/{database}?host={quote(str(self.folder))}&port={self.port}"

    @contextlib.contextmanager
    def connected(self, database: str = "postgres") -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """A connection of the test's own; every statement is its own transaction."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:  # fmt: skip
            yield connection

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The name of a new, empty database; dropped on leaving, whoever uses it."""
        name = f"samara_{os.getpid()}_{next(_numbers)}"
        with self.connected() as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            yield name
        finally:
            if self._process is not None:
                with self.connected() as connection:
                    connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    @staticmethod
    def _drain(process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as log:
            for _ in log:
                pass


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server in a folder of its own; stopped and removed on leaving."""
    # not below pytest's folders: the path of a socket may have 107 bytes, and `postgres` may not look into them
    with tempfile.TemporaryDirectory(prefix="samara-pg-", ignore_cleanup_errors=True) as name:
        server = Postgres(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def program(name: str) -> str:
    """A program of PostgreSQL's server. Debian keeps them out of PATH."""
    places = [os.environ.get("PATH", ""), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    found = shutil.which(name, path=os.pathsep.join(places))
    assert found is not None, f"{name} is not installed: sudo apt-get install -y postgresql"
    return found


def _user() -> str | None:
    """Whom the server runs as, if not as us."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    raise AssertionError("no user postgres: sudo apt-get install -y postgresql")


def run_as() -> tuple[str | None, list[str]]:
    """Whom a database's programs run as, if not as us, and what to put before them."""
    return _user(), _as_user()


def _as_user() -> list[str]:
    user = _user()
    return [] if user is None else ["runuser", "-u", user, "--"]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One server for all tests of this process. Not to be stopped: who does that makes one by `postgres`."""
    with postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL of an empty database."""
    with postgres_server.database() as name:
        yield postgres_server.url(name)
