"""Manifests as values, each parsed once: the newest asked for are kept, so many blocks of them at most.

Parsing one of 16,384 blocks takes about a tenth of a second and a few megabytes, the largest there may be some hundred
megabytes: so both ends are bounded, and one is parsed at a time. Whoever asks for the same one meanwhile finds it done.
Says nothing of what is listed or withdrawn: that is `Listings`. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from samara.registry.index import Index
from samara.schemas.errors import MalformedError, StoreError
from samara.schemas.manifest import Release, parse_manifest

MAX_BLOCKS_KEPT = 128 * 1024  # about 32 MB of them
MAX_KEPT = 1024  # releases


class Manifests:
    """Releases of one index by their manifest's digest (`b3:…`)."""

    def __init__(self, index: Index, *, max_blocks: int = MAX_BLOCKS_KEPT, max_kept: int = MAX_KEPT) -> None:
        self._index = index
        self._max_blocks = max_blocks
        self._max_kept = max_kept
        self._kept: OrderedDict[str, Release] = OrderedDict()
        self._blocks = 0
        self._lock = threading.Lock()
        self._parsing = threading.Lock()

    def release(self, digest: str) -> Release | None:
        """The release with this manifest; None if the index has none. Raises UsageError (no digest), StoreError."""
        found = self._find(digest)
        if found is not None:
            return found
        with self._parsing:
            found = self._find(digest)
            if found is not None:
                return found
            stored = self._index.release_by_digest(digest)
            if stored is None:
                return None
            try:
                release = parse_manifest(stored.envelope.payload)
            except MalformedError as error:
                raise _damaged(digest, error.what) from None
            if release.digest != digest:
                raise _damaged(digest, "it has another digest")
            self._keep(release)
            return release

    def _find(self, digest: str) -> Release | None:
        with self._lock:
            found = self._kept.get(digest)
            if found is not None:
                self._kept.move_to_end(digest)
            return found

    def _keep(self, release: Release) -> None:
        with self._lock:
            self._kept[release.digest] = release
            self._blocks += _blocks(release)
            # the newest stays even if it is too large by itself: else it would be parsed for every request
            while (self._blocks > self._max_blocks or len(self._kept) > self._max_kept) and len(self._kept) > 1:
                _, gone = self._kept.popitem(last=False)
                self._blocks -= _blocks(gone)


def _blocks(release: Release) -> int:
    return sum(len(file.blocks) for file in release.files)


def _damaged(digest: str, why: str) -> StoreError:
    return StoreError(
        f"the manifest {digest} in the index is damaged ({why[:200]})", next_step="publish or pull the release again"
    )
