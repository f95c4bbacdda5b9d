"""/{owner}: who publishes, by which keys, what, and what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3
from fastapi import Request
from fastapi.responses import Response

from samara.registry.listed_models import Listing
from samara.registry.listed_publishers import Owner
from samara.registry.service.pages import commands
from samara.registry.service.pages.key_history import key_history
from samara.registry.service.pages.model import newest
from samara.registry.service.pages.qr import qr_code
from samara.registry.service.pages.rendering import Paged, Pages, number_in, part_of
from samara.registry.trust.identity import identity_uri

MODELS_PER_PAGE = 40
ROOTS_SHOWN = 20
EQUIVOCATIONS_SHOWN = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLine:
    """A model of a publisher: what its newest name means, and how many names it has."""

    newest: Listing
    names: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EquivocationLine:
    """Two signed catalogs of one version, by their timestamps' BLAKE3."""

    version: int
    known: str
    offered: str
    seen_at: float


def answer(pages: Pages, request: Request) -> Response:
    """A publisher's page."""
    listings = pages.service.listings
    owner = pages.owner(str(request.path_params["owner"]))
    accepted = pages.service.catalog(owner.identity)
    history = key_history(accepted.chain.views if accepted else ())
    against = listings.equivocations(owner.identity)
    return pages.page(
        request,
        "publisher.html",
        owner=owner,
        namespaces=listings.namespaces(owner.identity),
        stamp=accepted.stamp if accepted else None,
        history=history[:ROOTS_SHOWN],
        roots_left_out=max(0, len(history) - ROOTS_SHOWN),
        equivocations=tuple(
            EquivocationLine(
                version=one.version,
                known=blake3(one.known).hexdigest(),
                offered=blake3(one.offered).hexdigest(),
                seen_at=one.seen_at,
            )
            for one in against[:EQUIVOCATIONS_SHOWN]
        ),
        models=_models(pages, owner, number_in(request, "page") or 1),
        trust=commands.trust(owner),
        trust_qr=qr_code(identity_uri(owner.identity).upper()),
    )  # fmt: skip


def _models(pages: Pages, owner: Owner, number: int) -> Paged[ModelLine]:
    """The `number`-th page of a publisher's models; beyond the end the last one."""
    listings = pages.service.listings
    start = (number - 1) * MODELS_PER_PAGE
    some = listings.owners_models(owner, limit=MODELS_PER_PAGE, offset=start)
    if not some.models and some.total:
        start = (some.total - 1) // MODELS_PER_PAGE * MODELS_PER_PAGE
        some = listings.owners_models(owner, limit=MODELS_PER_PAGE, offset=start)
    lines = []
    for one in some.models:
        found = listings.model(owner, one.model)
        if found:  # else it went away meanwhile
            lines.append(ModelLine(newest=newest(found), names=one.names))
    return part_of(lines, start=start, total=some.total, per_page=MODELS_PER_PAGE)
