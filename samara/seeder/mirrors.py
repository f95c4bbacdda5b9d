"""Which mirror it was: libtorrent speaks of addresses, people know URLs. Bookkeeping only; opens no connection.

Seen with libtorrent 2.1.1: a mirror that sends wrong bytes is banned as if it were a peer, by address, and called by
its URL a second later, when a quick pull is over already. One that answers with an HTTP error is reported as failed
without a reason; the reason is in the next disconnect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Endpoint = tuple[str, int]
Resolve = Callable[[str, int], Iterable[Endpoint]]

_PORTS = {"http": 80, "https": 443}


@dataclass(kw_only=True, slots=True)
class _Mirrors:
    urls: tuple[str, ...]
    at: dict[Endpoint, str | None] = field(default_factory=dict)
    liars: set[Endpoint] = field(default_factory=set)
    unexplained: list[str] = field(default_factory=list)


class MirrorBook:
    """The mirrors of each torrent, and what has been heard of them. `resolve` gives a host's addresses."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._of: dict[str, _Mirrors] = {}

    def add(self, torrent: str, urls: Iterable[str]) -> None:
        """A torrent has these mirrors (anew)."""
        self._of[torrent] = _Mirrors(urls=tuple(urls))

    def at(self, torrent: str, endpoint: Endpoint) -> str | None:
        """The mirror at an address; None for a peer's."""
        known = self._of.get(torrent)
        if known is None:
            return None
        if endpoint not in known.at:
            known.at[endpoint] = next((url for url in known.urls if self._is_at(url, endpoint)), None)
        return known.at[endpoint]

    def banned(self, torrent: str, endpoint: Endpoint) -> str | None:
        """Who is at this address sent wrong bytes: the mirror that it was, None for a peer."""
        url = self.at(torrent, endpoint)
        if url is not None:
            self._of[torrent].liars.add(endpoint)
        return url

    def failed(self, torrent: str, url: str) -> None:
        """A mirror failed, and why isn't known yet."""
        self._of.setdefault(torrent, _Mirrors(urls=(url,))).unexplained.append(url)

    def lost(self, torrent: str, endpoint: Endpoint) -> str | None:
        """A connection ended: the failed mirror that this explains, if any."""
        known = self._of.get(torrent)
        if known is None:
            return None
        url = next((url for url in known.unexplained if _port(url) == endpoint[1]), None)
        if url is not None:
            known.unexplained.remove(url)
        return url

    def is_liar(self, torrent: str, endpoint: Endpoint) -> bool:
        """Whether an address was a mirror that sent wrong bytes."""
        known = self._of.get(torrent)
        return known is not None and endpoint in known.liars

    def unexplained(self) -> list[tuple[str, str]]:
        """(torrent, url) of mirrors that failed for no reason given."""
        return [(torrent, url) for torrent, known in self._of.items() for url in known.unexplained]

    def forget_unexplained(self, torrent: str, url: str) -> None:
        """It was reported without a reason."""
        self._of[torrent].unexplained.remove(url)

    def _is_at(self, url: str, endpoint: Endpoint) -> bool:
        host, port = urlsplit(url).hostname, _port(url)
        return host is not None and port == endpoint[1] and endpoint in self._resolve(host, port)


def _port(url: str) -> int | None:
    parts = urlsplit(url)
    return parts.port or _PORTS.get(parts.scheme)
