"""What this registry lists: for each publisher the newest catalog it proved here, what its names mean, whose names they
are. Reads only; what comes in goes through `samara.registry.publications`.

A registry is believed by nobody: all of this helps people to find and choose, and clients prove what they get by
themselves. Facts that people choose by are the publisher's words, out of its signed manifest. Searching: `search`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry import block_sharing, listed_torrents, overview, published, repositories
from samara.registry.block_sharing import SharedWith
from samara.registry.index_columns import bytes_of, digest_of, text_of
from samara.registry.index_database import Database
from samara.registry.overview import CatalogStamp, Overview, OwnersModels
from samara.registry.published import ListedBlob
from samara.registry.repositories import Tag
from samara.registry.tables import (
    BlobRow,
    CatalogRow,
    EquivocationRow,
    FileRow,
    ListingRow,
    ModelRow,
    NamespaceRow,
    PublisherRow,
    ReleaseRow,
    SwarmSampleRow,
    TorrentRow,
)
from samara.schemas.digests import b3_raw
from samara.schemas.metadata_bundle import MetadataBundle, unpack_metadata
from samara.schemas.references import is_identity

if TYPE_CHECKING:
    from samara.registry.search import Searches, SearchPage, SearchQuery

_AT_ONCE = 500  # values in one question: SQLite takes a limited number


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """A publisher as this registry knows it. `name`: what it calls itself, proven by nothing; `namespace`: the name
    that is its own at this registry, the first one if it has several.
    """

    identity: str
    name: str
    namespace: str | None

    @property
    def slug(self) -> str:
        """What stands for it in URLs here."""
        return self.namespace or self.identity


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What one name means by its publisher's current catalog. `size`: bytes of all files; `listed_at`: UTC epoch
    seconds when it came to mean that; `retracted`: why it was withdrawn.
    """

    owner: Owner
    model: str
    tag: str
    manifest: str
    version: int
    created: str
    license: str | None
    description: str | None
    architecture: str | None
    quantisation: str | None
    parameters: int | None
    context_length: int | None
    has_chat_template: bool
    size: int
    retracted: str | None
    listed_at: float

    @property
    def commit(self) -> str:
        """40 hex digits that stand for this very release where a commit is expected."""
        return self.manifest[3:43]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRelease:
    """A release that this registry keeps, current or not."""

    manifest: str
    tag: str
    version: int
    created: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedBlob:
    """A blob of a listed release. `torrents`: canonical .torrents that listed releases name for it; none if it only
    travels inline. More than one means that publishers contradict each other: a torrent is proven for the release that
    names it, not for the blob.
    """

    b3: str
    size: int
    torrents: tuple[bytes, ...]

    @property
    def torrent(self) -> bytes | None:
        """The first of them."""
        return self.torrents[0] if self.torrents else None


@dataclass(frozen=True, kw_only=True, slots=True)
class SwarmSample:
    """A swarm at one moment (UTC epoch seconds)."""

    at: int
    seeders: int
    leechers: int
    completed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Equivocation:
    """Evidence against a publisher, or whoever has its key: two signed timestamps of one version."""

    version: int
    known: bytes
    offered: bytes
    seen_at: float


