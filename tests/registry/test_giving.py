"""A digest is no key to the operator's own files: what is here for other reasons isn't given to who merely lists it."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from service_kit import ORIGIN, Author, author
from support.world import random_file

from samara.registry.giving import Giving, Reasons, may_be_given
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accept import Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Rates, Settings
from samara.registry.store import link_view, stamp_at
from samara.registry.trust.pins import TrustFolder
from samara.schemas.digests import b3_hex
from samara.schemas.envelope import canonical_json
from samara.schemas.manifest import ReleaseFile

SETTINGS = Settings(origin=ORIGIN, rates=Rates(reads=0, publishes=0, announces=0))
RULES = Rules(claims=ClaimRules(origin=ORIGIN))


def test_the_rule() -> None:
    assert not may_be_given(Reasons()), "that it is here is no reason"
    assert not may_be_given(Reasons(listers=["stranger"], own=["us"])), "nor that somebody lists it"
    assert not may_be_given(Reasons(own=["us"])), "nor that somebody publishes here"
    assert may_be_given(Reasons(is_kept=True))
    assert may_be_given(Reasons(is_pulled=True))
    assert may_be_given(Reasons(listers=["stranger", "us"], own=["us"]))


@dataclass(frozen=True, kw_only=True)
class World:
    """A registry whose operator pulled `file`, a release of `partner`; a stranger knows its digest, or has it."""

    home: Home
    index: Index
    partner: Author
    stranger: Author
    file: ReleaseFile
    place: Path

    def list(self, who: Author) -> None:
        accept(self.index, who.publication(), RULES, now=datetime.now(UTC))

    def ask(self, settings: Settings = SETTINGS) -> dict[str, int]:
        """What strangers get, by every way to the bytes."""
        service = Service(home=self.home, index=self.index, settings=settings)
        found: dict[str, int] = {}
        digits = self.file.b3_hex
        with RunningServer(create_app(service)) as server:
            owner = next(
                one for one in service.listings.owners() if service.listings.model(one, "m")
            )  # who lists it, here
            for method, path in (
                ("GET", f"/v1/blobs/{digits}"),
                ("HEAD", f"/v1/blobs/{digits}"),
                ("GET", f"/v1/blobs/{digits}/secret.bin"),
                ("GET", f"/{owner.slug}/m/resolve/v1/secret.bin"),
                ("HEAD", f"/{owner.slug}/m/resolve/v1/secret.bin"),
            ):
                connection = http.client.HTTPConnection(*server.address, timeout=30)
                connection.request(method, path)
                answer = connection.getresponse()
                answer.read()
                found[f"{method} {path.split('/')[1]}"] = answer.status
                connection.close()
            connection = http.client.HTTPConnection(*server.address, timeout=30)
            torrent = self.file.torrent
            assert torrent is not None
            connection.request("GET", f"/v1/torrents/{torrent.v2}.torrent")
            found["web seed"] = int(b"url-list" in connection.getresponse().read())
            connection.request("GET", f"/{owner.slug}/m", headers={"Accept": "text/html"})
            found["page"] = int(b"here, checked" in connection.getresponse().read())
            connection.close()
        return found


def is_given(found: dict[str, int]) -> bool:
    """All of it, or none of it: nothing in between."""
    statuses = {status for name, status in found.items() if name.startswith(("GET", "HEAD"))}
    assert statuses == {200} or statuses <= {404, 409}, found
    assert found["web seed"] == found["page"] == int(statuses == {200}), found
    return statuses == {200}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The stranger has a file of the same bytes, so that everything about its release is in order."""
    partner, stranger = author(tmp_path / "partner", "partner"), author(tmp_path / "stranger", "stranger")
    for who in (partner, stranger):
        who.publish("m:v1", [random_file(who.folder / "secret.bin", 300_000, seed=5)])
    home = Home(tmp_path / "registry")
    with Index.open(home) as index, Index.open(partner.home) as theirs:
        (stored,) = theirs.releases()
        from samara.schemas.manifest import parse_manifest

        release = parse_manifest(stored.envelope.payload)
        (file,) = release.files
        # as `samara pull` leaves it: pinned, known, in the store, with a view
        TrustFolder(home.trust).add("partner", partner.identity, now=datetime.now(UTC))
        torrents = {file.b3: stored.torrents[0]}
        index.add_release(release, stored.envelope, torrents, now=1.0)
        place = home.blob(b3_hex(file.b3))
        place.parent.mkdir(parents=True)
        place.write_bytes((partner.folder / "secret.bin").read_bytes())
        stamp = stamp_at(place)
        assert stamp is not None
        index.set_location(file.b3, place, stamp, in_store=True, verified_at=2.0)
        link_view(home, place, Path("partner", "m", "v1", "secret.bin"))
        yield World(home=home, index=index, partner=partner, stranger=stranger, file=file, place=place)


