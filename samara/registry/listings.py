"""What this registry lists: for each publisher the newest catalog it proved here, what its names mean, whose names they
are. One place to ask, each question answered by the module that knows: `listed_publishers`, `listed_models`,
`listed_blobs`, `repositories`, `block_sharing`, `swarm_samples`, `overview`, `search`.

A registry is believed by nobody: all of this helps people to find and choose, and clients prove what they get by
themselves. Reads only, but for samples of swarms; what is listed comes in through `samara.registry.publications`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from samara.registry import (
    block_sharing,
    listed_blobs,
    listed_models,
    listed_publishers,
    overview,
    repositories,
    swarm_samples,
)
from samara.registry.block_sharing import SharedWith
from samara.registry.index_database import Database
from samara.registry.listed_blobs import ListedAs, ListedBlob
from samara.registry.listed_models import KnownRelease, Listing
from samara.registry.listed_publishers import CatalogStamp, Equivocation, Owner, OwnersModels
from samara.registry.overview import Overview
from samara.registry.repositories import Tag
from samara.registry.search import Searches, SearchPage, SearchQuery
from samara.registry.swarm_samples import SwarmSample
from samara.schemas.metadata_bundle import MetadataBundle


class Listings:
    """See `Index.listings`. Each answer is of one moment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._searches = Searches(database)

    # -- publishers ----------------------------------------------------------------------------------------------

    def owner(self, name: str, *, barred_too: bool = False) -> Owner | None:
        """Whose name, or identity, it is; None for a publisher that has no catalog here. Raises BarredError for one
        that the operator took down, unless `barred_too`.
        """
        with self._database.read() as session:
            return listed_publishers.owner(session, name, barred_too=barred_too)

    def owners(self, *, limit: int | None = None, offset: int = 0) -> tuple[Owner, ...]:
        """Publishers that have a catalog here, in the order in which they came: all, or some of them."""
        with self._database.read() as session:
            return listed_publishers.owners(session, limit=limit, offset=offset)

    def owners_count(self) -> int:
        """How many there are."""
        with self._database.read() as session:
            return listed_publishers.owners_count(session)

    def namespaces(self, identity: str) -> tuple[str, ...]:
        """Every name at this registry that is a publisher's own, the first one first."""
        with self._database.read() as session:
            return listed_publishers.namespaces(session, identity)

    def namespace_owner(self, name: str) -> str | None:
        """The identity that a namespace belongs to."""
        with self._database.read() as session:
            return listed_publishers.namespace_owner(session, name)

    def is_free(self, name: str, identity: str) -> bool:
        """Whether nobody has a name, and a publisher may get it: it isn't barred, and looks like none of another's."""
        with self._database.read() as session:
            return listed_publishers.is_free(session, name, identity)

    def namespace_statement(self, name: str) -> bytes | None:
        """The claim by which a namespace was taken (DSSE JSON); None for a free one, or by the operator's word."""
        with self._database.read() as session:
            return listed_publishers.namespace_statement(session, name)

    def catalog_stamp(self, identity: str) -> CatalogStamp | None:
        """Which catalog of a publisher is the newest here; None without one."""
        with self._database.read() as session:
            return listed_publishers.catalog_stamp(session, identity)

    def metadata(self, identity: str) -> MetadataBundle | None:
        """The newest catalog that a publisher proved here, as it came: `publications.accepted` proves it again."""
        with self._database.read() as session:
            return listed_publishers.metadata(session, identity)

    def equivocations(self, identity: str) -> tuple[Equivocation, ...]:
        """What a publisher, or who has its key, should not have signed; the latest first."""
        with self._database.read() as session:
            return listed_publishers.equivocations(session, identity)

    def owners_models(self, owner: Owner, *, limit: int, offset: int) -> OwnersModels:
        """Some of a publisher's models, by name: so many from the `offset`-th on."""
        with self._database.read() as session:
            return listed_publishers.owners_models(session, owner.identity, limit=limit, offset=offset)

    # -- models --------------------------------------------------------------------------------------------------

    def search(self, query: SearchQuery) -> SearchPage:
        """What fits a query: see `samara.registry.search`."""
        return self._searches.search(query)

    def listing(self, owner: Owner, model: str, tag: str) -> Listing | None:
        """What a name means now. Raises BarredError if the operator took that down."""
        with self._database.read() as session:
            return listed_models.listing(session, owner, model, tag)

    def model(self, owner: Owner, model: str) -> tuple[Listing, ...]:
        """Everything that a model's names mean now, the newest first; empty for a model that isn't listed. Raises
        BarredError if all of it was taken down.
        """
        with self._database.read() as session:
            return listed_models.model(session, owner, model)

    def count(self) -> int:
        """How many names mean something here."""
        with self._database.read() as session:
            return listed_models.count(session)

    def history(self, owner: Owner, model: str, *, barred_too: bool = False) -> tuple[KnownRelease, ...]:
        """The releases of a model that are kept here, the highest version first; what is barred only if asked for."""
        with self._database.read() as session:
            return listed_models.history(session, owner, model, barred_too=barred_too)

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

    def shared_with(self, digests: Collection[bytes], *, identity: str, model: str) -> tuple[SharedWith, ...]:
        """Other listed models that have some of these blocks (32 bytes each): see `block_sharing`."""
        with self._database.read() as session:
            return block_sharing.shared_with(session, digests, identity=identity, model=model)

    # -- blobs and swarms ----------------------------------------------------------------------------------------

    def listed_blobs(self) -> tuple[ListedBlob, ...]:
        """Every blob of a listed release that travels by a swarm, withdrawn ones too; no torrents, no blocks."""
        with self._database.read() as session:
            return listed_blobs.listed_blobs(session)

    def manifests_of(self, b3: str) -> tuple[tuple[str, str], ...]:
        """(identity, manifest) of the listed releases, none withdrawn, that have a blob; who came first first."""
        with self._database.read() as session:
            return listed_blobs.manifests_of(session, b3)

    def descriptions_of(self, b3: str) -> tuple[tuple[str, str, bytes | None], ...]:
        """The same with the v2 infohash by which each says that it travels; None for one that travels inline."""
        with self._database.read() as session:
            return listed_blobs.descriptions_of(session, b3)

    def listed_as(self, blobs: Collection[str], identities: Collection[str]) -> dict[str, tuple[ListedAs, ...]]:
        """As what these publishers list these blobs (`b3:…`), but for what was withdrawn."""
        with self._database.read() as session:
            return listed_blobs.listed_as(session, blobs, identities)

    def file_name(self, b3: str, wanted: str | None = None) -> str | None:
        """A name that a listed release, not withdrawn, gives a blob: `wanted` if any does; without, the first."""
        with self._database.read() as session:
            return listed_blobs.file_name(session, b3, wanted)

    def listed_torrents(self, *, identity: str | None = None, since: float = 0.0) -> tuple[tuple[int, str, bytes], ...]:
        """(number, blob, v2 infohash) of every torrent that a listed release, not withdrawn, names; with `identity` of
        what that publisher listed since then (UTC epoch seconds).
        """
        with self._database.read() as session:
            return listed_blobs.listed_torrents(session, identity, since)

    def torrent_data(self, number: int) -> bytes | None:
        """The .torrent of a number of `listed_torrents`."""
        with self._database.read() as session:
            return listed_blobs.torrent_data(session, number)

    def torrent(self, v2: str) -> bytes | None:
        """The canonical .torrent with this v2 infohash (64 hex digits), if a listed release names it."""
        with self._database.read() as session:
            return listed_blobs.torrent(session, v2)

    def add_samples(self, samples: Sequence[tuple[str, SwarmSample]], *, forget_before: int) -> None:
        """Record how swarms are, by blob (`b3:…`); of one moment the larger numbers count. Unknown blobs are skipped.

        Forgets what is older than `forget_before` (UTC epoch seconds; 0: nothing), which takes a look at every sample.
        """
        with self._database.write() as session:
            swarm_samples.add_samples(session, samples, forget_before=forget_before)

    def samples(self, b3: str, *, since: int) -> tuple[SwarmSample, ...]:
        """How a blob's swarm was since then, in order of time."""
        with self._database.read() as session:
            return swarm_samples.samples(session, b3, since=since)

    # -- the whole -----------------------------------------------------------------------------------------------

    def state(self) -> tuple[int, int, float]:
        """Another value whenever what is listed here is something else. Cheap."""
        with self._database.read() as session:
            return listed_publishers.state(session)

    def overview(self) -> Overview:
        """How much is listed, and how much of it is here."""
        with self._database.read() as session:
            return overview.overview(session)
