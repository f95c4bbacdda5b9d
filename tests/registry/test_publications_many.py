"""Publications of many releases and names: as if each came alone, and nobody waits for all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from catalog_kit import Edition, raw_entry
from test_publications_absurd import RULES, manifest, release
from trust_kit import NOW, Line, line_of

from samara.registry import index_releases
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications import accept as accepting
from samara.registry.publications import listing_rows
from samara.registry.publications.accept import Accepted, accept
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.search import SearchQuery
from samara.registry.tables import ListingRow, ModelRow, ReleaseRow
from samara.schemas.publication import Publication
from samara.schemas.release_file import ReleaseBundle

MANY = 45


@pytest.fixture(params=["sqlite", "postgresql"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    """An empty registry's, in each database."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    with Index.open(Home(tmp_path, url)) as opened:
        yield opened


@pytest.fixture(scope="module")
def line() -> Line:
    return line_of(1)


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Little is listed at a time; what is in here is done while the others have their turn."""
    todo: list[object] = []
    monkeypatch.setattr(accepting, "_LISTED_AT_ONCE", 10 * listing_rows._COST_OF_ROW)

    def let_others() -> None:
        if todo:
            todo.pop(0)()  # type: ignore[operator]

    monkeypatch.setattr(accepting, "_let_others", let_others)
    yield todo
    assert not todo, "there was no pause"


def taken(index: Index, edition: Edition, *releases: ReleaseBundle) -> Accepted:
    return accept(index, Publication(metadata=edition.bundle, releases=releases), RULES, now=NOW)


def names(index: Index) -> set[str]:
    with index.database.read() as session:
        rows = session.execute(
            sa.select(ModelRow.name, ListingRow.tag).join(ModelRow, ListingRow.model_id == ModelRow.id)
        )
        return {f"{model}/{tag}" for model, tag in rows}


def of_one(payload: bytes, count: int) -> dict[str, dict[str, object]]:
    return {f"tiny/t{number}": raw_entry(payload) for number in range(count)}


class TestManyNames:
    def test_all_are_listed_and_others_write_in_between(self, index: Index, line: Line, paused: list[object]) -> None:
        tiny, seen = manifest(line), list[int]()

        def look_and_write() -> None:
            seen.append(len(names(index)))
            wrote = threading.Event()

            def write() -> None:
                with index.database.write():
                    wrote.set()

            writer = threading.Thread(target=write)
            writer.start()
            assert wrote.wait(10), "the database is held meanwhile"
            writer.join()

        paused.extend([look_and_write] * 3)
        edition = Edition(line=line, entries=of_one(tiny, MANY))
        accepted = taken(index, edition, release(line, tiny))
        assert (accepted.listed, accepted.changed, accepted.missing, accepted.added) == (MANY, MANY, (), 1)
        assert names(index) == {f"tiny/t{number}" for number in range(MANY)}
        assert seen == sorted(set(seen)), "some more each time"
        assert 0 < seen[0] < seen[-1] < MANY
        assert index.listings.search(SearchQuery(text="t44")).total == 1

    def test_who_overtakes_it_lists_its_own_catalog(self, index: Index, line: Line, paused: list[object]) -> None:
        tiny = manifest(line)
        edition = Edition(line=line, entries=of_one(tiny, MANY))
        paused.append(lambda: taken(index, edition.next(entries=of_one(tiny, 3))))
        taken(index, edition, release(line, tiny))
        assert names(index) == {"tiny/t0", "tiny/t1", "tiny/t2"}

    def test_what_was_broken_off_goes_on_with_the_same_publication(
        self, index: Index, line: Line, paused: list[object]
    ) -> None:
        tiny = manifest(line)
        edition = Edition(line=line, entries=of_one(tiny, MANY))

        def die() -> None:
            raise PublicationRefusedError(Reason.QUOTA, "killed")

        paused.append(die)
        with pytest.raises(PublicationRefusedError, match="killed"):
            taken(index, edition, release(line, tiny))
        assert 0 < len(names(index)) < MANY
        assert taken(index, edition).listed == MANY
        assert len(names(index)) == MANY

    def test_what_names_meant_before_is_gone_at_once(self, index: Index, line: Line, paused: list[object]) -> None:
        old, new = manifest(line), manifest(line, version=2)
        edition = Edition(line=line, entries=of_one(old, MANY))
        taken(index, edition, release(line, old))
        meant: list[int] = []

        def look() -> None:
            with index.database.read() as session:
                meant.extend(session.scalars(sa.select(ListingRow.version).distinct()))

        paused.append(look)
        entries = {path: raw_entry(new, version=2) for path in edition.entries}
        accepted = taken(index, edition.next(entries=entries), release(line, new))
        assert meant == [2]
        assert (accepted.listed, accepted.changed) == (MANY, MANY)


class TestManyReleases:
    def test_they_are_recorded_as_one_by_one(
        self, index: Index, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        payloads = [manifest(line, model=f"m{n % 7}", version=n + 1) for n in range(30)]
        entries = {f"m{n % 7}/v{n + 1}": raw_entry(one, version=n + 1) for n, one in enumerate(payloads)}
        monkeypatch.setattr(index_releases, "_BLOCKS_AT_ONCE", 8)  # several groups
        edition = Edition(line=line, entries=entries)
        bundles = [release(line, one) for one in payloads]
        assert taken(index, edition, *bundles[:3]).added == 3
        assert taken(index, edition, *bundles).added == 27, "those that were here are known"
        with Index.open(Home(tmp_path / "other")) as other:
            for bundle in bundles:
                taken(other, edition, bundle)
            assert index.manifests() and set(index.manifests()) == set(other.manifests())
            for manifest_digest in other.manifests():
                assert index.release_by_digest(manifest_digest) == other.release_by_digest(manifest_digest)
            assert replace(index.counts(), locations=0) == replace(other.counts(), locations=0)
            assert names(index) == names(other) == set(entries)
        with index.database.read() as session:
            assert session.scalar(sa.select(sa.func.count()).select_from(ModelRow)) == 7
            assert session.scalar(sa.select(sa.func.count()).select_from(ReleaseRow)) == 30
