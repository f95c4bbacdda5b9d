"""`samara pause`: hold up pulls, those under way and later ones."""

from __future__ import annotations

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.registry.home import Home
from samara.schemas.errors import ExitCode
from samara.schemas.references import parse_reference


@common_command(
    "pause",
    examples="samara pause\nsamara pause acme/tiny:q8_0\nsamara pause --list",
    exits=(ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("reference", required=False, metavar="[REF]")
@click.option("--list", "listed", is_flag=True, help="Only print what is paused.")
def command(reference: str | None, *, listed: bool) -> None:
    """Hold up the pull of REF, or all pulls of this store, until samara resume.

    Pulls under way let go of every connection within a second and keep what they have; later ones wait.
    """
    from samara.fetcher.control import ControlFiles

    meant = None if reference is None else str(parse_reference(reference))
    home = Home.find()
    files = ControlFiles(home)
    if not listed:
        home.prepare()
        files.pause(meant)
        screen.note("samara resume goes on")
    paused = files.paused()
    screen.result({"paused": list(paused)}, "\n".join(paused) or "nothing is paused")
