"""`samara publisher refresh`, `sync`, `metadata`, `export`: a publisher's catalog and backup."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samara.cli import common
from samara.cli.common import screen
from samara.cli.naming import asking_options, publisher_asking
from samara.cli.passphrase import ask_passphrase
from samara.cli.progress import Progress
from samara.registry.home import Home
from samara.schemas.errors import ExitCode

if TYPE_CHECKING:
    from samara.registry.trust.catalog_client import CatalogState

_EXITS = (ExitCode.NOT_FOUND, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE)


@common.command(
    "refresh",
    examples=(
        "samara publisher refresh acme --quiet\nsamara publisher refresh acme --renew-root --key /media/stick/root.key"
    ),
    exits=_EXITS,
)
@click.argument("name")
@click.option("--renew-root", is_flag=True, help="Also give the root another year; needs the root key.")
@click.option(
    "--key", "key_files", multiple=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="A root key kept elsewhere (repeatable).",
)  # fmt: skip
def refresh(name: str, *, renew_root: bool, key_files: tuple[Path, ...]) -> None:
    """Sign NAME's catalog again, so that it doesn't expire; for cron. `samara seed` does it by itself.

    The snapshot and timestamp last 30 days, targets and root a year. The root is renewed only by
    --renew-root or a change of keys.
    """
    from samara.registry.trust.key_changes import renew_root as renew
    from samara.registry.trust.own_catalog import nothing, update_catalog
    from samara.registry.trust.publishers import ONLINE_ROLES, load_publisher

    home = Home.find()
    publisher = load_publisher(home, name)
    now = datetime.now(UTC)
    if renew_root:
        publisher = renew(home, publisher, key_files=key_files, ask=ask_passphrase, now=now).publisher
    keys = publisher.open_keys(ONLINE_ROLES, ask_passphrase)
    _say(name, update_catalog(home, publisher, nothing, signers=keys, now=now))


@common.command(
    "sync",
    examples="samara publisher sync acme\nsamara publisher sync acme --from https://example.org/acme/",
    exits=(*_EXITS, ExitCode.NETWORK, ExitCode.INTEGRITY),
)
@click.argument("name")
@asking_options
def sync(name: str, **asking: Any) -> None:
    """Take over NAME's catalog from where another machine published it, and go on from there.

    For a laptop and a CI that publish as one, and after restoring from an old recovery file.
    """
    from samara.fetcher.forks import sync as take_over
    from samara.registry.trust.own_catalog import own_catalog
    from samara.registry.trust.publishers import load_publisher

    home = Home.find()
    publisher = load_publisher(home, name)
    with Progress(screen) as progress, publisher_asking(home, **asking, on_event=progress) as ask:
        state = take_over(home, publisher, ask)
    if state is None:
        screen.note(f"nobody has a newer catalog of {name}")
        state = own_catalog(publisher)
    if state is None:
        screen.result({"name": name, "timestamp_version": None}, "")
    else:
        _say(name, state)


@common.command(
    "metadata",
    examples="samara publisher metadata acme /srv/www/acme\nsamara publisher metadata acme /media/stick/acme",
    exits=_EXITS,
)
@click.argument("name")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
def metadata(name: str, folder: Path) -> None:
    """Write NAME's public metadata to DIR: for a web server, a share or a stick. NAME may be anybody you trust.

    Others read it with: samara pull … --from URL or DIR. No key leaves this machine.
    """
    from samara.registry.trust.pins import TrustFolder
    from samara.registry.trust.publishers import list_publishers, load_publisher
    from samara.seeder.site import write_site

    home = Home.find()
    own = name in list_publishers(home)
    identity = load_publisher(home, name).identity if own else TrustFolder(home.trust).resolve(name).identity
    site = write_site(home, identity, folder)
    for missing in site.missing:
        screen.warn(f"the manifest of {missing} is not on this machine: left out")
    screen.note(f"{site.written} files are new or changed in {folder}")
    screen.result(
        {
            "folder": str(folder),
            "timestamp_version": site.timestamp_version,
            "written": site.written,
            "missing": list(site.missing),
        },
        str(folder),
    )


@common.command(
    "export",
    examples="samara publisher export acme /media/stick/acme.recovery",
    exits=_EXITS,
)
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
def export(name: str, file: Path) -> None:
    """Write an encrypted backup of NAME's keys, roots and catalog to FILE; `publisher import` restores it.

    The passphrase is the keys' own; one is asked for if they have none.
    """
    from samara.cli.passphrase import choose_passphrase
    from samara.registry.trust.making import export_publisher
    from samara.registry.trust.publishers import key_facts, load_publisher

    home = Home.find()
    publisher = load_publisher(home, name)
    sealed = any(fact.encrypted for fact in key_facts(publisher))
    missing = export_publisher(home, publisher, file, ask_passphrase if sealed else choose_passphrase)
    for keyid in missing:
        screen.warn(f"key {keyid[:8]}… is kept elsewhere and is not in {file}")
    screen.note(f"recovery file: {file} — keep it somewhere else, with its passphrase")
    screen.result({"file": str(file), "identity": publisher.identity, "missing_keys": list(missing)}, str(file))


def _say(name: str, state: CatalogState) -> None:
    from samara.registry.trust.files import time_text

    catalog = state.catalog
    screen.result(
        {
            "name": name,
            "identity": catalog.identity,
            "releases": len(catalog.entries),
            "timestamp_version": catalog.versions["timestamp"],
            "expires": time_text(catalog.expires),
            "expiries": {role: time_text(moment) for role, moment in catalog.expiries.items()},
        },
        f"catalog of {name}: version {catalog.versions['timestamp']}, {len(catalog.entries)} names,"
        f" good until {time_text(catalog.expires)}",
    )


SUBCOMMANDS = (refresh, sync, metadata, export)
