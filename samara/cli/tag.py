"""`samara tag`: let another tag mean a release."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.passphrase import ask_passphrase
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


@common_command(
    "tag",
    examples="samara tag acme/tiny:q8_0 latest\nsamara tag acme/tiny:v3 stable",
    exits=(ExitCode.NOT_FOUND, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("reference", metavar="PUBLISHER/MODEL:TAG")
@click.argument("new", metavar="NEW-TAG")
def command(reference: str, new: str) -> None:
    """Let NEW-TAG of the same model mean what PUBLISHER/MODEL:TAG means now; moves it if it meant another release."""
    from samara.registry.trust.own_catalog import tagging, update_catalog
    from samara.registry.trust.publishers import load_publisher
    from samara.schemas.references import check_name, parse_tagged

    parsed, tag = parse_tagged(reference)
    check_name(new, "tag")
    home = Home.find()
    publisher = load_publisher(home, parsed.publisher)
    keys = publisher.online_keys(ask_passphrase)
    state = update_catalog(home, publisher, tagging(parsed.model, tag, new), signers=keys, now=datetime.now(UTC))
    entry = state.catalog.entries[f"{parsed.model}/{new}"]
    screen.result(
        {
            "reference": f"{parsed.publisher}/{parsed.model}:{new}",
            "manifest": entry.manifest,
            "version": entry.version,
            "timestamp_version": state.catalog.versions["timestamp"],
        },
        f"{parsed.publisher}/{parsed.model}:{new} is version {entry.version} now",
    )
