"""`samara path`: where a release's verified files lie, one line per file."""

from __future__ import annotations

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


@common_command(
    "path",
    examples='samara path acme/tiny:q8_0\nllama-cli -m "$(samara path acme/tiny:q8_0)"',
    exits=(ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.STORE),
)
@click.argument("reference", metavar="REF")
def command(reference: str) -> None:
    """Print the path of each verified file of a release that is here."""
    from samara.fetcher.local import locate

    found = locate(Home.find(), reference, on_event=screen.hear)
    screen.result(
        {
            "reference": found.reference,
            "files": [{"path": f.file.path, "blob": f.file.b3, "location": str(f.path)} for f in found.files],
        },
        "\n".join(str(f.path) for f in found.files),
    )
