"""Clients of a registry, over the wire: push, pull by names and bytes, fall back, follow another registry."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from service_kit import Author, author, listed, registry, tiny_files
from support.mirrors import mirror
from support.processes import Outcome, samara, seed_process
from support.world import flip, random_file

from samara.fetcher.options import PullOptions
from samara.fetcher.pull import pull
from samara.registry.home import Home
from samara.registry.http import HttpClient
from samara.registry.index import Index
from samara.registry.publications.accept import Rules
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.sync import sync_from
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Quotas, Settings
from samara.registry.trust.own_catalog import nothing, update_catalog
from samara.registry.trust.pins import TrustFolder
from samara.schemas.errors import NetworkError, TrustError
from samara.schemas.events import Event, Warned
from samara.schemas.networks import NetworkPolicy
from samara.seeder.push import push


def run(home: Home, *arguments: object) -> Outcome:
    """One command, to its end."""
    return samara(home, *arguments, "--json")


DEAD = "http://127.0.0.1:9"


@contextmanager
def empty_registry(folder: Path, quotas: Quotas | None = None) -> Iterator[tuple[Service, str]]:
    """One that nobody has published at, and its address, which is its origin."""
    home = Home(folder)
    with Index.open(home) as index:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        settings = Settings(origin=f"http://127.0.0.1:{port}", quotas=quotas or Quotas())
        service = Service(home=home, index=index, settings=settings)
        with RunningServer(create_app(service), ("127.0.0.1", port)) as server:
            yield service, server.url


@pytest.fixture
def acme(tmp_path: Path) -> Author:
    made = author(tmp_path / "acme", "acme")
    made.publish("tiny:q8_0", tiny_files(made.folder / "tiny"))
    made.publish("blob:v1", [random_file(made.folder / "blob.bin", 900_000, seed=1)])
    return made


def trusting(folder: Path, identity: str) -> Home:
    """A machine that has pinned acme and has nothing else."""
    home = Home(folder)
    TrustFolder(home.trust).add("acme", identity, now=datetime.now(UTC))
    return home


PULL = ("pull", "--no-discovery", "--mirror-only", "--give-up-after", "20")


def test_push_lists_what_was_published_and_again_changes_nothing(tmp_path: Path, acme: Author) -> None:
    with empty_registry(tmp_path / "registry") as (service, url):
        done = push(acme.home, acme.publisher, url, claim="acme")
        assert (done.names, done.listed, done.sent, done.missing) == (("acme",), 2, 2, ())
        owner = service.listings.owner("acme")
        assert owner is not None
        assert owner.identity == acme.identity
        again = push(acme.home, acme.publisher, url)
        assert (again.names, again.listed, again.sent) == (("acme",), 2, 0)
        acme.publish("third:v1", [random_file(acme.folder / "third.bin", 100_000, seed=3)])
        assert push(acme.home, acme.publisher, url).sent == 1


def test_push_says_why_a_registry_refuses(tmp_path: Path, acme: Author) -> None:
    other = author(tmp_path / "other", "acme")
    other.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    with empty_registry(tmp_path / "registry") as (_, url):
        push(acme.home, acme.publisher, url, claim="acme")
        with pytest.raises(TrustError, match="belongs to another publisher"):
            push(other.home, other.publisher, url, claim="acme")
        outcome = run(other.home, "push", "--registry", url, "--claim", "acme")
        assert outcome.status == 6
        assert "belongs to another publisher" in outcome.message
    with pytest.raises(NetworkError):
        push(acme.home, acme.publisher, url)


def test_a_registry_without_room_is_no_matter_of_trust(tmp_path: Path, acme: Author) -> None:
    with (
        empty_registry(tmp_path / "registry", Quotas(stored_bytes=100)) as (_, url),
        pytest.raises(NetworkError, match="keeps no more"),
    ):
        push(acme.home, acme.publisher, url)


def test_push_to_what_is_no_registry_says_so(tmp_path: Path, acme: Author) -> None:
    with mirror(tmp_path) as server, pytest.raises(NetworkError, match="no Samara registry"):
        push(acme.home, acme.publisher, server.url.rstrip("/"))


def test_a_release_is_had_by_name_from_a_registry_alone(tmp_path: Path) -> None:
    with registry(tmp_path) as service, RunningServer(create_app(service)) as server:
        owner = service.listings.owner("acme")
        assert owner is not None
        home = trusting(tmp_path / "reader", owner.identity)
        # in this process, where nothing allows private mirrors: a registry that the user named is no such
        done = pull(home, ["acme/tiny:q8_0"], PullOptions(registries=(server.url,), peer_to_peer=False))
        assert done.bytes_from_mirrors > 1_000_000
        assert all(file.location.stat().st_size == file.size for file in done.files)


def test_configured_registries_are_asked_in_order_and_the_dead_are_passed_over(tmp_path: Path) -> None:
    with registry(tmp_path) as service, RunningServer(create_app(service)) as server:
        owner = service.listings.owner("acme")
        assert owner is not None
        home = trusting(tmp_path / "reader", owner.identity)
        assert run(home, "registry", "add", server.url).status == 0
        listed = run(home, "registry", "add", DEAD + "/", "--first").result["registries"]
        assert listed == [DEAD, server.url]
        asked = run(home, "pull", "acme/tiny:q8_0", "--explain").result["contacts"]
        catalogs = [one["who"] for one in asked if one["kind"] == "catalog"]
        assert [url.split("/v1/")[0] for url in catalogs] == [DEAD, server.url]
        assert run(home, *PULL, "acme/blob:v1").status == 0
        assert run(home, *PULL, "acme/tiny:q8_0", "--no-registry").status in {3, 4}
        assert run(home, "registry", "remove", DEAD).result["registries"] == [server.url]
        assert run(home, "registry", "remove", DEAD).status == 3
        assert run(home, "registry", "add", "ftp://x").status == 2


def test_a_registry_with_wrong_bytes_costs_only_time(tmp_path: Path) -> None:
    """Its disk rots, and it doesn't notice: the block check does, and the next registry gives what is right."""
    with registry(tmp_path) as service, RunningServer(create_app(service)) as server:
        owner = service.listings.owner("acme")
        assert owner is not None
        (listing,) = service.listings.model(owner, "blob")
        flip(tmp_path / "registry" / "blob.bin", 2_000_000)
        assert listing.size == 5_000_000
        home = trusting(tmp_path / "reader", owner.identity)
        outcome = run(home, *PULL, "acme/blob:v1", "--registry", server.url)
        assert outcome.status == 4, outcome.stderr
        whole = tmp_path / "whole"
        whole.mkdir()
        random_file(whole / "blob.bin", 5_000_000, seed=1)
        again = run(home, *PULL, "acme/blob:v1", "--registry", server.url, "--adopt", whole)
        assert again.status == 0, again.stderr


