"""`samara rm`: forget releases on this machine."""

from __future__ import annotations

import click

from samara.cli.cleaning import show_cleaned
from samara.cli.common import command as common_command
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


@common_command(
    "rm",
    examples="samara rm acme/tiny:q8_0 --dry-run\nsamara rm acme/tiny:q8_0",
    exits=(ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("references", nargs=-1, required=True, metavar="REF...")
@click.option("--dry-run", is_flag=True, help="Print what would go, and change nothing.")
def command(references: tuple[str, ...], *, dry_run: bool) -> None:
    """Forget releases on this machine: their names, the bytes no other release here needs, half downloads.

    Files in place, publishers' keys and whom you trust are never touched.
    """
    from samara.fetcher.clean import remove

    show_cleaned(remove(Home.find(), references, dry_run=dry_run), dry_run=dry_run)
