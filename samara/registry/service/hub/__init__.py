"""What clients of the Hub ask: /api/models/…, /{owner}/{model}/resolve/…. With HF_ENDPOINT (MODEL_ENDPOINT for
llama.cpp) set to this registry, huggingface_hub, @huggingface/hub, transformers.js and llama.cpp load models from here.

A repository is a model: `revisions` says which releases a revision means, `trees` how their files look, `answers` what
is told of them, `api` and `files` are the routes. Only reading; nothing is private, so a token is neither wanted nor
looked at. Everything told comes out of verified manifests, and what clients check their bytes by (SHA-256) with it.
Never sends X-Xet-Hash (its clients would ask a store that isn't there) nor redirects.
"""

from __future__ import annotations

from fastapi import APIRouter

from samara.registry.service.heads import add_heads
from samara.registry.service.hub import api, files, lists
from samara.registry.service.hub.revisions import Revisions
from samara.registry.service.service import Service


def routes(service: Service) -> APIRouter:
    """The routes of this package."""
    revisions = Revisions(service)
    router = APIRouter(tags=["hub"])
    for part in (lists.routes(service), api.routes(service, revisions), files.routes(service, revisions)):
        add_heads(part)
        router.include_router(part)
    return router
