"""Two machines that publish as one: whether another has published meanwhile, and going on from there.

A catalog's versions must not fork. Before a publisher signs the next one, every source it has configured is asked; the
one that is ahead has to be taken over first.
"""

from __future__ import annotations

from samara.fetcher.catalogs import DHT_SOURCE, Asking, open_source
from samara.registry.home import Home
from samara.registry.trust.catalog_client import CatalogClient, CatalogState
from samara.registry.trust.catalogs import is_signed_by
from samara.registry.trust.own_catalog import adopt_catalog, is_ahead, own_catalog, refuse_fork
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import Publisher
from samara.registry.trust.sources import MetadataSource, read_whole
from samara.registry.trust.updater import RolledBackError
from samara.schemas.errors import NetworkError, NotFoundError, TrustError, UsageError
from samara.schemas.events import Note, Warned
from samara.schemas.metadata_bundle import MAX_TIMESTAMP_BYTES


def require_newest(home: Home, publisher: Publisher, asking: Asking) -> None:
    """Raises TrustError if a configured source has a newer catalog than this machine; NetworkError if one is away."""
    mine = own_catalog(publisher)
    for source in _sources(home, publisher, asking):
        theirs = _catalog_of(home, publisher, source, asking)
        if theirs is not None:
            refuse_fork(mine, theirs, source.name, publisher.name)


def sync(home: Home, publisher: Publisher, asking: Asking) -> CatalogState | None:
    """Go on from the newest catalog that any source has; None if none is newer than this machine's.

    Where both have the same version with other contents, theirs is taken: this machine's was never seen by whoever
    asks there. Raises UsageError without sources, TrustError, NetworkError.
    """
    sources = _sources(home, publisher, asking)
    if not sources:
        raise UsageError(
            f"nowhere to ask for the catalog of {publisher.name}",
            next_step=f"name a source: --from URL, or samara trust sources {publisher.name} --add URL",
        )
    found = [state for source in sources if (state := _catalog_of(home, publisher, source, asking)) is not None]
    mine = own_catalog(publisher)
    newest = max(found, key=lambda state: state.order, default=None)
    if newest is None or not is_ahead(newest, mine):
        return None
    adopt_catalog(home, publisher, newest)
    if mine is not None and mine.catalog.versions["timestamp"] == newest.catalog.versions["timestamp"]:
        lost = f"this machine had another catalog of {publisher.name} as that version: publish what is missing again"
        asking.on_event(Warned(message=lost))
    return newest


def _sources(home: Home, publisher: Publisher, asking: Asking) -> tuple[MetadataSource, ...]:
    pin = TrustFolder(home.trust).find(publisher.identity)
    texts = dict.fromkeys((*asking.sources, *(() if pin is None else pin.sources)))
    sources = [open_source(text, asking) for text in texts if not text.startswith(DHT_SOURCE)]
    if any(text.startswith(DHT_SOURCE) for text in texts) and asking.finder is not None:
        try:
            sources.append(asking.finder().source(publisher.identity, publisher.chain))
        except NotFoundError as problem:  # nothing was announced yet, or not for hours
            asking.on_event(Note(message=str(problem)))
    return tuple(sources)


def _catalog_of(home: Home, publisher: Publisher, source: MetadataSource, asking: Asking) -> CatalogState | None:
    """What a source has; None if that is nothing, older than what this machine has seen, or by keys retired since."""
    client = CatalogClient(TrustFolder(home.trust), publisher.identity)
    try:
        return client.check(source, now=asking.now, allow_stale=True)
    except (NotFoundError, RolledBackError):
        return None
    except TrustError:
        if not _by_retired_keys(publisher, source):
            raise
        asking.on_event(
            Warned(
                message=f"{source.name} has a catalog of {publisher.name} that was signed by keys retired since: not"
                " looked at"
            )
        )
        return None
    except NetworkError as error:
        raise NetworkError(
            f"whether somebody published {publisher.name} elsewhere can't be told: {error.what}",
            next_step="try again when that source is there; to publish all the same: --offline",
        ) from None


def _by_retired_keys(publisher: Publisher, source: MetadataSource) -> bool:
    """Whether a source still has what came before the last change of keys, or what a thief of the old ones made."""
    timestamp = read_whole(source, "timestamp.json", MAX_TIMESTAMP_BYTES)
    if timestamp is None:
        return False
    newest, *older = reversed(publisher.chain.roots)
    return not is_signed_by(newest, "timestamp", timestamp) and any(
        is_signed_by(root, "timestamp", timestamp) for root in older
    )
