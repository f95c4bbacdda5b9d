"""`samara registry`: which registries this machine asks, and following another one with one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from samara.cli import common
from samara.cli.amounts import Amount
from samara.cli.common import screen
from samara.cli.signals import stop_on_signals
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, InterruptedByUser, NetworkError, UsageError

if TYPE_CHECKING:
    import threading

    from samara.registry.index import Index
    from samara.registry.publications.accept import Rules
    from samara.registry.publications.sync import Seen, SyncRules

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
@click.option("--only", multiple=True, metavar="IDENTITY", help="Follow this publisher alone; repeatable.")
@click.option("--private-mirrors", is_flag=True, help="Mirrors of releases may be in private networks.")
@click.option("--every", type=Amount(min=5), metavar="SECONDS", help="Do it again and again, until told to stop.")
def sync(*, url: str, names: bool, only: tuple[str, ...], private_mirrors: bool, every: float | None) -> None:
    """Follow the registry at URL: list here what its publishers proved there. Each is proven again.

    Bytes are not copied: samara serve --mirror does that, and --follow URL follows for as long as it runs. Interrupted:
    run it again, what was taken in stays.
    """
    from samara.registry.index import Index
    from samara.registry.publications.accept import Rules
    from samara.registry.publications.claims import ClaimRules
    from samara.registry.publications.sync import SyncRules
    from samara.schemas.namespace_claim import check_origin
    from samara.schemas.networks import NetworkPolicy
    from samara.schemas.references import is_identity

    origin = check_origin(url)
    for identity in only:
        if not is_identity(identity):
            raise UsageError("not an identity", expected="52 base32 digits", actual=repr(identity[:80]))
    rules = Rules(claims=ClaimRules(origin=""), policy=NetworkPolicy(private=private_mirrors))
    how = SyncRules(names=names, only=frozenset(only))
    seen: Seen = {}
    with stop_on_signals() as stop, Index.open(Home.find()) as index:
        while True:
            try:
                if not _sync_once(index, origin, rules, how, seen, stop) and every is None:
                    raise InterruptedByUser("following was stopped", next_step="run it again")
            except NetworkError as error:
                if stop.is_set():
                    raise InterruptedByUser("following was stopped", next_step="run it again") from None
                if every is None:
                    raise
                screen.warn(str(error))
            if every is None or stop.wait(every):
                return


def _sync_once(
    index: Index, origin: str, rules: Rules, how: SyncRules, seen: Seen, stop: threading.Event
) -> bool:  # fmt: skip
    """Look once, and show what came of it; False if it was stopped meanwhile."""
    from datetime import UTC, datetime

    from samara.registry.http import HttpClient
    from samara.registry.publications.following import closed_when
    from samara.registry.publications.sync import sync_from
    from samara.schemas.networks import NetworkPolicy

    with HttpClient(NetworkPolicy(), named=(origin,)) as client, closed_when(stop, client):
        done = sync_from(
            index, origin, client, rules, now=datetime.now(UTC), on_event=screen.hear, how=how, seen=seen,
            is_stopped=stop.is_set, pause=stop.wait,
        )  # fmt: skip
    told = [
        f"{done.origin}: {done.publishers} publishers, {done.changed} changed, {done.releases} releases new here",
        f"{done.failed} not taken over" if done.failed else "",
        f"{done.behind} older there than here" if done.behind else "",
        f"not all had their turn: {done.ended_early}" if done.ended_early else "",
    ]
    screen.result(
        {
            "registry": done.origin,
            "publishers": done.publishers,
            "changed": done.changed,
            "releases": done.releases,
            "names": list(done.names),
            "failed": done.failed,
            "behind": done.behind,
            "refused": [{"publisher": one.who, "release": one.what, "reason": one.why} for one in done.refused],
            "ended_early": done.ended_early,
        },
        ", ".join(part for part in told if part),
    )
    return done.ended_early is None or not stop.is_set()


def _show(origins: tuple[str, ...]) -> None:
    screen.result({"registries": list(origins)}, "\n".join(origins) or "none")


for _subcommand in (add, list_, remove, sync):
    command.add_command(_subcommand)
