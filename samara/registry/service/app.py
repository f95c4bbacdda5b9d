"""The application: routes in their order, what goes around them, how errors are answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastapi import FastAPI

from samara import __version__
from samara.registry.service import (
    api_blobs,
    api_models,
    api_publish,
    api_publishers,
    hub,
    openapi,
    operations,
    pages,
    problems,
)
from samara.registry.service.guard import Guard
from samara.registry.service.heads import add_heads
from samara.registry.service.logs import Answered
from samara.registry.service.observe import Observe
from samara.registry.service.pages.errors import error_page
from samara.registry.service.service import Service
from samara.registry.service.tracker import TrackerPaths

# The first path segment of routes: no namespace can be called so (see `samara.registry.publications.claims`).
PARTS = (operations, api_models, api_publishers, api_publish, api_blobs, hub, pages)


def create_app(service: Service, *, log: Callable[[Answered], None] | None = None) -> FastAPI:
    """The ASGI application over one service. Opens and closes nothing: that is for who made `service`.

    `log`: told of every request, in the loop's thread: it must not wait.
    """
    app = FastAPI(
        title=service.settings.title,
        version=__version__,
        description="An untrusted registry of signed AI model releases. Clients prove whatever it answers.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # their addresses would be made of the Host that a client names
    )
    problems.install(app, on_unknown=partial(error_page, service), contact=service.settings.contact)
    for part in PARTS:
        router = part.routes(service)
        add_heads(router)
        app.include_router(router)
    openapi.describe(app)
    app.add_middleware(TrackerPaths, service=service)
    app.add_middleware(Guard, service=service)
    app.add_middleware(Observe, service=service, log=log)  # around the other
    return app