def test_a_stranger_who_lists_the_digest_of_a_pulled_file_isnt_given_it(world: World) -> None:
    world.list(world.stranger)
    assert not is_given(world.ask())
    assert is_given(world.ask(replace(SETTINGS, serves_all=True))), "unless the operator has nothing to hide"


def test_nor_by_pull_through_which_would_read_the_same_file(world: World) -> None:
    class Bringer:
        asked = 0

        def bring(self, b3: str, size: int | None = None) -> object:
            Bringer.asked += 1
            raise AssertionError(b3)

    world.list(world.stranger)
    service = Service(home=world.home, index=world.index, settings=SETTINGS, bringer=Bringer())  # type: ignore[arg-type]
    with RunningServer(create_app(service)) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=30)
        connection.request("GET", f"/v1/blobs/{world.file.b3_hex}")
        assert connection.getresponse().status == 404
        connection.close()
    assert not Bringer.asked


def test_what_the_operator_pulled_is_given_once_that_very_release_is_listed(world: World) -> None:
    world.list(world.partner)
    assert is_given(world.ask())


def test_a_partner_who_lists_anothers_file_isnt_given_it(world: World, tmp_path: Path) -> None:
    """That a publisher is pinned is trust in what it signs, no right to what lies here."""
    TrustFolder(world.home.trust).add("stranger", world.stranger.identity, now=datetime.now(UTC))
    world.list(world.stranger)
    assert not is_given(world.ask())
    # a view of that name, of something else that was pulled from it
    other = world.home.blobs / "other"
    other.write_bytes(b"what it really had")
    link_view(world.home, other, Path("stranger", "m", "v1", "secret.bin"))
    assert not is_given(world.ask())


def test_what_this_machines_publishers_publish_is_given(world: World) -> None:
    world.list(world.stranger)
    world.stranger.home.keys.rename(world.home.keys)
    assert is_given(world.ask())


def test_what_was_mirrored_is_given_whoever_lists_it(world: World) -> None:
    world.list(world.stranger)
    kept = world.home.root / "kept.json"
    blobs = {world.file.b3_hex: {"size": world.file.size, "since": 1, "asked": 0}}
    clock = [0.0]
    giving = Giving(world.home, world.index.listings, clock=lambda: clock[-1])
    assert not giving.may_give(world.file.b3, [world.place])
    for damaged in (b"", b"{", b'{"format": "another", "blobs": {}}', canonical_json({"format": "samara-kept-1"})):
        kept.write_bytes(damaged)
        assert not giving.may_give(world.file.b3, [world.place])
    kept.write_bytes(canonical_json({"format": "samara-kept-1", "blobs": blobs}))
    assert giving.may_give(world.file.b3, [world.place])
    assert is_given(world.ask())
    kept.unlink()
    clock.append(1.0)
    assert giving.may_give(world.file.b3, [world.place]), "a yes is good for a moment"
    clock.append(2.1)
    assert not giving.may_give(world.file.b3, [world.place])


def test_a_withdrawn_release_is_no_reason_any_more(world: World) -> None:
    from samara.registry.trust.own_catalog import retraction, update_catalog

    world.list(world.partner)
    clock = [0.0]
    giving = Giving(world.home, world.index.listings, clock=lambda: clock[-1])
    assert giving.may_give(world.file.b3, [world.place])
    change = retraction("m", "v1", "wrong")
    keys = world.partner.publisher.online_keys(None)
    update_catalog(world.partner.home, world.partner.publisher, change, signers=keys, now=datetime.now(UTC))
    world.list(world.partner)
    world.list(world.stranger)
    clock.append(3.0)
    assert not giving.may_give(world.file.b3, [world.place])
