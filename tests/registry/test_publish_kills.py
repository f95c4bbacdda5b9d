"""SIGKILL of the registry, of `samara push` and of `samara publish --registry`, at every step and at random moments:
all of a publication is there or nothing, what was acknowledged stays, and the same command again makes it whole.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack_kit import Site, site
from service_kit import Author, author, tiny_files
from support.processes import samara, started
from support.world import random_file

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.own_catalog import own_catalog
from samara.schemas.publication import pack_publication

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and fork")
LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("kind", "at_once", "every"),
    [
        ("sqlite", "some", 40),
        ("postgresql", "all", 120),
        *(pytest.param(kind, names, 1, marks=LONG) for kind in ("sqlite", "postgresql") for names in ("all", "some")),
    ],
)
def test_a_kill_at_any_step_leaves_all_or_nothing(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, at_once: str, every: int
) -> None:
    """`some`: or all but some names, which the next publication brings."""
    driver = Path(__file__).with_name("publish_kill_driver.py")
    url = [] if kind == "sqlite" else [request.getfixturevalue("postgres_server").socket_url("postgres")]
    command = [sys.executable, driver, tmp_path, str(every), at_once, *url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    steps, nothing, all_of_it = map(int, done.stdout.split())
    assert steps > 100
    assert nothing >= steps / every / 2
    assert all_of_it >= 1


@contextlib.contextmanager
def home_of(request: pytest.FixtureRequest, folder: Path, kind: str) -> Iterator[Home]:
    if kind == "sqlite":
        yield Home(folder)
        return
    server = request.getfixturevalue("postgres_server")
    with server.database() as name:
        yield Home(folder, server.url(name))


def version_at(place: Site, identity: str) -> int:
    """The version of the publisher's catalog that the registry has; 0: none."""
    answer = place.ask(f"/v1/publishers/{identity}")
    return int(answer.body["timestamp_version"]) if answer.status == 200 else 0


def assert_whole(place: Site, acme: Author, version: int) -> None:
    """Everything that the catalog names is listed, with its manifest and its torrent; the index is sound."""
    listed = place.ask("/v1/search?limit=100").body
    assert listed["total"] == version
    for model in listed["models"]:
        (tag,) = model["tags"]
        digest = tag["manifest"].removeprefix("b3:")
        assert place.ask(f"/v1/manifests/{digest}").status == 200
        assert place.ask(f"/v1/releases/{digest}.samara").status == 200
    with contextlib.closing(Index.open(place.home)) as index:
        assert index.damage() == ()


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [("sqlite", 1), pytest.param("sqlite", 25, marks=LONG), pytest.param("postgresql", 25, marks=LONG)],
)
def test_a_registry_that_is_killed_at_random_moments_loses_nothing_it_acknowledged(
    tmp_path: Path, request: pytest.FixtureRequest, dice: random.Random, kind: str, rounds: int
) -> None:
    acme = author(tmp_path / "acme", "acme")
    bodies = []
    for number in range(rounds + 1):
        acme.publish(f"model-{number}:v1", [random_file(tmp_path / f"{number}.bin", 70_000, seed=number)])
        bodies.append(pack_publication(acme.publication()))
    acknowledged = 0
    with home_of(request, tmp_path / "registry", kind) as home:
        place = site(home)
        for begun, body in enumerate(bodies[:-1]):
            with place.serving() as process:
                there = version_at(place, acme.identity)
                assert acknowledged <= there <= begun, "what was acknowledged is gone"
                assert_whole(place, acme, there)
                answers: list[int] = []
                thread = threading.Thread(target=_post, args=(place, body, answers))
                thread.start()
                at_a_moment(dice, 0.15)
                process.close()
                thread.join(60)
            assert answers in ([], [201])
            acknowledged = begun + 1 if answers else acknowledged
        with place.serving():
            assert place.publish(bodies[-1]).status == 201
            assert version_at(place, acme.identity) == len(bodies)
            assert_whole(place, acme, len(bodies))


def at_a_moment(dice: random.Random, longest: float) -> None:
    """Wait for no event: whatever is killed after it is killed anywhere."""
    threading.Event().wait(dice.uniform(0.0, longest))


def _post(place: Site, body: bytes, answers: list[int]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        answers.append(place.publish(body).status)


@pytest.mark.long
def test_a_push_that_is_killed_at_random_moments_is_made_whole_by_the_next_one(
    tmp_path: Path, dice: random.Random
) -> None:
    rounds = 20
    acme = author(tmp_path / "acme", "acme")
    acme.publish("tiny:v1", tiny_files(tmp_path / "tiny"))
    place = site(Home(tmp_path / "registry"))
    with place.serving():
        arguments = ("push", "acme", "--registry", place.url, "--json")
        began = time.monotonic()
        assert samara(acme.home, *arguments).status == 0
        took = time.monotonic() - began
        for number in range(rounds):
            acme.publish(f"model-{number}:v1", [random_file(tmp_path / f"{number}.bin", 70_000, seed=number)])
            with started(acme.home, *arguments) as killed:
                threading.Event().wait(took / 3)  # Python starts: nothing of ours to kill yet
                at_a_moment(dice, took)
        told = samara(acme.home, *arguments)
        assert told.status == 0, told.stderr
        assert (told.result["pushed"][0]["listed"], told.result["pushed"][0]["missing"]) == (rounds + 1, [])
        assert killed.end().status in {0, -9}


@pytest.mark.long
@pytest.mark.parametrize("rounds", [20])
def test_a_publish_that_is_killed_at_random_moments_is_made_whole_by_the_same_command(
    tmp_path: Path, dice: random.Random, rounds: int
) -> None:
    """Between its parts: signing, the index, the catalog, the registry."""
    acme = author(tmp_path / "acme", "acme")
    place = site(Home(tmp_path / "registry"))
    with place.serving():

        def arguments(number: int) -> tuple[object, ...]:
            file = random_file(tmp_path / f"{number}.bin", 2_000_000, seed=number)
            output = tmp_path / f"{number}.samara"
            names = ("--as", f"acme/model-{number}:v1", "-o", output, "--registry", place.url, "--claim", "acme")
            return ("publish", file, *names, "--json")

        began = time.monotonic()
        first = samara(acme.home, *arguments(0))
        assert first.status == 0, first.stderr
        took = time.monotonic() - began
        for number in range(1, rounds + 1):
            with started(acme.home, *arguments(number)):
                threading.Event().wait(took / 3)
                at_a_moment(dice, took)
            again = samara(acme.home, *arguments(number))
            assert again.status == 0, again.stderr
            (pushed,) = again.result["pushed"]
            assert (pushed["listed"], pushed["names"], pushed["missing"]) == (number + 1, ["acme"], [])
            state = own_catalog(acme.publisher)
            assert state is not None
            manifest = state.catalog.entries[f"model-{number}/v1"].manifest
            assert place.ask(f"/v1/models/acme/model-{number}/releases/v1").body["release"]["manifest"] == manifest
    assert samara(acme.home, "audit", "--json").status == 0
