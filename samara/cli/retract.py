"""`samara retract` and `samara unpublish`: take a release back."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.passphrase import ask_passphrase
from samara.registry.home import Home
from samara.schemas.errors import ExitCode

_EXITS = (ExitCode.NOT_FOUND, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE)


@common_command("retract", examples="samara retract acme/tiny:q8_0 --reason 'broken chat template'", exits=_EXITS)
@click.argument("reference", metavar="PUBLISHER/MODEL:TAG")
@click.option("--reason", required=True, metavar="TEXT", help="What people are told who ask for it.")
def command(reference: str, reason: str) -> None:
    """Mark a release as withdrawn: pulls of its name refuse with the reason, pinned pulls warn.

    Nothing is deleted anywhere: who has it keeps it.
    """
    _withdraw(reference, reason)


@common_command("unpublish", examples="samara unpublish acme/tiny:q8_0", exits=_EXITS)
@click.argument("reference", metavar="PUBLISHER/MODEL:TAG")
@click.option("--reason", default="withdrawn by its publisher", show_default=True, metavar="TEXT")
def unpublish(reference: str, reason: str) -> None:
    """The same as retract, without having to say why."""
    _withdraw(reference, reason)


def _withdraw(text: str, reason: str) -> None:
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
