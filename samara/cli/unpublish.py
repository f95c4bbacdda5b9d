"""`samara unpublish`: take a release back."""

from __future__ import annotations

import click

from samara.cli.common import command as common_command
from samara.cli.retract import EXITS, withdraw


@common_command("unpublish", examples="samara unpublish acme/tiny:q8_0", exits=EXITS)
@click.argument("reference", metavar="PUBLISHER/MODEL:TAG")
@click.option(
    "--reason",
    default="withdrawn by its publisher",
    show_default=True,
    metavar="TEXT",
    help="What people are told who ask for it.",
)
def command(reference: str, reason: str) -> None:
    """Mark a release as withdrawn, without having to say why: the same as retract."""
    withdraw(reference, reason)
