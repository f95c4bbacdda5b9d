"""`samara verify`: read every block of a release or a file again."""

from __future__ import annotations

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.progress import Progress
from samara.cli.signals import terminate_like_ctrl_c
from samara.registry.home import Home
from samara.schemas.digests import b3_text
from samara.schemas.errors import ExitCode


@common_command(
    "verify",
    examples="samara verify acme/tiny:q8_0\nsamara verify ./tiny-q8_0.gguf --json",
    exits=(ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.STORE),
)
@click.argument("target", metavar="REF|PATH")
def command(target: str) -> int:
    """Read every block again and hold it against the signed manifest."""
    from samara.fetcher.recheck import problem_of
    from samara.fetcher.verify import verify

    with terminate_like_ctrl_c(), Progress(screen) as progress:
        files = verify(Home.find(), target, on_event=progress)
    bad = [item for item in map(problem_of, files) if item is not None]
    for error in bad:
        screen.warn(str(error))
    screen.result(
        {
            "ok": not bad,
            "files": [
                {
                    "path": file.path,
                    "location": str(file.location),
                    "blob": file.blob,
                    "blocks": file.blocks,
                    "ok": file.ok,
                    "bad_blocks": [
                        {
                            "index": item.block.index,
                            "offset": item.block.offset,
                            "size": item.block.size,
                            "expected": b3_text(item.block.digest),
                            "actual": None if item.actual is None else b3_text(item.actual),
                        }
                        for item in file.bad
                    ],
                }
                for file in files
            ],
        },
        "\n".join(
            f"{'ok ' if file.ok else 'BAD'}  {file.location}  {file.blocks} blocks, {len(file.bad)} bad"
            for file in files
        ),
    )
    return int(ExitCode.INTEGRITY if bad else ExitCode.OK)