def test_a_registry_can_not_make_a_name_mean_something_else(tmp_path: Path, acme: Author) -> None:
    """An old catalog, kept by a registry that lies, is seen through by who saw a newer one."""
    with empty_registry(tmp_path / "lying") as (_, lying), empty_registry(tmp_path / "honest") as (_, honest):
        push(acme.home, acme.publisher, lying)
        keys = acme.publisher.online_keys(None)
        update_catalog(acme.home, acme.publisher, nothing, signers=keys, now=datetime.now(UTC))
        acme.publish("tiny:q8_0", [random_file(acme.folder / "new.bin", 70_000, seed=9)])
        push(acme.home, acme.publisher, honest)
        home = trusting(tmp_path / "reader", acme.identity)
        new = run(home, "pull", "acme/tiny:q8_0", "--explain", "--registry", honest)
        assert new.status == 0
        outcome = run(home, *PULL, "acme/tiny:q8_0", "--registry", honest, "--registry", lying)
        assert "older" not in outcome.message or outcome.status == 4
        known = json.loads(run(home, "trust", "show", "acme").stdout)["catalog"]["versions"]["timestamp"]
        assert known == 4
        outcome = run(home, *PULL, "acme/tiny:q8_0", "--registry", lying)
        assert outcome.status == 6
        assert "older" in outcome.message


