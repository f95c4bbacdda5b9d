"""The options that `pull` and `repair` share, and how they become PullOptions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from samara.cli.amounts import Amount
from samara.cli.network import network_options, parse_rate, swarm_options
from samara.schemas.endpoints import parse_peer
from samara.schemas.errors import UsageError

if TYPE_CHECKING:
    from samara.fetcher.options import PullOptions
    from samara.schemas.schedule import Schedule

F = TypeVar("F", bound=Callable[..., Any])


def fetching_options(function: F) -> F:
    """--peer, --mirror-only, --p2p-only, --give-up-after, --adopt, --limit-rate, --schedule, --only-networks,
    --private-mirrors, --registry, --no-registry, --record, and those of `network_options`.
    """
    for option in reversed(
        [
            click.option(
                "--peer", "peers", multiple=True, metavar="HOST:PORT", help="A peer that has it (repeatable)."
            ),
            click.option("--mirror-only", is_flag=True, help="Only HTTP mirrors, no peers."),
            click.option("--p2p-only", is_flag=True, help="Only peers, no HTTP mirrors."),
            click.option("--no-p2p", is_flag=True, help="Same as --mirror-only."),
            click.option(
                "--give-up-after", type=Amount(min=1), default=120.0, show_default=True, metavar="SECONDS",
                help="End when nothing has come for so long; what is here is kept.",
            ),
            click.option(
                "--adopt", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
                help="Look for blocks here too: an older version, another program's half download, a folder"
                " (repeatable).",
            ),
            click.option(
                "--limit-rate", metavar="RATE", help="Cap what peers and mirrors bring together, e.g. 500k (bytes/s)."
            ),
            click.option(
                "--schedule", metavar="TIMES", envvar="SAMARA_SCHEDULE",
                help="The same by the clock, e.g. '22:00-06:00=full,else=off' (SAMARA_SCHEDULE).",
            ),
            click.option(
                "--only-networks", metavar="CIDR,…", envvar="SAMARA_ONLY_NETWORKS",
                help="Be in contact with nobody outside, e.g. 10.0.0.0/8,fd00::/8 (SAMARA_ONLY_NETWORKS).",
            ),
            click.option(
                "--private-mirrors", is_flag=True, envvar="SAMARA_PRIVATE_MIRRORS",
                help="Mirrors that a manifest names may be in private networks or on this machine"
                " (SAMARA_PRIVATE_MIRRORS=1).",
            ),
            click.option(
                "--registry", "registries", multiple=True, metavar="URL",
                help="Ask this registry first, for catalogs, bytes and peers (repeatable; see samara registry add).",
            ),
            click.option("--no-registry", is_flag=True, help="Ask no registry that is configured."),
            click.option(
                "--record", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                help="Write whom it was in contact with, who gave what, and what was wrong; see also samara records.",
            ),
        ]
    ):  # fmt: skip
        function = option(function)
    return network_options(function)


def fetching(
    *,
    peers: tuple[str, ...],
    mirror_only: bool,
    p2p_only: bool,
    no_p2p: bool,
    give_up_after: float,
    adopt: tuple[Path, ...],
    limit_rate: str | None,
    schedule: str | None,
    only_networks: str | None,
    private_mirrors: bool,
    record: Path | None,
    registries: tuple[str, ...],
    no_registry: bool,
    down: str | None,
    **rest: Any,
) -> PullOptions:
    """The options as `samara.fetcher` takes them; `rest` as for `swarm_options`. Raises UsageError."""
    from dataclasses import replace

    from samara.fetcher.options import PullOptions
    from samara.schemas.networks import parse_networks

    mirror_only = mirror_only or no_p2p
    if mirror_only and p2p_only:
        raise UsageError("--mirror-only and --p2p-only leave nobody to ask", next_step="give one of them")
    if not math.isfinite(give_up_after):
        raise UsageError("--give-up-after takes seconds", expected="a number, 1 or more", actual=give_up_after)
    if limit_rate is not None and down is not None:
        raise UsageError("--limit-rate and --down are the same cap", next_step="give one of them")
    swarm = swarm_options(down=None, **rest)
    return PullOptions(
        swarm=replace(swarm, count_blocks=record is not None),
        peers=tuple(parse_peer(peer) for peer in peers),
        mirrors=not p2p_only,
        peer_to_peer=not mirror_only,
        adopt=adopt,
        limit=parse_rate(limit_rate if limit_rate is not None else down),
        schedule=None if not schedule else _schedule(schedule),
        networks=() if not only_networks else parse_networks(only_networks),
        private_mirrors=private_mirrors,
        record=record,
        registries=asked_registries(registries, no_registry=no_registry),
        give_up_after=give_up_after,
    )


def asked_registries(told: tuple[str, ...], *, no_registry: bool) -> tuple[str, ...]:
    """Those that were told, then those that are configured; each once. Raises UsageError."""
    from samara.registry.home import Home
    from samara.registry.registries import configured
    from samara.schemas.namespace_claim import check_origin

    known = () if no_registry else configured(Home.find())
    return tuple(dict.fromkeys((*map(check_origin, told), *known)))


def _schedule(text: str) -> Schedule:
    from samara.schemas.schedule import parse_schedule

    return parse_schedule(text)
