"""A registry that mirrors over PostgreSQL: the server goes while a blob comes, comes back, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.postgres import postgres
from support.registries import asking, list_shelf, mirroring, provided
from support.swarms import seeding
from support.world import MIB, one_blob

from samara.registry.home import Home
from samara.registry.index import Index

pytestmark = pytest.mark.long  # real parts that take their time: the longer suite

SIZE = 8 * MIB


def test_the_database_goes_and_comes_back_while_a_blob_is_mirrored(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with postgres() as server, server.database() as name, seeding(published, up=4 * MIB) as seeder:
        home = Home(tmp_path / "registry", server.url(name))
        with Index.open(home) as index:
            list_shelf(index, published)
            with provided(home, index, mirroring(asking(seeder.endpoint))) as registry:
                registry.until(lambda status: any(one.from_peers for one in status.coming))
                server.stop()
                # its bytes come all the same; that they are here can't be recorded
                registry.until(lambda _status: home.blob(published.only.b3_hex).exists())
                registry.until(lambda status: status.trouble is not None)
                given = seeder.uploaded
                server.start()
                status = registry.until(
                    lambda status: status.seeding == 1 and not status.coming and status.trouble is None
                )
                assert (status.here, status.held) == (1, 1)
                assert seeder.uploaded - given < MIB, "it was fetched again"
            assert index.location_at(home.blob(published.only.b3_hex)) is not None
