"""What a URL means, strictly: one reading only, so that what was checked is what is asked. Pure.

Refused, because programs disagree about them: what isn't printable ASCII, backslashes, user names and passwords (they
would end up in manifests, records and messages; a proxy may have them), numbers for hosts that aren't four decimal ones
(`127.1`, `0x7f000001`), IPv6 scopes, ports that aren't.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urljoin, urlsplit

from samara.registry.http.failures import HttpError, HttpFailure
from samara.schemas.errors import UsageError

MAX_URL = 8192  # characters; more than any server takes
_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")  # what a resolver may take for a part of an IPv4 address
_PLACE = re.compile(r"(\[[^\[\]@]*\]|[^\[\]:@]*)(:[0-9]*)?\Z")
_AS_IT_IS = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A URL taken apart. `host`: lower-case ASCII, no brackets, no final dot; `path`: with the query, encoded."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole, without a fragment."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def address(self) -> str | None:
        """The host if it is an IP address rather than a name."""
        return self.host if ":" in self.host or _is_four_numbers(self.host) else None


def parse_url(text: str) -> Target:
    """An http(s) URL. Raises UsageError."""
    try:
        return _parse(text)
    except ValueError as error:
        raise UsageError(f"not a URL ({error})", actual=repr(text[:120]), next_step="check the address") from None


def follow(here: Target, location: str) -> Target:
    """Where a redirect leads, `location` as its header was received. Raises HttpError: REDIRECT."""
    try:
        if len(location) > MAX_URL:
            raise ValueError("too long")  # noqa: TRY301  (like what _parse raises)
        # bytes that aren't ASCII are what some server wrote without encoding them; urljoin would drop line breaks
        encoded = quote(location.strip(" \t").encode("latin-1"), safe=_AS_IT_IS)
        there = _parse(urljoin(here.url, encoded))
    except ValueError as error:
        raise _refused(here, f"leads to what is no http(s) address ({error})", location) from None
    if here.scheme == "https" and there.scheme != "https":
        raise _refused(here, "leads from https to http", location)
    return there


def _refused(here: Target, why: str, location: str) -> HttpError:
    return HttpError(f"{here.url}: the redirect {why}", kind=HttpFailure.REDIRECT, actual=repr(location[:120]))


def _parse(text: str) -> Target:
    if len(text) > MAX_URL:
        raise ValueError("too long")
    if any(char in ' "<>\\^`{|}' or not "!" <= char <= "~" for char in text):
        raise ValueError("a character in it must be percent-encoded, or in punycode in a name")
    parts = urlsplit(text)
    if parts.scheme not in _PORTS:
        raise ValueError("neither http nor https")
    if "@" in parts.netloc:
        raise ValueError("a user name or password in it")
    if not _PLACE.match(parts.netloc):
        raise ValueError("neither HOST nor HOST:PORT")
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    if port == 0:
        raise ValueError("port 0")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = _parse_host(parts.hostname or "", bracketed="[" in parts.netloc)
    return Target(scheme=parts.scheme, host=host, port=port, path=path)


def _parse_host(text: str, *, bracketed: bool) -> str:
    if bracketed:
        address = IPv6Address(text)
        if address.scope_id is not None:
            raise ValueError("a scope in its address")
        return str(address)
    host = text.lower().removesuffix(".")
    if not host:
        raise ValueError("no host")
    labels = host.split(".")
    if len(host) > 253 or not all(map(_LABEL.match, labels)):
        raise ValueError("no such host name can be")
    if _NUMBER.match(labels[-1]) and not _is_four_numbers(host):
        raise ValueError("an IPv4 address is four decimal numbers")
    return host


def _is_four_numbers(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True