class Listings:
    """See `Index.listings`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._searches: Searches | None = None

    # -- publishers ----------------------------------------------------------------------------------------------

    def owner(self, name: str) -> Owner | None:
        """Whose name, or identity, it is; None for a publisher that has no catalog here."""
        with self._database.read() as session:
            found = select(PublisherRow).join(CatalogRow, CatalogRow.publisher_id == PublisherRow.id)
            if is_identity(name):
                row = session.scalar(found.where(PublisherRow.identity == name))
            else:
                named = found.join(NamespaceRow, NamespaceRow.publisher_id == PublisherRow.id)
                row = session.scalar(named.where(NamespaceRow.name == name))
            return None if row is None else _owner(session, row)

    def owners(self) -> tuple[Owner, ...]:
        """Every publisher that has a catalog here, in the order in which they came."""
        with self._database.read() as session:
            rows = session.scalars(
                select(PublisherRow)
                .join(CatalogRow, CatalogRow.publisher_id == PublisherRow.id)
                .order_by(PublisherRow.id)
            ).all()
            return tuple(_owner(session, row) for row in rows)

    def namespace_owner(self, name: str) -> str | None:
        """The identity that a namespace belongs to."""
        with self._database.read() as session:
            return session.scalar(
                select(PublisherRow.identity)
                .join(NamespaceRow, NamespaceRow.publisher_id == PublisherRow.id)
                .where(NamespaceRow.name == name)
            )

    def namespace_statement(self, name: str) -> bytes | None:
        """The claim by which a namespace was taken (DSSE JSON); None for a free one, or by the operator's word."""
        with self._database.read() as session:
            return session.scalar(select(NamespaceRow.statement).where(NamespaceRow.name == name))

    def metadata(self, identity: str) -> MetadataBundle | None:
        """The newest catalog that a publisher proved here, as it came. Whoever uses it checks it again."""
        with self._database.read() as session:
            data = session.scalar(
                select(CatalogRow.bundle)
                .join(PublisherRow, CatalogRow.publisher_id == PublisherRow.id)
                .where(PublisherRow.identity == identity)
            )
            return None if data is None else unpack_metadata(bytes_of(data))

    def equivocations(self, identity: str) -> tuple[Equivocation, ...]:
        """What a publisher, or who has its key, should not have signed; the latest first."""
        with self._database.read() as session:
            rows = session.scalars(
                select(EquivocationRow)
                .join(PublisherRow, EquivocationRow.publisher_id == PublisherRow.id)
                .where(PublisherRow.identity == identity)
                .order_by(EquivocationRow.id.desc())
            )
            return tuple(
                Equivocation(
                    version=int(row.version),
                    known=bytes_of(row.known),
                    offered=bytes_of(row.offered),
                    seen_at=float(row.seen_at),
                )
                for row in rows
            )

    # -- models --------------------------------------------------------------------------------------------------

    def search(self, query: SearchQuery) -> SearchPage:
        """What fits a query: see `samara.registry.search`."""
        if self._searches is None:
            from samara.registry.search import Searches  # it gives out values of this module

            self._searches = Searches(self._database)
        return self._searches.search(query)

    def listing(self, owner: Owner, model: str, tag: str) -> Listing | None:
        """What a name means now."""
        return next(iter(self._listings(owner, ModelRow.name == model, ListingRow.tag == tag)), None)

    def model(self, owner: Owner, model: str) -> tuple[Listing, ...]:
        """Everything that a model's names mean now, the newest first; empty for a model that isn't listed."""
        return self._listings(owner, ModelRow.name == model)

    def of_owner(self, owner: Owner) -> tuple[Listing, ...]:
        """Everything that a publisher lists, the newest first."""
        return self._listings(owner)

    def count(self) -> int:
        """How many names mean something here."""
        with self._database.read() as session:
            return session.scalar(select(sa.func.count()).select_from(ListingRow)) or 0

    def history(self, owner: Owner, model: str) -> tuple[KnownRelease, ...]:
        """The releases of a model that are kept here, the highest version first."""
        with self._database.read() as session:
            rows = session.execute(
                select(ReleaseRow.manifest_digest, ReleaseRow.tag, ReleaseRow.version, ReleaseRow.created)
                .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
                .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
                .where(PublisherRow.identity == owner.identity, ModelRow.name == model)
                .order_by(ReleaseRow.version.desc(), ReleaseRow.id.desc())
            )
            return tuple(
                KnownRelease(manifest=digest_of(digest), tag=text_of(tag), version=int(version), created=text_of(at))
                for digest, tag, version, at in rows
            )

    def tags(
        self,
        owner: Owner,
        model: str,
        *,
        limit: int,
        current: bool = False,
        named: Collection[str] | None = None,
        manifests: Collection[str] | None = None,
    ) -> tuple[Tag, ...]:
        """What a model's tags mean now, the newest first, at most so many. `current`: without what was withdrawn;
        `named`: of these tags only; `manifests`: of these releases only.
        """
        with self._database.read() as session:
            return repositories.tags(
                session, owner.identity, model, limit=limit, current=current, named=named, manifests=manifests
            )

    def kept_release(self, owner: Owner, model: str, first: bytes) -> str | None:
        """The manifest of a release of this model that is kept here, current or not, by the first bytes of its digest;
        of several that begin so any.
        """
        with self._database.read() as session:
            return repositories.kept_release(session, owner.identity, model, first)

    # -- blobs and swarms ----------------------------------------------------------------------------------------

    def is_published(self, manifest: str) -> bool:
        """Whether a name here means this manifest, and wasn't withdrawn."""
        with self._database.read() as session:
            found = session.scalar(
                select(ListingRow.id)
                .join(ReleaseRow, ListingRow.release_id == ReleaseRow.id)
                .where(ReleaseRow.manifest_digest == b3_raw(manifest), ListingRow.retracted.is_(None))
                .limit(1)
            )
            return found is not None

    def published_blob(self, b3: str) -> PublishedBlob | None:
        """A blob of a release that is listed and not withdrawn."""
        with self._database.read() as session:
            row = session.execute(_published().where(BlobRow.b3 == b3_raw(b3))).first()
            return None if row is None else _blobs(session, [row])[0][1]

    def torrent(self, v2: str) -> bytes | None:
        """The canonical .torrent with this v2 infohash (64 hex digits), if a listed release names it."""
        with self._database.read() as session:
            data = session.scalar(
                select(TorrentRow.data).where(TorrentRow.v2 == bytes.fromhex(v2), TorrentRow.id.in_(_listed_torrents()))
            )
            return None if data is None else bytes_of(data)

    def published_torrents(self, *, after: int = 0, limit: int = 1000) -> tuple[tuple[int, str, str], ...]:
        """(number, blob, v2 infohash as hex) of every torrent of listed releases, from the first number after `after`.

        Without their bytes, which `torrent` has.
        """
        with self._database.read() as session:
            rows = session.execute(
                select(TorrentRow.id, BlobRow.b3, TorrentRow.v2)
                .join(BlobRow, TorrentRow.blob_id == BlobRow.id)
                .where(TorrentRow.id > after, TorrentRow.id.in_(_listed_torrents()))
                .order_by(TorrentRow.id)
                .limit(limit)
            )
            return tuple((int(number), digest_of(b3), bytes_of(v2).hex()) for number, b3, v2 in rows)

    def published_blobs(self, *, after: int = 0, limit: int = 1000) -> tuple[tuple[int, PublishedBlob], ...]:
        """(number, blob) of every blob of a listed release, from the first number after `after`, so many at once."""
        with self._database.read() as session:
            rows = session.execute(_published().where(BlobRow.id > after).order_by(BlobRow.id).limit(limit)).all()
            return _blobs(session, rows)

    def listed_blobs(self) -> tuple[ListedBlob, ...]:
        """Every blob of a listed release that travels by a swarm, withdrawn ones too; no torrents, no blocks."""
        with self._database.read() as session:
            return published.listed_blobs(session)

    def listed_torrents(self) -> tuple[tuple[int, str, bytes], ...]:
        """(number, blob, v2 infohash) of every torrent that a listed release, not withdrawn, names."""
        with self._database.read() as session:
            return listed_torrents.listed_torrents(session)

    def torrent_data(self, number: int) -> bytes | None:
        """The .torrent of a number of `listed_torrents`."""
        with self._database.read() as session:
            return listed_torrents.torrent_data(session, number)

    def manifests_of(self, b3: str) -> tuple[tuple[str, str], ...]:
        """(identity, manifest) of the listed releases, none withdrawn, that have a blob; who came first first."""
        with self._database.read() as session:
            return published.manifests_of(session, b3)

    def state(self) -> tuple[int, int, float]:
        """Another value whenever what is listed here is something else. Cheap."""
        with self._database.read() as session:
            return published.state(session)

    def add_samples(self, samples: Sequence[tuple[str, SwarmSample]], *, forget_before: int) -> None:
        """Record how swarms are, by blob (`b3:…`); of one moment the larger numbers count. Unknown blobs are skipped.

        Forgets what is older than `forget_before` (UTC epoch seconds; 0: nothing), which takes a look at every sample.
        """
        with self._database.write() as session:
            if forget_before > 0:
                session.execute(sa.delete(SwarmSampleRow).where(SwarmSampleRow.at < forget_before))
            for b3, sample in samples:
                blob_id = session.scalar(select(BlobRow.id).where(BlobRow.b3 == b3_raw(b3)))
                if blob_id is None:
                    continue
                row = session.get(SwarmSampleRow, (blob_id, sample.at))
                if row is None:
                    row = SwarmSampleRow(blob_id=blob_id, at=sample.at, seeders=0, leechers=0, completed=0)
                    session.add(row)
                row.seeders = max(row.seeders, sample.seeders)
                row.leechers = max(row.leechers, sample.leechers)
                row.completed = max(row.completed, sample.completed)

    def samples(self, b3: str, *, since: int) -> tuple[SwarmSample, ...]:
        """How a blob's swarm was since then, in order of time."""
        with self._database.read() as session:
            rows = session.scalars(
                select(SwarmSampleRow)
                .join(BlobRow, SwarmSampleRow.blob_id == BlobRow.id)
                .where(BlobRow.b3 == b3_raw(b3), SwarmSampleRow.at >= since)
                .order_by(SwarmSampleRow.at)
            )
            return tuple(
                SwarmSample(at=int(r.at), seeders=r.seeders, leechers=r.leechers, completed=r.completed) for r in rows
            )

    # -- for pages -----------------------------------------------------------------------------------------------

    def shared_with(self, digests: Collection[bytes], *, identity: str, model: str) -> tuple[SharedWith, ...]:
        """Other listed models that have some of these blocks (32 bytes each): see `block_sharing`."""
        with self._database.read() as session:
            return block_sharing.shared_with(session, digests, identity=identity, model=model)

    def overview(self) -> Overview:
        """How much is listed, and how much of it is here."""
        with self._database.read() as session:
            return overview.overview(session)

    def namespaces(self, identity: str) -> tuple[str, ...]:
        """Every name at this registry that is a publisher's own, the first one first."""
        with self._database.read() as session:
            return overview.namespaces(session, identity)

    def owners_models(self, owner: Owner, *, limit: int, offset: int) -> OwnersModels:
        """Some of a publisher's models, by name: so many from the `offset`-th on."""
        with self._database.read() as session:
            return overview.owners_models(session, owner.identity, limit=limit, offset=offset)

    def catalog_stamp(self, identity: str) -> CatalogStamp | None:
        """Which catalog of a publisher is the newest here; None without one."""
        with self._database.read() as session:
            return overview.catalog_stamp(session, identity)

    def _listings(self, owner: Owner, *conditions: sa.ColumnElement[bool]) -> tuple[Listing, ...]:
        with self._database.read() as session:
            rows = session.execute(
                listing_columns()
                .where(PublisherRow.identity == owner.identity, *conditions)
                .order_by(ListingRow.version.desc(), ListingRow.tag)
            )
            return tuple(listing_of(owner, row, model, digest, created) for row, model, digest, created in rows)


