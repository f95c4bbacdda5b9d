"""The index in PostgreSQL: who makes and changes its schema, writers, what errors say, a server that goes and comes
back. Real servers. What the index keeps is tested by test_index, on both databases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
from index_kit import ACME, FILES, WEIGHTS, signed
from support.postgres import PASSWORD, Postgres, postgres

from samara.registry.home import ENV_DATABASE, ENV_HOME, Home
from samara.registry.index import Index
from samara.registry.index_postgres import WRITER_LOCK
from samara.registry.schema import migrate
from samara.registry.tables import HEAD
from samara.registry.upkeep import status, upgrade
from samara.schemas.digests import b3
from samara.schemas.errors import ExitCode, SamaraError, StoreError, UsageError
from samara.schemas.stamps import Stamp

DRIVER = Path(__file__).with_name("index_race_driver.py")
STAMP = Stamp(size=1, mtime_ns=1, inode=1, device=1)


@pytest.fixture
def home(tmp_path: Path, postgres_url: str) -> Home:
    return Home(tmp_path / "home", postgres_url)


@pytest.fixture
def index(home: Home) -> Iterator[Index]:
    with Index.open(home, lock_wait=0.2) as opened:
        yield opened


def statement(home: Home, *statements: str) -> None:
    """Change a database behind the index's back."""
    engine = sa.create_engine(str(home.database))
    with engine.begin() as connection:
        for one in statements:
            connection.exec_driver_sql(one)
    engine.dispose()


def at_revision(home: Home, revision: str) -> None:
    """Make the index as an older version of samara did."""
    engine = sa.create_engine(str(home.database))
    with engine.begin() as connection:
        migrate(connection, to=revision)
    engine.dispose()


def refused(home: Home) -> SamaraError:
    """The error that opening gives, both ways of it."""
    with pytest.raises(SamaraError) as caught:
        Index.open(home, lock_wait=0.2)
    with pytest.raises(type(caught.value)) as again:
        Index.open_existing(home, lock_wait=0.2)
    assert str(again.value) == str(caught.value)
    return caught.value


