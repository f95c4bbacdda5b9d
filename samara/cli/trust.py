"""`samara trust`: which publishers this machine believes, and under which names."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import click

from samara.cli import common
from samara.cli.common import screen
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, UsageError

command = click.Group(
    "trust",
    help="Pin, list and remove publishers' identities.",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  samara trust add acme --identity KEY\n  samara trust list",
)


@common.command(
    "add",
    examples="samara trust add acme --identity KEY\nsamara trust add acme --identity KEY --yes --json",
    exits=(ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("name")
@click.option("--identity", required=True, metavar="KEY", help="The publisher's identity: 52 characters, or its URI.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def add(name: str, identity: str, *, yes: bool) -> None:
    """Trust the publisher with identity KEY, and call it NAME on this machine.

    Get KEY from the publisher itself: its website, its repository, a person you know.
    """
    from samara.registry.trust.identity import grouped, read_identity
    from samara.registry.trust.pins import TrustFolder

    key = read_identity(identity)
    home = Home.find()
    trust = TrustFolder(home.trust)
    known = trust.find(key)
    can_be_added = known is None and trust.find(name) is None
    if can_be_added and not yes and screen.can_ask():
        screen.note(f"{name} will be the publisher with identity\n  {grouped(key)}")
        if not click.confirm("Is this the identity the publisher told you?", err=True):
            raise UsageError(f"{name} was not pinned", next_step="ask the publisher for its identity")
    home.prepare()
    pin = trust.add(name, key, now=datetime.now(UTC))
    if known is not None:
        screen.note(f"{pin.alias} was pinned already, on {pin.added}")
    elif not yes and not screen.can_ask():
        screen.note(f"no terminal to ask on: pinned {grouped(key)} without asking (--yes does so everywhere)")
    screen.result({**asdict(pin), "new": known is None}, f"{pin.alias} is {pin.identity}")


@common.command(
    "list", examples="samara trust list\nsamara trust list --json", exits=(ExitCode.STORE,)
)  # fmt: skip
def list_() -> None:
    """Print every publisher this machine trusts."""
    from samara.registry.trust.pins import TrustFolder

    pins = TrustFolder(Home.find().trust).list()
    if not pins:
        screen.note("no publisher is pinned; run: samara trust add NAME --identity KEY")
    width = max((len(pin.alias) for pin in pins), default=0)
    lines = [f"{pin.alias:<{width}}  {pin.identity}  since {pin.added}" for pin in pins]
    screen.result({"pins": [asdict(pin) for pin in pins]}, "\n".join(lines))


@common.command(
    "remove",
    examples="samara trust remove acme",
    exits=(ExitCode.NOT_FOUND, ExitCode.STORE),
)
@click.argument("name")
def remove(name: str) -> None:
    """Trust NAME (or its identity) no longer. Its models stay; nothing new of it is accepted."""
    from samara.registry.trust.pins import TrustFolder

    identity = TrustFolder(Home.find().trust).remove(name)
    screen.note(f"{name} is no longer trusted here")
    screen.result({"removed": identity}, identity)


for _subcommand in (add, list_, remove):
    command.add_command(_subcommand)
