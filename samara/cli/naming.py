"""The options by which publisher commands ask others for a catalog, and how they become an Asking."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from samara.registry.home import Home

if TYPE_CHECKING:
    from samara.fetcher.catalogs import Asking
    from samara.schemas.events import OnEvent

F = TypeVar("F", bound=Callable[..., Any])


def asking_options(function: F) -> F:
    """--from, --dht-node."""
    function = click.option(
        "--dht-node", "dht_nodes", multiple=True, metavar="HOST:PORT",
        help="Also look the catalog up in the DHT, by this node (repeatable).",
    )(function)  # fmt: skip
    return click.option(
        "--from", "sources", multiple=True, metavar="URL|DIR", help="Also ask for the catalog here (repeatable)."
    )(function)


def check_sources(sources: tuple[str, ...]) -> tuple[str, ...]:
    """What was typed after --from, or UsageError: a wrong word there must not pass for a source that is away."""
    from samara.fetcher.catalogs import DHT_SOURCE, open_source

    for text in sources:
        if text != DHT_SOURCE:
            open_source(text)
    return sources


@contextlib.contextmanager
def publisher_asking(
    home: Home, *, sources: tuple[str, ...], dht_nodes: tuple[str, ...], on_event: OnEvent
) -> Iterator[Asking]:
    """Asks configured sources, those given, and the DHT where it is configured (`dht:`) or a node of it is given."""
    from samara.fetcher.catalogs import DHT_SOURCE, Asking
    from samara.fetcher.options import PullOptions
    from samara.fetcher.session import Session
    from samara.registry.registries import configured
    from samara.seeder.swarm_options import SwarmOptions

    registries = configured(home)
    options = SwarmOptions(dht_nodes=dht_nodes, lan=False, port_mapping=False)
    with Session(home, PullOptions(swarm=options, registries=registries), on_event=on_event) as session:
        yield Asking(
            now=datetime.now(UTC),
            sources=(*check_sources(sources), *((DHT_SOURCE,) if dht_nodes else ())),
            registries=registries,
            finder=session.finder,
            on_event=on_event,
        )
