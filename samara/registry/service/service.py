"""What every route shares. Made once by whoever starts the service; read by many threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from samara.registry.barred import Barred
from samara.registry.giving import Giving
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.listings import Listings
from samara.registry.publications.accepted import AcceptedCatalog, AcceptedCatalogs
from samara.registry.service.manifests import Manifests
from samara.registry.service.metrics import Metrics
from samara.registry.service.ports import Bringer, Follower, Keeper
from samara.registry.service.settings import Settings
from samara.registry.tracker import Tracker
from samara.schemas.errors import MalformedError, StoreError, TrustError


def _nobody_listens(_identity: str, _since: float) -> None:
    """Nothing here follows what is published."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """`clock`: UTC epoch seconds; `bringer`: fetches what isn't here, None without --pull-through; `keeper`: keeps
    what was fetched so, None without --pull-through and --mirror; `follower`: None without --follow. `proven`: catalogs
    of this index that somebody else in this process keeps at hand too. `published`: told of (identity, UTC epoch
    seconds) once something is listed, before who published it hears so; from any thread, must not raise.
    """

    home: Home
    index: Index
    settings: Settings
    tracker: Tracker = field(default_factory=Tracker)
    metrics: Metrics = field(default_factory=Metrics)
    bringer: Bringer | None = None
    keeper: Keeper | None = None
    follower: Follower | None = None
    proven: AcceptedCatalogs | None = None
    published: Callable[[str, float], None] = _nobody_listens
    clock: Callable[[], float] = time.time
    manifests: Manifests = field(init=False)
    catalogs: AcceptedCatalogs = field(init=False)
    barred: Barred = field(init=False)
    giving: Giving = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "manifests", Manifests(self.index))
        object.__setattr__(self, "catalogs", self.proven or AcceptedCatalogs(self.index.listings))
        object.__setattr__(self, "barred", Barred(self.index.database))
        giving = Giving(self.home, self.index.listings, serves_all=self.settings.serves_all)
        object.__setattr__(self, "giving", giving)

    @property
    def listings(self) -> Listings:
        """What is listed here."""
        return self.index.listings

    def catalog(self, identity: str) -> AcceptedCatalog | None:
        """The newest catalog that a publisher proved here; None without one.

        Raises StoreError, also for one that doesn't hold any more: that is no fault of who asks.
        """
        try:
            return self.catalogs.of(identity)
        except (TrustError, MalformedError) as error:
            raise StoreError(
                f"the catalog of {identity} in the index is damaged ({error.what[:200]})",
                next_step="its publisher can publish the next version; the operator: samara audit",
            ) from None
