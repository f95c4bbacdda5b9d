"""The catalogs that publishers proved to this registry, held against their identities again and kept at hand.

The index is no authority: a row that rotted, or that somebody wrote into the database, must not pass for a publisher's
word. Whether a catalog is current is not asked here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from samara.registry.listed_publishers import CatalogStamp
from samara.registry.listings import Listings
from samara.registry.records import StoredRelease
from samara.registry.trust.catalogs import read_own
from samara.registry.trust.release import ProvenRelease, match_torrents, prove_listed
from samara.registry.trust.roots import RootChain, verify_root_chain
from samara.registry.trust.signing import verify_listed_envelope
from samara.schemas.catalog import Catalog
from samara.schemas.digests import b3
from samara.schemas.errors import IntegrityError, TrustError
from samara.schemas.manifest import parse_manifest
from samara.schemas.metadata_bundle import MetadataBundle
from samara.schemas.release_file import ReleaseBundle

MAX_KEPT = 16  # a catalog of 40,000 names takes some dozen megabytes


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptedCatalog:
    """One publisher's newest catalog here."""

    stamp: CatalogStamp
    bundle: MetadataBundle
    chain: RootChain
    catalog: Catalog


class AcceptedCatalogs:
    """Of one index. Safe to use from several threads."""

    def __init__(self, listings: Listings) -> None:
        self._listings = listings
        self._kept: OrderedDict[str, AcceptedCatalog] = OrderedDict()
        self._lock = threading.Lock()
        self._proving = threading.Lock()  # one at a time: a large one takes a while, and others may want the same

    def of(self, identity: str) -> AcceptedCatalog | None:
        """None for a publisher that has no catalog here. Raises TrustError or MalformedError for one that doesn't
        hold any more, StoreError.
        """
        stamp = self._listings.catalog_stamp(identity)
        if stamp is None:
            return None
        found = self._find(identity, stamp)
        if found is not None:
            return found
        with self._proving:
            return self._find(identity, stamp) or self._prove(identity, stamp)

    def _find(self, identity: str, stamp: CatalogStamp) -> AcceptedCatalog | None:
        with self._lock:
            kept = self._kept.get(identity)
            if kept is None or kept.stamp != stamp:
                return None
            self._kept.move_to_end(identity)
            return kept

    def _prove(self, identity: str, stamp: CatalogStamp) -> AcceptedCatalog | None:
        bundle = self._listings.metadata(identity)
        if bundle is None:
            return None
        chain = verify_root_chain(identity, bundle.roots)
        found = AcceptedCatalog(stamp=stamp, bundle=bundle, chain=chain, catalog=read_own(chain, bundle))
        with self._lock:
            self._kept[identity] = found
            self._kept.move_to_end(identity)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return found

    def reopen(self, stored: StoredRelease) -> ProvenRelease | None:
        """A release that the index holds, proven by its publisher's catalog here, or, if that names it no longer, by
        the keys that the publisher has or had. None for a publisher that has no catalog here.

        Raises TrustError, IntegrityError or MalformedError.
        """
        release = parse_manifest(stored.envelope.payload)
        accepted = self.of(release.identity)
        if accepted is None:
            return None
        bundle = ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents)
        entry = accepted.catalog.of_manifest(release.digest)
        if entry is not None:
            return prove_listed(bundle, entry, accepted.chain)
        if b3(stored.envelope.payload) != stored.manifest:
            raise IntegrityError("a manifest in the index is another one", expected=stored.manifest)
        if release.identity != accepted.chain.identity:
            raise TrustError("manifest names another publisher", expected=accepted.chain.identity)
        return ProvenRelease(
            release=release,
            envelope=stored.envelope,
            signers=verify_listed_envelope(stored.envelope, accepted.chain),
            torrents=match_torrents(release.files, stored.torrents),
        )
