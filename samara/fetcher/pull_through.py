"""What isn't here is brought while somebody waits for it: `samara serve --pull-through`.

Decides who may be brought at all; the fetch is `samara.fetcher.intake`'s, what readers see of it is `coming`'s.
"""

from __future__ import annotations

import contextlib

from samara.fetcher.coming import Coming, Reader, Stage, absent_for
from samara.fetcher.descriptions import Descriptions
from samara.fetcher.intake import Intake
from samara.fetcher.keeping import Keeping
from samara.registry.index import Index
from samara.schemas.errors import NotFoundError, StoreError
from samara.schemas.hops import DIRECTLY, Hops

MOMENT = 2.0  # seconds that a reader waits for a contested blob


class PullThrough:
    """A `samara.registry.service.ports.Bringer`. Safe to use from any thread."""

    def __init__(self, index: Index, descriptions: Descriptions, intake: Intake, keeping: Keeping) -> None:
        self._index = index
        self._descriptions = descriptions
        self._intake = intake
        self._keeping = keeping

    def bring(self, b3: str, size: int | None = None, *, hops: Hops = DIRECTLY) -> Reader:
        """Begin to fetch a blob that is listed here, or join who does. See the port for what it raises."""
        if not hops.may_begin(self._intake.id):
            raise NotFoundError(f"{b3} isn't on this registry's disk", next_step="ask where it is fetched from")
        if self.is_contested(b3):
            return self._whole_first(b3, size, hops)
        if size is None:
            size = self._descriptions.of(b3).file.size
        elif not self._index.listings.manifests_of(b3):
            raise NotFoundError(f"{b3} is in no release that is listed here")
        with absent_for(registry=bool(hops.via)):
            coming = self._intake.bring(b3, size, for_reader=True, hops=hops)
        self._keeping.touch(b3)
        return Reader(coming, for_registry=bool(hops.via))

    def is_contested(self, b3: str) -> bool:
        """See the port."""
        return self._descriptions.is_contested(b3)

    def _whole_first(self, b3: str, size: int | None, hops: Hops) -> Reader:
        """Publishers contradict each other: whose word is right shows only when all of it is here."""
        with absent_for(registry=bool(hops.via)):
            coming = self._intake.bring(b3, None, for_reader=True, hops=hops)
        with contextlib.ExitStack() as stack:
            reader = Reader(coming, for_registry=bool(hops.via))
            stack.callback(reader.close)
            reader.wait(0, MOMENT)
            self._require(coming, b3, size)
            stack.pop_all()
        self._keeping.touch(b3)
        return reader

    def _require(self, coming: Coming, b3: str, size: int | None) -> None:
        if coming.stage is not Stage.HERE:
            raise _contested(b3)
        if not coming.is_of(size):
            raise NotFoundError(f"no {b3} is that long", expected=size, actual=coming.size)


def _contested(b3: str) -> StoreError:
    return StoreError(
        f"publishers contradict each other about {b3}: it is given when all of it is here and proven",
        next_step="try again in a moment",
    )
