"""/{owner}: who publishes, by which keys, what, and what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3
from fastapi import Request
from fastapi.responses import Response

from samara.registry.listings import Listing
from samara.registry.service.pages import commands
from samara.registry.service.pages.key_history import key_history
from samara.registry.service.pages.qr import qr_code
from samara.registry.service.pages.rendering import Pages, number_in, paged
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
    facts = pages.catalogs.facts(owner.identity)
    history = key_history(facts.roots if facts else ())
    against = listings.equivocations(owner.identity)
    return pages.page(
        request,
        "publisher.html",
        owner=owner,
        namespaces=listings.namespaces(owner.identity),
        stamp=facts.stamp if facts else None,
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
        models=paged(
            model_lines(listings.of_owner(owner)), number_in(request, "page") or 1, MODELS_PER_PAGE
        ),
        trust=commands.trust(owner),
        trust_qr=qr_code(identity_uri(owner.identity).upper()),
    )  # fmt: skip


def model_lines(listings: tuple[Listing, ...]) -> tuple[ModelLine, ...]:
    """Listings, highest versions first → one line for each model, by name; withdrawn names don't stand for it."""
    by_model: dict[str, list[Listing]] = {}
    for listing in listings:
        by_model.setdefault(listing.model, []).append(listing)
    return tuple(
        ModelLine(newest=next((one for one in theirs if one.retracted is None), theirs[0]), names=len(theirs))
        for _, theirs in sorted(by_model.items())
    )
