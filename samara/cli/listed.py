"""`samara listed`: what a registry's operator looks at, takes down and bars, while it serves or not."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from samara.cli import common
from samara.cli.common import screen
from samara.cli.text import size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from samara.registry.takedowns import Taken

MAX_SHOWN = 100_000
MAX_OFFSET = 1_000_000_000  # databases take 64 bits
_NAMED = 20  # listings named in a sentence

command = click.Group(
    "listed",
    help="What the registry of this machine lists: look, take down, bar. Works while samara serve runs.",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  samara listed list --publisher acme\n  samara listed remove acme/tiny:q8_0\n"
    '  samara listed bar b3:DIGEST --why "court order 12/26"\n  samara listed barred',
)


@common.command(
    "list",
    examples="samara listed list\nsamara listed list --publisher acme --json",
    exits=(ExitCode.NOT_FOUND, ExitCode.STORE),
)
@click.option("--publisher", metavar="NAME|IDENTITY[/MODEL[:TAG]]", help="Of this one only, or of a model of its.")
@click.option(
    "--limit", type=click.IntRange(1, MAX_SHOWN), default=1000, show_default=True, help="At most so many."
)  # fmt: skip
@click.option("--offset", type=click.IntRange(0, MAX_OFFSET), default=0, help="After so many.")
def list_(*, publisher: str | None, limit: int, offset: int) -> None:
    """Print what is listed, in the order in which it came; withdrawn releases too."""
    from samara.registry.index import Index
    from samara.registry.takedowns import Takedowns, parse_target

    with Index.open(Home.find()) as index:
        target = None if publisher is None else parse_target(publisher)
        found = Takedowns(index.database).listed(target, limit=limit, offset=offset)
    lines = [
        f"{one.name}  version {one.version}, {size(one.size)}, {moment(one.listed_at)}"
        + (", withdrawn" if one.withdrawn else "")
        for one in found
    ]
    screen.result({"listed": [{"name": one.name, **asdict(one)} for one in found]}, "\n".join(lines) or "nothing")


@common.command(
    "remove",
    examples="samara listed remove acme/tiny:q8_0\nsamara listed remove acme/tiny\nsamara listed remove --name acme",
    exits=(ExitCode.NOT_FOUND, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("what", required=False, metavar="[NAME|IDENTITY[/MODEL[:TAG]]]")
@click.option("--name", metavar="NAME", help="Take a name from whose it is instead: it may be claimed again.")
@click.option("--why", metavar="TEXT", help="For the journal (samara listed journal).")
def remove(*, what: str | None, name: str | None, why: str | None) -> None:
    """List a publisher, a model or a tag no longer. It comes back with its publisher's next publication: samara listed
    bar keeps it away. Bytes and proofs stay where they are.
    """
    from samara.registry.index import Index
    from samara.registry.takedowns import Takedowns, parse_target

    if (what is None) == (name is None):
        raise UsageError(
            "one thing to remove", expected="NAME|IDENTITY[/MODEL[:TAG]] or --name NAME", next_step="see --help"
        )
    with Index.open(Home.find()) as index:
        takedowns, now = Takedowns(index.database), time.time()
        if name is not None:
            done = takedowns.remove_name(name, now=now, why=why)
            text = f"{name} is nobody's now; it was {done.owner}'s"
        else:
            assert what is not None
            done = takedowns.remove(parse_target(what), now=now, why=why)
            text = f"listed no longer: {_some(done.listings)}"
    _show(done, text)


@common.command(
    "bar",
    examples=(
        'samara listed bar b3:0f3c… --why "not the uploader\'s to give away"\n'
        "samara listed bar stwtaeom… --why spam\n"
        'samara listed bar acme --why "somebody\'s trade mark"'
    ),
    exits=(ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("what", metavar="IDENTITY|NAME|b3:DIGEST")
@click.option("--why", required=True, metavar="TEXT", help="Told to everybody who asks for it.")
def bar(*, what: str, why: str) -> None:
    """Take down for good: a publisher, a name that nobody is to have, or a file or release by its digest.

    A barred publisher publishes nothing here; what it signed is remembered, so that it can't sign something else in its
    place. A release that has a barred file isn't listed, whoever publishes it. Nothing barred is served, tracked or
    mirrored; mirrored copies are removed.
    """
    from samara.registry.barred import parse_subject
    from samara.registry.index import Index
    from samara.registry.takedowns import Takedowns

    subject = parse_subject(what)
    with Index.open(Home.find()) as index:
        done = Takedowns(index.database).bar(subject, why, now=time.time())
    text = f"barred: {done.subject}" if done.changed else f"barred already: {done.subject}"
    if done.owner is not None:
        text += f"; it was {done.owner}'s"
    if done.listings:
        text += f"\nlisted no longer: {_some(done.listings)}"
    _show(done, text)


@common.command(
    "unbar",
    examples="samara listed unbar b3:0f3c…\nsamara listed unbar acme",
    exits=(ExitCode.NOT_FOUND, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("what", metavar="IDENTITY|NAME|b3:DIGEST")
def unbar(*, what: str) -> None:
    """Let it come back. What its publisher's catalog here names is listed again at once; a name isn't given back."""
    from samara.registry.barred import parse_subject
    from samara.registry.index import Index
    from samara.registry.takedowns import Takedowns

    subject = parse_subject(what)
    with Index.open(Home.find()) as index:
        done = Takedowns(index.database).lift(subject, now=time.time())
    back = f"\nlisted again: {_some(done.listings)}" if done.listings else ""
    _show(done, f"no longer barred: {done.subject}{back}")


@common.command("barred", examples="samara listed barred\nsamara listed barred --json", exits=(ExitCode.STORE,))
def barred() -> None:
    """Print what is barred, the latest first, and why."""
    from samara.registry.barred import Barred
    from samara.registry.index import Index

    with Index.open(Home.find()) as index:
        found = Barred(index.database).every()
    screen.result(
        {
            "barred": [
                {"kind": one.subject.kind.value, "value": one.subject.value, "why": one.why, "at": one.at}
                for one in found
            ]
        },
        "\n".join(f"{one.subject}  {moment(one.at)}  {one.why}" for one in found) or "nothing",
    )


@common.command("journal", examples="samara listed journal\nsamara listed journal --json", exits=(ExitCode.STORE,))
@click.option(
    "--limit", type=click.IntRange(1, MAX_SHOWN), default=100, show_default=True, help="At most so many."
)  # fmt: skip
def journal(*, limit: int) -> None:
    """Print what was taken down and let back in, the latest first."""
    from samara.registry.index import Index
    from samara.registry.takedowns import Takedowns

    with Index.open(Home.find()) as index:
        found = Takedowns(index.database).journal(limit=limit)
    lines = [f"{moment(one.at)}  {one.act} {one.subject}" + (f"  {one.why}" if one.why else "") for one in found]
    screen.result({"journal": [asdict(one) for one in found]}, "\n".join(lines) or "nothing")


def moment(at: float) -> str:
    """UTC epoch seconds → 2026-01-02 03:04 UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "unknown"


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more


def _show(done: Taken, text: str) -> None:
    screen.result(asdict(done), text)


for _one in (list_, remove, bar, unbar, barred, journal):
    command.add_command(_one)
