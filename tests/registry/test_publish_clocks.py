"""Registries whose clock is wrong, or jumps while they run: nothing that was refused or kept meanwhile outlasts it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from attack_kit import Site, site
from service_kit import Author, author
from support.clocks import DAY, HOUR, Clock
from support.processes import samara
from support.world import random_file

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.own_catalog import nothing, update_catalog
from samara.schemas.manifest import Release
from samara.schemas.publication import pack_publication

YEAR = 370 * DAY


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


def publication(acme: Author, *, name: str | None = None, place: Site | None = None) -> bytes:
    """The next version of acme's catalog, signed now, perhaps with the claim of a name."""
    update_catalog(
        acme.home, acme.publisher, nothing, signers=acme.publisher.online_keys(None), now=datetime.now(UTC)
    )  # fmt: skip
    return pack_publication(
        acme.publication(claim=None if name is None or place is None else acme.claim(name, origin=place.url))
    )  # fmt: skip


def announce(place: Site, release: Release) -> bytes:
    """A peer that has the first file."""
    (file, *_) = release.files
    assert file.torrent is not None
    info_hash = quote(bytes.fromhex(file.torrent.v1))
    query = f"info_hash={info_hash}&peer_id={'p' * 20}&port=6881&left=0&uploaded=0&downloaded=0&compact=1"
    return str(place.ask(f"/announce?{query}").body).encode()


def until(is_so: Callable[[], bool], limit: float = 60.0) -> None:
    """Look again and again until it is so."""
    waiting = threading.Event()
    for _ in range(int(limit / 0.1)):
        if is_so():
            return
        waiting.wait(0.1)
    raise AssertionError("it never came")


def test_what_a_wrong_clock_refuses_is_taken_when_it_is_right(tmp_path: Path, clock: Clock) -> None:
    acme = author(tmp_path / "acme", "acme")
    acme.publish("blob:v1", [random_file(tmp_path / "blob.bin", 70_000, seed=1)])
    place = site(Home(tmp_path / "registry"))
    with place.serving(wrap=clock.wrap):
        assert place.publish(publication(acme, name="first", place=place)).status == 201
        clock.set(YEAR)
        ahead = place.publish(publication(acme))
        assert (ahead.status, ahead.body["reason"]) == (403, "expired")
        assert place.ask("/v1/search").body["total"] == 1
        clock.set(0)
        assert place.publish(publication(acme)).status == 201
        clock.set(-YEAR)
        assert place.publish(publication(acme)).status == 201
        claimed = place.publish(publication(acme, name="second", place=place))
        assert (claimed.status, claimed.body["reason"]) == (403, "name-refused")
        clock.set(0)
        again = place.publish(publication(acme, name="second", place=place))
        assert (again.status, again.body["names"]) == (201, ["first", "second"])
        assert place.ask("/readyz").status in {200, 503}  # 503: the disk of the tests' folder


def test_a_clock_that_jumps_back_and_forth_wedges_nobody(tmp_path: Path, clock: Clock, dice: random.Random) -> None:
    """Rates, the tracker and readers go by time that passes: whoever had a right to ask has it still."""
    acme = author(tmp_path / "acme", "acme")
    release = acme.publish("blob:v1", [random_file(tmp_path / "blob.bin", 70_000, seed=1)])
    place = site(Home(tmp_path / "registry"))
    with place.serving(wrap=clock.wrap):
        assert place.publish(publication(acme)).status == 201
        until(lambda: b"interval" in announce(place, release))
        for _ in range(20):
            clock.set(dice.choice((-1, 1)) * dice.randrange(YEAR))
            assert place.ask("/v1/search").status == 200
            assert b"interval" in announce(place, release)
            told = place.publish(publication(acme))
            assert told.status == 201 or told.body["reason"] == "expired"
        clock.set(0)
        assert place.publish(publication(acme)).status == 201
        assert place.ask("/healthz").status == 200
        told = place.ask("/v1/search")
        assert int(told.headers["ratelimit"].split("r=")[1].split(";")[0]) > 1000


@pytest.mark.long
def test_a_clock_that_was_ahead_for_a_while_forgets_no_history(tmp_path: Path, clock: Clock) -> None:
    """How swarms were is kept for 90 days: of days that really passed."""
    acme = author(tmp_path / "acme", "acme")
    release = acme.publish("blob:v1", [random_file(tmp_path / "blob.bin", 70_000, seed=1)])
    place = site(Home(tmp_path / "registry"))
    b3 = release.files[0].b3
    with Index.open(place.home) as index:

        def samples() -> list[int]:
            return [sample.at for sample in index.listings.samples(b3, since=0)]

        with place.serving(wrap=clock.wrap):
            assert place.publish(publication(acme)).status == 201
            until(lambda: b"interval" in announce(place, release))
            clock.set(HOUR)
            until(lambda: len(samples()) >= 1)
            kept = samples()
            clock.set(YEAR)
            until(lambda: samples() != kept)
            clock.set(2 * HOUR)
            assert set(kept) <= set(samples())
        assert set(kept) <= set(samples())


@pytest.mark.long
def test_what_is_published_on_this_machine_outlives_its_clock(tmp_path: Path, clock: Clock) -> None:
    """Started a year ahead its own catalog has expired; right again it is listed, and renewed as others expect it."""
    acme = author(tmp_path / "acme", "acme")
    acme.publish("blob:v1", [random_file(tmp_path / "blob.bin", 70_000, seed=1)])
    place = site(acme.home)
    for ahead in (YEAR, 40 * DAY, -YEAR):
        clock.set(ahead)
        with place.serving(wrap=clock.wrap):
            assert place.ask("/v1/search").status == 200
            clock.set(0)
            until(lambda: place.ask("/v1/search").body["total"] == 1)
    other = site(Home(tmp_path / "other"))
    with other.serving():
        pushed = samara(acme.home, "push", "acme", "--registry", other.url, "--json")
        assert pushed.status == 0, pushed.stderr
        assert other.ask("/v1/search").body["total"] == 1
