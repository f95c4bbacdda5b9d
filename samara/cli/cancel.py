"""`samara cancel`: end pulls that are under way."""

from __future__ import annotations

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.registry.home import Home
from samara.schemas.errors import ExitCode
from samara.schemas.references import parse_reference


@common_command(
    "cancel",
    examples="samara cancel\nsamara cancel acme/tiny:q8_0",
    exits=(ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("reference", required=False, metavar="[REF]")
def command(reference: str | None) -> None:
    """End the pull of REF, or all pulls of this store that are under way, within a second.

    What they fetched is kept: the same pull goes on with it later, and samara prune removes it.
    """
    from samara.fetcher.control import ControlFiles

    meant = None if reference is None else str(parse_reference(reference))
    home = Home.find()
    home.prepare()
    ControlFiles(home).cancel(meant)
    screen.result({"cancelled": meant or "all"}, "")
