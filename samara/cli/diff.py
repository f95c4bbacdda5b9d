"""`samara diff`: what changed between two releases."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.text import clean, size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode

if TYPE_CHECKING:
    from samara.schemas.diffs import FileDiff

_SHOWN = 40  # parts named in text; --json has all


@common_command(
    "diff",
    examples="samara diff acme/tiny:v1 acme/tiny:v2\nsamara diff acme/tiny:v1 tiny-v2.samara --json",
    exits=(ExitCode.NOT_FOUND, ExitCode.NETWORK, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.STORE),
)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
def command(old: str, new: str) -> None:
    """Show what NEW shares with OLD, and what who has OLD would fetch for it.

    By GGUF key and tensor where both files lie here, else by blocks.
    """
    from samara.fetcher.diff import diff

    found = diff(Home.find(), old, new)
    lines = [
        f"{clean(file.path)}  {size(file.size)} · shared {size(file.shared)} · to fetch {size(file.fetch)}"
        + (f" in {file.pieces} piece{'' if file.pieces == 1 else 's'}" if file.pieces else "")
        + (f"  (was {clean(file.old)})" if file.old not in {None, file.path} else "")
        + "".join(f"\n  {line}" for line in _parts(file))
        for file in found.files
    ]
    lines += [f"{clean(path)}  gone" for path in found.gone]
    screen.result(
        {
            "old": {"reference": old, "manifest": found.old.digest, "version": found.old.version},
            "new": {"reference": new, "manifest": found.new.digest, "version": found.new.version},
            "bytes_total": found.new.size,
            "bytes_to_fetch": found.fetch,
            "files": [asdict(file) for file in found.files],
            "gone": list(found.gone),
        },
        "\n".join(lines),
    )


def _parts(file: FileDiff) -> list[str]:
    if file.parts is None:
        return []
    lines = [f"{part.change:<8} {part.kind:<7} {clean(part.name)}  {size(part.size)}" for part in file.parts[:_SHOWN]]
    if len(file.parts) > _SHOWN:
        lines.append(f"… and {len(file.parts) - _SHOWN} more (--json has all)")
    return lines
