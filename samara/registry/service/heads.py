"""HEAD wherever there is GET (RFC 9110 §9.3.2): answered by the same handler, whose body the server leaves out."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.routing import APIRoute


def add_heads(router: APIRouter) -> None:
    """Give a router's own routes their HEAD, where they have none; the OpenAPI document needn't tell of each. Routers
    included in it are not seen: theirs come first.
    """
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    there = {route.path for route in routes if "HEAD" in (route.methods or ())}
    for route in routes:
        if "GET" in (route.methods or ()) and route.path not in there:
            router.add_api_route(
                route.path, route.endpoint, methods=["HEAD"], include_in_schema=False,
                response_model=route.response_model, response_class=route.response_class,
            )  # fmt: skip
