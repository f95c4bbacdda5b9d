"""`samara resume`: let paused pulls go on."""

from __future__ import annotations

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.registry.home import Home
from samara.schemas.errors import ExitCode
from samara.schemas.references import parse_reference


@common_command(
    "resume", examples="samara resume\nsamara resume acme/tiny:q8_0", exits=(ExitCode.STORE,)
)  # fmt: skip
@click.argument("reference", required=False, metavar="[REF]")
def command(reference: str | None) -> None:
    """Let the pull of REF go on, or everything that samara pause held up."""
    from samara.fetcher.control import ControlFiles

    meant = None if reference is None else str(parse_reference(reference))
    files = ControlFiles(Home.find())
    was_paused = files.resume(meant)
    left = files.paused()
    if not was_paused:
        screen.note("nothing was paused" if meant is None else f"{meant} was not paused")
    if left:
        screen.note(f"still paused: {', '.join(left)}")
    screen.result({"resumed": was_paused, "paused": list(left)}, "")
