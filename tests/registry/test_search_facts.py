"""What is listed, kept in memory: counted and ordered as plain SQL does, however it came to be what it is."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from listing_kit import ACME, UMBRA, Listed, list_all

from samara.registry import search_reading
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.search import FACETS, SearchQuery, Sort
from samara.registry.search_facts import Facts, Row
from samara.registry.tables import ListingRow, ModelRow

VALUES = ("llama", "LLAMA", "Llama", "qwen2", "phi", None)

rows = st.builds(
    Row,
    id=st.integers(1, 60), model=st.integers(1, 12), publisher=st.integers(1, 3), name=st.just(""),
    version=st.integers(1, 4), listed_at=st.integers(1, 9).map(float), size=st.integers(0, 9),
    facets=st.tuples(*[st.sampled_from(VALUES)] * 3),
).map(lambda row: dataclasses.replace(row, name=f"m-{row.model % 7}"))  # fmt: skip
lists = st.lists(rows, unique_by=lambda row: row.id, max_size=40)


def counted(listed: list[Row], facet: int) -> list[tuple[str, int]]:
    """Models by value, the plain way."""
    pairs = {(row.facets[facet], row.model) for row in listed}
    values = [value for value, _ in pairs if value is not None]
    return sorted(((value, values.count(value)) for value in set(values)), key=lambda one: (-one[1], one[0]))


def agree(facts: Facts, listed: list[Row]) -> None:
    """The facts are those of exactly these listings, whatever is asked."""
    assert len(facts) == len(listed)
    asked: list[tuple[dict[str, Any], Callable[[Row], bool]]] = [
        ({}, lambda _: True),
        ({"ids": {1, 2, 3, 5, 8, 13, 21, 34, 55}}, lambda row: row.id in {1, 2, 3, 5, 8, 13, 21, 34, 55}),
        ({"publisher": 2, "min_size": 4}, lambda row: row.publisher == 2 and row.size >= 4),
        ({"max_size": 5, "facets": ("llama", None, None)}, lambda row: row.size <= 5 and row.facets[0] in VALUES[:2]),
        ({"facets": (None, "Llama", "lLaMa")},
         lambda row: row.facets[1] in VALUES[:3] and row.facets[2] in VALUES[:3]),
    ]  # fmt: skip
    for wanted, fits in asked:
        everything: dict[str, Any] = {
            "ids": None,
            "publisher": None,
            "facets": (None, None, None),
            "min_size": None,
            "max_size": None,
        }
        chosen = facts.choose(**{**everything, "exact": (True, True, False), **wanted})
        left = [row for row in listed if fits(row)]
        models = {row.model for row in left}
        assert facts.models(chosen) == len(models)
        for facet in range(3):
            assert facts.count(facet, chosen, 50) == counted(left, facet)
            assert facts.count(facet, chosen, 2) == counted(left, facet)[:2]
        newest = {model: max(row.listed_at for row in left if row.model == model) for model in models}
        assert facts.newest(chosen) == sorted(models, key=lambda model: (newest[model], model), reverse=True)
        smallest = {model: min(row.size for row in left if row.model == model) for model in models}
        assert facts.by_size(chosen) == sorted(models, key=lambda model: (smallest[model], model))
        assert facts.by_name(chosen) == sorted(models, key=lambda model: (f"m-{model % 7}", model))
        for model in models:
            mine = [row for row in left if row.model == model]
            expected = [row.id for row in sorted(mine, key=lambda row: (-row.version, -row.id))]
            assert facts.listings(model, chosen) == expected


class TestFacts:
    @settings(max_examples=60, deadline=None)
    @given(lists, st.lists(st.tuples(lists.map(lambda some: some[:6]), st.sets(st.integers(1, 60))), max_size=5))
    def test_after_any_changes_they_are_those_of_what_is_listed(
        self, first: list[Row], changes: list[tuple[list[Row], set[int]]]
    ) -> None:
        listed = {row.id: row for row in first}
        facts = Facts.of(first)
        moments = [(facts, list(listed.values()))]
        for changed, gone in changes:
            listed = {number: row for number, row in listed.items() if number not in gone}
            listed |= {row.id: row for row in changed}
            facts = facts.after(changed, gone)
            moments.append((facts, list(listed.values())))
        for then, expected in moments:
            agree(then, expected)  # those of before, too: somebody may be searching in them

    def test_they_grow_with_columns_that_are_shared_and_begin_anew_in_time(self) -> None:
        draw = random.Random(1)
        listed: dict[int, Row] = {}
        facts = Facts.of([])
        columns = set()
        for number in range(1, 1500):
            row = Row(
                id=draw.randrange(1, 60), model=draw.randrange(1, 12), publisher=1 + number % 3, name="", version=1,
                listed_at=float(draw.randrange(9)), size=number % 10,
                facets=tuple(draw.choice(VALUES) for _ in range(3)),
            )  # fmt: skip
            row = dataclasses.replace(row, name=f"m-{row.model % 7}")
            listed[row.id] = row
            facts = facts.after([row], ())
            columns.add(id(facts._columns))
            assert facts._length <= 3 * 1024, "places that are nobody's are given up in time"
            if number % 100 == 0:
                agree(facts, list(listed.values()))
        assert 1 < len(columns) < 20

    def test_two_moments_may_follow_one(self) -> None:
        listed = [
            Row(id=n, model=n // 2, publisher=1, name=f"m-{n // 2 % 7}", version=1, listed_at=1.0, size=n % 10,
                facets=("phi", None, "llama"))
            for n in range(1, 20)
        ]  # fmt: skip
        facts = Facts.of(listed)
        one = facts.after([dataclasses.replace(listed[0], size=9)], ())
        other = facts.after([], {1, 2})
        agree(one, [dataclasses.replace(listed[0], size=9), *listed[1:]])
        agree(other, [row for row in listed if row.id not in {1, 2}])
        agree(facts, listed)

    def test_a_model_may_come_to_have_the_number_of_one_that_is_gone(self) -> None:
        row = Row(id=1, model=1, publisher=1, name="a", version=1, listed_at=1.0, size=1, facets=("phi", None, None))
        facts = Facts.of([dataclasses.replace(row, id=n, model=n, name="-abcde"[n]) for n in range(1, 6)])
        facts = facts.after([dataclasses.replace(row, id=10, model=3, name="z")], {3})
        facts = facts.after([dataclasses.replace(row, id=11, model=6, name="dd")], ())
        chosen = facts.choose(ids=None, publisher=None, facets=(), exact=(), min_size=None, max_size=None)
        assert facts.by_name(chosen) == [1, 2, 4, 6, 5, 3]
        assert facts.by_relevance(chosen, ("z",))[0] == 3


@pytest.fixture(params=["sqlite", "postgresql"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    with Index.open(Home(tmp_path, url)) as opened:
        yield opened


def counted_by_sql(index: Index, facet: str) -> dict[str, int]:
    column = getattr(ListingRow, facet)
    with index.database.read() as session:
        found = session.execute(
            sa.select(column, sa.func.count(ListingRow.model_id.distinct()))
            .where(ListingRow.retracted.is_(None), column.is_not(None))
            .group_by(column)
        )
        return {str(value): int(count) for value, count in found}


def is_as_by_sql(index: Index) -> None:
    page = index.listings.search(SearchQuery(sort=Sort.NAME, limit=100))
    for facet in FACETS:
        assert {one.value: one.count for one in page.facets[facet]} == counted_by_sql(index, facet)
    with index.database.read() as session:
        current = sa.select(ListingRow.model_id).where(ListingRow.retracted.is_(None))
        expected = session.scalars(sa.select(ModelRow.name).where(ModelRow.id.in_(current))).all()
    assert [found.model for found in page.found] == sorted(expected)


def test_whatever_changes_in_the_database_is_noticed_and_little_of_it_read(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(2)
    list_all(
        index,
        [
            Listed(model=f"m{n // 3}", tag=f"t{n % 3}", identity=(ACME, UMBRA)[n // 3 % 2], size=n,
                   architecture=draw.choice(VALUES), license=draw.choice(VALUES), listed_at=1000.0 + n / 7)
            for n in range(240)
        ],
    )  # fmt: skip
    is_as_by_sql(index)
    read: list[int] = []
    real = search_reading._read

    def counting(*args: object, **values: object) -> search_reading._Read:
        found = real(*args, **values)  # type: ignore[arg-type]
        read.append(len(found.times))
        return found

    monkeypatch.setattr(search_reading, "_read", counting)
    one = sa.select(sa.func.min(ListingRow.id)).scalar_subquery()
    some = ListingRow.id.in_([7, 70, 170])
    for what, change, at_most in (
        ("of one", sa.update(ListingRow).where(ListingRow.id == 5).values(license="new", listed_at=2000.5), 1),
        ("withdrawn", sa.update(ListingRow).where(some).values(retracted="no", listed_at=2001.5), 3),
        ("not withdrawn", sa.update(ListingRow).where(some).values(retracted=None, listed_at=2002.5), 3),
        ("removed", sa.delete(ListingRow).where(ListingRow.id.in_([9, 99])), 0),
        ("by a clock that went back", sa.update(ListingRow).where(some).values(license="x", listed_at=3.25), 3),
        ("at the time of the latest", sa.update(ListingRow).where(ListingRow.id == 6).values(
            architecture="y", listed_at=2000.5), 1),
        ("the latest removed", sa.delete(ListingRow).where(ListingRow.id == 240), 0),
        ("all", sa.update(ListingRow).values(license="z", listed_at=ListingRow.listed_at + 1), 240),
        ("the first", sa.delete(ListingRow).where(ListingRow.id == one), 0),
    ):  # fmt: skip
        with index.database.write() as session:
            session.execute(change)
        read.clear()
        is_as_by_sql(index)
        assert sum(read) <= 2 * at_most, (what, read)
    list_all(index, [Listed(model="one-more", listed_at=1.0)])
    read.clear()
    is_as_by_sql(index)
    assert sum(read) == 1
    read.clear()
    is_as_by_sql(index)
    assert read == []
