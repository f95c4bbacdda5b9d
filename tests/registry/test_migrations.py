"""An index made today and one that ran every migration have one schema, on SQLite and on PostgreSQL, and migrating
keeps what is in it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from index_kit import ACME, FILES, WEIGHTS, closed_to_writers, signed, unprivileged
from support.postgres import Postgres

from samara.registry import migrations
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.schema import bring_up_to_date, migrate, revision_of
from samara.registry.tables import HEAD, REVISIONS, Base
from samara.schemas.digests import b3
from samara.schemas.errors import StoreError
from samara.schemas.pull_record import PullRecord

# What iterdump() gave of an index that the code of revision 0001 had made, before there was another one: two versions
# of `signed()`, a file in place and a transfer.
INDEX_0001 = Path(__file__).with_name("index-0001.sql")
DRIVER = Path(__file__).with_name("migration_driver.py")
VERSIONS = Path(migrations.__file__).parent / "versions"


NewDatabase = Callable[[], sa.Engine]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest) -> Iterator[NewDatabase]:
    """Makes empty databases: in memory, with foreign keys as in an index, or on a server."""
    with contextlib.ExitStack() as stack:

        def make() -> sa.Engine:
            if request.param == "sqlite":
                engine = sa.create_engine("sqlite://")
                sa.event.listen(engine, "connect", lambda opened, _: opened.execute("PRAGMA foreign_keys = ON"))
            else:
                server: Postgres = request.getfixturevalue("postgres_server")
                engine = sa.create_engine(server.url(stack.enter_context(server.database())))
            stack.callback(engine.dispose)
            return engine

        yield make


@pytest.fixture
def connection(new_database: NewDatabase) -> Iterator[sa.Connection]:
    """A transaction in an empty database."""
    with new_database().begin() as opened:
        yield opened


def shape(connection: sa.Connection) -> dict[str, Any]:
    """Everything that can be seen of a schema, in an order that doesn't depend on who made it."""
    seen = sa.inspect(connection)
    tables: dict[str, Any] = {
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
        if not table.startswith("listing_words")
    }
    return tables | {"full text": full_text(connection)}


def full_text(connection: sa.Connection) -> list[str]:
    """What SQLAlchemy can't see: the virtual table with its triggers, the index of an expression."""
    if connection.dialect.name == "sqlite":
        asked = "SELECT sql FROM sqlite_master WHERE name LIKE 'listing\\_words%' ESCAPE '\\' AND sql IS NOT NULL"
    else:
        asked = """
            SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_listings_words' UNION
            SELECT generation_expression FROM information_schema.columns WHERE column_name = 'word_vector'"""
    return sorted(connection.exec_driver_sql(asked).scalars())


def test_creating_and_migrating_give_the_same_schema(connection: sa.Connection, new_database: NewDatabase) -> None:
    bring_up_to_date(connection)
    created = shape(connection)
    with new_database().begin() as other:
        migrate(other)
        assert shape(other) == created
        assert revision_of(other) == revision_of(connection) == HEAD
    assert created.keys() == {*Base.metadata.tables, "alembic_version", "full text"}
    assert created["full text"]


def test_every_step_back_leaves_what_was_before(new_database: NewDatabase) -> None:
    with new_database().begin() as connection:
        migrate(connection)
        there = shape(connection)
        for _ in REVISIONS[1:]:
            migrate(connection, to="-1")
        assert set(sa.inspect(connection).get_table_names()) < there.keys()
        migrate(connection)
        assert shape(connection) == there


def test_the_comparison_would_notice_a_missing_index_or_constraint(connection: sa.Connection) -> None:
    bring_up_to_date(connection)
    before = shape(connection)
    connection.exec_driver_sql("DROP INDEX ix_blocks_digest")
    assert shape(connection) != before
    without_words = "TRIGGER listing_words_update" if connection.dialect.name == "sqlite" else "INDEX ix_listings_words"
    connection.exec_driver_sql(f"DROP {without_words}")
    assert full_text(connection) != before["full text"]
    assert before["files"]["unique"]
    assert before["files"]["foreign keys"]


def test_every_table_of_the_models_has_its_constraints_in_the_database(connection: sa.Connection) -> None:
    bring_up_to_date(connection)
    found = shape(connection)
    for table in Base.metadata.sorted_tables:
        assert len(found[table.name]["foreign keys"]) == len(table.foreign_keys)
        columns = [name for name, *_ in found[table.name]["columns"] if name != "word_vector"]  # PostgreSQL's own
        assert columns == [column.name for column in table.columns]
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


def made_by_0001(home: Home) -> Home:
    home.prepare()
    with contextlib.closing(sqlite3.connect(home.index)) as plain:
        plain.executescript(INDEX_0001.read_text(encoding="utf-8"))
        plain.execute("PRAGMA journal_mode=WAL")
    return home


