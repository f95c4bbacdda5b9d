"""`samara repair`: replace what is wrong in a release's files, and fetch no more than that."""

from __future__ import annotations

from typing import Any

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.fetching import fetching, fetching_options
from samara.cli.progress import Progress
from samara.cli.signals import terminate_like_ctrl_c, told_of_going_on
from samara.cli.text import size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


@common_command(
    "repair",
    examples=(
        "samara repair acme/tiny:q8_0\n"
        "samara repair /nas/models/tiny-q8_0.gguf\n"
        "samara repair ./tiny.gguf --as acme/tiny:q8_0 --peer nas.local:6901"
    ),
    exits=(
        ExitCode.NOT_FOUND, ExitCode.NETWORK, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE,
    ),
)  # fmt: skip
@click.argument("target", metavar="REF|PATH")
@click.option("--as", "meant", metavar="REF", help="The release whose file the one at PATH should be.")
@fetching_options
def command(*, target: str, meant: str | None, **rest: Any) -> None:
    """Read every block again and replace the wrong ones, in the store and in place.

    What is good stays, what lies elsewhere here is copied, only the rest is fetched. A damaged file is never written
    to: a whole one takes its name. Interrupted, killed or out of disk: run the same command again.
    """
    from samara.fetcher.repair import repair

    options = fetching(**rest)
    with terminate_like_ctrl_c(), Progress(screen) as progress, told_of_going_on(progress.stopped):
        done = repair(Home.find(), target, options, meant=meant, on_event=progress)
    screen.result(
        {
            "mended": sum(file.was_wrong for file in done.files),
            "bytes_fetched": sum(file.fetched for file in done.files),
            "seconds": round(done.seconds, 3),
            "rejected": [item.as_dict() for item in done.rejected],
            "files": [
                {
                    "path": file.checked.path,
                    "location": str(file.checked.location),
                    "blob": file.checked.blob,
                    "mended": file.was_wrong,
                    "blocks": file.checked.blocks,
                    "bad_blocks": [item.block.index for item in file.checked.bad],
                    "bytes_fetched": file.fetched,
                    "bytes_reused": file.reused,
                }
                for file in done.files
            ],
        },
        "\n".join(
            f"mended  {file.checked.location}  {len(file.checked.bad)} of {file.checked.blocks} blocks were wrong,"
            f" fetched {size(file.fetched)}"
            if file.was_wrong
            else f"ok      {file.checked.location}  {file.checked.blocks} blocks"
            for file in done.files
        ),
    )
