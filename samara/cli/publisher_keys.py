"""`samara publisher add-key`, `remove-key`, `rotate`, `set-threshold`: a publisher's next root."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from samara.cli import common
from samara.cli.common import screen
from samara.cli.passphrase import ask_passphrase
from samara.cli.publisher_page import page, publisher_facts
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from samara.registry.trust.key_changes import Changed

F = TypeVar("F", bound=Callable[..., Any])

_EXITS = (ExitCode.NOT_FOUND, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE)
_key_files = click.option(
    "--key", "key_files", multiple=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="A root key kept elsewhere, such as on a stick (repeatable).",
)  # fmt: skip


@common.command(
    "add-key",
    examples=(
        "samara publisher add-key acme --role root\n"
        "samara publisher add-key acme --role targets\n"
        "samara publisher add-key acme --role root --public HEX"
    ),
    exits=_EXITS,
)
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, required=True,
    help="root, targets, snapshot, timestamp, or online for those three (repeatable).",
)  # fmt: skip
@click.option("--public", metavar="HEX", help="Somebody else's Ed25519 public key; without it a new one is made here.")
@_key_files
def add_key(name: str, roles: tuple[str, ...], public: str | None, key_files: tuple[Path, ...]) -> None:
    """Let one more key sign for NAME. The root key must be here, or given with --key."""
    from samara.registry.trust.key_changes import add_key as change
    from samara.registry.trust.publishers import load_publisher

    home = Home.find()
    publisher = load_publisher(home, name)
    raw = None if public is None else _hex(public)
    _say(change(home, publisher, roles, public=raw, key_files=key_files, ask=ask_passphrase, now=datetime.now(UTC)))


@common.command(
    "remove-key",
    examples="samara publisher remove-key acme online --role targets\nsamara publisher remove-key acme 3f9a1c2b",
    exits=_EXITS,
)
@click.argument("name")
@click.argument("key", metavar="KEY")
@click.option("--role", "roles", multiple=True, help="Only for this role (repeatable); for every role without it.")
@_key_files
def remove_key(name: str, key: str, roles: tuple[str, ...], key_files: tuple[Path, ...]) -> None:
    """Let KEY (its file's name, or the beginning of its id) no longer sign for NAME."""
    from samara.registry.trust.key_changes import remove_key as change
    from samara.registry.trust.publishers import load_publisher

    home = Home.find()
    publisher = load_publisher(home, name)
    _say(change(home, publisher, key, roles=roles, key_files=key_files, ask=ask_passphrase, now=datetime.now(UTC)))


@common.command(
    "rotate",
    examples="samara publisher rotate acme online\nsamara publisher rotate acme root --key /media/stick/root.key",
    exits=_EXITS,
)
@click.argument("name")
@click.argument("key", metavar="KEY")
@_key_files
def rotate(name: str, key: str, key_files: tuple[Path, ...]) -> None:
    """Replace KEY (root, online, beacon, … or the beginning of its id) by a new one, wherever it signs for NAME.

    Run it when a key may have been stolen or seen. The identity stays; whoever trusts it follows by itself. When a key
    for targets changes, names go on, and .samara files and magnet links made before no longer hold.
    """
    from samara.registry.trust.key_changes import rotate_key
    from samara.registry.trust.publishers import load_publisher

    home = Home.find()
    publisher = load_publisher(home, name)
    _say(rotate_key(home, publisher, key, key_files=key_files, ask=ask_passphrase, now=datetime.now(UTC)))


@common.command("set-threshold", examples="samara publisher set-threshold acme root 2", exits=_EXITS)
@click.argument("name")
@click.argument("role")
@click.argument("threshold", type=click.IntRange(1, 64))
@_key_files
def set_threshold(name: str, role: str, threshold: int, key_files: tuple[Path, ...]) -> None:
    """How many of ROLE's keys must sign for NAME from now on."""
    from samara.registry.trust.key_changes import set_threshold as change
    from samara.registry.trust.publishers import load_publisher

    home = Home.find()
    publisher = load_publisher(home, name)
    _say(change(home, publisher, role, threshold, key_files=key_files, ask=ask_passphrase, now=datetime.now(UTC)))


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(
            "not a public key", expected="64 hex digits (see `samara publisher show --json`)", actual=repr(text[:80])
        ) from None


def _say(changed: Changed) -> None:
    publisher = changed.publisher
    if changed.made is not None:
        screen.note(f"made {publisher.key_path(changed.made)}")
        screen.note("recovery files written before this lack it: samara publisher export")
    screen.note("others see the change with your next catalog: keep `samara seed` running, or publish the metadata")
    made = None if changed.made is None else str(publisher.key_path(changed.made))
    screen.result({**publisher_facts(publisher), "made": made}, page(publisher))


SUBCOMMANDS = (add_key, remove_key, rotate, set_threshold)
