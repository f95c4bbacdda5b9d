"""The application: routes in their order, what goes around them, how errors are answered."""

from __future__ import annotations

from fastapi import FastAPI

from samara import __version__
from samara.registry.service import (
    api_blobs,
    api_models,
    api_publish,
    api_publishers,
    hub,
    operations,
    pages,
    problems,
    tracker,
)
from samara.registry.service.service import Service

# The first path segment of routes: no namespace can be called so (see `samara.registry.publications.claims`).
PARTS = (operations, tracker, api_models, api_publishers, api_publish, api_blobs, hub, pages)


def create_app(service: Service) -> FastAPI:
    """The ASGI application over one service. Opens and closes nothing: that is for who made `service`."""
    app = FastAPI(
        title=service.settings.title,
        version=__version__,
        description="An untrusted registry of signed AI model releases. Clients prove whatever it answers.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    problems.install(app)
    for part in PARTS:
        app.include_router(part.routes(service))
    return app
