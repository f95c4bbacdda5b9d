"""What this machine's own publishers have published, listed by its own registry: through the same door as everybody's,
their names given by the operator's word.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accept import Accepted, Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.trust.keys import AskPassphrase
from samara.registry.trust.own_catalog import own_bundle, renew_catalog
from samara.registry.trust.publishers import ONLINE_ROLES, list_publishers, load_publisher
from samara.schemas.errors import SamaraError
from samara.schemas.events import Note, OnEvent, Warned, ignore
from samara.schemas.metadata_bundle import MetadataBundle
from samara.schemas.namespace_claim import may_be_claimed
from samara.schemas.networks import NetworkPolicy
from samara.schemas.publication import Publication

Seen = dict[str, tuple[MetadataBundle, int]]


def list_own(
    home: Home, index: Index, *, now: datetime, seen: Seen | None = None, on_event: OnEvent = ignore
) -> tuple[Accepted, ...]:
    """List what the publishers in `home.keys` publish; those that changed since last time, by `seen`, are returned.

    `seen`: the caller keeps it from call to call, so that what didn't change costs nothing. A publisher whose catalog
    can't be listed (expired, damaged) is said as a warning; the others are listed. Raises StoreError.
    """
    seen = {} if seen is None else seen
    accepted = []
    latest = index.latest_release()
    for name in list_publishers(home):
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
            on_event(Warned(message=f"what {name} publishes isn't listed: {error}"))
        else:
            seen[name] = (bundle, latest)
    return tuple(accepted)


def renew_own(home: Home, *, ask: AskPassphrase | None, now: datetime, on_event: OnEvent = ignore) -> None:
    """Sign the catalogs of this machine's publishers again that are past half of their time, where their online key is
    here and opens. What can't be is said as a warning. `ask` must not wait for a person.
    """
    for name in list_publishers(home):
        try:
            publisher = load_publisher(home, name)
            if renew_catalog(home, publisher, partial(publisher.open_keys, ONLINE_ROLES, ask), now=now):
                on_event(Note(message=f"signed the catalog of {name} again"))
        except SamaraError as error:
            on_event(Warned(message=f"the catalog of {name} could not be signed again: {error}"))
