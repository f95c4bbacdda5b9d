"""What a listed blob is: a file of a manifest that its publisher's catalog lists here, proven anew whenever it is used.

The publisher need not be pinned on this machine: the registry vouches for nobody, and what is fetched by a manifest is
proven by it. The index is no authority, so the catalog is held against the identity, the manifest against the catalog
and the torrent against the manifest.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from samara.registry.index import Index
from samara.registry.publications.accepted import AcceptedCatalogs
from samara.registry.trust.release import prove_listed
from samara.schemas.bittorrent import ParsedTorrent
from samara.schemas.errors import NotFoundError, SamaraError, StoreError
from samara.schemas.manifest import ReleaseFile
from samara.schemas.release_file import ReleaseBundle

TRIED = 16  # releases that describe one blob, looked at in one go
FAILURES_KEPT = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """One blob. `torrent`: None for one that travels inline."""

    identity: str
    manifest: str
    file: ReleaseFile
    torrent: ParsedTorrent | None


class Descriptions:
    """Of one index. Safe to use from several threads."""

    def __init__(self, index: Index, catalogs: AcceptedCatalogs) -> None:
        self._index = index
        self._catalogs = catalogs
        self._failures: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, b3: str, size: int | None = None) -> Described:
        """By the release that was listed first and has failed least; with `size` only by one that says so.

        Raises NotFoundError, and StoreError where what is listed doesn't hold: no fault of who asks.
        """
        problem: SamaraError | None = None
        listed = self._index.listings.manifests_of(b3)
        for identity, manifest in sorted(listed, key=lambda one: self._failures.get((b3, one[1]), 0))[:TRIED]:
            try:
                found = self._described(b3, identity, manifest)
            except SamaraError as error:
                problem = problem or error
                self.failed(b3, manifest)
                continue
            if found is not None and size in {None, found.file.size}:
                return found
        if problem is not None and not isinstance(problem, StoreError):
            raise StoreError(
                f"what this registry lists of {b3} doesn't hold: {problem}", next_step="its operator: samara audit"
            ) from None
        raise problem or NotFoundError(f"{b3} is in no release that is listed here")

    def failed(self, b3: str, manifest: str) -> None:
        """What this manifest says of a blob led to nothing: others that describe it come first from now on.

        Anybody may list anybody's blob, with a torrent that nobody has, or of other bytes.
        """
        with self._lock:
            self._failures[b3, manifest] = self._failures.pop((b3, manifest), 0) + 1
            while len(self._failures) > FAILURES_KEPT:
                self._failures.popitem(last=False)

    def _described(self, b3: str, identity: str, manifest: str) -> Described | None:
        accepted = self._catalogs.of(identity)
        if accepted is None:
            raise StoreError(f"the index lists releases of {identity} and has no catalog of it")
        entry = accepted.catalog.of_manifest(manifest)
        stored = self._index.release_by_digest(manifest)
        if entry is None or entry.retracted is not None or stored is None:
            return None
        bundle = ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents)
        proven = prove_listed(bundle, entry, accepted.chain)
        file = next((file for file in proven.release.files if file.b3 == b3), None)
        if file is None:
            return None
        return Described(identity=identity, manifest=manifest, file=file, torrent=proven.torrents.get(b3))
