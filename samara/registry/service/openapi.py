"""The OpenAPI document: what FastAPI makes of the routes, with errors as this service answers them (RFC 9457)."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457, with what was expected, what was found and what to do next.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string"},
        "expected": {"type": "string"},
        "actual": {"type": "string"},
        "next_step": {"type": "string"},
        "reason": {"type": "string"},
        "contact": {"type": "string"},
    },
}
_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_HUB = {  # as its clients expect it; what never reached a route is a problem there too
    "application/json": {
        "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    },
    **_CONTENT,
}
_OWN = ("/v1/", "/healthz", "/readyz", "/metrics", "/announce", "/scrape")
_UNUSED = ("HTTPValidationError", "ValidationError")


def describe(app: FastAPI) -> None:
    """Let `app` give this document. Made once, when it is first asked for."""

    def made() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )  # fmt: skip
            app.openapi_schema = with_problems(document)
        return app.openapi_schema

    app.openapi = made  # type: ignore[method-assign]


def with_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Every answer of 400 and above, named or not, is a problem."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _UNUSED:
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    for path, operations in document.get("paths", {}).items():
        content = _CONTENT if path.startswith(_OWN) else _HUB
        for operation in operations.values():
            if not isinstance(operation, dict) or "responses" not in operation:
                continue
            answers = operation["responses"]
            for status, answer in answers.items():
                if status.isdigit() and int(status) >= 400:
                    answer["content"] = content
                    answer.setdefault("description", "")
            answers["default"] = {"description": "Any error", "content": content}
    return document
