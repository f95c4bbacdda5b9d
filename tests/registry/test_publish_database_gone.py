"""Databases that go and come back in the middle of requests, are locked by others, deleted, moved away and replaced
under a registry that runs: 503, readers go on where they can, nothing that was acknowledged is lost.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attack_kit import Site, Told, reading, site
from service_kit import Author, author
from support.postgres import Postgres, postgres
from support.world import random_file

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.index_postgres import WRITER_LOCK
from samara.schemas.publication import pack_publication

LONG = pytest.mark.long


def publications(folder: Path, count: int) -> tuple[Author, list[bytes]]:
    """One after the other, each of all before and a model more."""
    acme = author(folder / "acme", "acme")
    bodies = []
    for number in range(count):
        acme.publish(f"model-{number}:v1", [random_file(folder / f"{number}.bin", 60_000, seed=number)])
        bodies.append(pack_publication(acme.publication()))
    return acme, bodies


def assert_unavailable(told: Told) -> None:
    """503 as a problem that names no path of this machine, with a time to come again."""
    assert told.status == 503, told
    assert int(told.headers["retry-after"]) > 0
    assert "sqlite3" not in str(told.body)


@contextlib.contextmanager
def asking(place: Site, paths: tuple[str, ...]) -> Iterator[Counter[tuple[str, int]]]:
    """Somebody asks all these again and again: how often which had which status; 0: none."""
    had: Counter[tuple[str, int]] = Counter()
    stop = threading.Event()

    def ask(path: str) -> None:
        while not stop.is_set():
            try:
                had[path, place.ask(path).status] += 1
            except (OSError, http.client.HTTPException):
                had[path, 0] += 1

    crowd = [threading.Thread(target=ask, args=(path,), daemon=True) for path in paths]
    for one in crowd:
        one.start()
    try:
        yield had
    finally:
        stop.set()
        for one in crowd:
            one.join(60)


@pytest.mark.parametrize("rounds", [1, pytest.param(8, marks=LONG)])
def test_a_postgresql_that_loses_power_in_the_middle_of_everything(tmp_path: Path, rounds: int) -> None:
    """Requests of every kind are under way; all but 200 and 503 would be a bug."""
    acme, bodies = publications(tmp_path, 3 * rounds + 1)
    with postgres() as server:
        home = Home(tmp_path / "registry", server.url("postgres"))
        place = site(home, "--reads", "0", "--behind", "127.0.0.1/32")
        with place.serving():
            assert place.publish(bodies[0]).status == 201
            digest = place.ask("/v1/search").body["models"][0]["tags"][0]["manifest"].removeprefix("b3:")
            paths = (
                "/v1/search?q=model",
                f"/v1/publishers/{acme.identity}",
                f"/v1/publishers/{acme.identity}/metadata/timestamp.json",
                f"/v1/manifests/{digest}",
                f"/v1/releases/{digest}.samara",
                f"/{acme.identity}/model-0",
                f"/api/models/{acme.identity}/model-0",
            )
            acknowledged = 1
            with asking(place, paths) as had:
                for number in range(rounds):
                    told: list[Told] = []
                    some = bodies[3 * number + 1 : 3 * number + 4]
                    posting = threading.Thread(
                        target=lambda told=told, some=some: told.extend(
                            place.publish(body, address=f"192.0.2.{n}") for n, body in enumerate(some)
                        )
                    )
                    posting.start()
                    server.stop(at_once=True)
                    posting.join(90)
                    assert_unavailable(place.publish(some[-1], address="192.0.2.99"))
                    server.start()
                    assert {one.status for one in told} <= {201, 503}
                    there = place.ask(f"/v1/publishers/{acme.identity}")
                    assert there.status == 200
                    newest = [one.body["timestamp_version"] for one in told if one.status == 201]
                    acknowledged = max([acknowledged, *newest])
                    assert there.body["timestamp_version"] >= acknowledged
            assert {status for _, status in had} == {200, 503}
            for path in paths:
                assert place.ask(path).status == 200
            assert place.publish(bodies[-1]).body["listed"] == len(bodies)


@contextlib.contextmanager
def locked_by_others(home: Home, server: Postgres | None) -> Iterator[Callable[[], object]]:
    """Somebody else writes, and goes on until the yielded function is called."""
    if server is not None:
        name = str(home.database).rpartition("/")[2]
        with server.connected(name) as other:
            other.execute("BEGIN")
            other.execute(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})".encode())
            yield lambda: other.execute("ROLLBACK")
    else:
        with contextlib.closing(sqlite3.connect(home.index, isolation_level=None, check_same_thread=False)) as file:
            file.execute("BEGIN IMMEDIATE")
            yield lambda: file.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [("sqlite", 2.0), pytest.param("sqlite", 26.0, marks=LONG), pytest.param("postgresql", 26.0, marks=LONG)],
)
def test_an_index_that_another_process_holds_locked(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, seconds: float
) -> None:
    """Up to twenty seconds are waited for; readers wait for nobody."""
    _, bodies = publications(tmp_path, 3)
    with contextlib.ExitStack() as stack:
        server: Postgres | None = None
        home = Home(tmp_path / "registry")
        if kind == "postgresql":
            server = request.getfixturevalue("postgres_server")
            assert server is not None
            home = Home(tmp_path / "registry", server.url(stack.enter_context(server.database())))
        place = site(home, "--reads", "0")
        stack.enter_context(place.serving())
        assert place.publish(bodies[0]).status == 201
        with locked_by_others(home, server) as release, reading(place) as reader:
            later = threading.Timer(seconds, release)
            later.start()
            told = place.publish(bodies[1])
            later.join(60)
        if seconds < 20:
            assert told.status == 201
            assert told.seconds >= seconds - 0.5
        else:
            assert_unavailable(told)
        assert reader.statuses == {200}
        assert reader.slowest < 5
        assert place.publish(bodies[2]).body["listed"] == 3


@pytest.mark.parametrize("how", ["deleted", *(pytest.param(one, marks=LONG) for one in ("moved", "replaced"))])
def test_an_index_that_goes_while_it_is_used_takes_nothing_with_it(tmp_path: Path, how: str) -> None:
    """What is written into a file without a name would be acknowledged and lost."""
    _, bodies = publications(tmp_path, 4)
    place = site(Home(tmp_path / "registry"), "--reads", "0")
    index = place.home.index
    aside = tmp_path / "aside"
    with place.serving() as process:
        assert place.publish(bodies[0]).status == 201
        if how == "deleted":
            for name in ("", "-wal", "-shm"):
                index.with_name(index.name + name).unlink()
        elif how == "moved":
            index.rename(aside)
        else:
            with contextlib.closing(sqlite3.connect(index)) as one, contextlib.closing(sqlite3.connect(aside)) as two:
                one.backup(two)
            shutil.move(aside, index)
        for path in ("/v1/search", "/readyz", "/v1/publishers"):
            assert_unavailable(place.ask(path))
        assert place.ask("/healthz").status == 200
        assert_unavailable(place.publish(bodies[1]))
        assert how == "replaced" or not index.exists(), "an empty one was made in its place"
        if how == "moved":
            aside.rename(index)
            assert place.publish(bodies[2]).body["listed"] == 3
        process.close()
        assert "was removed or replaced while it is in use" in process.end().stderr
    with place.serving():
        assert place.ask("/v1/search").body["total"] == {"deleted": 0, "moved": 3, "replaced": 1}[how]
        assert place.publish(bodies[3]).body["listed"] == 4
    with contextlib.closing(Index.open(place.home)) as opened:
        assert opened.damage() == ()
