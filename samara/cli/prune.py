"""`samara prune`: remove releases by rules, and what nothing needs."""

from __future__ import annotations

import time
from pathlib import Path

import click

from samara.cli.amounts import Amount
from samara.cli.cleaning import show_cleaned
from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.lockfiles import read_lockfile
from samara.cli.progress import Progress
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, UsageError


@common_command(
    "prune",
    examples=(
        "samara prune\n"
        "samara prune --keep-latest 2 --yes\n"
        "samara prune --older-than 90 --lockfile samara.lock --keep acme/tiny:q8_0"
    ),
    exits=(ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.option(
    "--keep-latest", type=click.IntRange(min=0), metavar="N",
    help="Remove releases but the newest N versions of each name.",
)  # fmt: skip
@click.option(
    "--older-than", type=Amount(min=0), metavar="DAYS",
    help="Remove releases that came more than DAYS ago; of half downloads those that rested so long (else 30 days).",
)  # fmt: skip
@click.option("--keep", multiple=True, metavar="REF", help="Keep this one whatever the rules say (repeatable).")
@click.option(
    "--lockfile", "lockfiles", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Keep every release it names (repeatable); see: samara lock.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do it. Without, the plan is printed and nothing changes.")
@click.option("--dry-run", is_flag=True, help="Print the plan; the default.")
def command(
    *,
    keep_latest: int | None,
    older_than: float | None,
    keep: tuple[str, ...],
    lockfiles: tuple[Path, ...],
    yes: bool,
    dry_run: bool,
) -> None:
    """Remove releases by rules, and leftovers that nothing needs: a plan first, --yes does it.

    Given both, --keep-latest and --older-than must both agree. Never goes: what a tag of a known catalog means now,
    what a lockfile or --keep names, what another process is pulling, files in place. Leftovers: half downloads that
    nobody went on with, blobs of no release after a day, temporary files after an hour, empty folders.
    """
    from samara.fetcher.clean import prune
    from samara.fetcher.housekeeping import DAY, Rules

    if yes and dry_run:
        raise UsageError("--yes and --dry-run contradict each other", next_step="give one of them")
    rules = Rules(
        keep_latest=keep_latest,
        older_than=None if older_than is None else older_than * DAY,
        locked=frozenset(locked.manifest for path in lockfiles for locked in read_lockfile(path)),
    )
    with Progress(screen) as progress:
        cleaned = prune(Home.find(), rules, keep, now=time.time(), dry_run=not yes, on_event=progress)
    show_cleaned(cleaned, dry_run=not yes, next_step="nothing was changed; to do it: the same with --yes")
