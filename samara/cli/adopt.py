"""`samara adopt`: remember what files of other programs hold, where they lie."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.progress import Progress
from samara.cli.signals import terminate_like_ctrl_c
from samara.cli.text import size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


@common_command(
    "adopt",
    examples=(
        "samara adopt ~/.cache/huggingface/hub\n"
        "samara adopt ~/.ollama/models/blobs ~/Downloads\n"
        "samara adopt --forget ~/Downloads"
    ),
    exits=(ExitCode.NOT_FOUND, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("paths", metavar="PATH…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--forget", is_flag=True, help="Forget what is recorded of these files; nothing is deleted.")
def command(*, paths: tuple[Path, ...], forget: bool) -> None:
    """Read files and folders in place, so that what they hold is never fetched.

    Other programs' caches, half downloads and older versions: whole blobs of known releases are seeded from where
    they lie, blocks of anything else are found by later pulls. None of these files is changed.
    """
    from samara.fetcher import adopt as adoption

    if forget:
        forgotten = adoption.forget(Home.find(), paths)
        text = f"{len(forgotten)} file{'' if len(forgotten) == 1 else 's'} forgotten"
        screen.result({"forgotten": [str(path) for path in forgotten]}, text)
        return
    with terminate_like_ctrl_c(), Progress(screen) as progress:
        done = adoption.adopt(Home.find(), paths, on_event=progress)
    known = [found for found in done.found if found.is_known]
    new = [found for found in done.found if found.is_new and not found.is_known]
    for reason, path in {skipped.reason: skipped.path for skipped in done.skipped}.items():
        more = Counter(skipped.reason for skipped in done.skipped)[reason] - 1
        screen.note(f"left out {path}{f' and {more} more' if more else ''}: {reason}")
    screen.result(
        {
            "files": len(done.found),
            "bytes": done.size,
            "bytes_read": sum(found.size for found in done.found if found.is_new),
            "known_blobs": [{"path": str(found.path), "blob": found.blob, "size": found.size} for found in known],
            "new_blobs": [{"path": str(found.path), "blob": found.blob, "size": found.size} for found in new],
            "unchanged": sum(not found.is_new for found in done.found),
            "small_files": done.small,
            "skipped": [{"path": str(skipped.path), "reason": skipped.reason} for skipped in done.skipped],
            "seconds": round(done.seconds, 3),
        },
        f"{len(done.found)} files, {size(done.size)}: {len(known)} whole in known releases, {len(new)} new,"
        f" {sum(not found.is_new for found in done.found)} unchanged"
        f" · left out {len(done.skipped)}, too small {done.small}",
    )
