"""`samara registry`: which registries this machine asks, and following another one with one's own."""

from __future__ import annotations

import click

from samara.cli import common
from samara.cli.common import screen
from samara.cli.signals import stop_on_signals
from samara.registry.home import Home
from samara.schemas.errors import ExitCode

command = click.Group(
    "registry",
    help="Registries to ask for catalogs, bytes and peers; whatever they answer is checked here.",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  samara registry add https://models.example.org\n  samara registry list",
)


@common.command(
    "add",
    examples="samara registry add https://models.example.org\nsamara registry add http://nas.local:8642 --first",
    exits=(ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("url")
@click.option("--first", is_flag=True, help="Ask it before those that are there.")
def add(*, url: str, first: bool) -> None:
    """Ask the registry at URL from now on, after those that are there already."""
    from samara.registry.registries import add as add_registry

    _show(add_registry(Home.find(), url, first=first))


@common.command(
    "remove",
    examples="samara registry remove https://models.example.org",
    exits=(ExitCode.NOT_FOUND, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("url")
def remove(*, url: str) -> None:
    """Ask the registry at URL no longer."""
    from samara.registry.registries import remove as remove_registry

    _show(remove_registry(Home.find(), url))


@common.command("list", examples="samara registry list", exits=(ExitCode.STORE,))
def list_() -> None:
    """Print the registries that are asked, in their order (SAMARA_REGISTRIES, else those that were added)."""
    from samara.registry.registries import configured

    _show(configured(Home.find()))


@common.command(
    "sync",
    examples=(
        "samara registry sync https://models.example.org\n"
        "samara registry sync https://models.example.org --names --every 300"
    ),
    exits=(ExitCode.NETWORK, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("url")
@click.option("--names", is_flag=True, help="Take over names that publishers claimed there with a signature.")
@click.option("--private-mirrors", is_flag=True, help="Mirrors of releases may be in private networks.")
@click.option(
    "--every", type=click.FloatRange(min=5), metavar="SECONDS", help="Do it again and again, until told to stop."
)
def sync(*, url: str, names: bool, private_mirrors: bool, every: float | None) -> None:
    """Follow the registry at URL: list here what its publishers proved there. Each is proven again.

    Bytes are not copied: samara serve --mirror does that. Interrupted: run it again.
    """
    from datetime import UTC, datetime

    from samara.registry.http import HttpClient
    from samara.registry.index import Index
    from samara.registry.publications.accept import Rules
    from samara.registry.publications.claims import ClaimRules
    from samara.registry.publications.sync import sync_from
    from samara.schemas.errors import NetworkError
    from samara.schemas.namespace_claim import check_origin
    from samara.schemas.networks import NetworkPolicy

    origin = check_origin(url)
    rules = Rules(claims=ClaimRules(origin=""), policy=NetworkPolicy(private=private_mirrors))
    with (
        stop_on_signals() as stop,
        Index.open(Home.find()) as index,
        HttpClient(NetworkPolicy(), named=(origin,)) as client,
    ):
        while True:
            try:
                done = sync_from(
                    index, origin, client, rules, now=datetime.now(UTC), names=names, on_event=screen.hear
                )  # fmt: skip
            except NetworkError as error:
                if every is None:
                    raise
                screen.warn(str(error))
            else:
                screen.result(
                    {
                        "registry": done.origin,
                        "publishers": done.publishers,
                        "changed": done.changed,
                        "releases": done.releases,
                        "names": list(done.names),
                        "failed": done.failed,
                    },
                    f"{done.origin}: {done.publishers} publishers, {done.changed} changed, {done.releases} releases"
                    f" new here" + (f", {done.failed} not taken over" if done.failed else ""),
                )
            if every is None or stop.wait(every):
                return


def _show(origins: tuple[str, ...]) -> None:
    screen.result({"registries": list(origins)}, "\n".join(origins) or "none")


for _subcommand in (add, list_, remove, sync):
    command.add_command(_subcommand)
