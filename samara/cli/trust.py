"""`samara trust`: which publishers this machine believes, under which names, and where their catalogs are asked for."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from samara.cli import common
from samara.cli.common import screen
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from samara.fetcher.first_contact import Introduction
    from samara.registry.trust.catalog_client import Accepted, CatalogState
    from samara.registry.trust.pins import Pin, TrustFolder

command = click.Group(
    "trust",
    help="Pin, list and remove publishers' identities.",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  samara trust add acme --identity KEY\n  samara trust list\n  samara trust show acme",
)


@common.command(
    "add",
    examples=(
        "samara trust add acme --identity KEY\n"
        "samara trust add acme samara:KEY --yes --json\n"
        "samara trust add acme --from https://example.org/acme/\n"
        "samara trust add acme --identity KEY --root 5.root.json"
    ),
    exits=(
        ExitCode.NOT_FOUND, ExitCode.NETWORK, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE,
    ),
)  # fmt: skip
@click.argument("name")
@click.argument("key", required=False)
@click.option("--identity", metavar="KEY", help="The publisher's identity: 52 characters, its URI, or QR text.")
@click.option(
    "--root", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="A root file: version 1, or with --identity the newest you have, to begin from.",
)  # fmt: skip
@click.option(
    "--from", "sources", multiple=True, metavar="URL|DIR",
    help="Where its metadata lies; asked for its catalog from now on (repeatable).",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Don't ask.")
def add(
    name: str, key: str | None, identity: str | None, root: Path | None, sources: tuple[str, ...], *, yes: bool
) -> None:
    """Trust the publisher with identity KEY, and call it NAME on this machine.

    Get KEY from the publisher itself: its website, its repository, a person you know.
    With --from alone, the identity found there is shown, for you to compare.
    """
    from samara.fetcher.first_contact import introduce
    from samara.registry.trust.identity import grouped, read_identity
    from samara.registry.trust.pins import TrustFolder

    if key is not None and identity is not None and read_identity(key) != read_identity(identity):
        raise UsageError("KEY and --identity differ", next_step="give one of them")
    given = key or identity
    told = given is not None or (root is not None)
    if sources and not told and (yes or not screen.can_ask()):
        raise UsageError(
            "whoever runs that server could be anybody: it can't be trusted without asking",
            expected="--identity KEY beside --from", next_step="ask the publisher for its identity",
        )  # fmt: skip
    found = introduce(identity=None if given is None else read_identity(given), root=root, sources=sources)
    home = Home.find()
    trust = TrustFolder(home.trust)
    known = trust.find(found.identity)
    can_be_added = known is None and trust.find(name) is None
    if can_be_added and not yes and screen.can_ask():
        screen.note(f"{name} will be the publisher with identity\n  {grouped(found.identity)}")
        if not click.confirm("Is this the identity the publisher told you?", err=True):
            raise UsageError(f"{name} was not pinned", next_step="ask the publisher for its identity")
    home.prepare()
    pin = _pin(trust, name, found)
    if known is not None:
        screen.note(f"{pin.alias} was pinned already, on {pin.added}")
    elif not yes and not screen.can_ask():
        screen.note(f"no terminal to ask on: pinned {grouped(pin.identity)} without asking (--yes does so everywhere)")
    screen.result({**_pin_facts(pin), "new": known is None}, f"{pin.alias} is {pin.identity}")


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
    screen.result({"pins": [_pin_facts(pin) for pin in pins]}, "\n".join(lines))


@common.command(
    "show",
    examples="samara trust show acme\nsamara trust show acme --json",
    exits=(ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.STORE),
)
@click.argument("name")
def show(name: str) -> None:
    """Print what this machine knows of NAME: its catalog as seen last, its sources, what was accepted stale."""
    from samara.registry.trust.catalog_client import CatalogClient
    from samara.registry.trust.known import KnownCatalogs
    from samara.registry.trust.pins import TrustFolder

    home = Home.find()
    trust = TrustFolder(home.trust)
    pin = trust.resolve(name)
    state = KnownCatalogs(home, trust).of(pin.identity)
    accepted = CatalogClient(trust, pin.identity).seen().accepted
    screen.result(
        {**_pin_facts(pin), "catalog": _catalog_facts(state), "accepted_stale": [asdict(one) for one in accepted]},
        "\n".join((*_pin_page(pin), *_catalog_page(state), *(f"stale      {_accepted(one)}" for one in accepted))),
    )


@common.command(
    "sources",
    examples=(
        "samara trust sources acme\n"
        "samara trust sources acme --add https://example.org/acme/\n"
        "samara trust sources acme --add dht: --remove /media/stick/acme"
    ),
    exits=(ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("name")
@click.option("--add", "added", multiple=True, metavar="URL|DIR|dht:", help="Ask here from now on (repeatable).")
@click.option("--remove", "removed", multiple=True, metavar="URL|DIR|dht:", help="Ask here no longer (repeatable).")
def sources(name: str, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
    """Print or change where NAME's catalog is asked for. A source is an untrusted mirror: what it says is checked.

    Pulls look in the DHT too, when no source has answered; `dht:` lets `samara publish` look there.
    """
    from samara.fetcher.catalogs import DHT_SOURCE, open_source
    from samara.registry.trust.pins import TrustFolder

    trust = TrustFolder(Home.find().trust)
    pin = trust.resolve(name)
    unknown = [text for text in removed if text not in pin.sources]
    if unknown:
        raise UsageError(f"{unknown[0]} is no source of {name}", expected=", ".join(pin.sources) or "there is none")
    for text in added:
        if text != DHT_SOURCE:
            open_source(text)
    wanted = [text for text in (*pin.sources, *map(_absolute, added)) if text not in removed]
    if added or removed:
        pin = trust.set_sources(pin.identity, wanted)
    screen.result(_pin_facts(pin), "\n".join(pin.sources))


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


for _subcommand in (add, list_, show, sources, remove):
    command.add_command(_subcommand)


def _pin(trust: TrustFolder, name: str, found: Introduction) -> Pin:
    pin = trust.add(
        name,
        found.identity,
        now=datetime.now(UTC),
        sources=[_absolute(text) for text in found.sources],
        root=found.root,
    )
    if found.chain is not None:
        trust.store_roots(found.identity, found.chain)
    return pin


def _absolute(source: str) -> str:
    """A folder by its full path: the next command may run elsewhere."""
    from samara.registry.web import is_url

    return source if is_url(source) or source.startswith("dht:") else str(Path(source).expanduser().absolute())


def _pin_facts(pin: Pin) -> dict[str, object]:
    from samara.registry.trust.identity import identity_uri

    root = None if pin.root is None else {"version": pin.root[0], "sha256": pin.root[1]}
    return {
        "alias": pin.alias,
        "identity": pin.identity,
        "uri": identity_uri(pin.identity),
        "added": pin.added,
        "sources": list(pin.sources),
        "root": root,
    }


def _pin_page(pin: Pin) -> list[str]:
    lines = [f"publisher  {pin.alias}", f"identity   {pin.identity}", f"since      {pin.added}"]
    if pin.root is not None:
        lines.append(f"root       from version {pin.root[0]} on")
    return [*lines, *(f"source     {source}" for source in pin.sources)]


def _catalog_facts(state: CatalogState | None) -> dict[str, object] | None:
    from samara.registry.trust.files import time_text

    if state is None:
        return None
    catalog = state.catalog
    return {
        "versions": dict(catalog.versions),
        "signed": None if catalog.signed is None else time_text(catalog.signed),
        "expires": time_text(catalog.expires),
        "expired": list(catalog.expired_roles(datetime.now(UTC))),
        "releases": [
            {
                "model": entry.model,
                "tag": entry.tag,
                "version": entry.version,
                "manifest": entry.manifest,
                "retracted": entry.retracted,
            }
            for entry in catalog.entries.values()
        ],
    }


def _catalog_page(state: CatalogState | None) -> list[str]:
    from samara.fetcher.catalogs import age
    from samara.registry.trust.files import time_text

    if state is None:
        return ["catalog    none seen yet"]
    catalog = state.catalog
    now = datetime.now(UTC)
    expired = catalog.expired_roles(now)
    until = f"EXPIRED ({', '.join(expired)})" if expired else f"good until {time_text(catalog.expires)}"
    lines = [f"catalog    version {catalog.versions['timestamp']}, {age(state, now)}, {until}"]
    for path in sorted(catalog.entries):
        entry = catalog.entries[path]
        gone = f"  WITHDRAWN: {entry.retracted}" if entry.retracted is not None else ""
        lines.append(f"  {entry.model}:{entry.tag}  version {entry.version}  {entry.manifest[:15]}…{gone}")
    return lines


def _accepted(one: Accepted) -> str:
    return f"accepted on {one.at}: version {one.timestamp_version} from {one.source} ({', '.join(one.roles)} expired)"