def test_a_registry_follows_another_one(tmp_path: Path, acme: Author) -> None:
    umbra = author(tmp_path / "umbra", "umbra")
    umbra.publish("other:v1", [random_file(tmp_path / "o.bin", 100_000, seed=4)])
    warnings: list[Event] = []
    with empty_registry(tmp_path / "first") as (first, url), Index.open(Home(tmp_path / "second")) as index:
        push(acme.home, acme.publisher, url, claim="acme")
        push(umbra.home, umbra.publisher, url)
        rules = Rules(claims=ClaimRules(origin=""), policy=NetworkPolicy(private=True))
        with HttpClient(NetworkPolicy(), named=(url,)) as client:

            def follow(*, names: bool) -> tuple[int, int, int, tuple[str, ...]]:
                done = sync_from(
                    index, url, client, rules, now=datetime.now(UTC), names=names, on_event=warnings.append
                )  # fmt: skip
                assert done.failed == 0
                return done.publishers, done.changed, done.releases, done.names

            assert follow(names=False) == (2, 2, 3, ())
            assert follow(names=False) == (2, 0, 0, ())
            assert index.listings.namespace_owner("acme") is None
            assert follow(names=True) == (2, 0, 0, ("acme",))
            assert index.listings.namespace_owner("acme") == acme.identity
            acme.publish("more:v1", [random_file(acme.folder / "more.bin", 100_000, seed=3)])
            push(acme.home, acme.publisher, url)
            assert follow(names=True) == (2, 1, 1, ())
        for owner in first.listings.owners():
            mine = index.listings.owner(owner.identity)
            assert mine is not None
            assert index.listings.metadata(owner.identity) == first.listings.metadata(owner.identity)
            assert len(listed(index, mine.identity)) == len(listed(first.index, owner.identity))
    assert not [one for one in warnings if isinstance(one, Warned)]


def test_following_from_the_command_line(tmp_path: Path, acme: Author) -> None:
    with empty_registry(tmp_path / "first") as (_, url):
        push(acme.home, acme.publisher, url, claim="acme")
        home = Home(tmp_path / "second")
        outcome = run(home, "registry", "sync", url, "--names")
        assert outcome.status == 0, outcome.stderr
        assert outcome.result["releases"] == 2
        assert outcome.result["names"] == ["acme"]
    assert run(home, "registry", "sync", url).status == 4


def test_publish_can_push_at_once(tmp_path: Path, acme: Author) -> None:
    with empty_registry(tmp_path / "registry") as (service, url):
        file = random_file(tmp_path / "new.bin", 100_000, seed=5)
        names = ("--registry", url, "--claim", "acme")
        outcome = run(acme.home, "publish", file, "--as", "acme/new:v1", "-o", tmp_path / "new.samara", *names)
        assert outcome.status == 0, outcome.stderr
        (pushed,) = outcome.result["pushed"]
        assert (pushed["listed"], pushed["names"]) == (3, ["acme"])
        owner = service.listings.owner("acme")
        assert owner is not None
        assert service.listings.listing(owner, "new", "v1") is not None


def test_a_registry_that_only_lists_is_no_mirror_to_complain_of(tmp_path: Path, acme: Author) -> None:
    """It has the names and not the bytes: a note, no warning, and the bytes come from who seeds."""
    alone = ("--no-discovery", "--listen", "127.0.0.1:0")
    with empty_registry(tmp_path / "registry") as (_, url):
        push(acme.home, acme.publisher, url)
        home = trusting(tmp_path / "reader", acme.identity)
        nobody = run(home, "pull", "acme/blob:v1", "--registry", url, *alone, "--give-up-after", "3")
        assert nobody.status == 4, nobody.stderr
        assert any("doesn't have blob.bin" in str(line.get("message")) for line in nobody.events)
        with seed_process(acme.home, "--no-discovery", "--no-registry") as seeder:
            outcome = run(home, "pull", "acme/blob:v1", "--registry", url, *alone, "--peer", seeder.text)
        assert outcome.status == 0, outcome.stderr
        assert outcome.result["rejected"] == []
