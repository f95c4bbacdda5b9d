"""`samara push`: hand what was published to registries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.passphrase import ask_passphrase
from samara.cli.signals import terminate_like_ctrl_c
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samara.registry.trust.publishers import Publisher
    from samara.seeder.push import Pushed


@common_command(
    "push",
    examples=(
        "samara push acme --registry https://models.example.org --claim acme\n"
        "samara push acme        # to every registry of: samara registry list"
    ),
    exits=(ExitCode.NOT_FOUND, ExitCode.NETWORK, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.STORE),
)
@click.argument("name", required=False, metavar="[PUBLISHER]")
@click.option(
    "--registry", "registries", multiple=True, metavar="URL",
    help="Push here (repeatable); without it to every configured registry.",
)  # fmt: skip
@click.option("--claim", metavar="NAME", help="Be known there by this name, if it is free: signed by the online key.")
def command(*, name: str | None, registries: tuple[str, ...], claim: str | None) -> None:
    """Bring registries up to date with what this machine has published as PUBLISHER: catalog, manifests, torrents.

    They get public documents only, no bytes of models, and prove them by the signatures: there is no password.
    Pushing again is harmless. See also: samara publish --registry.
    """
    from samara.registry.registries import configured
    from samara.registry.trust.publishers import list_publishers, load_publisher

    home = Home.find()
    if name is None:
        names = list_publishers(home)
        if len(names) != 1:
            raise UsageError(
                "which publisher?", expected="one of them", actual=", ".join(names) or "none on this machine",
                next_step="samara push PUBLISHER",
            )  # fmt: skip
        (name,) = names
    targets = registries or configured(home)
    if not targets:
        raise UsageError("no registry to push to", next_step="add --registry URL, or: samara registry add URL")
    pushed = push_to(home, load_publisher(home, name), targets, claim=claim)
    screen.result(
        {"pushed": [as_result(one) for one in pushed]},
        "\n".join(
            f"{one.origin}/{one.names[0] if one.names else one.identity}  {one.listed} listed, {one.sent} sent"
            for one in pushed
        ),
    )


def push_to(home: Home, publisher: Publisher, registries: Sequence[str], *, claim: str | None) -> list[Pushed]:
    """Push to each; says what a person should know. Raises the first refusal, once all were tried."""
    from samara.schemas.errors import SamaraError
    from samara.schemas.namespace_claim import check_origin
    from samara.seeder.push import push

    done: list[Pushed] = []
    failed: list[SamaraError] = []
    for origin in dict.fromkeys(map(check_origin, registries)):
        try:
            with terminate_like_ctrl_c():
                one = push(home, publisher, origin, claim=claim, ask=ask_passphrase, on_event=screen.hear)
        except SamaraError as error:
            failed.append(error)
            if len(registries) > 1:
                screen.warn(str(error))
            continue
        done.append(one)
        if not one.names:
            screen.note(f"{origin} knows {publisher.name} by identity alone; to be called so there: --claim NAME")
        if one.missing:
            screen.warn(f"{len(one.missing)} names have no release there or here: {', '.join(one.missing[:5])}")
    if failed:
        raise failed[0]
    return done


def as_result(one: Pushed) -> dict[str, object]:
    """For --json."""
    return {
        "registry": one.origin,
        "identity": one.identity,
        "names": list(one.names),
        "listed": one.listed,
        "sent": one.sent,
        "missing": list(one.missing),
    }
