"""Asking for a publisher's catalog: every configured source, the DHT if none of them has answered, the newest wins.

Sources are mirrors that nobody trusts: one that lies or is stale costs a note, as long as another one answers. What
they say is judged by `samara.registry.trust`; what is decided here is whom to ask and what to do with their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from samara.registry.registries import metadata_source
from samara.registry.trust.catalog_client import CatalogClient, CatalogState, EquivocationError
from samara.registry.trust.known import KnownCatalogs
from samara.registry.trust.pins import Pin
from samara.registry.trust.roots import RootChain
from samara.registry.trust.sources import BundleSource, FolderSource, MetadataSource
from samara.registry.trust.updater import ExpiredCatalogError
from samara.registry.web import UrlSource, is_url
from samara.schemas.errors import NetworkError, NotFoundError, SamaraError, TrustError, UsageError
from samara.schemas.events import Note, OnEvent, Warned, ignore

if TYPE_CHECKING:
    from samara.registry.http import HttpClient

DHT_SOURCE = "dht:"  # as a configured source


class Finder(Protocol):
    """Finds a publisher's metadata without any server."""

    def source(self, identity: str, chain: RootChain | None) -> MetadataSource:
        """The newest metadata bundle that the publisher's beacon points to. Raises NotFoundError or NetworkError."""

    def release(self, v2: str, manifest_hex: str) -> bytes:
        """A release object by its swarm's infohash. Raises NotFoundError or NetworkError."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """Whom to ask, and how to take the answers. `sources`: beside the pin's own; `registries`: origins, in order.

    `finder`: made only when needed. `client`: for web servers, made when needed; else one without restrictions.
    `by_digest`: an expired catalog will do too, and is not kept: it decides nothing, but may say where things lie.
    """

    now: datetime
    sources: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    finder: Callable[[], Finder] | None = None
    client: Callable[[], HttpClient] | None = None
    allow_stale: bool = False
    by_digest: bool = False
    on_event: OnEvent = ignore

    def sources_of(self, pin: Pin) -> tuple[str, ...]:
        """Where to ask for a publisher's catalog, each place once: what was told, registries, what is its own."""
        places = (*self.sources, *(metadata_source(origin, pin.identity) for origin in self.registries), *pin.sources)
        return tuple(text for text in dict.fromkeys(places) if not text.startswith(DHT_SOURCE))


def open_source(text: str, asking: Asking | None = None) -> MetadataSource:
    """A configured source: http(s) URL or folder. Raises UsageError."""
    if is_url(text):
        make = None if asking is None else asking.client
        return UrlSource(text, client=None if make is None else make())
    if "://" in text or text.startswith("dht:"):
        raise UsageError("not a source of catalogs", expected="http(s) URL or folder", actual=repr(text[:120]))
    return FolderSource(Path(text).expanduser().absolute())


def current_catalog(known: KnownCatalogs, pin: Pin, asking: Asking) -> CatalogState:
    """The publisher's newest catalog, fresh from whoever answers, else as it was seen last.

    Raises TrustError (expired, what the only answers were, or EquivocationError whatever the other answers were),
    NetworkError or NotFoundError when nobody has it and this machine never saw one.
    """
    client = CatalogClient(known.trust, pin.identity)
    before = known.of(pin.identity)
    problems: list[SamaraError] = []
    found = [
        state for source in _sources(known, pin, asking, problems) if (state := _ask(client, source, asking, problems))
    ]
    if not found and asking.finder is not None:
        try:
            source = asking.finder().source(pin.identity, None if before is None else before.chain)
        except SamaraError as error:
            problems.append(error)
        else:
            found = [state] if (state := _ask(client, source, asking, problems)) else []
    for problem in problems:
        if isinstance(problem, EquivocationError):
            raise problem  # proven by signatures: no telling which of the two is the publisher's word
    if not found:
        return _as_seen_last(client, pin, asking, problems)
    for problem in problems:
        asking.on_event(Warned(message=str(problem)) if isinstance(problem, TrustError) else Note(message=str(problem)))
    return max(found, key=lambda state: state.order)


def age(state: CatalogState, now: datetime) -> str:
    """`signed 3 hours ago`, for people."""
    if state.catalog.signed is None:
        return f"good until {state.catalog.expires:%Y-%m-%d}"
    return f"signed {ago(now - state.catalog.signed)}"


def ago(past: timedelta) -> str:
    """`3 hours ago`."""
    seconds = past.total_seconds()
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def _sources(
    known: KnownCatalogs, pin: Pin, asking: Asking, problems: list[SamaraError]
) -> Iterable[MetadataSource]:  # fmt: skip
    publisher = known.publisher(pin.identity)
    if publisher is not None:
        from samara.registry.trust.own_catalog import own_bundle

        own = own_bundle(publisher)
        if own is not None:
            yield BundleSource(own, f"this machine's own {publisher.name}")
    for text in asking.sources_of(pin):
        try:
            yield open_source(text, asking)
        except SamaraError as problem:
            problems.append(problem)


def _ask(
    client: CatalogClient, source: MetadataSource, asking: Asking, problems: list[SamaraError]
) -> CatalogState | None:  # fmt: skip
    try:
        state = client.check(source, now=asking.now, allow_stale=asking.allow_stale or asking.by_digest)
        if asking.allow_stale or not state.stale:
            client.commit(state, now=asking.now, source=source.name)
    except SamaraError as problem:
        problems.append(problem)
        return None
    return state


def _as_seen_last(client: CatalogClient, pin: Pin, asking: Asking, problems: list[SamaraError]) -> CatalogState:
    """Nobody gave a catalog: the one from last time, while it lasts."""
    for problem in problems:
        if isinstance(problem, TrustError) and not isinstance(problem, ExpiredCatalogError):
            raise problem  # somebody answers, and not as the publisher would
    state = client.stored()
    if state is None:
        if problems:
            raise problems[0]
        raise NotFoundError(
            f"no catalog of {pin.alias} is known here, and there is nobody to ask for one",
            next_step=f"let it be found by the DHT, name a source (samara trust sources {pin.alias} --add URL), or give"
            " the release's .samara file",
        )
    moment = max(asking.now, client.seen().floor)
    stale = state.catalog.expired_roles(moment)
    if stale and not asking.allow_stale and not asking.by_digest:
        raise next((p for p in problems if isinstance(p, ExpiredCatalogError)), None) or ExpiredCatalogError(
            f"the catalog of {pin.alias} known here has expired ({', '.join(stale)}), and nobody has a newer one",
            next_step="go online and try again; to use it knowingly: --allow-stale",
        )
    source = BundleSource(state.bundle, "this machine, as it was seen last")
    state = client.check(source, now=asking.now, allow_stale=bool(stale))  # its keys may have been retired since
    for problem in problems:
        if isinstance(problem, (NetworkError, NotFoundError)):
            asking.on_event(Note(message=str(problem)))
    asking.on_event(
        Note(
            message=f"nobody has a newer catalog of {pin.alias} ({pin.short}…): using the one {age(state, asking.now)}"
        )
    )
    if stale and asking.allow_stale:
        client.commit(state, now=asking.now, source=source.name)
    return state
