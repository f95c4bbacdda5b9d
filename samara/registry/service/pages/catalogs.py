"""What a publisher's catalog says beyond what is in the listings: its roots, earlier releases that were withdrawn,
where release objects swarm. Read once for each catalog that comes; the last few are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from samara.registry.listings import Listings
from samara.registry.overview import CatalogStamp
from samara.registry.trust.roots import RootView, verify_root_chain
from samara.schemas.catalog import Entries, Withdrawn
from samara.schemas.envelope import strict_json
from samara.schemas.errors import MalformedError, TrustError
from samara.schemas.metadata_bundle import MetadataBundle

MAX_KEPT = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogFacts:
    """One catalog. `roots`: version 1 first; empty if the chain doesn't prove itself any more. `withdrawn`: by
    `model/tag`; `release_v2`: by manifest digest, the swarm of the release object (64 hex digits).
    """

    stamp: CatalogStamp
    roots: tuple[RootView, ...]
    withdrawn: Mapping[str, tuple[Withdrawn, ...]]
    release_v2: Mapping[str, str]


class Catalogs:
    """Facts of catalogs by identity. Safe to use from several threads."""

    def __init__(self, listings: Listings) -> None:
        self._listings = listings
        self._kept: OrderedDict[str, CatalogFacts] = OrderedDict()
        self._lock = threading.Lock()

    def facts(self, identity: str) -> CatalogFacts | None:
        """What the newest catalog of a publisher says; None without one. Raises StoreError."""
        stamp = self._listings.catalog_stamp(identity)
        if stamp is None:
            return None
        with self._lock:
            found = self._kept.get(identity)
            if found is not None and found.stamp == stamp:
                self._kept.move_to_end(identity)
                return found
        bundle = self._listings.metadata(identity)
        if bundle is None:
            return None
        facts = read(identity, bundle, stamp)
        with self._lock:
            self._kept[identity] = facts
            self._kept.move_to_end(identity)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return facts


def read(identity: str, bundle: MetadataBundle, stamp: CatalogStamp) -> CatalogFacts:
    """A catalog that was proven when it came → its facts. What can't be read any more is left out."""
    withdrawn: dict[str, tuple[Withdrawn, ...]] = {}
    release_v2: dict[str, str] = {}
    for path, entry in _entries(bundle).items():
        release_v2[entry.manifest] = entry.release_v2
        if entry.withdrawn:
            withdrawn[path] = entry.withdrawn
    try:
        roots = verify_root_chain(identity, bundle.roots).views
    except (TrustError, MalformedError):
        roots = ()
    return CatalogFacts(stamp=stamp, roots=roots, withdrawn=withdrawn, release_v2=release_v2)


def _entries(bundle: MetadataBundle) -> Entries:
    value = strict_json(bundle.targets, "targets metadata")
    signed = value.get("signed") if isinstance(value, dict) else None
    targets = signed.get("targets") if isinstance(signed, dict) else None
    return Entries(targets if isinstance(targets, dict) else {})
