"""/status: what this registry holds and how it does."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from samara.registry.last_audit import read_last_audit
from samara.registry.service.pages.rendering import Pages


def answer(pages: Pages, request: Request) -> Response:
    """The status page. Looks at the database, not at the bytes."""
    service = pages.service
    return pages.page(
        request,
        "status.html",
        held=service.listings.overview(),
        totals=service.tracker.totals(),
        kept=service.keeper.status() if service.keeper is not None else None,
        followed=service.follower.status() if service.follower is not None else (),
        barred={kind.value: count for kind, count in service.barred.counts().items()},
        audit=read_last_audit(service.home),
    )
