"""`samara lock`: name releases by digest, for a file that others go by."""

from __future__ import annotations

import json

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


@common_command(
    "lock",
    examples="samara lock acme/tiny:q8_0 > samara.lock\nsamara lock acme/tiny:q8_0 acme/tiny:q4_0 --json",
    exits=(ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.STORE),
)
@click.argument("references", nargs=-1, required=True, metavar="REF...")
def command(references: tuple[str, ...]) -> None:
    """Print a lockfile: exactly the releases that these names mean on this machine now.

    `samara prune --lockfile` never removes what it names. Asks nobody: pull first for what is current.
    """
    from samara.fetcher.resolve import resolve
    from samara.schemas.lockfile import Locked, lockfile

    home = Home.find()
    found = [resolve(home, reference) for reference in references]
    data = lockfile(
        Locked(reference=one.reference, identity=one.release.identity, manifest=one.release.digest) for one in found
    )
    screen.result(data, json.dumps(data, indent=2))
