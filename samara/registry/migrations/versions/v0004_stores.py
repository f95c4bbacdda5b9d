"""Which machine's store a location, a transfer, a pull's record and a tracker's count belong to; the stores that share
a database.

What is there already gets the empty name: of an SQLite file all is its own anyway; in PostgreSQL it is unclaimed until
a store finds the file (`samara.registry.stores`).
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "stores",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("seat", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("path", sa.String(length=4096), nullable=False),
        sa.Column("first_seen", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("pull_records", _store())
    if op.get_context().dialect.name == "sqlite":  # which can't change constraints: both tables are made anew
        _make_anew("locations", _locations, sa.UniqueConstraint("store", "path", name="uq_locations_store_path"))
        _make_anew("partials", _partials, sa.PrimaryKeyConstraint("blob_id", "store"))
        _make_anew("swarm_samples", _samples, sa.PrimaryKeyConstraint("blob_id", "at", "store"))
        return
    for table in ("locations", "partials", "swarm_samples"):
        op.add_column(table, _store())
    op.drop_constraint("locations_path_key", "locations")
    op.create_unique_constraint("uq_locations_store_path", "locations", ["store", "path"])
    op.drop_constraint("partials_pkey", "partials")
    op.create_primary_key("partials_pkey", "partials", ["blob_id", "store"])
    op.drop_constraint("swarm_samples_pkey", "swarm_samples")
    op.create_primary_key("swarm_samples_pkey", "swarm_samples", ["blob_id", "at", "store"])


def downgrade() -> None:
    for table, key in (("locations", ("path",)), ("partials", ("blob_id",)), ("swarm_samples", ("blob_id", "at"))):
        same = " AND ".join(f"other.{one} = {table}.{one}" for one in key)
        first = f"SELECT min(store) FROM {table} AS other WHERE {same}"  # noqa: S608
        op.execute(sa.text(f"DELETE FROM {table} WHERE store <> ({first})"))  # noqa: S608  (one machine's, of several)
    if op.get_context().dialect.name == "sqlite":
        _make_anew("locations", _locations, sa.UniqueConstraint("path"), with_store=False)
        _make_anew("partials", _partials, sa.PrimaryKeyConstraint("blob_id"), with_store=False)
        _make_anew("swarm_samples", _samples, sa.PrimaryKeyConstraint("blob_id", "at"), with_store=False)
        with op.batch_alter_table("pull_records") as batch:
            batch.drop_column("store")
    else:
        op.drop_constraint("uq_locations_store_path", "locations")
        op.drop_constraint("partials_pkey", "partials")
        op.drop_constraint("swarm_samples_pkey", "swarm_samples")
        for table in ("locations", "partials", "swarm_samples", "pull_records"):
            op.drop_column(table, "store")
        op.create_unique_constraint("locations_path_key", "locations", ["path"])
        op.create_primary_key("partials_pkey", "partials", ["blob_id"])
        op.create_primary_key("swarm_samples_pkey", "swarm_samples", ["blob_id", "at"])
    op.drop_table("stores")


def _store() -> sa.Column[str]:
    return sa.Column("store", sa.String(length=32), server_default="", nullable=False)


def _locations() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", KEY, nullable=False),
        sa.Column("blob_id", KEY, nullable=False),
        sa.Column("path", sa.String(length=4096), nullable=False),
        sa.Column("in_store", sa.Boolean(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("inode", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.BigInteger(), nullable=False),
        sa.Column("verified_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"]),
        sa.PrimaryKeyConstraint("id"),
    ]


def _partials() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("blob_id", KEY, nullable=False),
        sa.Column("release_id", KEY, nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"]),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"]),
    ]


def _samples() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("blob_id", KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("seeders", sa.Integer(), nullable=False),
        sa.Column("leechers", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"]),
    ]


def _make_anew(table, make, constraint, *, with_store=True) -> None:  # type: ignore[no-untyped-def]
    items = make()
    columns = ", ".join(item.name for item in items if isinstance(item, sa.Column))
    op.rename_table(table, f"{table}_before")
    op.create_table(table, *items, *([_store()] if with_store else []), constraint)
    op.execute(sa.text(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}_before"))  # noqa: S608
    op.drop_table(f"{table}_before")
    if table == "locations":
        op.create_index("ix_locations_blob_id", "locations", ["blob_id"])
