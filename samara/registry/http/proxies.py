"""Through which HTTP proxy a host is reached, as the environment says. Pure: the environment is an argument.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, lower case first, as curl and most programs read them. Upper-case
HTTP_PROXY doesn't count in a CGI process, where a request's header sets it. NO_PROXY: `*`, names with their subdomains,
addresses, networks, each with a port or without. A network is compared with addresses in URLs; no name is looked up.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from samara.registry.http.failures import HttpError, HttpFailure
from samara.registry.http.urls import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """Where a proxy is, and what it is told to let us through (a header's value, or None)."""

    host: str
    port: int
    authorization: str | None = None

    def __str__(self) -> str:
        """For messages: without the password."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxies:
    """URLs of proxies by the scheme they are for; empty: none. `exceptions`: what NO_PROXY lists."""

    http: str = ""
    https: str = ""
    exceptions: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Proxies:
        """What the variables say."""

        def variable(name: str) -> str:
            upper = "" if name == "http_proxy" and "REQUEST_METHOD" in environ else environ.get(name.upper(), "")
            return (environ.get(name) or upper).strip()

        everything = variable("all_proxy")
        return cls(
            http=variable("http_proxy") or everything,
            https=variable("https_proxy") or everything,
            exceptions=tuple(variable("no_proxy").replace(",", " ").split()),
        )

    def proxy_for(self, target: Target) -> Proxy | None:
        """The proxy to ask, or None to go there directly. Raises HttpError (PROXY) for one that we can't talk to."""
        url = self.http if target.scheme == "http" else self.https
        if not url or any(_covers(entry, target) for entry in self.exceptions):
            return None
        return _parse_proxy(url)


def _parse_proxy(url: str) -> Proxy:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _unusable(url) from None
    if parts.scheme != "http" or not host or port == 0 or any(char <= " " for char in host):
        raise _unusable(url)
    authorization = None
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(secret.encode()).decode("ascii")
    return Proxy(host=host, port=port or 80, authorization=authorization)


def _unusable(url: str) -> HttpError:
    return HttpError(
        "the proxy can't be used",
        kind=HttpFailure.PROXY,
        expected="http://HOST:PORT in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY",
        actual=repr(url.rpartition("@")[2][:120]),  # never the password
    )


def _covers(entry: str, target: Target) -> bool:
    """Whether an entry of NO_PROXY means this host."""
    if entry == "*":
        return True
    entry, port = _split_port(entry.lower())
    if port is not None and port != target.port:
        return False
    if target.address is not None:
        try:
            return ip_address(target.address) in ip_network(entry, strict=False)
        except ValueError:
            return False
    name = entry.removeprefix("*").strip(".")
    return bool(name) and (target.host == name or target.host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """`[::1]:80` → (::1, 80); `::1` has no port, `a.example:80` has."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        rest = rest.removeprefix(":")
        return host, int(rest) if rest.isascii() and rest.isdigit() else None
    host, colon, port = entry.rpartition(":")
    if colon and ":" not in host and port.isascii() and port.isdigit():
        return host, int(port)
    return entry, None
