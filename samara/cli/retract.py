"""`samara retract`: take a release back, saying why."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.passphrase import ask_passphrase
from samara.registry.home import Home
from samara.schemas.errors import ExitCode

EXITS = (ExitCode.NOT_FOUND, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE)


@common_command("retract", examples="samara retract acme/tiny:q8_0 --reason 'broken chat template'", exits=EXITS)
@click.argument("reference", metavar="PUBLISHER/MODEL:TAG")
@click.option("--reason", required=True, metavar="TEXT", help="What people are told who ask for it.")
def command(reference: str, reason: str) -> None:
    """Mark a release as withdrawn: pulls by name refuse with the reason, pulls by digest warn.

    Every tag that means it is marked; its .samara file is refused where that is known. Nothing is deleted anywhere: who
    has it keeps it.
    """
    withdraw(reference, reason)


def withdraw(text: str, reason: str) -> None:
    """What `retract` and `unpublish` do."""
    from samara.registry.trust.own_catalog import retraction, update_catalog
    from samara.registry.trust.publishers import load_publisher
    from samara.schemas.references import parse_tagged

    reference, tag = parse_tagged(text)
    home = Home.find()
    publisher = load_publisher(home, reference.publisher)
    change = retraction(reference.model, tag, reason)
    keys = publisher.online_keys(ask_passphrase)
    state = update_catalog(home, publisher, change, signers=keys, now=datetime.now(UTC))
    entry = state.catalog.entries[f"{reference.model}/{tag}"]
    same = [one.tag for one in state.catalog.entries.mentioning(entry.manifest) if one.manifest == entry.manifest]
    screen.note("others learn of it with your next catalog: keep `samara seed` running, or publish the metadata")
    screen.result(
        {
            "reference": str(reference),
            "manifest": entry.manifest,
            "version": entry.version,
            "reason": entry.retracted,
            "tags": same,
            "timestamp_version": state.catalog.versions["timestamp"],
        },
        f"withdrew {reference} ({', '.join(same)}): {entry.retracted}",
    )
