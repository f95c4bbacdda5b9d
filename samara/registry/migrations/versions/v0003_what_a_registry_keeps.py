"""What a registry keeps: catalogs proven to it, names claimed, listings to search in, swarms' health, evidence."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# as `samara.registry.listing_words` made it then
FULL_TEXT = {
    "sqlite": (
        "CREATE VIRTUAL TABLE listing_words USING fts5("
        "words, content='listings', content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='1 2 3')",
        "CREATE TRIGGER listing_words_insert AFTER INSERT ON listings BEGIN "
        "INSERT INTO listing_words (rowid, words) VALUES (new.id, new.words); END",
        "CREATE TRIGGER listing_words_delete AFTER DELETE ON listings BEGIN "
        "INSERT INTO listing_words (listing_words, rowid, words) VALUES ('delete', old.id, old.words); END",
        "CREATE TRIGGER listing_words_update AFTER UPDATE OF id, words ON listings BEGIN "
        "INSERT INTO listing_words (listing_words, rowid, words) VALUES ('delete', old.id, old.words); "
        "INSERT INTO listing_words (rowid, words) VALUES (new.id, new.words); END",
    ),
    "postgresql": (
        "ALTER TABLE listings ADD COLUMN word_vector tsvector GENERATED ALWAYS AS "
        "(array_to_tsvector(array_remove(string_to_array(words, ' '), ''))) STORED",
        "CREATE INDEX ix_listings_words ON listings USING gin (word_vector)",
    ),
}


def upgrade() -> None:
    op.create_table(
        "catalogs",
        sa.Column("publisher_id", KEY, nullable=False),
        sa.Column("root_version", sa.BigInteger(), nullable=False),
        sa.Column("timestamp_version", sa.BigInteger(), nullable=False),
        sa.Column("bundle", sa.LargeBinary(), nullable=False),
        sa.Column("accepted_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["publisher_id"], ["publishers.id"]),
        sa.PrimaryKeyConstraint("publisher_id"),
    )
    op.create_table(
        "equivocations",
        sa.Column("id", KEY, nullable=False),
        sa.Column("publisher_id", KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("known", sa.LargeBinary(), nullable=False),
        sa.Column("offered", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["publisher_id"], ["publishers.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("publisher_id", "digest", name="uq_equivocations_publisher_digest"),
    )
    op.create_table(
        "namespaces",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("publisher_id", KEY, nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=True),
        sa.Column("claimed_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["publisher_id"], ["publishers.id"]),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("ix_namespaces_publisher_id", "namespaces", ["publisher_id"])
    op.create_table(
        "listings",
        sa.Column("id", KEY, nullable=False),
        sa.Column("model_id", KEY, nullable=False),
        sa.Column("release_id", KEY, nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("retracted", sa.Text(), nullable=True),
        sa.Column("license", sa.String(length=256), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("architecture", sa.String(length=64), nullable=True),
        sa.Column("quantisation", sa.String(length=32), nullable=True),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.Column("context_length", sa.BigInteger(), nullable=True),
        sa.Column("has_chat_template", sa.Boolean(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("listed_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"]),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("model_id", "tag", name="uq_listings_model_tag"),
    )
    op.create_index("ix_listings_release_id", "listings", ["release_id"])
    for column in ("listed_at", "architecture", "quantisation", "license", "size"):
        op.create_index(f"ix_listings_{column}", "listings", [column])
    for statement in FULL_TEXT[op.get_context().dialect.name]:
        op.execute(sa.text(statement))
    op.create_index("ix_torrents_v2", "torrents", ["v2"])
    op.create_table(
        "swarm_samples",
        sa.Column("blob_id", KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("seeders", sa.Integer(), nullable=False),
        sa.Column("leechers", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"]),
        sa.PrimaryKeyConstraint("blob_id", "at"),
    )


def downgrade() -> None:
    op.drop_index("ix_torrents_v2", "torrents")
    if op.get_context().dialect.name == "sqlite":
        op.execute(sa.text("DROP TABLE listing_words"))
    for table in ("swarm_samples", "listings", "namespaces", "equivocations", "catalogs"):
        op.drop_table(table)
