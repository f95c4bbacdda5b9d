"""The options that `seed` and `pull` share, and how they become SwarmOptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from samara.schemas.endpoints import parse_endpoint
from samara.schemas.errors import UsageError
from samara.schemas.rates import parse_rate as parse_rate  # also for other commands

if TYPE_CHECKING:
    from samara.seeder.swarm_options import SwarmOptions

F = TypeVar("F", bound=Callable[..., Any])


def network_options(function: F) -> F:
    """--listen, --no-discovery, --no-dht, --dht-node, --tracker, --no-lan, --no-upnp, --up, --down, --small."""
    for option in reversed(
        [
            click.option(
                "--listen", "listen", multiple=True, metavar="HOST:PORT", help="Accept peers here; repeatable."
            ),
            click.option("--no-discovery", is_flag=True, help="No DHT, LAN or UPnP: only whom it is told of."),
            click.option("--no-dht", is_flag=True, help="Don't use the BitTorrent DHT."),
            click.option(
                "--dht-node",
                "dht_nodes",
                multiple=True,
                metavar="HOST:PORT",
                help="Join the DHT of this node instead of the public one, also with --no-discovery; repeatable.",
            ),
            click.option(
                "--tracker",
                "trackers",
                multiple=True,
                metavar="URL",
                help="Ask this HTTP(S) tracker for peers too, also with --no-discovery; repeatable.",
            ),
            click.option("--no-lan", is_flag=True, help="Don't look for peers on the local network."),
            click.option("--no-upnp", is_flag=True, help="Don't ask the router to open a port (UPnP, NAT-PMP)."),
            click.option("--up", metavar="RATE", help="Cap what is given, e.g. 2M (bytes per second)."),
            click.option("--down", metavar="RATE", help="Cap what is fetched, e.g. 500k (bytes per second)."),
            click.option("--small", is_flag=True, help="Settings for a small device: less memory, fewer threads."),
        ]
    ):
        function = option(function)
    return function


def swarm_options(
    *,
    listen: tuple[str, ...],
    no_discovery: bool,
    no_dht: bool,
    dht_nodes: tuple[str, ...],
    trackers: tuple[str, ...] = (),
    no_lan: bool,
    no_upnp: bool,
    up: str | None,
    down: str | None,
    small: bool,
) -> SwarmOptions:
    """The options as `samara.seeder.swarm` takes them. Raises UsageError."""
    from samara.seeder.profiles import PROFILES
    from samara.seeder.swarm_options import ANY_ADDRESS, SwarmOptions

    for endpoint in listen:
        parse_endpoint(endpoint)
    if no_dht and dht_nodes:
        raise UsageError("--no-dht and --dht-node contradict each other", next_step="give one of them")
    options = SwarmOptions(
        listen=listen or ANY_ADDRESS,
        dht=not no_dht,
        dht_nodes=dht_nodes,
        trackers=tuple(dict.fromkeys(trackers)),
        lan=not no_lan,
        port_mapping=not no_upnp,
        upload_limit=parse_rate(up),
        download_limit=parse_rate(down),
        profile=PROFILES["small" if small else "fast"],
    )
    return options.without_discovery() if no_discovery else options
