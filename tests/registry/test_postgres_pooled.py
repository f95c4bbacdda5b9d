"""The index behind PgBouncer, which gives each transaction whatever connection is free: nothing may rest on the one of
before. As it comes (it refuses libpq's `options`), and as people set it up (it swallows them). Real servers.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from index_kit import ACME, WEIGHTS, signed
from support.pgbouncer import PgBouncer, pgbouncer
from support.postgres import Postgres

from samara.registry.home import Home
from samara.registry.index import Index
from samara.schemas.digests import b3
from samara.schemas.errors import StoreError, UsageError
from samara.schemas.stamps import Stamp

STAMP = Stamp(size=1, mtime_ns=1, inode=1, device=1)


@pytest.fixture(scope="module", params=["", "options"], ids=["refusing options", "swallowing options"])
def pooler(request: pytest.FixtureRequest, postgres_server: Postgres) -> Iterator[PgBouncer]:
    with pgbouncer(postgres_server, size=3, ignored=request.param) as running:
        yield running


@pytest.fixture
def home(pooler: PgBouncer, postgres_server: Postgres, tmp_path: Path) -> Iterator[Home]:
    with postgres_server.database() as name:
        yield Home(tmp_path, pooler.url(name))


def test_many_at_once_read_and_write_over_a_few_connections(home: Home) -> None:
    """More often than psycopg waits until it prepares a statement."""
    with Index.open(home) as index:
        signed().add_to(index)

        def work(number: int) -> int:
            index.set_location(b3(WEIGHTS), Path(f"/{number}"), STAMP, in_store=False, verified_at=1.0)
            assert index.release(ACME, "tiny", "q8_0") is not None
            assert len(index.blocks(b3(WEIGHTS))) > 0
            return index.counts().releases

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(work, range(80))) == {1}
        assert index.counts().locations == 80


def test_every_transaction_has_its_limits_and_leaves_none_behind(home: Home, postgres_server: Postgres) -> None:
    wanted = {"lock_timeout": "200ms", "statement_timeout": "1min", "idle_in_transaction_session_timeout": "1min"}
    with Index.open(home, lock_wait=0.2) as index:
        for transaction in (index.database.read, index.database.write, index.database.note):
            with transaction() as session:
                found = {name: session.scalar(sa.text(f"SHOW {name}")) for name in wanted}
                assert found == wanted
        with index.database.read() as session:
            assert session.scalar(sa.text("SHOW transaction_isolation")) == "repeatable read"
            assert session.scalar(sa.text("SHOW transaction_read_only")) == "on"
        # writers take turns, and a turn ends with its transaction
        with index.database.write() as session:
            session.scalar(sa.text("SELECT 1"))
            with pytest.raises(StoreError, match="locked by another process"):
                signed().add_to(index)
        with index.database.alone() as first, index.database.alone() as second:
            assert (first, second) == (True, False)
        signed().add_to(index)
    engine = sa.create_engine(str(home.database), connect_args={"prepare_threshold": None})
    with engine.connect() as stranger:  # on the connections that we had
        for _ in range(6):
            assert stranger.scalar(sa.text("SHOW lock_timeout")) == "0"
            stranger.rollback()
    engine.dispose()


def test_own_options_that_would_be_lost_are_refused(home: Home) -> None:
    """A schema of one's own, say: else the tables would come into everybody's."""
    url = f"{home.database}?options={quote('-c search_path=models')}"
    with pytest.raises(UsageError, match="the pooler that it names") as caught:
        Index.open(Home(home.root, url))
    assert "ALTER ROLE" in str(caught.value.next_step)


def test_a_pooler_that_goes_is_a_database_that_is_gone(postgres_server: Postgres, tmp_path: Path) -> None:
    with (
        postgres_server.database() as name,
        pgbouncer(postgres_server) as running,
        Index.open(Home(tmp_path, running.url(name))) as index,
    ):
        signed().add_to(index)
        running.stop()
        with pytest.raises(StoreError, match="can't use the index"):
            index.counts()
