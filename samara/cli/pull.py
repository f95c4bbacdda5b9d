"""`samara pull`: get a release, resuming what is already here."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.fetching import fetching, fetching_options
from samara.cli.naming import check_sources
from samara.cli.progress import Progress
from samara.cli.signals import terminate_like_ctrl_c, told_of_going_on
from samara.cli.text import duration, size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from samara.fetcher.options import PullOptions


@common_command(
    "pull",
    examples=(
        "samara pull tiny.samara\n"
        "samara pull https://example.org/tiny.samara --to ./models\n"
        "samara pull acme/tiny:q8_0\n"
        "samara pull acme/tiny:q8_0 --from https://example.org/acme/ --no-dht\n"
        "samara pull acme/tiny:q8_0 acme/tiny:q4_0 --limit-rate 500k\n"
        "samara pull --lockfile samara.lock --record pull.json\n"
        "samara pull tiny.samara --peer nas.local:6901 --no-discovery"
    ),
    exits=(
        ExitCode.NOT_FOUND, ExitCode.NETWORK, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE,
    ),
)  # fmt: skip
@click.argument("sources", metavar="[REF|FILE|URL|MAGNET]...", nargs=-1)
@click.option(
    "--lockfile", "lockfiles", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Also everything that a lockfile names, by digest (repeatable).",
)  # fmt: skip
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Also put the files here.")
@click.option("--include", multiple=True, metavar="GLOB", help="Only files that fit, e.g. '*.gguf' (repeatable).")
@click.option("--exclude", multiple=True, metavar="GLOB", help="No files that fit (repeatable).")
@click.option(
    "--stream", type=click.Path(path_type=Path), metavar="PIPE|-",
    help="Give the one file's verified bytes in order while they come: through a named pipe made here, or to stdout.",
)  # fmt: skip
@click.option("--explain", is_flag=True, help="Say whom this would contact, and why; contact nobody.")
@click.option(
    "--from",
    "catalogs",
    multiple=True,
    metavar="URL|DIR",
    help="Also ask here for the publisher's catalog (repeatable).",
)
@click.option("--allow-stale", is_flag=True, help="Take a catalog that has expired, knowingly; that is recorded.")
@fetching_options
def command(
    *,
    sources: tuple[str, ...],
    lockfiles: tuple[Path, ...],
    to: Path | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    stream: Path | None,
    explain: bool,
    catalogs: tuple[str, ...],
    allow_stale: bool,
    **rest: Any,
) -> None:
    """Get releases by reference, .samara file, URL or magnet link: verified block by block, resumed after anything.

    Interrupted, killed or out of disk: run the same command again. From elsewhere: samara pause, resume, cancel.
    """
    from samara.fetcher.pull import pull
    from samara.fetcher.stream import STDOUT

    sources = (*sources, *(reference for path in lockfiles for reference in _locked(path)))
    if not sources:
        raise UsageError("nothing to pull", next_step="name a reference, a .samara file, or a lockfile (--lockfile)")
    options = replace(
        fetching(**rest),
        to=to,
        include=include,
        exclude=exclude,
        stream=stream,
        sources=check_sources(catalogs),
        allow_stale=allow_stale,
    )
    if explain:
        _explain(sources, options)
        return
    with terminate_like_ctrl_c(), Progress(screen) as progress, told_of_going_on(progress.stopped):
        done = pull(Home.find(), sources, options, on_event=progress)
    fetched = done.bytes_from_peers + done.bytes_from_mirrors
    screen.note(
        f"{done.reference}: {size(done.bytes_total)} in {duration(done.seconds)}"
        f" · reused {size(done.bytes_reused)} · fetched {size(fetched)}"
        f" (peers {size(done.bytes_from_peers)}, mirrors {size(done.bytes_from_mirrors)})"
    )
    if stream == STDOUT:
        return  # the model went there
    releases = [
        {
            "reference": release.reference,
            "identity": release.identity,
            "manifest": release.manifest,
            "version": release.version,
            "files": [
                {"path": file.path, "blob": file.blob, "size": file.size, "location": str(file.location)}
                for file in release.files
            ],
        }
        for release in done.releases
    ]
    screen.result(
        {
            **(releases[0] if len(releases) == 1 else {"releases": releases}),
            "bytes_total": done.bytes_total,
            "bytes_reused": done.bytes_reused,
            "bytes_from_peers": done.bytes_from_peers,
            "bytes_from_mirrors": done.bytes_from_mirrors,
            "seconds": round(done.seconds, 3),
            "seconds_to_first_byte": done.seconds_to_first_byte and round(done.seconds_to_first_byte, 3),
            "rejected": [item.as_dict() for item in done.rejected],
        },
        "\n".join(str(file.location) for file in done.files),
    )


def _locked(path: Path) -> tuple[str, ...]:
    from samara.cli.lockfiles import read_lockfile

    return tuple(locked.pinned for locked in read_lockfile(path))


def _explain(sources: tuple[str, ...], options: PullOptions) -> None:
    from samara.fetcher.explain import explain

    contacts = explain(Home.find(), sources, options)
    lines = []
    for contact in contacts:
        verdict = "" if contact.refused is None else f"  — not contacted: {contact.refused}"
        lines.append(f"{contact.kind:9} {contact.who}\n          {contact.why}{verdict}")
    screen.result({"contacts": [asdict(contact) for contact in contacts]}, "\n".join(lines) or "nobody")