def listing_columns() -> sa.Select[ListingRow, str, bytes, str]:
    """For this room: what `listing_of` wants, over listings, models, publishers and releases."""
    return (
        select(ListingRow, ModelRow.name, ReleaseRow.manifest_digest, ReleaseRow.created)
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .join(ReleaseRow, ListingRow.release_id == ReleaseRow.id)
    )


def listing_of(owner: Owner, row: ListingRow, model: str, digest: bytes, created: str) -> Listing:
    """For this room: a row as a value."""
    return Listing(
        owner=owner,
        model=text_of(model),
        tag=text_of(row.tag),
        manifest=digest_of(digest),
        version=int(row.version),
        created=text_of(created),
        license=row.license,
        description=row.description,
        architecture=row.architecture,
        quantisation=row.quantisation,
        parameters=row.parameters,
        context_length=row.context_length,
        has_chat_template=row.has_chat_template,
        size=int(row.size),
        retracted=row.retracted,
        listed_at=float(row.listed_at),
    )


def _owner(session: Session, row: PublisherRow) -> Owner:
    namespace = session.scalar(
        select(NamespaceRow.name)
        .where(NamespaceRow.publisher_id == row.id)
        .order_by(NamespaceRow.claimed_at, NamespaceRow.name)
        .limit(1)
    )
    return Owner(identity=text_of(row.identity), name=text_of(row.name), namespace=namespace)


