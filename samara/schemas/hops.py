"""Which registries a fetch has come through: those that follow each other must not wait for each other in a circle.

A registry that fetches a blob from another one says in the address `via=ID,ID,…`: its own number last, before it those
on whose behalf it fetches. Who finds itself there has the blob or hasn't: it begins nothing. `held=1`: begin nothing
anyway. Numbers are drawn anew by each process (16 hex digits), and say nothing about who it is. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

MOST_HOPS = 4
_ID = re.compile(r"[0-9a-f]{16}\Z")
_BLOB_PATH = re.compile(r"/v1/blobs/[0-9a-f]{64}(/[^/]*)?\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Hops:
    """`via`: the numbers of registries, the first that was asked first. `held`: only what is there is wanted."""

    via: tuple[str, ...] = ()
    held: bool = False

    def may_begin(self, own: str) -> bool:
        """Whether the registry with the number `own` may begin a fetch for whoever asks so."""
        return not self.held and own not in self.via and len(self.via) < MOST_HOPS

    def address(self, url: str) -> str:
        """Where to ask: a blob's address at a registry with this said; any other address as it is."""
        parts = urlsplit(url)
        if parts.query or parts.fragment or not _BLOB_PATH.search(parts.path):
            return url
        return f"{url}?held=1" if self.held else f"{url}?via={','.join(self.via)}" if self.via else url


DIRECTLY = Hops()


def parse_hops(via: str | None, held: str | None) -> Hops:
    """What an address says. What makes no sense, or is too much, means: begin nothing."""
    if not via:
        return Hops(held=bool(held))
    numbers = via.split(",", MOST_HOPS + 1)
    makes_sense = len(numbers) <= MOST_HOPS and all(_ID.match(number) for number in numbers)
    return Hops(via=tuple(numbers) if makes_sense else (), held=bool(held) or not makes_sense)
