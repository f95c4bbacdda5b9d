"""Many who publish at the same moment, at two instances on one database: one wins, the others are told why not.

Instances are processes of their own: on PostgreSQL with homes of their own, on SQLite on one home.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attack_kit import Site, Told, site
from service_kit import QUICK, Author, author
from support.pgbouncer import pgbouncer
from support.processes import Outcome, samara, started
from support.world import random_file

from samara.registry.home import ENV_DATABASE, Home
from samara.registry.index import Index
from samara.registry.trust.making import init_publisher
from samara.registry.trust.own_catalog import nothing, update_catalog
from samara.registry.trust.pins import TrustFolder
from samara.schemas.publication import pack_publication

CROWD = 8
ORIGIN = "http://registry.test"
LONG = pytest.mark.long


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two instances on one database."""

    places: tuple[Site, Site]

    @property
    def home(self) -> Home:
        """That of the first."""
        return self.places[0].home

    def at_once(self, bodies: Sequence[bytes]) -> list[Told]:
        """Publish all of them at the same moment, from as many addresses, by turns here and there."""
        gate = threading.Barrier(len(bodies))
        told: dict[int, Told] = {}

        def post(number: int, body: bytes) -> None:
            gate.wait(60)
            told[number] = self.places[number % 2].publish(body, address=f"192.0.2.{number}")

        crowd = [threading.Thread(target=post, args=one, daemon=True) for one in enumerate(bodies)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join(120)
        assert len(told) == len(bodies), "somebody was never answered"
        return [told[number] for number in range(len(bodies))]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", pytest.param("pgbouncer", marks=LONG)])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    behind = ("--origin", ORIGIN, "--behind", "127.0.0.1/32")
    with contextlib.ExitStack() as stack:
        homes = [Home(folder / "one")] * 2
        if request.param != "sqlite":
            server = request.getfixturevalue("postgres_server")
            name = stack.enter_context(server.database())
            url = server.url(name)
            if request.param == "pgbouncer":  # with fewer connections than there are askers
                url = stack.enter_context(pgbouncer(server, size=4)).url(name)
            homes = [Home(folder / "one", url), Home(folder / "two", url)]
        one, two = (site(home, *behind) for home in homes)
        for place in (one, two):
            stack.enter_context(place.serving())
        yield Pair(places=(one, two))
        with contextlib.closing(Index.open(homes[0])) as index:
            assert index.damage() == ()


def made(folder: Path, name: str) -> Author:
    """A publisher who has published something."""
    one = author(folder / name, name)
    one.publish("x:v1", [random_file(folder / f"{name}.bin", 70_000, seed=len(name))])
    return one


def next_catalog(one: Author) -> None:
    """The same, signed as the next version."""
    update_catalog(one.home, one.publisher, nothing, signers=one.publisher.online_keys(None), now=datetime.now(UTC))


def reasons(told: Sequence[Told]) -> Counter[str]:
    """What became of them: an outcome, or the reason of a refusal."""
    return Counter(one.body.get("outcome") or one.body.get("reason") or str(one.status) for one in told)


def test_one_of_many_gets_a_name(pair: Pair, tmp_path: Path) -> None:
    crowd = [made(tmp_path, f"p{number}") for number in range(CROWD)]
    told = pair.at_once(
        [pack_publication(one.publication(claim=one.claim("wanted", origin=ORIGIN))) for one in crowd]
    )  # fmt: skip
    assert reasons(told) == {"verified": 1, "name-taken": CROWD - 1}
    (winner,) = (one.body for one in told if one.status == 201)
    assert winner["names"] == ["wanted"]
    for place in pair.places:
        assert place.ask("/v1/namespaces/wanted").body["identity"] == winner["identity"]
        for one in crowd:  # who was refused isn't there in part
            assert place.ask(f"/v1/publishers/{one.identity}").status == (
                200 if one.identity == winner["identity"] else 404
            )


def test_the_same_from_many_is_taken_in_once(pair: Pair, tmp_path: Path) -> None:
    one = made(tmp_path, "same")
    told = pair.at_once([pack_publication(one.publication())] * CROWD)
    assert reasons(told) == {"verified": 1, "unchanged": CROWD - 1}


def test_of_many_versions_the_highest_stays(pair: Pair, tmp_path: Path) -> None:
    one = made(tmp_path, "versions")
    bodies = [pack_publication(one.publication())]
    for _ in range(CROWD - 1):
        next_catalog(one)
        bodies.append(pack_publication(one.publication()))
    told = pair.at_once(bodies)
    assert set(reasons(told)) <= {"verified", "stale", "conflict"}
    highest = max(answer.body["timestamp_version"] for answer in told if answer.status == 201)
    for place in pair.places:
        assert place.ask(f"/v1/publishers/{one.identity}").body["timestamp_version"] == highest
    assert pair.places[0].publish(bodies[-1]).body["timestamp_version"] == CROWD


def test_of_many_contradictions_one_is_taken_and_all_others_are_evidence(pair: Pair, tmp_path: Path) -> None:
    one = made(tmp_path, "forked")
    before = (one.publisher.folder / "catalog").read_bytes()
    bodies = []
    for number in range(CROWD):
        (one.publisher.folder / "catalog").write_bytes(before)
        one.publish(f"y{number}:v1", [random_file(tmp_path / f"y{number}.bin", 70_000, seed=number)])
        bodies.append(pack_publication(one.publication()))
    told = pair.at_once(bodies)
    assert reasons(told) == {"verified": 1, "equivocation": CROWD - 1}
    evidence = pair.places[1].ask(f"/v1/publishers/{one.identity}/equivocations").body
    assert len({row["offered"] for row in evidence}) == CROWD - 1


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=LONG)])
def test_publishing_while_the_operator_looks_after_the_index(pair: Pair, tmp_path: Path, rounds: int) -> None:
    """Backups, upgrades and pruning at the same moment: nobody is refused, and each backup is of one moment."""
    one = made(tmp_path, f"busy{rounds}")
    for number in range(rounds):
        bodies = []
        for _ in range(4):
            next_catalog(one)
            bodies.append(pack_publication(one.publication()))
        backup = tmp_path / f"backup-{number}"
        with contextlib.ExitStack() as stack:
            commands = [("db", "backup", backup), ("db", "upgrade"), ("prune", "--older-than", "0", "--yes")]
            running = [stack.enter_context(_command(pair.home, *command)) for command in commands]
            for body in bodies:
                assert pair.places[number % 2].publish(body).status == 201
            ended: list[Outcome] = [process() for process in running]
        for outcome in ended:
            assert outcome.status == 0, outcome.stderr
        assert backup.stat().st_size > 10_000
        if pair.home.database is None:
            restored = Home(tmp_path / f"restored-{number}")
            restored.prepare()
            restored.index.write_bytes(backup.read_bytes())
            with contextlib.closing(Index.open(restored)) as index:
                assert index.damage() == ()