def _published() -> sa.Select[int, bytes, int]:
    listed = (
        select(FileRow.blob_id)
        .join(ListingRow, ListingRow.release_id == FileRow.release_id)
        .where(ListingRow.retracted.is_(None))
    )
    return select(BlobRow.id, BlobRow.b3, BlobRow.size).where(BlobRow.id.in_(listed))


def _listed_torrents() -> sa.Select[int | None]:
    return (
        select(FileRow.torrent_id)
        .join(ListingRow, ListingRow.release_id == FileRow.release_id)
        .where(ListingRow.retracted.is_(None))
    )


def _blobs(session: Session, rows: Sequence[sa.Row[int, bytes, int]]) -> tuple[tuple[int, PublishedBlob], ...]:
    torrents: dict[int, list[bytes]] = {}
    numbers = [int(row[0]) for row in rows]
    for start in range(0, len(numbers), _AT_ONCE):
        found = session.execute(
            select(TorrentRow.blob_id, TorrentRow.data)
            .where(TorrentRow.blob_id.in_(numbers[start : start + _AT_ONCE]), TorrentRow.id.in_(_listed_torrents()))
            .order_by(TorrentRow.id)
        )
        for blob_id, data in found:
            torrents.setdefault(int(blob_id), []).append(bytes_of(data))
    return tuple(
        (
            int(number),
            PublishedBlob(b3=digest_of(b3), size=int(size), torrents=tuple(torrents.get(int(number), ()))),
        )
        for number, b3, size in rows
    )
