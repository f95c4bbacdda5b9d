"""Templates, and pages as answers: with an ETag of what they show and a policy that lets nothing run or come from
elsewhere.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote, urlencode

import jinja2
from blake3 import blake3
from fastapi import Request
from fastapi.responses import Response
from markupsafe import Markup, escape

from samara import __version__
from samara.registry.listed_publishers import Owner
from samara.registry.service.pages import words
from samara.registry.service.pages.sharing import Sharing
from samara.registry.service.pages.static_files import static_url
from samara.registry.service.service import Service
from samara.registry.trust.identity import grouped
from samara.schemas.errors import NotFoundError, UsageError
from samara.schemas.references import is_identity, is_name

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
MAX_PAGE_NUMBER = 10_000

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Paged(Generic[T]):
    """Some of many. `first`, `last`: their numbers from 1 on; `number`: of this page, from 1 on."""

    items: tuple[T, ...]
    number: int
    pages: int
    first: int
    last: int
    total: int


def paged(items: Sequence[T], number: int, per_page: int) -> Paged[T]:
    """The `number`-th page of them; beyond the end the last one."""
    last = max(1, -(-len(items) // per_page))
    start = (min(max(number, 1), last) - 1) * per_page
    return part_of(items[start : start + per_page], start=start, total=len(items), per_page=per_page)


def part_of(items: Sequence[T], *, start: int, total: int, per_page: int) -> Paged[T]:
    """A page that was asked for as such: `items` from the `start`-th (a whole number of pages) on, of `total`."""
    return Paged(
        items=tuple(items),
        number=start // per_page + 1,
        pages=max(1, -(-total // per_page)),
        first=start + 1 if items else 0,
        last=start + len(items),
        total=total,
    )


class Pages:
    """What every page needs: the service, the templates, what was worked out before."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.sharing = Sharing(service)
        self._templates = _templates()

    def owner(self, name: str) -> Owner:
        """Whose name, or identity, it is. Raises NotFoundError."""
        found = self.service.listings.owner(name) if is_name(name) or is_identity(name) else None
        if found is None:
            raise NotFoundError(f"no publisher {name[:64]!r} here", next_step="look for it in the catalogue")
        return found

    def page(self, request: Request, template: str, *, status: int = 200, **values: object) -> Response:
        """A page as an answer; 304 to whom has it already."""
        body = self._templates.get_template(template).render(
            service=self.service, settings=self.service.settings, version=__version__, path=request.url.path, **values
        )
        return answer(request, body.encode(), "text/html; charset=utf-8", status=status)


def answer(request: Request, body: bytes, media_type: str, *, status: int = 200) -> Response:
    """Bytes of ours, small ones, with an ETag; a cache asks each time whether they are still the same."""
    headers = {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache" if status == 200 else "no-store",
    }
    if status == 200:
        etag = f'"{blake3(body).hexdigest()[:32]}"'
        headers["ETag"] = etag
        if is_known(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
    return Response(body, status_code=status, headers=headers, media_type=media_type)


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether a client has what `etag` names (RFC 9110, 13.1.2: compared weakly)."""
    if if_none_match is None:
        return False
    told = {one.strip().removeprefix("W/") for one in if_none_match[:4096].split(",")}
    return "*" in told or etag in told


def number_in(request: Request, name: str, *, least: int = 1, most: int = MAX_PAGE_NUMBER) -> int | None:
    """A number out of the query; None if it isn't there. Raises UsageError."""
    text = request.query_params.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and least <= int(text) <= most):
        raise UsageError(f"{name} is no number", expected=f"{least}…{most}", actual=repr(text[:40]))
    return int(text)


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("samara.registry.service.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "clean": words.clean,
        "one_line": words.one_line,
        "shorten": words.shorten,
        "size": words.size,
        "short_count": words.short_count,
        "moment": words.moment,
        "day": words.day,
        "day_of": words.day_of,
        "iso": words.iso,
        "grouped": grouped,
        "breakable": _breakable,
        "segment": functools.partial(quote, safe=""),
    }
    environment.globals |= {
        "static": static_url,
        "plural": words.plural,
        "percent": words.percent,
        "web_link": words.web_link,
        "contact": _contact,
        "query": _query,
        "anchor": _anchor,
    }
    return environment


def _breakable(text: str) -> Markup:
    """Cleaned words that may be broken after what separates their parts: names of files, models, digests."""
    out = escape(words.clean(text))
    for separator in ("/", "-", "_", ".", ":"):
        out = Markup(out.replace(separator, Markup(f"{separator}<wbr>")))  # noqa: S704  (of what is escaped already)
    return out


def _contact(text: str) -> Markup:
    """The operator's words: a link if they are an address."""
    link = words.web_link(text) or words.mail_link(text)
    return Markup('<a href="{}">{}</a>').format(link, text) if link else escape(text)


def _query(known: dict[str, str], **changes: object) -> str:
    """A query string: what is known, with changes; empty values are left out."""
    values = known | {name: "" if value is None else str(value) for name, value in changes.items()}
    text = urlencode({name: value for name, value in values.items() if value})
    return f"?{text}" if text else "?"


def _anchor(*parts: str) -> str:
    """An id that is the same whenever its parts are."""
    return "x" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]