@contextlib.contextmanager
def _command(home: Home, *arguments: object) -> Iterator[Callable[[], Outcome]]:
    wrap = () if home.database is None else ("env", f"{ENV_DATABASE}={home.database}")
    with started(home, *arguments, "--json", wrap=wrap) as process:
        yield process.end


@pytest.mark.long
def test_push_commands_at_once(tmp_path: Path) -> None:
    """The command people use: of those that claim one name one succeeds; the others end with 6 and say why."""
    crowd = [made(tmp_path, f"q{number}") for number in range(CROWD)]
    place = site(Home(tmp_path / "registry"), "--behind", "127.0.0.1/32")  # from this machine there may be two at once
    with contextlib.ExitStack() as stack:
        stack.enter_context(place.serving())
        told = ("push", "--registry", place.url, "--claim", "wanted", "--json")
        ended = [process.end() for process in [stack.enter_context(started(one.home, *told)) for one in crowd]]
        assert Counter(outcome.status for outcome in ended) == {0: 1, 6: CROWD - 1}
        assert all("belongs to another publisher" in outcome.message for outcome in ended if outcome.status)


@pytest.mark.long
@pytest.mark.parametrize("pair", ["postgresql", "pgbouncer"], indirect=True)
def test_publish_search_and_pull_where_connections_are_pooled(pair: Pair, tmp_path: Path) -> None:
    """A publisher's own registry shares the database: what it publishes is found at the others and pulled from it."""
    home = Home(tmp_path / "whole", pair.home.database)
    publisher = init_publisher(
        home, "whole", passphrase=None, recovery=None, now=datetime.now(UTC), kdf_rounds=QUICK
    )  # fmt: skip
    one = Author(home=home, publisher=publisher, folder=tmp_path)
    one.publish("x:v1", [random_file(tmp_path / "x.bin", 700_000, seed=8)])
    own = site(home)
    reader = Home(tmp_path / "reader")
    TrustFolder(reader.trust).add("whole", one.identity, now=datetime.now(UTC))
    with own.serving():
        for place in pair.places:
            assert place.ask("/v1/search?q=whole").body["total"] == 1
        told = ("--registry", own.url, "--mirror-only", "--no-discovery", "--give-up-after", "20", "--json")
        for _ in range(8):  # more often than psycopg waits until it prepares a statement
            assert pair.places[0].ask("/v1/models/whole/x/releases/v1").status == 200
        pulled = samara(reader, "pull", "whole/x:v1", *told)
        assert pulled.status == 0, pulled.stderr
