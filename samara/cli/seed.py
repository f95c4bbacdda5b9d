"""`samara seed`: give what is whole here to its swarms, until told to stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.fetching import asked_registries
from samara.cli.network import network_options, swarm_options
from samara.cli.passphrase import ask_passphrase, told_passphrase
from samara.cli.progress import Progress
from samara.cli.signals import stop_on_signals
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


@common_command(
    "seed",
    examples=(
        "samara seed\n"
        "samara seed /volume1/models --listen 0.0.0.0:6901 --up 5M\n"
        "samara seed tiny.gguf --listen 127.0.0.1:6901 --no-discovery"
    ),
    exits=(ExitCode.NOT_FOUND, ExitCode.NETWORK, ExitCode.STORE),
)
@click.argument("paths", nargs=-1, type=click.Path(readable=False, path_type=Path), metavar="[PATH]...")
@click.option(
    "--registry", "registries", multiple=True, metavar="URL",
    help="Announce to this registry too (repeatable), beside those of samara registry list.",
)  # fmt: skip
@click.option("--no-registry", is_flag=True, help="Announce to no registry that is configured.")
@network_options
def command(
    *, paths: tuple[Path, ...], registries: tuple[str, ...], no_registry: bool, **network: Any
) -> None:  # fmt: skip
    """Give every whole blob here, or those at PATH, to its swarm; in place, without a copy.

    Runs until Ctrl-C or SIGTERM; what is pulled or published meanwhile joins by itself. Catalogs and manifests known
    here are carried too; where your own publisher's keys lie, its name stays findable in the DHT and its catalog is
    signed again before it expires (SAMARA_PASSPHRASE opens the keys).
    """
    from samara.registry.registries import tracker
    from samara.seeder.seed import seed

    options = swarm_options(**network)
    told = asked_registries(registries, no_registry=no_registry)
    options = replace(options, trackers=tuple(dict.fromkeys((*options.trackers, *map(tracker, told)))))
    with stop_on_signals() as stop, Progress(screen) as progress:
        given = seed(
            Home.find(), options, paths=paths, ask=ask_passphrase, ask_later=told_passphrase, stop=stop,
            on_event=progress,
        )  # fmt: skip
    screen.result(
        {"blobs": len(given.rows), "uploaded": sum(row.uploaded for row in given.rows)},
        "",
    )
    screen.note(f"stopped; gave {sum(row.uploaded for row in given.rows):,} bytes of {len(given.rows)} blobs")
