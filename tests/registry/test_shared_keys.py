"""Two instances on one PostgreSQL database with the keys of one publisher: they never sign two next versions of its
catalog, and one of them goes on where the other has stopped. And who audits what. Real server, real keys.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from service_kit import QUICK, Author
from support.world import random_file

from samara.fetcher.audit import findings
from samara.fetcher.audit_facts import collect
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.own import Seen, list_own, renew_own
from samara.registry.trust.making import init_publisher
from samara.registry.trust.own_catalog import own_bundle
from samara.registry.trust.publishers import load_publisher
from samara.schemas.events import Event, Note, Warned
from samara.schemas.manifest import parse_manifest
from samara.schemas.metadata_bundle import MetadataBundle
from samara.schemas.stamps import Stamp

NOW = datetime.now(UTC)


@pytest.fixture
def acme(tmp_path: Path, postgres_url: str) -> Author:
    home = Home(tmp_path / "one", postgres_url)
    publisher = init_publisher(home, "acme", passphrase=None, recovery=None, now=NOW, kdf_rounds=QUICK)
    made = Author(home=home, publisher=publisher, folder=tmp_path)
    made.publish("tiny:v", [random_file(tmp_path / "a.bin", 200_000, seed=1)])
    return made


@pytest.fixture
def other(acme: Author, tmp_path: Path) -> Home:
    """A second instance, with a copy of the keys."""
    home = Home(tmp_path / "two", acme.home.database)
    shutil.copytree(acme.home.keys, home.keys)
    return home


def bundle_of(home: Home) -> MetadataBundle:
    bundle = own_bundle(load_publisher(home, "acme"))
    assert bundle is not None
    return bundle


def test_one_signs_again_and_the_other_goes_on_from_there(acme: Author, other: Home) -> None:
    said: list[Event] = []
    with Index.open(acme.home) as one, Index.open(other) as two:
        list_own(acme.home, one, now=NOW)
        later = NOW + timedelta(days=20)
        renew_own(acme.home, one, ask=None, now=later, on_event=said.append)
        renew_own(other, two, ask=None, now=later, on_event=said.append)
        assert [type(one) for one in said] == [Note], "signed once"
        assert bundle_of(other) == bundle_of(acme.home) == one.listings.metadata(acme.identity)
        assert list_own(other, two, now=later)[0].is_new is False
        # the first one is gone for good: the other does it alone
        for days in (40, 60):
            renew_own(other, two, ask=None, now=NOW + timedelta(days=days), on_event=said.append)
        assert [type(one) for one in said] == [Note] * 3
        stamp = two.listings.catalog_stamp(acme.identity)
        assert stamp is not None
        assert stamp.timestamp_version == 4
        assert two.listings.equivocations(acme.identity) == ()


def test_while_one_is_at_it_the_other_leaves_it(acme: Author, other: Home) -> None:
    with Index.open(acme.home) as one, Index.open(other) as two:
        list_own(acme.home, one, now=NOW)
        later = NOW + timedelta(days=20)
        before = bundle_of(other)
        with one.database.alone() as is_alone:
            assert is_alone
            renew_own(other, two, ask=None, now=later)
            assert bundle_of(other) == before
        renew_own(other, two, ask=None, now=later)
        assert bundle_of(other) != before


def test_what_one_has_published_anew_the_other_neither_lists_nor_signs(acme: Author, other: Home) -> None:
    said: list[Event] = []
    seen: Seen = {}
    with Index.open(acme.home) as one, Index.open(other) as two:
        acme.publish("tiny:w", [random_file(acme.folder / "b.bin", 200_000, seed=2)])
        list_own(acme.home, one, now=NOW)
        before = bundle_of(other)
        renew_own(other, two, ask=None, now=NOW + timedelta(days=20), on_event=said.append)
        assert [type(one) for one in said] == [Warned]
        assert "samara publisher sync acme" in str(said[0])
        assert bundle_of(other) == before
        said.clear()
        for _ in range(3):
            assert list_own(other, two, now=NOW, seen=seen, on_event=said.append) == ()
        assert [type(one) for one in said] == [Warned], "said once"
        assert two.listings.metadata(acme.identity) == bundle_of(acme.home)
        assert two.listings.equivocations(acme.identity) == ()


def test_an_audit_judges_what_its_own_machine_answers_for(acme: Author, tmp_path: Path) -> None:
    """Nobody here trusts acme, nor has a byte of it: whoever pinned it looks after it."""
    stranger = Home(tmp_path / "three", acme.home.database)
    with Index.open(stranger) as index:
        assert findings(collect(stranger)) == ()
        assert index.counts().locations == 0
        assert len(collect(acme.home).releases) == 1
        (file,) = index.releases()
        weights = parse_manifest(file.envelope.payload).files[0]
        stamp = Stamp(size=weights.size, mtime_ns=1, inode=1, device=1)
        index.set_location(weights.b3, tmp_path / "a.bin", stamp, in_store=False, verified_at=1.0)
        assert next(one.rule for one in findings(collect(stranger))) == "signature-bad"
