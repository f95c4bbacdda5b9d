"""An index made today and one that ran every migration have one schema, and migrating keeps what is in it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from index_kit import ACME, signed

from samara.registry import migrations
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.schema import bring_up_to_date, migrate, revision_of
from samara.registry.tables import HEAD, REVISIONS, Base
from samara.schemas.errors import StoreError

VERSIONS = Path(migrations.__file__).parent / "versions"


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    """An empty database in memory, with foreign keys as in an index."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as opened:
        opened.exec_driver_sql("PRAGMA foreign_keys = ON")
        yield opened
    engine.dispose()


def shape(connection: sa.Connection) -> dict[str, Any]:
    """Everything SQLAlchemy can see of a schema, in an order that doesn't depend on who made it."""
    seen = sa.inspect(connection)
    return {
        table: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in seen.get_columns(table)
            ],
            "primary key": seen.get_pk_constraint(table),
            "foreign keys": sorted(map(str, seen.get_foreign_keys(table))),
            "unique": sorted(map(str, seen.get_unique_constraints(table))),
            "checks": sorted(map(str, seen.get_check_constraints(table))),
            "indexes": sorted(map(str, seen.get_indexes(table))),
        }
        for table in sorted(seen.get_table_names())
    }


def test_creating_and_migrating_give_the_same_schema(connection: sa.Connection) -> None:
    bring_up_to_date(connection)
    created = shape(connection)
    engine = sa.create_engine("sqlite://")
    with engine.begin() as other:
        migrate(other)
        assert shape(other) == created
        assert revision_of(other) == revision_of(connection) == HEAD
    engine.dispose()
    assert created.keys() == {*Base.metadata.tables, "alembic_version"}


def test_the_comparison_would_notice_a_missing_index_or_constraint(connection: sa.Connection) -> None:
    bring_up_to_date(connection)
    before = shape(connection)
    connection.exec_driver_sql("DROP INDEX ix_blocks_digest")
    assert shape(connection) != before
    assert before["files"]["unique"]
    assert before["files"]["foreign keys"]


def test_every_table_of_the_models_has_its_constraints_in_the_database(connection: sa.Connection) -> None:
    bring_up_to_date(connection)
    found = shape(connection)
    for table in Base.metadata.sorted_tables:
        assert len(found[table.name]["foreign keys"]) == len(table.foreign_keys)
        assert [name for name, *_ in found[table.name]["columns"]] == [column.name for column in table.columns]
        indexes = {str(index["name"]) for index in sa.inspect(connection).get_indexes(table.name)}
        assert {str(index.name) for index in table.indexes} <= indexes


def test_every_revision_has_its_file_and_every_file_is_a_revision() -> None:
    files = sorted(path.name for path in VERSIONS.glob("v*.py"))
    assert [name[1:5] for name in files] == list(REVISIONS)


def test_migrations_run_on_a_real_index_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(home.index)))
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()
    with Index.open(home) as index:
        signed().add_to(index)
        stored = index.release(ACME, "tiny", "q8_0")
        assert stored is not None
        assert stored.envelope == signed().envelope
        assert index.damage() == ()


def test_an_up_to_date_index_is_left_alone(connection: sa.Connection) -> None:
    bring_up_to_date(connection)
    before = shape(connection)
    bring_up_to_date(connection)
    assert shape(connection) == before


def test_a_schema_without_a_revision_is_nobody_we_know(connection: sa.Connection) -> None:
    bring_up_to_date(connection)
    connection.exec_driver_sql("DELETE FROM alembic_version")
    with pytest.raises(StoreError, match="somebody else's tables"):
        bring_up_to_date(connection)


def test_a_creation_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)

    def interrupted(_connection: sa.Connection) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("samara.registry.schema._stamp", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Index.open(home)
    with contextlib.closing(sqlite3.connect(home.index)) as plain:
        assert plain.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    Index.open(home).close()