class TestOpening:
    def test_an_empty_database_becomes_an_index(self, home: Home) -> None:
        Index.open(home).close()
        found = status(home)
        assert found is not None
        assert (found.schema, found.is_writable_now, found.counts and found.counts.releases) == (HEAD, True, 0)
        assert not home.index.exists()
        with Index.open(home) as index:
            assert index.damage() == ()

    def test_who_only_reads_may_make_it_too(self, home: Home) -> None:
        opened = Index.open_existing(home)
        assert opened is not None
        with opened:
            assert opened.counts().releases == 0

    def test_an_older_schema_is_refused_until_somebody_upgrades_it(self, home: Home) -> None:
        at_revision(home, "0002")
        error = refused(home)
        assert isinstance(error, StoreError)
        assert (error.expected, error.actual, error.next_step) == (f"schema {HEAD}", "0002", "run: samara db upgrade")
        found = status(home)
        assert found is not None
        assert (found.schema, found.counts, found.is_current) == ("0002", None, False)
        done = upgrade(home, now=time.time())
        assert (done.before, done.after) == ("0002", HEAD)
        Index.open(home).close()
        assert upgrade(home, now=time.time()).before == HEAD

    def test_a_service_refuses_an_older_file_too(self, tmp_path: Path) -> None:
        home = Home(tmp_path)
        engine = sa.create_engine(sa.URL.create("sqlite", database=str(home.index)))
        with engine.begin() as connection:
            migrate(connection, to="0002")
        engine.dispose()
        with pytest.raises(StoreError, match="samara db upgrade"):
            Index.open(home, migrate=False)
        Index.open(home).close()
        Index.open(home, migrate=False).close()

    def test_a_newer_schema_and_somebody_elses_tables_are_refused(self, home: Home) -> None:
        Index.open(home).close()
        statement(home, "UPDATE alembic_version SET version_num = '9999'")
        assert "newer version of samara" in str(refused(home))
        statement(home, "DROP TABLE alembic_version")
        assert "somebody else's tables" in str(refused(home))

    def test_it_may_lie_in_a_schema_of_its_own(self, home: Home, tmp_path: Path) -> None:
        statement(home, "CREATE TABLE recipes (name TEXT)", "CREATE SCHEMA models")
        own = Home(tmp_path / "own", f"{home.database}?options={quote('-c search_path=models')}")
        with Index.open(own) as index:
            signed().add_to(index)
            assert index.counts().releases == 1
        assert "somebody else's tables" in str(refused(home))

    def test_processes_that_make_and_migrate_it_at_the_same_moment_all_succeed(
        self, postgres_server: Postgres, tmp_path: Path
    ) -> None:
        with postgres_server.database() as new, postgres_server.database() as old:
            at_revision(Home(tmp_path, postgres_server.url(old)), "0001")
            done = subprocess.run(
                [
                    sys.executable, DRIVER, "4", "upgrade",
                    *(f"{tmp_path}={postgres_server.url(name)}" for name in (new, old)),
                ],
                capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, "")
            for name in (new, old):
                with Index.open(Home(tmp_path, postgres_server.url(name))) as index:
                    assert index.counts().releases == 0

    @pytest.mark.parametrize(
        "url",
        [
            "mysql://samara:{0}@localhost/samara", "postgresql+psycopg2://samara:{0}@localhost/samara", "{0}",
            "sqlite:///{0}.db", "postgresql://[::1/{0}", "postgresql://u:{0}@localhost:port/x", "://{0}",
            "postgresql://u:{0}@127.0.0.1:1/x?no_such_option={0}",
        ],
    )  # fmt: skip
    def test_a_url_that_means_no_database_of_ours_is_refused_and_not_repeated(self, url: str, tmp_path: Path) -> None:
        error = refused(Home(tmp_path, url.format("geheim")))
        assert isinstance(error, UsageError)
        assert ENV_DATABASE in str(error)
        assert "geheim" not in str(error)

    def test_libpqs_spelling_and_a_socket_will_do(self, postgres_server: Postgres, tmp_path: Path) -> None:
        with postgres_server.database() as name:
            for url in (postgres_server.url(name).replace("+psycopg", ""), postgres_server.socket_url(name)):
                with Index.open(Home(tmp_path, url)) as index:
                    assert index.counts().releases == 0

    def test_without_psycopg_it_says_what_to_install(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        error = refused(home)
        assert isinstance(error, UsageError)
        assert error.next_step == "pip install 'samara[serve]'"

    def test_the_environment_names_it_and_nothing_shows_its_password(self, tmp_path: Path) -> None:
        home = Home.find({ENV_HOME: str(tmp_path), ENV_DATABASE: "postgresql://u:geheim@h/x"})
        assert home.database == "postgresql://u:geheim@h/x"
        assert "geheim" not in repr(home)
        assert home.may_have_index
        assert Home.find({ENV_HOME: str(tmp_path), ENV_DATABASE: ""}).database is None


class TestErrors:
    @pytest.mark.parametrize("change", ["wrong password", "no such database", "no such user", "nobody listens"])
    def test_a_database_that_cannot_be_reached_is_named_without_its_password(
        self, postgres_server: Postgres, tmp_path: Path, change: str
    ) -> None:
        url = {
            "wrong password": postgres_server.url("postgres", password="geheim"),
            "no such database": postgres_server.url("none_such"),
            "no such user": postgres_server.url("postgres").replace("postgres:", "nobody:"),
            "nobody listens": "postgresql://u:geheim@127.0.0.1:1/x?connect_timeout=5",
        }[change]
        error = refused(Home(tmp_path, url))
        assert isinstance(error, StoreError)
        assert "127.0.0.1" in str(error)
        for secret in ("geheim", PASSWORD, quote(PASSWORD, safe="")):
            assert secret not in str(error)
        assert "Traceback" not in str(error)
        assert error.next_step

    def test_a_text_with_a_zero_byte_is_refused_clearly(self, index: Index) -> None:
        signed().add_to(index)
        for path in ("/models/a\0b", "/models/\udce9"):
            with pytest.raises(UsageError):
                index.set_location(b3(WEIGHTS), Path(path), STAMP, in_store=False, verified_at=1.0)
            with pytest.raises(UsageError):
                index.location_at(Path(path))
            assert index.release(ACME, "tiny", "q8_0") is not None

    def test_a_path_that_is_too_long_is_refused_clearly(self, index: Index) -> None:
        signed().add_to(index)
        with pytest.raises(UsageError, match="too long"):
            index.set_location(b3(WEIGHTS), Path("/" + "x" * 5000), STAMP, in_store=False, verified_at=1.0)

    def test_who_may_only_read_is_told_so(self, home: Home, index: Index, postgres_server: Postgres) -> None:
        signed().add_to(index)
        name = str(home.database).rsplit("/", 1)[1]
        statement(
            home,
            f"CREATE ROLE reader_{name} LOGIN PASSWORD 'geheim'",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_{name}",
        )
        url = f"postgresql://reader_{name}:geheim@127.0.0.1:{postgres_server.port}/{name}"
        with Index.open(Home(home.root, url)) as reading:
            assert reading.counts().releases == 1
            with pytest.raises(StoreError, match="can't write the index") as caught:
                signed(version=2).add_to(reading)
        assert "geheim" not in str(caught.value)
        statement(home, f"DROP OWNED BY reader_{name}", f"DROP ROLE reader_{name}")

    def test_rows_that_are_no_values_and_tables_that_are_gone_are_damage(self, home: Home, index: Index) -> None:
        signed().add_to(index)
        statement(home, "UPDATE releases SET signatures = 'no json'")
        with pytest.raises(StoreError, match="is damaged"):
            index.releases()
        statement(home, "DROP TABLE blocks")
        with pytest.raises(StoreError, match="is damaged"):
            index.blocks(b3(WEIGHTS))

    def test_a_broken_constraint_is_a_bug_and_not_called_damage(self, home: Home, index: Index) -> None:
        statement(home, "ALTER TABLE releases ADD CHECK (version > 5)")
        with pytest.raises(sa.exc.IntegrityError) as caught:
            signed().add_to(index)
        assert "hide_parameters" in str(caught.value)


class TestWriters:
    def test_one_waits_for_another_and_gives_up_clearly(self, home: Home, index: Index) -> None:
        with writing(home):
            with pytest.raises(StoreError, match="locked by another process"):
                signed().add_to(index)
            assert index.counts().releases == 0, "readers wait for nobody"
        signed().add_to(index)
        assert index.counts().releases == 1

    def test_what_a_writer_reads_is_as_of_after_the_wait(self, home: Home) -> None:
        """Two of them publish the same version: one must see that the other did."""
        outcomes: list[object] = []

        def publish(number: int) -> None:
            made = signed(description=str(number))
            try:
                with Index.open(home) as own:
                    own.add_release(made.release, made.envelope, made.torrents, now=1.0, must_be_newest=True)
                outcomes.append("done")
            except StoreError as error:
                outcomes.append(error.what)

        Index.open(home).close()
        threads = [threading.Thread(target=publish, args=(number,)) for number in range(6)]
        with writing(home):
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join(60)
        assert outcomes.count("done") == 1
        assert sum("at the same time" in str(one) for one in outcomes) == 5

    def test_more_readers_than_connections_take_turns(self, home: Home, index: Index) -> None:
        signed().add_to(index)
        with ThreadPoolExecutor(64) as pool:
            found = list(pool.map(lambda _: index.counts().releases, range(256)))
        assert set(found) == {1}

    def test_all_of_a_reading_is_as_of_one_moment(self, index: Index) -> None:
        with index.database.read() as session:
            before = session.scalar(sa.text("SELECT count(*) FROM releases"))
            signed().add_to(index)
            assert session.scalar(sa.text("SELECT count(*) FROM releases")) == before == 0


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of these tests' own, which they may stop."""
    with postgres() as own:
        yield own


class TestAServerThatGoes:
    def test_calls_fail_clearly_and_work_again_when_it_is_back(self, server: Postgres, tmp_path: Path) -> None:
        with server.database() as name, Index.open(Home(tmp_path, server.url(name))) as index:
            signed().add_to(index)
            server.stop()
            try:
                for call in (index.counts, index.releases, lambda: signed(version=2).add_to(index), index.counts):
                    with pytest.raises(StoreError, match="can't use the index") as caught:
                        call()
                    assert PASSWORD not in str(caught.value)
                    assert caught.value.exit_code is ExitCode.STORE
            finally:
                server.start()
            assert index.counts().releases == 1
            signed(version=2).add_to(index)
            assert index.counts().releases == 2

    def test_a_connection_that_breaks_half_way_leaves_nothing_half_done(self, server: Postgres, tmp_path: Path) -> None:
        with server.database() as name, Index.open(Home(tmp_path, server.url(name))) as index:
            with pytest.raises(StoreError, match="can't use the index"), index.database.write() as session:
                session.execute(sa.text("INSERT INTO publishers (identity, name, first_seen) VALUES ('x', 'x', 1)"))
                with server.connected() as other:
                    other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
                session.execute(sa.text("INSERT INTO publishers (identity, name, first_seen) VALUES ('y', 'y', 1)"))
            with index.database.read() as session:
                assert session.scalar(sa.text("SELECT count(*) FROM publishers")) == 0
            signed().add_to(index)
            assert index.counts().blobs == len(FILES)


class TestCommands:
    def test_commands_use_the_database_that_the_environment_names(self, home: Home) -> None:
        with Index.open(home) as index:
            signed().add_to(index)
        done = command(home, "ls", "--json")
        (row,) = json.loads(done.stdout)["releases"]
        assert row["reference"].endswith("tiny:q8_0")
        assert not home.index.exists()

    @pytest.mark.long
    def test_none_but_upgrade_changes_an_older_schema(self, home: Home) -> None:
        at_revision(home, "0002")
        for arguments in (("ls",), ("audit",), ("records",)):
            done = command(home, *arguments)
            assert done.returncode == ExitCode.STORE, done.stderr
            assert "samara db upgrade" in done.stderr
        done = command(home, "db", "upgrade", "--json")
        assert json.loads(done.stdout)["before"] == "0002"
        assert command(home, "ls").returncode == 0


def command(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `samara`."""
    environment = {**os.environ, ENV_HOME: str(home.root), ENV_DATABASE: str(home.database), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "samara", *arguments], env=environment, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


class writing:  # noqa: N801  (reads as a statement)
    """Somebody else who has begun to write, and takes their time."""

    def __init__(self, home: Home) -> None:
        self._url = str(home.database).replace("+psycopg", "")

    def __enter__(self) -> None:
        self._connection = psycopg.connect(self._url)
        self._connection.execute(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")

    def __exit__(self, *_exc: object) -> None:
        self._connection.rollback()
        self._connection.close()
