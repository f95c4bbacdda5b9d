"""Two machines, as people set them up: SAMARA_HOME at one path on both, one PostgreSQL for both. What one has, the
other lists and doesn't believe to have; it fetches, serves and drops its own. Real processes in mount namespaces, each
with a disk of its own at that path; a real server and a real swarm.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from support.mounts import unshared
from support.postgres import Postgres
from support.processes import LIMIT, seed_process, started
from support.processes import samara as run
from support.world import MIB, one_blob

from samara.registry.home import Home

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not unshared(), reason="can't mount disks of its own here (needs Linux and unshare)"),
]
ORIGIN = "http://registry.test:8642"
MIRROR = ("--mirror", "--no-discovery", "--swarm-listen", "127.0.0.1:0", "--private-mirrors")
_MOUNTED = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


class Machine:
    """One of them: what it has at the path that all of them use."""

    def __init__(self, disk: Path, home: Home, server: Postgres, database: str) -> None:
        disk.mkdir()
        home.root.mkdir(exist_ok=True)
        self.server, self.database = server, database
        self.home = home
        self.disk = disk
        told = f"SAMARA_DATABASE={server.url(database)}"
        self.wrap = (*unshared(), "sh", "-c", _MOUNTED, "sh", str(disk), str(home.root), "env", told)

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[str]:
        """`samara serve` on it; its URL. Stopped as people stop it."""
        told = ("serve", "--json", "--listen", "127.0.0.1:0", "--origin", ORIGIN, "--log", "off", *arguments)
        with started(self.home, *told, wrap=self.wrap) as process:
            yield process.expect("serving")["url"]
            process.send(signal.SIGTERM)
            ended = process.end()
        assert (ended.status, "Traceback" in ended.stderr) == (0, False), ended.stderr

    def run(self, *arguments: object) -> dict[str, Any]:
        """One command on it, to its end."""
        with started(self.home, *arguments, "--json", wrap=self.wrap) as process:
            ended = process.end()
        assert ended.status == 0, ended.stderr
        return ended.result

    def until_it_has(self, b3_hex: str, *, so: bool = True) -> None:
        """Wait until a blob lies on its disk and its row says so, or no more. Nobody asks for it by that."""
        end = time.monotonic() + LIMIT
        while {Home(self.disk).blob(b3_hex).exists(), self.store() in rows(self.server, self.database)} != {so}:
            assert time.monotonic() < end, f"not within {LIMIT} s"
            time.sleep(0.1)

    def state(self) -> str:
        """What `samara ls` says of the only release."""
        (row,) = self.run("ls")["releases"]
        return str(row["state"])

    def store(self) -> str:
        """Which store it is."""
        return str(json.loads((self.disk / "store-id").read_bytes())["id"])


def status_of(url: str) -> int:
    try:
        with closing(urllib.request.urlopen(url, timeout=30)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def until(url: str, wanted: int) -> None:
    """Wait until it is answered so."""
    end = time.monotonic() + LIMIT
    while (found := status_of(url)) != wanted:
        assert time.monotonic() < end, f"{url}: {found}"
        time.sleep(0.1)


def rows(server: Postgres, database: str) -> dict[str, str]:
    """Store → path of every location."""
    with server.connected(database) as connection:
        found = connection.execute("SELECT store, path FROM locations").fetchall()
    return {str(store): str(path) for store, path in found}


def test_two_machines_with_one_path_know_their_own_bytes(tmp_path: Path, postgres_server: Postgres) -> None:
    first = one_blob(tmp_path / "publisher", 2 * MIB)
    blob = f"/v1/blobs/{first.only.b3_hex}"
    home = Home(tmp_path / "home")  # what both call theirs
    with postgres_server.database() as database:
        one, two = (Machine(tmp_path / name, home, postgres_server, database) for name in ("one", "two"))
        with one.serving(*MIRROR) as url:
            pushed = run(first.home, "push", first.publisher.name, "--registry", url)
            assert pushed.status == 0, pushed.stderr
            with seed_process(first.home, "--tracker", f"{url}/announce"):
                until(url + blob, 200)
            with two.serving() as other:
                search = json.loads(urllib.request.urlopen(f"{other}/v1/search", timeout=30).read())
                assert search["total"] == 1
                assert (status_of(url + blob), status_of(other + blob)) == (200, 404)
            assert (one.state(), two.state()) == ("whole", "absent")
            path = str(home.blob(first.only.b3_hex))
            assert rows(postgres_server, database) == {one.store(): path}

            with two.serving(*MIRROR) as other, seed_process(first.home, "--tracker", f"{other}/announce"):
                two.until_it_has(first.only.b3_hex)
            assert rows(postgres_server, database) == {one.store(): path, two.store(): path}
            assert (one.state(), two.state()) == ("whole", "whole")

            with two.serving(*MIRROR, "--quota", "1K") as other:  # before anybody asked for it
                two.until_it_has(first.only.b3_hex, so=False)
                assert (status_of(url + blob), status_of(other + blob)) == (200, 404)
            two.run("prune", "--older-than", "0", "--yes")
            assert rows(postgres_server, database) == {one.store(): path}
            assert (one.state(), two.state()) == ("whole", "absent")

            with two.serving(*MIRROR) as other, seed_process(first.home, "--tracker", f"{other}/announce"):
                until(other + blob, 200)
                with closing(urllib.request.urlopen(other + blob, timeout=30)) as answer:
                    assert blake3(answer.read()).hexdigest() == first.only.b3_hex
        known = two.run("db", "status")
        assert {row["id"]: row["locations"] for row in known["stores"]} == {one.store(): 1, two.store(): 1}
        assert known["store"] == two.store()
        two.run("db", "forget-store", one.store()[:8], "--force")
        assert rows(postgres_server, database) == {two.store(): path}
