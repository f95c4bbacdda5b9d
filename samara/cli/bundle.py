"""`samara bundle`: releases on a stick, for machines that no network reaches."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from samara.cli import common
from samara.cli.common import screen
from samara.cli.progress import Progress
from samara.cli.signals import terminate_like_ctrl_c
from samara.cli.text import duration, size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode

command = click.Group(
    "bundle",
    help="Carry releases to machines that no network reaches.",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  samara bundle export acme/tiny:q8_0 /media/stick/tiny.tar.zst\n"
    "  samara bundle import /media/stick/tiny.tar.zst",
)


@common.command(
    "export",
    examples=(
        "samara bundle export acme/tiny:q8_0 tiny.tar.zst\n"
        "samara bundle export acme/tiny:q8_0 acme/chat:v1 /media/stick/acme.tar.zst"
    ),
    exits=(
        ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE,
    ),
)  # fmt: skip
@click.argument("references", nargs=-1, required=True, metavar="REF...")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.tar.zst")
def export(references: tuple[str, ...], file: Path) -> None:
    """Write releases that are whole here into one file, with all that proves them.

    Each blob is checked while it is read. The file appears when all of it is
    written; SOURCE_DATE_EPOCH stamps it.
    """
    from samara.fetcher.bundle_export import export_bundle

    with terminate_like_ctrl_c(), Progress(screen) as progress:
        done = export_bundle(Home.find(), references, file, on_event=progress)
    screen.note(f"{_count(len(done.index.releases))}, {size(done.size)} in {duration(done.seconds)}")
    screen.result(
        {
            "file": str(done.path),
            "size": done.size,
            "content_size": done.content,
            "created": done.index.created,
            "seconds": round(done.seconds, 3),
            "releases": [
                {
                    "identity": one.identity,
                    "model": one.model,
                    "tag": one.tag,
                    "manifest": one.manifest,
                    "pinned": one.pinned,
                }
                for one in done.index.releases
            ],
            "members": [{"name": member.name, "size": member.size} for member in done.index.members],
        },
        str(done.path),
    )


@common.command(
    "import",
    examples="samara bundle import /media/stick/tiny.tar.zst\nsamara bundle import tiny.tar.zst --allow-stale --json",
    exits=(
        ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE,
    ),
)  # fmt: skip
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.tar.zst")
@click.option("--allow-stale", is_flag=True, help="Accept a catalog that has expired; that is recorded.")
def import_(file: Path, *, allow_stale: bool) -> None:
    """Take in the releases of a bundle, all of them or none.

    Everything is checked offline before anything is visible: the publisher must
    be pinned here (samara trust add), its catalog and signatures must hold, and
    every block of every file must be the publisher's.
    """
    from samara.fetcher.bundle_import import import_bundle

    with terminate_like_ctrl_c(), Progress(screen) as progress:
        done = import_bundle(Home.find(), file, now=datetime.now(UTC), allow_stale=allow_stale, on_event=progress)
    screen.note(
        f"{_count(len(done.releases))}, {size(done.bytes_total)} in {duration(done.seconds)}"
        f" · written {size(done.bytes_written)}"
    )
    screen.result(
        {
            "bytes_total": done.bytes_total,
            "bytes_written": done.bytes_written,
            "seconds": round(done.seconds, 3),
            "publishers": [
                {
                    "alias": one.pin.alias,
                    "identity": one.pin.identity,
                    "catalog_signed": _moment(one.checked.catalog.signed) if one.checked else None,
                    "catalog_expires": _moment(one.checked.catalog.expires) if one.checked else None,
                    "catalog_outdated": one.outdated,
                    "stale": list(one.checked.stale) if one.checked else [],
                }
                for one in done.publishers
            ],
            "releases": [
                {
                    "reference": one.reference,
                    "identity": one.identity,
                    "manifest": one.manifest,
                    "version": one.version,
                    "standing": str(one.standing),
                    "files": [
                        {"path": f.path, "blob": f.blob, "size": f.size, "location": str(f.location)} for f in one.files
                    ],
                }
                for one in done.releases
            ],
        },
        "\n".join(str(f.location) for one in done.releases for f in one.files),
    )


def _count(releases: int) -> str:
    return f"{releases} release{'' if releases == 1 else 's'}"


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


for _subcommand in (export, import_):
    command.add_command(_subcommand)
