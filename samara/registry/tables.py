"""The index's tables, as SQLAlchemy 2 typed models. Used by `samara.registry.index` alone.

Plain types only, so that SQLite and PostgreSQL hold the same schema. Digests are 32 raw bytes, sizes bytes, times UTC
epoch seconds, stamps as in `samara.schemas.stamps`. Every change here needs a migration in `migrations/versions`; a
test holds the two equal.
"""

from __future__ import annotations

from typing import Annotated, cast

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from samara.registry.listing_words import SearchText, index_words

REVISIONS = ("0001", "0002", "0003", "0004", "0005")  # oldest first; the last one is what this version writes
HEAD = REVISIONS[-1]

Key = Annotated[int, mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)]
Digest = Annotated[bytes, mapped_column(LargeBinary(32))]
Size = Annotated[int, mapped_column(BigInteger)]
Moment = Annotated[float, mapped_column(Float)]
# A row of `StoreRow`; empty in an SQLite file, where all is its own. Read only by who asks for it: an index of an older
# version has no such column, and is read as it is where nothing can be written
Store = Annotated[str, mapped_column(String(32), server_default="", default="", deferred=True)]


class Base(DeclarativeBase):
    """Declarative base of every table."""


class StoreRow(Base):
    """A SAMARA_HOME among those that share a PostgreSQL database (`samara.registry.stores`); none in an SQLite file.

    `seat`: where its id's file lay when it was last opened; `host`, `path`: for people who look for it.
    """

    __tablename__ = "stores"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    seat: Mapped[str] = mapped_column(String(32))
    host: Mapped[str] = mapped_column(String(255))
    path: Mapped[str] = mapped_column(String(4096))
    first_seen: Mapped[Moment]
    seen_at: Mapped[Moment]


class PublisherRow(Base):
    """A publisher by its identity; aliases live in `trust/`, not here."""

    __tablename__ = "publishers"

    id: Mapped[Key]
    identity: Mapped[str] = mapped_column(String(52), unique=True)
    name: Mapped[str] = mapped_column(String(64))
    first_seen: Mapped[Moment]


class ModelRow(Base):
    """A model name of one publisher."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("publisher_id", "name", name="uq_models_publisher_name"),)

    id: Mapped[Key]
    publisher_id: Mapped[int] = mapped_column(ForeignKey("publishers.id"))
    name: Mapped[str] = mapped_column(String(64))


class ReleaseRow(Base):
    """One signed manifest, byte for byte, with its signatures."""

    __tablename__ = "releases"
    __table_args__ = (Index("ix_releases_model_tag", "model_id", "tag", "version"),)

    id: Mapped[Key]
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    tag: Mapped[str] = mapped_column(String(64))
    version: Mapped[Size]
    manifest_digest: Mapped[Digest] = mapped_column(unique=True)
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    signatures: Mapped[str] = mapped_column(Text)
    created: Mapped[str] = mapped_column(String(20))
    added_at: Mapped[Moment]


class BlobRow(Base):
    """The bytes of one file, wherever they lie. Layout and blocks as the first release that has it describes them."""

    __tablename__ = "blobs"

    id: Mapped[Key]
    b3: Mapped[Digest] = mapped_column(unique=True)
    sha256: Mapped[Digest]
    size: Mapped[Size]
    layout: Mapped[str] = mapped_column(String(64))


class TorrentRow(Base):
    """A torrent that a release names for a blob. Another release of the same blob may name another one: no publisher's
    word replaces, or stands in for, another's."""

    __tablename__ = "torrents"
    __table_args__ = (UniqueConstraint("blob_id", "v2", name="uq_torrents_blob_v2"), Index("ix_torrents_v2", "v2"))

    id: Mapped[Key]
    blob_id: Mapped[int] = mapped_column(ForeignKey("blobs.id"))
    v2: Mapped[Digest]
    data: Mapped[bytes] = mapped_column(LargeBinary)


class FileRow(Base):
    """A file of a release: a path, the blob behind it and the torrent the release names for it."""

    __tablename__ = "files"
    __table_args__ = (UniqueConstraint("release_id", "path", name="uq_files_release_path"),)

    id: Mapped[Key]
    release_id: Mapped[int] = mapped_column(ForeignKey("releases.id"))
    blob_id: Mapped[int] = mapped_column(ForeignKey("blobs.id"), index=True)
    ordinal: Mapped[int] = mapped_column(Integer)
    path: Mapped[str] = mapped_column(String(1024))
    role: Mapped[str] = mapped_column(String(32))
    torrent_id: Mapped[int | None] = mapped_column(ForeignKey("torrents.id"))


