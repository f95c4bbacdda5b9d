"""Publishers' catalogs as the service uses them: proven once while they are the newest, never believed unproven."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from service_kit import author, registry
from serving_kit import World, world
from support.world import random_file

from samara.registry.listed_publishers import Owner
from samara.registry.publications.own import list_own
from samara.registry.service.service import Service
from samara.registry.tables import CatalogRow
from samara.registry.trust.catalogs import read_own
from samara.registry.trust.publishers import load_publisher
from samara.schemas.catalog import Entries
from samara.schemas.errors import MalformedError
from samara.schemas.metadata_bundle import pack_metadata


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with registry(tmp_path) as made:
        yield made


def owner(service: Service, name: str = "acme") -> Owner:
    return next(one for one in service.listings.owners() if one.name == name)


def damage(service: Service) -> None:
    """In each catalog of the index a reason that its publisher never signed."""
    for one in service.listings.owners():
        bundle = service.listings.metadata(one.identity)
        assert bundle is not None
        targets = json.loads(bundle.targets)
        for entry in targets["signed"]["targets"].values():
            entry["custom"]["samara"]["retracted"] = "says who?"
        changed = pack_metadata(replace(bundle, targets=json.dumps(targets).encode()))
        with service.index.database.write() as session:
            session.execute(
                sa.update(CatalogRow).where(CatalogRow.bundle == pack_metadata(bundle)).values(bundle=changed)
            )


def test_many_who_ask_at_once_have_it_proven_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    proofs: list[object] = []
    second = threading.Event()

    def counted(*arguments: object) -> object:
        proofs.append(arguments)
        second.set() if len(proofs) > 1 else second.wait(1.0)  # the others have come meanwhile
        return read_own(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("samara.registry.publications.accepted.read_own", counted)
    identity = owner(service).identity
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(service.catalog, [identity] * 32))
    assert found[0] is not None
    assert all(one is found[0] for one in found)
    assert len(proofs) == 1


def test_the_next_version_takes_its_place(service: Service, tmp_path: Path) -> None:
    acme = owner(service)
    before = service.catalog(acme.identity)
    assert before is not None
    assert before.catalog.find("more", "v1") is None
    maker = replace(
        author(tmp_path / "unused", "unused"), home=service.home, publisher=load_publisher(service.home, "acme")
    )
    release = maker.publish("more:v1", [random_file(tmp_path / "more.bin", 5_000, seed=3)])
    list_own(service.home, service.index, now=datetime.now(UTC))
    after = service.catalog(acme.identity)
    assert after is not None
    entry = after.catalog.of_manifest(release.digest)
    assert entry is not None
    assert entry.path == "more/v1"
    assert after.stamp.timestamp_version > before.stamp.timestamp_version


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("damaged")) as served:
        damage(served.service)
        yield served


@pytest.mark.parametrize(
    "path",
    [
        "/v1/publishers/{identity}",
        "/v1/publishers/{identity}/metadata/timestamp.json",
        "/{identity}",
        "/{identity}/tiny",
        "/{identity}/tiny/resolve/{commit}/README.md",
    ],
)
def test_what_its_publisher_never_signed_is_told_by_no_route(damaged: World, path: str) -> None:
    acme = owner(damaged.service)
    commit = damaged.release("tiny", "q8_0").digest[3:43]
    got = damaged.ask(path.format(identity=acme.identity, commit=commit))
    assert got.status == 503
    assert b"says who" not in got.body
    assert b"at the moment" in got.body


def entry(manifest: str, **more: object) -> dict[str, object]:
    custom = {"samara": {"manifest": manifest, "btmh": "0" * 64, "version": 1, **more}}
    return {"length": 1, "hashes": {"sha256": "0" * 64}, "custom": custom}


def test_entries_are_found_by_what_they_mean_and_meant() -> None:
    one, two, three = (f"b3:{digit * 64}" for digit in "123")
    earlier = [{"manifest": two, "version": 1, "reason": "bad"}]
    entries = Entries({"m/a": entry(one), "m/b": entry(three, withdrawn=earlier), "m/c": entry(one, withdrawn=earlier)})
    assert [found.path for found in entries.mentioning(one)] == ["m/a", "m/c"]
    assert [found.path for found in entries.mentioning(two)] == ["m/b", "m/c"]
    assert [found.path for found in entries.mentioning(three)] == ["m/b"]
    assert list(entries.mentioning("b3:" + "4" * 64)) == []


def test_odd_entries_mention_nothing_or_are_refused_when_they_are_used() -> None:
    one = f"b3:{'1' * 64}"
    entries = Entries(
        {
            "m/a": "text", "m/b": {"custom": []}, "m/c": {"custom": {"samara": 7}}, "m/d": entry(["list"]),  # type: ignore[arg-type]
            "m/e": entry(one, withdrawn="text"), "m/f": entry("x", withdrawn=[7, {"manifest": {}}]), "m/g": entry(one),
        }
    )  # fmt: skip
    with pytest.raises(MalformedError, match="m/e"):
        next(entries.mentioning(one))
