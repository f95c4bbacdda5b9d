"""What isn't here is brought while somebody waits for it: `samara serve --pull-through`.

Decides who may be brought at all; the fetch is `samara.fetcher.intake`'s, what readers see of it is `coming`'s.
"""

from __future__ import annotations

from samara.fetcher.coming import Reader, absent_for
from samara.fetcher.descriptions import Descriptions
from samara.fetcher.intake import Intake
from samara.fetcher.keeping import Keeping
from samara.registry.index import Index
from samara.schemas.errors import NotFoundError
from samara.schemas.hops import DIRECTLY, Hops


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
        if size is None:
            size = self._descriptions.of(b3).file.size
        elif not self._index.listings.manifests_of(b3):
            raise NotFoundError(f"{b3} is in no release that is listed here")
        with absent_for(registry=bool(hops.via)):
            coming = self._intake.bring(b3, size, for_reader=True, hops=hops)
        self._keeping.touch(b3)
        return Reader(coming, for_registry=bool(hops.via))
