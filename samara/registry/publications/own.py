"""What this machine's own publishers have published, listed by its own registry: through the same door as everybody's,
their names given by the operator's word.

Several instances that share a database may have the same keys. Then one of them signs again what is about to expire,
and the others go on from there; what one has published anew the others neither list nor sign until somebody took it
over there (`samara publisher sync`): two next versions of one catalog would be evidence against its publisher.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accept import Accepted, Rules, accept
from samara.registry.publications.accepted import AcceptedCatalogs
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.trust.catalog_client import CatalogState
from samara.registry.trust.keys import AskPassphrase
from samara.registry.trust.own_catalog import adopt_catalog, is_ahead, own_bundle, own_catalog, renew_catalog
from samara.registry.trust.publishers import ONLINE_ROLES, Publisher, list_publishers, load_publisher
from samara.schemas.errors import MalformedError, SamaraError, TrustError
from samara.schemas.events import Note, OnEvent, Warned, ignore
from samara.schemas.metadata_bundle import MetadataBundle
from samara.schemas.namespace_claim import may_be_claimed
from samara.schemas.networks import NetworkPolicy
from samara.schemas.publication import Publication

Seen = dict[str, tuple[MetadataBundle, int]]
_ONLY_TOLD = -1  # no number of a release: it is tried again each time, and not said again


def list_own(
    home: Home, index: Index, *, now: datetime, seen: Seen | None = None, on_event: OnEvent = ignore
) -> tuple[Accepted, ...]:
    """List what the publishers in `home.keys` publish; those that changed since last time, by `seen`, are returned.

    `seen`: the caller keeps it from call to call, so that what didn't change costs nothing. A publisher whose catalog
    can't be listed (expired, damaged) is said as a warning, once until something changes; the others are listed. Raises
    StoreError.
    """
    seen = {} if seen is None else seen
    accepted = []
    latest = index.latest_release()
    for name in list_publishers(home):
        bundle = None
        try:
            publisher = load_publisher(home, name)
            bundle = own_bundle(publisher)
            if bundle is None or seen.get(name) == (bundle, latest):
                continue
            rules = Rules(
                claims=ClaimRules(origin="", listed={name: publisher.identity} if may_be_claimed(name) else {}),
                policy=NetworkPolicy(private=True),
            )
            accepted.append(accept(index, Publication(metadata=bundle), rules, now=now))
        except SamaraError as error:
            refused = error if bundle is not None and isinstance(error, PublicationRefusedError) else None
            passes = refused is not None and refused.reason is Reason.EXPIRED  # with the clock that is wrong
            if not passes or seen.get(name) != (bundle, _ONLY_TOLD):
                on_event(Warned(message=f"what {name} publishes isn't listed: {error}"))
            if bundle is not None and refused is not None:
                seen[name] = (bundle, _ONLY_TOLD if passes else latest)
        else:
            seen[name] = (bundle, latest)
    return tuple(accepted)


def renew_own(
    home: Home, index: Index, *, ask: AskPassphrase | None, now: datetime, on_event: OnEvent = ignore
) -> None:
    """Sign the catalogs of this machine's publishers again that are past half of their time, where their online key is
    here and opens. What can't be is said as a warning. `ask` must not wait for a person. Raises StoreError.

    Of several instances on one database one does so at a time, and lists it before another looks.
    """
    with index.database.alone() as is_alone:
        if not is_alone:
            return
        renewed = [name for name in list_publishers(home) if _renew(home, index, name, ask, now, on_event)]
        if renewed and index.database.is_shared:
            list_own(home, index, now=now, on_event=on_event)


def _renew(
    home: Home, index: Index, name: str, ask: AskPassphrase | None, now: datetime, on_event: OnEvent
) -> bool:  # fmt: skip
    """Whether it was signed again."""
    try:
        publisher = load_publisher(home, name)
        mine, theirs = own_catalog(publisher), _listed(index, publisher)
        if mine is not None and theirs is not None and is_ahead(theirs, mine):
            if theirs.catalog.entries.raw != mine.catalog.entries.raw:
                on_event(
                    Warned(
                        message=f"another machine has published as {name}: its catalog isn't signed again here until"
                        f" this one has taken that over (samara publisher sync {name} --from this registry's address)"
                    )
                )
                return False
            adopt_catalog(home, publisher, theirs)  # the same names: it was only signed again
            publisher = load_publisher(home, name)
        if not renew_catalog(home, publisher, partial(publisher.open_keys, ONLINE_ROLES, ask), now=now):
            return False
    except SamaraError as error:
        on_event(Warned(message=f"the catalog of {name} could not be signed again: {error}"))
        return False
    on_event(Note(message=f"signed the catalog of {name} again"))
    return True


def _listed(index: Index, publisher: Publisher) -> CatalogState | None:
    """The catalog that is listed here, proven; None without one, or if it doesn't hold any more."""
    try:
        found = AcceptedCatalogs(index.listings).of(publisher.identity)
    except (TrustError, MalformedError):
        return None
    return None if found is None else CatalogState(catalog=found.catalog, bundle=found.bundle, chain=found.chain)
