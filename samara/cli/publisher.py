"""`samara publisher`: make, show and restore the identities this machine publishes as. Its other subcommands are in
`publisher_keys` and `publisher_catalog`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from samara.cli import common, publisher_catalog, publisher_keys
from samara.cli.common import screen
from samara.cli.passphrase import ENV_PASSPHRASE, ask_passphrase, choose_passphrase
from samara.cli.publisher_page import page, publisher_facts
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, NotFoundError, UsageError

command = click.Group(
    "publisher",
    help="Make, show, change and restore the identities you publish as.",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  samara publisher init acme --recovery acme.recovery\n  samara publisher show acme --json\n"
    "  samara publisher rotate acme online",
)


@common.command(
    "init",
    examples=(
        "samara publisher init acme\n"
        "samara publisher init acme --recovery /media/stick/acme.recovery\n"
        "samara publisher init acme --root-keys 3 --root-threshold 2"
    ),
    exits=(ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("name")
@click.option(
    "--recovery", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Also write an encrypted copy of all keys here; needs a passphrase.",
)  # fmt: skip
@click.option(
    "--kdf-rounds", type=click.IntRange(1, 10_000), metavar="N",
    help="bcrypt rounds between a passphrase and the keys (default 64, just under a second a try).",
)  # fmt: skip
@click.option("--root-keys", type=click.IntRange(1), default=1, metavar="N", help="How many root keys to make.")
@click.option("--root-threshold", type=click.IntRange(1), default=1, metavar="M", help="How many of them must sign.")
@click.option("--separate-targets", is_flag=True, help="A key of its own for releases and catalog.")
def init(
    name: str,
    recovery: Path | None,
    kdf_rounds: int | None,
    *,
    root_keys: int,
    root_threshold: int,
    separate_targets: bool,
) -> None:
    """Make keys and the unchanging identity NAME publishes under; prints the identity.

    SAMARA_PASSPHRASE, or your answer on a terminal, encrypts the keys.
    """
    from samara.registry.trust.keys import KDF_ROUNDS
    from samara.registry.trust.making import init_publisher

    home = _writable_home()
    passphrase = choose_passphrase(f"the keys of {name}")
    if recovery is None and passphrase and screen.can_ask():
        recovery = _choose_recovery()
    publisher = init_publisher(
        home,
        name,
        passphrase=passphrase,
        recovery=recovery,
        now=datetime.now(UTC),
        kdf_rounds=kdf_rounds or KDF_ROUNDS,
        root_keys=root_keys,
        root_threshold=root_threshold,
        separate_targets=separate_targets,
    )
    screen.note(f"made publisher {name}; its keys are in {publisher.folder}")
    if not passphrase:
        screen.warn(f"no passphrase: whoever can read {publisher.folder} can sign as {name} (set {ENV_PASSPHRASE})")
    if recovery is None:
        screen.warn(f"no recovery file (--recovery FILE): if {publisher.folder} is lost, so is the identity")
    else:
        screen.note(f"recovery file: {recovery} — keep it somewhere else, with its passphrase")
    screen.result({**publisher_facts(publisher), "recovery": str(recovery) if recovery else None}, publisher.identity)


@common.command(
    "show",
    examples="samara publisher show acme\nsamara publisher show acme --json",
    exits=(ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.STORE),
)
@click.argument("name", required=False)
def show(name: str | None) -> None:
    """Print identity, root version and keys of NAME (may be left out if there is only one)."""
    from samara.registry.trust.publishers import list_publishers, load_publisher

    home = Home.find()
    publisher = load_publisher(home, name or _only(list_publishers(home)))
    screen.result(publisher_facts(publisher), page(publisher))


@common.command(
    "import",
    examples="samara publisher import /media/stick/acme.recovery",
    exits=(ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--as", "name", metavar="NAME", help="Use another name than the recovery file's.")
def import_(file: Path, name: str | None) -> None:
    """Restore a publisher from its recovery FILE; prints the identity.

    Compare it with the one you know: whoever could change the file could have changed who it restores.
    """
    from samara.registry.trust.making import import_publisher

    publisher = import_publisher(_writable_home(), file, ask_passphrase, now=datetime.now(UTC), name=name)
    screen.note(f"restored publisher {publisher.name}; its keys are in {publisher.folder}")
    screen.result(publisher_facts(publisher), publisher.identity)


for _subcommand in (init, show, import_, *publisher_catalog.SUBCOMMANDS, *publisher_keys.SUBCOMMANDS):
    command.add_command(_subcommand)


def _writable_home() -> Home:
    home = Home.find()
    home.prepare()
    return home


def _choose_recovery() -> Path | None:
    answer: str = click.prompt(
        "Write an encrypted recovery file to (empty for none)", default="", show_default=False, err=True
    )
    return Path(answer).expanduser() if answer else None


def _only(names: tuple[str, ...]) -> str:
    if not names:
        raise NotFoundError("no publisher on this machine", next_step="run: samara publisher init NAME")
    if len(names) > 1:
        raise UsageError(
            "which publisher?",
            expected=f"one of {', '.join(names)}",
            next_step=f"run: samara publisher show {names[0]}",
        )
    return names[0]
