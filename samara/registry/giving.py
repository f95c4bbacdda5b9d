"""Which bytes on this machine strangers get: a digest must not be a key to the operator's own files.

Whoever knows the digest of a file can list a release that has it, and a registry has whatever its operator keeps on the
same machine: what was merely pulled, what lies in place elsewhere. That it is listed is therefore no reason to give it.
One of these is:

    kept       this registry fetched it by itself, because it was listed: SAMARA_HOME/kept.json says so
    published  a publisher whose folder of keys is here lists it
    pulled     the very release that is listed was pulled here by somebody, from a publisher who is pinned: its view
               below models/ is this file

All three are about the release that is listed, none can be brought about from outside. The rule: `may_be_given`, pure.
Bytes that travel inside a listed manifest are its publisher's own, and no business of this.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from samara.registry.home import Home
from samara.registry.listed_blobs import ListedAs
from samara.registry.listings import Listings
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import list_publishers, load_publisher
from samara.schemas.digests import b3_text
from samara.schemas.envelope import strict_json
from samara.schemas.errors import MalformedError, SamaraError

KEPT_NAME = "kept.json"
KEPT_FORMAT = "samara-kept-1"
_MAX_KEPT_BYTES = 64 << 20
_SAID = 1000  # answers remembered
_FRESH = 2.0  # seconds for which it is believed who publishes here and who is pinned


@dataclass(frozen=True, kw_only=True, slots=True)
class Reasons:
    """Why a blob's bytes may be here. `listers`: identities that list a release with it now; `own`: identities of this
    machine's publishers; `is_kept`, `is_pulled`: as above.
    """

    is_kept: bool = False
    is_pulled: bool = False
    listers: Collection[str] = ()
    own: Collection[str] = ()


def may_be_given(reasons: Reasons) -> bool:
    """Whether strangers get these bytes. Pure."""
    return reasons.is_kept or reasons.is_pulled or any(one in reasons.own for one in reasons.listers)


class Giving:
    """Of one home and its index. Safe to use from several threads. `serves_all`: the operator has nothing to hide."""

    def __init__(
        self,
        home: Home,
        listings: Listings,
        *,
        serves_all: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._listings = listings
        self._serves_all = serves_all
        self._clock = clock
        self._kept = _KeptBlobs(home.root / KEPT_NAME)
        self._known: tuple[float, frozenset[str], Mapping[str, str]] | None = None
        self._said: dict[tuple[str, tuple[Path, ...]], float] = {}  # when yes was said
        self._lock = threading.Lock()

    def may_give(self, b3: str, places: Iterable[Path], *, publisher: str | None = None) -> bool:
        """Whether strangers get a blob (`b3:…`) that lies at `places`. Raises StoreError.

        `publisher`: whose signed release, not withdrawn, it is asked for as; what this machine's own published and
        lists no more, as older versions, is given so. A yes is good for two seconds: web seeds are asked for a file in
        a thousand parts.
        """
        if publisher is not None and any(publisher in self._people(max_age)[0] for max_age in (_FRESH, 0.0)):
            return True
        key, now = (b3, tuple(places)), self._clock()
        with self._lock:
            said = self._said.get(key)
        if said is not None and 0 <= now - said < _FRESH:
            return True
        if not self.givable(dict([key])):
            return False
        with self._lock:
            while len(self._said) >= _SAID:
                del self._said[next(iter(self._said))]
            self._said[key] = now
        return True

    def givable(self, places: Mapping[str, Collection[Path]]) -> frozenset[str]:
        """Of these blobs, by where they lie, those that strangers get. Raises StoreError."""
        if self._serves_all:
            return frozenset(places)
        kept = self._kept.blobs()
        found = {b3 for b3 in places if b3 in kept}
        rest = places.keys() - found
        people = None
        for max_age in (_FRESH, 0.0):  # who was pinned a moment ago counts at once
            if rest and (now := self._people(max_age)) != people:
                people = now
                found |= self._given(rest, places, *people)
                rest -= found
        return frozenset(found)

    def _given(
        self,
        asked: Collection[str],
        places: Mapping[str, Collection[Path]],
        own: frozenset[str],
        pins: Mapping[str, str],
    ) -> set[str]:
        listed = self._listings.listed_as(asked, own | pins.keys())
        found = set()
        for b3, names in listed.items():
            reasons = Reasons(
                listers=[one.identity for one in names],
                own=own,
                is_pulled=any(
                    self._is_view(pins[one.identity], one, places[b3]) for one in names if one.identity in pins
                ),
            )
            if may_be_given(reasons):
                found.add(b3)
        return found

    def _is_view(self, alias: str, listed: ListedAs, places: Collection[Path]) -> bool:
        """Whether a pull of the listed release made a name for one of these very files."""
        for tag in {listed.tag, listed.made_as}:
            view = self._home.models / alias / listed.model / tag / listed.path
            for place in places:
                with contextlib.suppress(OSError, ValueError):
                    if view.samefile(place):
                        return True
        return False

    def _people(self, max_age: float) -> tuple[frozenset[str], Mapping[str, str]]:
        """(identities that publish here, identity → alias of who is pinned), as of so many seconds ago at most."""
        with self._lock:
            known, now = self._known, self._clock()
            if known is None or not 0 <= now - known[0] < max_age:
                known = self._known = (now, _own(self._home), _pinned(self._home))
            return known[1:]


class _KeptBlobs:
    """What kept.json says, read when it is another file than before. Who mirrors writes it (`samara.fetcher.kept`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: object = None
        self._blobs: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def blobs(self) -> frozenset[str]:
        """As `b3:…`; none where the file is missing or damaged: then nothing is known to be here for others."""
        try:
            found = self._path.stat()
        except OSError:
            return frozenset()
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            if stamp != self._stamp:
                self._blobs, self._stamp = self._read(), stamp
            return self._blobs

    def _read(self) -> frozenset[str]:
        try:
            with self._path.open("rb") as file:
                data = file.read(_MAX_KEPT_BYTES + 1)
            value = strict_json(data, KEPT_NAME) if len(data) <= _MAX_KEPT_BYTES else None
            blobs = value.get("blobs") if isinstance(value, dict) and value.get("format") == KEPT_FORMAT else None
            return frozenset(b3_text(bytes.fromhex(digits)) for digits in blobs) if isinstance(blobs, dict) else _NONE
        except (OSError, MalformedError, ValueError):
            return _NONE


_NONE: frozenset[str] = frozenset()


def _own(home: Home) -> frozenset[str]:
    found = set()
    with contextlib.suppress(SamaraError):
        for name in list_publishers(home):
            with contextlib.suppress(SamaraError):  # a damaged one stands in nobody's way
                found.add(load_publisher(home, name).identity)
    return frozenset(found)


def _pinned(home: Home) -> Mapping[str, str]:
    with contextlib.suppress(SamaraError):
        return {pin.identity: pin.alias for pin in TrustFolder(home.trust).list()}
    return {}
