"""`samara db`: the index as a whole, for who operates it: its schema, its backups."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from samara.cli import common
from samara.cli.common import screen
from samara.cli.text import size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode

command = click.Group(
    "db",
    help="Look after the database that holds the index: an SQLite file, or PostgreSQL (SAMARA_DATABASE).",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nSAMARA_DATABASE   postgresql+psycopg://USER:PASSWORD@HOST/NAME, instead of the file in SAMARA_HOME\n\n"
    "\b\nExamples:\n  samara db status\n  samara db upgrade\n  samara db backup index-2026-11-22.backup",
)


@common.command("upgrade", examples="samara db upgrade\nsamara db upgrade --json", exits=(ExitCode.STORE,))
def upgrade() -> None:
    """Create the index, or bring its schema up to this version's.

    Other commands do so by themselves with a file. A PostgreSQL database others may be using: there this command alone
    does, before the new version's `samara serve` starts.
    """
    from samara.registry.upkeep import upgrade as upgrade_index

    done = upgrade_index(Home.find())
    if done.before == done.after:
        text = f"{done.database}: schema {done.after}, nothing to do"
    else:
        text = f"{done.database}: schema {done.before or 'none'} → {done.after}"
    screen.result({**asdict(done), "changed": done.before != done.after}, text)


@common.command("status", examples="samara db status\nsamara db status --json", exits=(ExitCode.STORE,))
def status() -> None:
    """Print which database holds the index, its schema, its size, and whether it can be written. Changes nothing."""
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
    screen.result({**asdict(found), "is_current": found.is_current}, "\n".join(lines))


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


for _one in (status, upgrade, backup):
    command.add_command(_one)
