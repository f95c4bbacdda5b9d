"""`samara audit` where a registry lives: what strangers published there is held against their own catalogs."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from service_kit import Author, author
from support.world import random_file

from samara.fetcher.audit import Level, findings
from samara.fetcher.audit_facts import collect
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accept import Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.trust.own_catalog import nothing, update_catalog


@pytest.fixture
def stranger(tmp_path: Path) -> Author:
    made = author(tmp_path / "stranger", "zeta")
    made.publish("m:v1", [random_file(tmp_path / "m.bin", 300_000, seed=5)])
    return made


@pytest.fixture
def home(tmp_path: Path, stranger: Author) -> Home:
    found = Home(tmp_path / "registry")
    with Index.open(found) as index:
        accept(index, stranger.publication(), Rules(claims=ClaimRules(origin="")), now=datetime.now(UTC))
    return found


def rules_of(home: Home) -> list[str]:
    return [one.rule for one in findings(collect(home)) if one.level is not Level.NOTE]


def test_what_strangers_published_here_is_no_finding(home: Home) -> None:
    assert rules_of(home) == []


def test_an_older_release_that_no_name_means_any_more_is_none_either(home: Home, stranger: Author) -> None:
    stranger.publish("m:v1", [random_file(stranger.folder / "n.bin", 300_000, seed=6)])
    with Index.open(home) as index:
        accept(index, stranger.publication(), Rules(claims=ClaimRules(origin="")), now=datetime.now(UTC))
    assert rules_of(home) == []


def test_a_manifest_that_rotted_is_one(home: Home) -> None:
    with sqlite3.connect(home.index) as database:
        database.execute("UPDATE releases SET payload = replace(payload, 'zeta', 'beta')")
    database.close()
    assert rules_of(home) != []


def test_a_catalog_that_somebody_changed_is_one(home: Home, stranger: Author) -> None:
    other = author(stranger.folder / "other", "other")
    other.publish("x:v1", [random_file(stranger.folder / "x.bin", 100_000, seed=7)])
    with sqlite3.connect(home.index) as database:
        from samara.schemas.metadata_bundle import pack_metadata

        database.execute("UPDATE catalogs SET bundle = ?", (pack_metadata(other.publication().metadata),))
    database.close()
    assert rules_of(home) != []


def test_two_catalogs_of_one_version_are_a_finding(home: Home, stranger: Author) -> None:
    keys = stranger.publisher.online_keys(None)
    before = (stranger.publisher.folder / "catalog").read_bytes()
    update_catalog(stranger.home, stranger.publisher, nothing, signers=keys, now=datetime.now(UTC))
    told = stranger.publication()
    (stranger.publisher.folder / "catalog").write_bytes(before)
    update_catalog(stranger.home, stranger.publisher, lambda _: {"m/v1": None}, signers=keys, now=datetime.now(UTC))
    rules = Rules(claims=ClaimRules(origin=""))
    with Index.open(home) as index:
        accept(index, told, rules, now=datetime.now(UTC))
        with pytest.raises(Exception, match="two different"):
            accept(index, stranger.publication(), rules, now=datetime.now(UTC))
    # a note: a stranger who contradicts himself must not fail the operator's audit
    (found,) = [one for one in findings(collect(home)) if one.rule == "equivocation"]
    assert found.level is Level.NOTE
