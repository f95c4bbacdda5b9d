"""What a listed blob is: a file of a manifest that its publisher's catalog lists here, proven anew whenever it is used.

The publisher need not be pinned on this machine: the registry vouches for nobody, and what is fetched by a manifest is
proven by it. The index is no authority, so the catalog is held against the identity, the manifest against the catalog
and the torrent against the manifest.

Anybody may list anybody's blob and describe other bytes: a list of blocks says nothing that the blob's digest could
prove before all of it is here. So several are tried (`description_turns`), and what came of them is remembered: which
was right, which was wrong for good, who lied.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from samara.fetcher.description_turns import Claim, turns
from samara.registry.index import Index
from samara.registry.publications.accepted import AcceptedCatalogs
from samara.registry.trust.release import prove_listed
from samara.schemas.bittorrent import ParsedTorrent
from samara.schemas.errors import IntegrityError, NotFoundError, SamaraError, StoreError
from samara.schemas.manifest import ReleaseFile
from samara.schemas.release_file import ReleaseBundle

TRIED = 16  # releases that describe one blob, looked at in one go
REMEMBERED = 10_000  # of each kind

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


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
        self._false: OrderedDict[tuple[str, str], None] = OrderedDict()  # (b3, manifest or v2 infohash)
        self._true: OrderedDict[str, str] = OrderedDict()  # b3 → v2 infohash
        self._lies: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, b3: str, size: int | None = None) -> Described:
        """The first of `ranked`."""
        for found in self.ranked(b3, size):
            return found
        raise NotFoundError(f"{b3} is in no release that is listed here")

    def ranked(self, b3: str, size: int | None = None) -> Iterator[Described]:
        """What is said of a blob and not known to be false, in the order in which to try it; with `size` only what says
        so. `TRIED` at most.

        Raises StoreError where nothing that is listed holds: no fault of who asks.
        """
        problem: SamaraError | None = None
        given = 0
        for claim in self._turns(b3)[:TRIED]:
            try:
                found = self._described(b3, claim.identity, claim.manifest)
            except SamaraError as error:
                problem = problem or error
                with self._lock:
                    _count(self._failures, (b3, claim.manifest))
                continue
            if found is not None and size in {None, found.file.size}:
                given += 1
                yield found
        if given or problem is None:
            return
        if isinstance(problem, StoreError):
            raise problem
        raise StoreError(
            f"what this registry lists of {b3} doesn't hold: {problem}", next_step="its operator: samara audit"
        ) from None

    def is_contested(self, b3: str) -> bool:
        """Whether what is listed names different bytes under this digest, and nobody knows yet who is right."""
        return len({claim.v2 for claim in self._turns(b3)}) > 1

    def failed(self, b3: str, described: Described, error: SamaraError) -> None:
        """What this manifest says of a blob led to nothing: others that describe it come first from now on. Where its
        bytes were all there and weren't the blob, for good.
        """
        with self._lock:
            _count(self._failures, (b3, described.manifest))
            if isinstance(error, IntegrityError):
                _count(self._lies, described.identity)
                _remember(self._false, (b3, described.manifest), None)
                if error.expected == b3 and described.torrent is not None:  # every block was right, the whole was not
                    _remember(self._false, (b3, described.torrent.v2), None)

    def came(self, b3: str, described: Described) -> None:
        """It was right: whoever says something else is wrong."""
        if described.torrent is None:
            return
        with self._lock:
            self._failures.pop((b3, described.manifest), None)
            _remember(self._true, b3, described.torrent.v2)

    def _turns(self, b3: str) -> tuple[Claim, ...]:
        listed = [
            Claim(identity=identity, manifest=manifest, v2=None if v2 is None else v2.hex())
            for identity, manifest, v2 in self._index.listings.descriptions_of(b3)
        ]
        with self._lock:
            return turns(
                listed,
                true=self._true.get(b3),
                false={key for claim in listed for key in (claim.manifest, claim.v2) if (b3, key) in self._false},
                failures={claim.manifest: self._failures.get((b3, claim.manifest), 0) for claim in listed},
                lies={claim.identity: self._lies.get(claim.identity, 0) for claim in listed},
            )

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


def _count(counts: OrderedDict[K, int], key: K) -> None:
    _remember(counts, key, counts.pop(key, 0) + 1)


def _remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    known.pop(key, None)
    known[key] = value
    while len(known) > REMEMBERED:
        known.popitem(last=False)
