"""Records of pulls in a real index: the newest first, found by reference, and never too many."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from samara.registry import index_pulls
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.index_pulls import KEPT_BYTES, KEPT_RECORDS, last_kept
from samara.schemas.errors import StoreError
from samara.schemas.pull_record import EndpointRecord, PullRecord, tidy

RECORD = PullRecord(
    started="2026-01-02T03:04:05Z",
    ended="2026-01-02T03:05:00Z",
    references=("acme/tiny:q8_0", "acme/small"),
    outcome="done",
    networks=("10.0.0.0/8",),
    endpoints=(EndpointRecord(endpoint="192.0.2.7:6901", kind="peer", found=("told",), bytes_in=5),),
)


on_both = pytest.mark.parametrize("home", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """With an SQLite file, and for tests that are `on_both` also with a PostgreSQL database."""
    is_postgres = getattr(request, "param", "sqlite") == "postgresql"
    return Home(tmp_path / "home", request.getfixturevalue("postgres_url") if is_postgres else None)


@pytest.fixture
def index(home: Home) -> Iterator[Index]:
    with Index.open(home) as opened:
        yield opened


def numbered(number: int) -> PullRecord:
    return replace(RECORD, outcome=f"Error{number}")


def outcomes(records: tuple[PullRecord, ...]) -> list[str]:
    return [one.outcome for one in records]


@on_both
def test_a_record_comes_back_as_it_was_tidied(index: Index) -> None:
    assert index.pull_records(10) == ()
    index.add_pull_record(RECORD)
    assert index.pull_records(10) == (tidy(RECORD),)


@on_both
def test_the_newest_come_first_and_no_more_than_asked_for(index: Index) -> None:
    for number in range(5):
        index.add_pull_record(numbered(number))
    assert outcomes(index.pull_records(3)) == ["Error4", "Error3", "Error2"]
    assert index.pull_records(0) == ()


@on_both
def test_they_are_found_by_any_of_their_references_in_any_spelling(index: Index) -> None:
    index.add_pull_record(numbered(1))
    index.add_pull_record(replace(numbered(2), references=("acme/tiny:q8_0",)))
    index.add_pull_record(replace(numbered(3), references=("https://u:p@example.org/a.samara?k=1",)))
    assert outcomes(index.pull_records(10, "acme/tiny:q8_0")) == ["Error2", "Error1"]
    assert outcomes(index.pull_records(10, "acme/small:latest")) == ["Error1"]
    assert outcomes(index.pull_records(10, "acme/small")) == ["Error1"]
    assert outcomes(index.pull_records(10, "https://example.org/a.samara")) == ["Error3"]
    assert index.pull_records(10, "acme/tiny:q4_0") == ()


def test_the_oldest_go_when_there_are_too_many(index: Index, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_pulls, "KEPT_RECORDS", 3)
    for number in range(5):
        index.add_pull_record(numbered(number))
    assert outcomes(index.pull_records(10)) == ["Error4", "Error3", "Error2"]
    with contextlib.closing(sqlite3.connect(home.index)) as plain:
        assert plain.execute("SELECT count(*) FROM pull_references").fetchone() == (6,)
    assert index.damage() == ()


@on_both
def test_the_oldest_go_when_they_are_too_large(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_pulls, "KEPT_BYTES", len(numbered(0).as_json()) * 2 + 1)
    for number in range(4):
        index.add_pull_record(numbered(number))
    assert outcomes(index.pull_records(10)) == ["Error3", "Error2"]


def test_what_is_forgotten_goes_in_the_transaction_that_adds(
    home: Home, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the old ones can't go, the new one isn't there either."""
    monkeypatch.setattr(index_pulls, "KEPT_RECORDS", 1)
    index.add_pull_record(numbered(0))
    with contextlib.closing(sqlite3.connect(home.index, isolation_level=None)) as plain:
        plain.execute(
            "CREATE TRIGGER no BEFORE DELETE ON pull_records BEGIN INSERT INTO pull_records VALUES (1, 1, x'', ''); END"
        )
    with pytest.raises(Exception, match="UNIQUE"):
        index.add_pull_record(numbered(1))
    assert outcomes(index.pull_records(10)) == ["Error0"]


@pytest.mark.parametrize("rotten", ["x'00'", "'text'", "x'7b7d'"])
def test_a_record_that_rotted_is_called_damage(home: Home, index: Index, rotten: str) -> None:
    index.add_pull_record(RECORD)
    with contextlib.closing(sqlite3.connect(home.index, isolation_level=None)) as plain:
        plain.execute(f"UPDATE pull_records SET document = {rotten}")
    with pytest.raises(StoreError, match="is damaged"):
        index.pull_records(1)


def test_which_are_kept() -> None:
    many = [(number, 10) for number in range(2000, 0, -1)]
    assert last_kept(many) == 2001 - KEPT_RECORDS
    assert last_kept(many[:7]) == 1994
    assert last_kept([]) == 0
    assert last_kept([(9, KEPT_BYTES + 1), (8, 1)]) == 9, "the newest stays, however large"
    assert last_kept([(9, KEPT_BYTES - 1), (8, 1), (7, 1)]) == 8
