"""The few files that pages refer to. Each is addressed with a part of its digest, and so may be kept for ever."""

from __future__ import annotations

import functools
from importlib import resources

from blake3 import blake3
from fastapi import Request
from fastapi.responses import Response

from samara.schemas.errors import NotFoundError

TYPES = {
    "style.css": "text/css; charset=utf-8",
    "copy.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@functools.cache
def _file(name: str) -> tuple[bytes, str]:
    data = (resources.files("samara.registry.service.pages") / "static" / name).read_bytes()
    return data, blake3(data).hexdigest()[:16]


def static_url(name: str) -> str:
    """Where a page finds one of them."""
    return f"/static/{name}?v={_file(name)[1]}"


def answer(_pages: object, request: Request) -> Response:
    """/static/{name}."""
    return _answer(request, str(request.path_params["name"]))


def icon(_pages: object, request: Request) -> Response:
    """/favicon.ico: what browsers ask for unasked."""
    return _answer(request, "icon.svg")


def _answer(request: Request, name: str) -> Response:
    if name not in TYPES:
        raise NotFoundError(f"no file {name[:64]!r} here")
    data, digest = _file(name)
    lasting = request.query_params.get("v") == digest
    headers = {
        "ETag": f'"{digest}"',
        "Cache-Control": "public, max-age=31536000, immutable" if lasting else "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",  # an SVG opened by itself
    }
    if request.headers.get("if-none-match") == f'"{digest}"':
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=TYPES[name])
