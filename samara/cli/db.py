"""`samara db`: the index as a whole, for who operates it: its schema, its backups."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from samara.cli import common
from samara.cli.common import screen
from samara.cli.text import size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode

if TYPE_CHECKING:
    from samara.registry.upkeep import DatabaseStatus

command = click.Group(
    "db",
    help="Look after the database that holds the index: an SQLite file, or PostgreSQL (SAMARA_DATABASE).",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nSAMARA_DATABASE   postgresql+psycopg://USER:PASSWORD@HOST/NAME, instead of the file in SAMARA_HOME\n\n"
    "\b\nExamples:\n  samara db status\n  samara db upgrade\n  samara db backup index-2026-11-22.backup\n"
    "  samara db forget-store 3f9c",
)


@common.command("upgrade", examples="samara db upgrade\nsamara db upgrade --json", exits=(ExitCode.STORE,))
def upgrade() -> None:
    """Create the index, or bring its schema up to this version's.

    Other commands do so by themselves with a file. A PostgreSQL database others may be using: there this command alone
    does, before the new version's `samara serve` starts. Run it on each of the machines that share one: there it finds
    what is that machine's own.
    """
    from samara.registry.upkeep import upgrade as upgrade_index

    done = upgrade_index(Home.find(), now=time.time())
    if done.before == done.after:
        text = f"{done.database}: schema {done.after}, nothing to do"
    else:
        text = f"{done.database}: schema {done.before or 'none'} → {done.after}"
    screen.result({**asdict(done), "changed": done.before != done.after}, text)


@common.command("status", examples="samara db status\nsamara db status --json", exits=(ExitCode.STORE,))
def status() -> None:
    """Print which database holds the index, its schema, its size, whether it can be written, and which stores share it.

    Changes nothing.
    """
    from samara.registry.upkeep import status as status_of

    home = Home.find()
    found = status_of(home)
    if found is None:
        screen.result({"database": str(home.index), "schema": None}, f"{home.index}: not made yet")
        return
    lines = [found.database]
    if found.is_current:
        lines.append(f"schema {found.schema}, up to date")
    else:
        lines.append(f"schema {found.schema or 'none'}, this version's is {found.expected}; run: samara db upgrade")
    lines.append(size(found.size))
    if found.counts is not None:
        lines.append(f"{found.counts.releases} releases, {found.counts.blobs} blobs, {found.counts.blocks} blocks")
    lines.append("can be written" if found.is_writable_now else f"can't be written: {found.trouble}")
    screen.result({**asdict(found), "is_current": found.is_current}, "\n".join([*lines, *_stores(found)]))


def _stores(found: DatabaseStatus) -> list[str]:
    lines = [f"{len(found.stores)} store{'s' if len(found.stores) != 1 else ''}:"] if found.stores else []
    for one in found.stores:
        seen = datetime.fromtimestamp(one.seen_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        own = "this one" if one.id == found.store else f"last in use {seen}"
        lines.append(f"  {one.id}  {one.host}:{one.path}, {one.locations} files, {own}")
    if found.unclaimed:
        lines.append(
            f"  {found.unclaimed} files of before stores were told apart, which none has found: once samara db upgrade"
            " ran on each machine, samara db forget-store unclaimed"
        )
    return lines


@common.command(
    "backup",
    examples="samara db backup index.backup\nsamara db backup --replace /media/stick/index.backup",
    exits=(ExitCode.NOT_FOUND, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Put it in the place of a file that is there, once it is complete.")
def backup(file: Path, *, replace: bool) -> None:
    """Write the index, as it is now, to FILE. Others may go on working.

    Of an SQLite index FILE is one too: to restore it, put it where index.sqlite3 was (and remove index.sqlite3-wal and
    -shm) while nothing runs. Of PostgreSQL it is what pg_dump -Fc makes: pg_restore reads it. Blobs, keys and pins are
    files of SAMARA_HOME and not in it.
    """
    from samara.registry.backup import back_up

    done = back_up(Home.find(), file.absolute(), replace=replace)
    screen.result({**asdict(done), "path": str(done.path)}, f"{done.path}: {size(done.size)}")


@common.command(
    "forget-store",
    examples="samara db forget-store 3f9c\nsamara db forget-store unclaimed",
    exits=(ExitCode.NOT_FOUND, ExitCode.STORE),
)
@click.argument("store", metavar="STORE")
@click.option("--force", is_flag=True, help="Also one that was in use in the last two hours.")
def forget_store(store: str, *, force: bool) -> None:
    """Forget where bytes lay on a machine that is gone: the rows of one of the stores that share a PostgreSQL database.

    STORE is what `samara db status` shows, or its beginning; "unclaimed": what no store has found since the upgrade
    that told them apart. Models and what is listed stay, and nothing is removed from any disk. If the machine comes
    back, it is known again, and finds its blobs when they are pulled.
    """
    from samara.registry.upkeep import forget_store as forget

    done = forget(Home.find(), store, now=time.time(), force=force)
    screen.result(asdict(done), f"{done.store}: forgotten, with {done.locations} files")


for _one in (status, upgrade, backup, forget_store):
    command.add_command(_one)