class BlockRow(Base):
    """One block of a blob; found by digest when another blob needs the same bytes."""

    __tablename__ = "blocks"
    __table_args__ = (Index("ix_blocks_digest", "digest"),)

    blob_id: Mapped[int] = mapped_column(ForeignKey("blobs.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True)
    offset: Mapped[Size]
    size: Mapped[Size]
    digest: Mapped[Digest]


class LocationRow(Base):
    """A file of one machine that holds a whole blob: in the store, or in place where its owner keeps it."""

    __tablename__ = "locations"
    __table_args__ = (UniqueConstraint("store", "path", name="uq_locations_store_path"),)

    id: Mapped[Key]
    blob_id: Mapped[int] = mapped_column(ForeignKey("blobs.id"), index=True)
    path: Mapped[str] = mapped_column(String(4096))
    in_store: Mapped[bool]
    size: Mapped[Size]
    mtime_ns: Mapped[Size]
    inode: Mapped[Size]
    device: Mapped[Size]
    verified_at: Mapped[Moment]
    store: Mapped[Store]


class PartialRow(Base):
    """A transfer in progress on one machine; its truth is `partial/<b3>/record`, this row is how it is found."""

    __tablename__ = "partials"

    blob_id: Mapped[int] = mapped_column(ForeignKey("blobs.id"), primary_key=True)
    release_id: Mapped[int] = mapped_column(ForeignKey("releases.id"))
    started_at: Mapped[Moment]
    store: Mapped[str] = mapped_column(String(32), primary_key=True, server_default="", default="")


class PullRecordRow(Base):
    """The record of one pull (`samara.schemas.pull_record`), byte for byte; `size`: its bytes."""

    __tablename__ = "pull_records"

    id: Mapped[Key]
    size: Mapped[Size]
    document: Mapped[bytes] = mapped_column(LargeBinary)
    store: Mapped[Store]


class PullReferenceRow(Base):
    """A reference that a recorded pull was asked for: how its record is found."""

    __tablename__ = "pull_references"
    __table_args__ = (Index("ix_pull_references_reference", "reference"),)

    record_id: Mapped[int] = mapped_column(ForeignKey("pull_records.id"), primary_key=True)
    reference: Mapped[str] = mapped_column(String(512), primary_key=True)


# -- what only a registry keeps --------------------------------------------------------------------------------------


class CatalogRow(Base):
    """The newest catalog that a publisher has proven to this registry: a metadata bundle, byte for byte."""

    __tablename__ = "catalogs"

    publisher_id: Mapped[int] = mapped_column(ForeignKey("publishers.id"), primary_key=True)
    root_version: Mapped[Size]
    timestamp_version: Mapped[Size]
    bundle: Mapped[bytes] = mapped_column(LargeBinary)
    accepted_at: Mapped[Moment]


class EquivocationRow(Base):
    """Two catalogs of one version that a publisher signed, or whoever holds its key: both timestamps, as evidence."""

    __tablename__ = "equivocations"
    __table_args__ = (UniqueConstraint("publisher_id", "digest", name="uq_equivocations_publisher_digest"),)

    id: Mapped[Key]
    publisher_id: Mapped[int] = mapped_column(ForeignKey("publishers.id"))
    version: Mapped[Size]
    digest: Mapped[Digest]
    known: Mapped[bytes] = mapped_column(LargeBinary)
    offered: Mapped[bytes] = mapped_column(LargeBinary)
    seen_at: Mapped[Moment]


class NamespaceRow(Base):
    """A name at this registry and whose it is. `statement`: the signed claim; None: the operator's word."""

    __tablename__ = "namespaces"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    publisher_id: Mapped[int] = mapped_column(ForeignKey("publishers.id"), index=True)
    statement: Mapped[bytes | None] = mapped_column(LargeBinary)
    claimed_at: Mapped[Moment]


class ListingRow(Base):
    """What a name means by its publisher's current catalog, with the facts that people choose by and search for.

    `words`: everything to search in, as one text, brought to its words; the full-text index of it: `listing_words`.
    """

    __tablename__ = "listings"
    __table_args__ = (
        UniqueConstraint("model_id", "tag", name="uq_listings_model_tag"),
        Index("ix_listings_listed_at", "listed_at"),
        Index("ix_listings_architecture", "architecture"),
        Index("ix_listings_quantisation", "quantisation"),
        Index("ix_listings_license", "license"),
        Index("ix_listings_size", "size"),
    )

    id: Mapped[Key]
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    release_id: Mapped[int] = mapped_column(ForeignKey("releases.id"), index=True)
    tag: Mapped[str] = mapped_column(String(64))
    version: Mapped[Size]
    retracted: Mapped[str | None] = mapped_column(Text)
    license: Mapped[str | None] = mapped_column(String(256))
    description: Mapped[str | None] = mapped_column(Text)
    architecture: Mapped[str | None] = mapped_column(String(64))
    quantisation: Mapped[str | None] = mapped_column(String(32))
    parameters: Mapped[Size | None]
    context_length: Mapped[Size | None]
    has_chat_template: Mapped[bool]
    size: Mapped[Size]
    words: Mapped[str] = mapped_column(SearchText)
    listed_at: Mapped[Moment]


index_words(cast(Table, ListingRow.__table__))


class SwarmSampleRow(Base):
    """How many peers a blob's swarm had by one instance's tracker. `at`: UTC epoch seconds, rounded down to a step."""

    __tablename__ = "swarm_samples"

    blob_id: Mapped[int] = mapped_column(ForeignKey("blobs.id"), primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seeders: Mapped[int] = mapped_column(Integer)
    leechers: Mapped[int] = mapped_column(Integer)
    completed: Mapped[int] = mapped_column(Integer)
    store: Mapped[str] = mapped_column(String(32), primary_key=True, server_default="", default="")


class BarRow(Base):
    """What may not be here, by the operator's word. `kind`: "identity", "name" (`value`: ASCII) or "digest" (32 bytes,
    of a blob or a manifest). `why` is public."""

    __tablename__ = "bars"
    __table_args__ = (UniqueConstraint("kind", "value", name="uq_bars_kind_value"),)

    id: Mapped[Key]
    kind: Mapped[str] = mapped_column(String(8))
    value: Mapped[bytes] = mapped_column(LargeBinary(64))
    why: Mapped[str] = mapped_column(Text)
    at: Mapped[Moment]


class TakedownRow(Base):
    """What the operator took away, barred or let back in, and when: a journal. Rows are added, never changed."""

    __tablename__ = "takedowns"

    id: Mapped[Key]
    at: Mapped[Moment]
    act: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(256))
    why: Mapped[str | None] = mapped_column(Text)
