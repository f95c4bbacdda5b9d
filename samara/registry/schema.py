"""Brings an index's schema to this version, or refuses it. Alembic is imported only when there is something to migrate.

A new index is created from the tables directly and stamped; a test holds that equal to running every migration.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from samara.registry.home import ENV_DATABASE, ENV_HOME
from samara.registry.tables import HEAD, REVISIONS, Base
from samara.schemas.errors import StoreError


def bring_up_to_date(connection: sa.Connection, *, migrating: bool = True) -> None:
    """Create, migrate or accept the schema on `connection`. Raises StoreError for one from a newer version, or, unless
    `migrating`, from any other one.

    The caller holds a write transaction, so two processes can't do this at once.
    """
    if is_up_to_date(connection):
        return
    found = revision_of(connection)
    if found is None:
        if sa.inspect(connection).get_table_names():
            raise StoreError(
                "the index's database holds somebody else's tables",
                next_step=f"give it one of its own ({ENV_HOME}, {ENV_DATABASE})",
            )
        Base.metadata.create_all(connection)
        _stamp(connection)
        return
    if not migrating:
        raise outdated(found)
    migrate(connection)


def outdated(found: str) -> StoreError:
    """The error for an index of an older version where nobody may migrate it by the way."""
    return StoreError(
        "the index was written by an older version of samara", expected=f"schema {HEAD}", actual=found,
        next_step="run: samara db upgrade",
    )  # fmt: skip


def is_up_to_date(connection: sa.Connection) -> bool:
    """Whether the schema is this version's; only reads. Raises StoreError for one from a newer version."""
    found = revision_of(connection)
    if found is not None and found not in REVISIONS:
        raise StoreError(
            "the index was written by a newer version of samara", expected=f"schema {HEAD} or older", actual=found,
            next_step=f"upgrade samara, or set {ENV_HOME} to another folder",
        )  # fmt: skip
    return found == HEAD


def revision_of(connection: sa.Connection) -> str | None:
    """The schema revision, or None where there is no schema."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def migrate(connection: sa.Connection, *, to: str = "head") -> None:
    """Run every migration that `connection` still lacks; `to`: "-1" takes one step back, for who develops one."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    (command.downgrade if to.startswith("-") else command.upgrade)(config, to)


def _stamp(connection: sa.Connection) -> None:
    connection.execute(
        sa.text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY)"
        )
    )
    connection.execute(sa.text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