def assert_all_is_there(home: Home) -> None:
    """What the index of revision 0001 held, and that this version works with it."""
    with Index.open(home) as index:
        assert index.damage() == ()
        assert [stored.manifest for stored in index.releases()] == [
            signed().digest,
            signed(version=2, description="again").digest,
        ]
        assert index.releases()[0].envelope == signed().envelope
        assert index.releases()[0].torrents == tuple(signed().torrents.values())
        blob = index.blob(b3(WEIGHTS))
        assert blob is not None
        assert [str(place.path) for place in blob.locations] == ["/models/Ünï côdé/model.gguf"]
        assert index.partials() == (b3(FILES["doc/licence.txt"]),)
        record = PullRecord(
            started="2026-01-02T03:04:05Z", ended="2026-01-02T03:04:06Z", references=("acme/tiny",), outcome="done"
        )
        index.add_pull_record(record)
        assert [one.ended for one in index.pull_records(1, "acme/tiny:latest")] == [record.ended]


def sqls_of(home: Home) -> list[str]:
    with contextlib.closing(sqlite3.connect(home.index)) as plain:
        return [row[0] for row in plain.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")]


class TestAnIndexOfTheFirstVersion:
    def test_is_brought_up_to_date_in_place_and_keeps_everything(self, tmp_path: Path) -> None:
        home = made_by_0001(Home(tmp_path))
        assert_all_is_there(home)

    def test_then_has_the_schema_of_a_new_one(self, tmp_path: Path) -> None:
        old, new = made_by_0001(Home(tmp_path / "old")), Home(tmp_path / "new")
        before = sqls_of(old)
        Index.open(old).close()
        Index.open(new).close()
        shapes = []
        for home in (old, new):
            engine = sa.create_engine(sa.URL.create("sqlite", database=str(home.index)))
            with engine.begin() as connection:
                shapes.append(shape(connection))
                assert revision_of(connection) == HEAD
            engine.dispose()
        assert shapes[0] == shapes[1]
        anew = {sql.split()[2] for sql in set(before) - set(sqls_of(old))}
        assert anew == {"locations", "partials"}, "0004 alone makes tables anew: their keys got a store"

    def test_is_brought_up_to_date_by_who_only_wants_to_read(self, tmp_path: Path) -> None:
        home = made_by_0001(Home(tmp_path))
        index = Index.open_existing(home)
        assert index is not None
        with index:
            assert index.pull_records(10) == ()
            assert index.counts().releases == 2

    @pytest.mark.skipif(sys.platform == "win32", reason="it has other permissions")
    def test_is_read_as_it_is_where_nothing_may_be_written(self) -> None:
        with tempfile.TemporaryDirectory() as folder:  # nobody may reach tmp_path
            Path(folder).chmod(0o755)
            home = made_by_0001(Home(Path(folder) / "home"))
            with closed_to_writers(home), unprivileged():
                index = Index.open_existing(home)
                assert index is not None
                with index:
                    assert index.counts().releases == 2
                    assert index.pull_records(10) == ()
                    blob = index.blob(b3(WEIGHTS))
                    assert blob is not None
                    assert len(blob.locations) == len(index.partials()) == 1, "without a column that tells stores apart"
                    with pytest.raises(StoreError, match="can't write the index"):
                        signed(version=3).add_to(index)
            assert_all_is_there(home)

    def test_an_old_program_goes_on_beside_the_new_one(self, tmp_path: Path) -> None:
        """It has the index open already, and knows nothing of the new tables."""
        home = made_by_0001(Home(tmp_path))
        with contextlib.closing(sqlite3.connect(home.index)) as old:
            assert old.execute("SELECT count(*) FROM releases").fetchone() == (2,)
            Index.open(home).close()
            with old:
                old.execute("DELETE FROM partials")
            assert old.execute("SELECT count(*) FROM releases").fetchone() == (2,)
        with Index.open(home) as index:
            assert index.partials() == ()
            assert index.damage() == ()

    @pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
    @pytest.mark.long
    def test_killed_before_any_step_it_is_as_before_and_the_next_one_goes_through(self, tmp_path: Path) -> None:
        homes = [made_by_0001(Home(tmp_path / str(step))) for step in range(1, 61)]
        before = sqls_of(homes[0])
        done = subprocess.run(
            [sys.executable, DRIVER, "kill", *(str(home.root) for home in homes)],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        killed: list[bool] = json.loads(done.stdout)
        assert killed.count(True) > 5
        assert not killed[-1], "these steps can't be all"
        for home, was_killed in zip(homes, killed, strict=True):
            assert (sqls_of(home) == before) == was_killed
            if was_killed:
                assert_all_is_there(home)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
    def test_several_processes_may_do_it_at_the_same_moment(self, tmp_path: Path) -> None:
        homes = [made_by_0001(Home(tmp_path / str(number))) for number in range(6)]
        done = subprocess.run(
            [sys.executable, DRIVER, "race", *(str(home.root) for home in homes)],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        for home in homes:
            assert_all_is_there(home)
