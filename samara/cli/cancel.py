"""`samara cancel`: end pulls that are under way."""

from __future__ import annotations

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


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

    home = Home.find()
    home.prepare()
    ControlFiles(home).cancel(reference)
    screen.result({"cancelled": reference or "all"}, "")
