"""`samara ls`: which releases this machine knows, and what of each is here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.text import clean, size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode

if TYPE_CHECKING:
    from samara.fetcher.clean import Row


@common_command(
    "ls",
    examples="samara ls\nsamara ls tiny 'acme/llama-*'\nsamara ls --all\nsamara ls --json",
    exits=(ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.STORE),
)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--all", "everything", is_flag=True, help="Also what publishers' catalogs list and nobody pulled here.")
def command(models: tuple[str, ...], *, everything: bool) -> None:
    """Print the releases known here: reference, version, size, and what of it is here.

    MODEL is a model, publisher/model, publisher or reference; * and ? stand for anything. Asks nobody, reads no bytes.
    """
    from samara.fetcher.clean import list_releases

    rows = list_releases(Home.find(), models, everything=everything)
    if not rows:
        screen.note("no release is known here; run: samara pull REF")
    cells = [_cells(row) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(3)] if cells else []
    lines = [
        f"{name:<{widths[0]}}  {version:>{widths[1]}}  {bytes_:>{widths[2]}}  {state}"
        for name, version, bytes_, state in cells
    ]
    screen.result({"releases": [asdict(row) for row in rows]}, "\n".join(line.rstrip() for line in lines))


def _cells(row: Row) -> tuple[str, str, str, str]:
    state = row.state
    if state == "partial":
        state = f"partial ({size(row.here + row.in_place + row.partial)})"
    notes = [state]
    if row.withdrawn is not None:
        notes.append(f"WITHDRAWN: {clean(row.withdrawn)}")
    elif row.newer is not None:
        notes.append(f"version {row.newer} is out")
    return row.reference, f"v{row.version}", "–" if row.size is None else size(row.size), " · ".join(notes)
