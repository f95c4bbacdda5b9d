"""Around everything: each request gets a number, is counted, timed and logged; what breaks is a 500 that says nothing.

An ASGI middleware. The number goes with the answer as X-Request-Id, so that an operator finds the line that belongs to
what a client saw.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from samara.registry.service.guard import ADDRESS, TRACKER_PATHS
from samara.registry.service.logs import Answered, taking_notes
from samara.registry.service.problems import RefusedError, problem
from samara.registry.service.service import Service
from samara.registry.service.wire_files import EXTENSION

NO_ROUTE = "(none)"
_broken = logging.getLogger("samara.serve")


class Observe:
    """The outermost part of the application. `log`: told of every request but a tracker's."""

    def __init__(self, app: Any, service: Service, log: Callable[[Answered], None] | None = None) -> None:
        self._app = app
        self._service = service
        self._log = log

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As an ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        number = secrets.token_hex(8)
        stamp = (b"x-request-id", number.encode())
        status = size = 0
        until_head = 0.0
        ended = False
        notes = taking_notes()

        async def sending(message: Any) -> None:
            nonlocal status, size, ended, until_head
            kind = message["type"]
            if kind == "http.response.start":
                status = message["status"]
                until_head = time.perf_counter() - began
                message = {**message, "headers": [*message.get("headers", ()), stamp]}
            await send(message)
            if kind == "http.response.body":
                size += len(message.get("body", b""))
                ended = not message.get("more_body", False)
            elif kind == EXTENSION:
                size += message["count"]
                ended = not message.get("more_body", False)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            _broken.exception("request %s ended in a bug", number)
            if not status:
                await problem(RefusedError("this service has a bug; its log tells more", status=500))(
                    scope, receive, sending
                )
        finally:
            self._count(scope, status, until_head)
            if self._log is not None and scope["path"] not in TRACKER_PATHS:
                self._log(
                    Answered(
                        at=self._service.clock(),
                        number=number,
                        method=scope["method"],
                        path=scope["path"],
                        status=status,
                        size=size,
                        seconds=time.perf_counter() - began,
                        address=scope.get(ADDRESS, ""),
                        whole=ended,
                        notes=tuple(notes),
                    )
                )

    def _count(self, scope: Any, status: int, seconds: float) -> None:
        is_tracker = scope["path"] in TRACKER_PATHS
        route = scope["path"] if is_tracker else template_of(scope)
        metrics = self._service.metrics
        metrics.requests.labels(route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)


def template_of(scope: Any) -> str:
    """The template of the route that was taken, so that there are as many labels as routes."""
    route = getattr(scope.get("route"), "path", None)
    if route is not None:
        return str(route)
    # a plain route of Starlette's isn't told; without parameters it is its own template
    return NO_ROUTE if "endpoint" not in scope or scope.get("path_params") else str(scope["path"])
