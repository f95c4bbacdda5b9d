"""What this machine knows of publishers' catalogs without asking anybody: its own, and those it saw last.

What the index holds of a release is verified again whenever it is used: by the catalog if that lists it, else alone.
"""

from __future__ import annotations

from samara.registry.home import Home
from samara.registry.records import StoredRelease
from samara.registry.trust.catalog_client import CatalogClient, CatalogState
from samara.registry.trust.own_catalog import own_catalog
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import Publisher, find_publisher
from samara.registry.trust.release import VerifiedRelease, open_listed, open_release
from samara.schemas.manifest import Release, parse_manifest
from samara.schemas.release_file import ReleaseBundle


class KnownCatalogs:
    """The newest catalog of each publisher on this machine, read when it is first asked for."""

    def __init__(self, home: Home, trust: TrustFolder | None = None) -> None:
        self.trust = trust or TrustFolder(home.trust)
        self._home = home
        self._states: dict[str, CatalogState | None] = {}

    def publisher(self, identity: str) -> Publisher | None:
        """The publisher of that identity, if it is one of this machine's own."""
        return find_publisher(self._home, identity)

    def of(self, identity: str) -> CatalogState | None:
        """The newest catalog of a publisher known here; it may have expired. None if there is none."""
        if identity not in self._states:
            publisher = self.publisher(identity)
            own = None if publisher is None else own_catalog(publisher)
            seen = CatalogClient(self.trust, identity).stored()
            both = [state for state in (own, seen) if state is not None]
            self._states[identity] = max(both, key=lambda state: state.order, default=None)
        return self._states[identity]

    def reopen(self, stored: StoredRelease) -> VerifiedRelease:
        """Verify a release that the index holds, as if it had just arrived: the index is no authority.

        Raises what `open_listed` and `open_release` raise.
        """
        return self.open(ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents))

    def open(self, bundle: ReleaseBundle) -> VerifiedRelease:
        """Check a release that came without its name being asked for: by the catalog if it lists it, else alone."""
        release = parse_manifest(bundle.envelope.payload)
        pin = self.trust.find(release.identity)
        state = None if pin is None else self.of(release.identity)
        entry = None if state is None else state.catalog.of_manifest(release.digest)
        if state is None or entry is None:
            return open_release(bundle, self.trust)
        return open_listed(bundle, entry, state, self.trust)

    def retraction(self, release: Release) -> str | None:
        """Why its publisher withdrew a release, as far as this machine knows."""
        state = self.of(release.identity)
        return None if state is None else state.catalog.retraction(release.digest)

    def newer(self, release: Release) -> int | None:
        """The version that the release's name means by now, if that is a later one."""
        state = self.of(release.identity)
        entry = None if state is None else state.catalog.find(release.model, release.tag)
        return None if entry is None or entry.version <= release.version else entry.version
