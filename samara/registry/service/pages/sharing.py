"""Block maps of releases: who has the same blocks is asked of the index once in a while, not for every reader."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from samara.registry.service.pages.block_map import BlockMap, Kind, Picture, draw, pieces
from samara.registry.service.service import Service
from samara.schemas.manifest import Release

MAX_KEPT = 128
LASTS = 300.0  # seconds: other models come and go
MAX_MODELS = 8  # told by name


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharer:
    """Another model with blocks of this release, and how many of its bytes they are; `slug`: its publisher's here."""

    slug: str
    model: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """A release's block map. `previous`: the release it is compared to; `sharers`: the first few, most bytes first."""

    blocks: BlockMap
    picture: Picture
    previous: Release | None
    sharers: tuple[Sharer, ...]
    sharers_left_out: int

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds to tell of, in the order of the table."""
        kinds = (Kind.PREVIOUS, Kind.ELSEWHERE, Kind.REPEATED, Kind.NEW)
        return kinds if self.previous is not None else kinds[1:]


class Sharing:
    """Block maps of one registry. Safe to use from several threads."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kept: OrderedDict[tuple[str, str | None], tuple[float, Shared]] = OrderedDict()
        self._lock = threading.Lock()
        self._working = threading.Lock()  # one at a time: whoever asks for the same meanwhile finds it done

    def of(self, release: Release, previous: Release | None) -> Shared:
        """The block map of a release, compared to another. Raises StoreError."""
        key = (release.digest, previous.digest if previous else None)
        found = self._find(key)
        if found is not None:
            return found
        with self._working:
            found = self._find(key)
            if found is None:
                found = self._work_out(release, previous)
                self._keep(key, found)
            return found

    def _find(self, key: tuple[str, str | None]) -> Shared | None:
        with self._lock:
            found = self._kept.get(key)
            if found is None or not 0 <= self._service.clock() - found[0] < LASTS:
                return None
            self._kept.move_to_end(key)
            return found[1]

    def _keep(self, key: tuple[str, str | None], shared: Shared) -> None:
        with self._lock:
            self._kept[key] = (self._service.clock(), shared)
            self._kept.move_to_end(key)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)

    def _work_out(self, release: Release, previous: Release | None) -> Shared:
        before = (
            frozenset(block.digest for file in previous.files for block in file.blocks) if previous else frozenset()
        )
        sizes = {block.digest: block.size for file in release.files for block in file.blocks}
        asked = sorted(
            sizes.keys() - before, key=lambda digest: -sizes[digest]
        )  # the largest first: some are asked for
        others = self._service.listings.shared_with(asked, identity=release.identity, model=release.model)
        found = pieces(
            release.files, previous=before, elsewhere=frozenset(digest for one in others for digest in one.digests)
        )
        sharers = sorted(
            (
                Sharer(slug=one.identity, model=one.model, size=sum(sizes[digest] for digest in one.digests))
                for one in others
            ),
            key=lambda one: (-one.size, one.model),
        )
        named = tuple(
            Sharer(slug=owner.slug, model=one.model, size=one.size)
            for one in sharers[:MAX_MODELS]
            if (owner := self._service.listings.owner(one.slug)) is not None
        )
        return Shared(
            blocks=found,
            picture=draw(found),
            previous=previous,
            sharers=named,
            sharers_left_out=len(sharers) - len(named),
        )
