"""Which earlier releases a publisher took back, by its catalog: no tag means them any more, but they are kept here.

A catalog is read once for as long as it is the newest; of so many withdrawn releases the reasons are kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from samara.registry.listings import Listings
from samara.registry.overview import CatalogStamp
from samara.registry.service.hub.kept import Kept

MAX_KEPT = 100_000  # withdrawn releases


class Withdrawals:
    """Of one registry."""

    def __init__(self, listings: Listings) -> None:
        self._listings = listings
        self._kept = Kept[tuple[str, CatalogStamp | None], Mapping[str, str]](MAX_KEPT, len)

    def reason(self, identity: str, manifest: str) -> str | None:
        """Why it was withdrawn; None if it wasn't. Raises StoreError."""
        stamp = self._listings.catalog_stamp(identity)
        return self._kept.get((identity, stamp), lambda: self._read(identity)).get(manifest)

    def _read(self, identity: str) -> Mapping[str, str]:
        from samara.registry.trust.catalogs import read_catalog  # loads TUF

        bundle = self._listings.metadata(identity)
        if bundle is None:
            return {}
        found: dict[str, str] = {}
        for entry in read_catalog(identity, bundle).entries.values():
            if entry.retracted is not None:
                found[entry.manifest] = entry.retracted
            found.update((one.manifest, one.reason) for one in entry.withdrawn)
        return found
