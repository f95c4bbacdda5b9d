"""`samara repair`: replace what is wrong in a release's files, and fetch no more than that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.network import network_options, swarm_options
from samara.cli.progress import Progress
from samara.cli.signals import terminate_like_ctrl_c
from samara.cli.text import size
from samara.registry.home import Home
from samara.schemas.endpoints import parse_peer
from samara.schemas.errors import ExitCode, UsageError


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
@click.option("--peer", "peers", multiple=True, metavar="HOST:PORT", help="A peer that has it (repeatable).")
@click.option("--mirror-only", is_flag=True, help="Only HTTP mirrors, no peers.")
@click.option("--p2p-only", is_flag=True, help="Only peers, no HTTP mirrors.")
@click.option("--no-p2p", is_flag=True, help="Same as --mirror-only.")
@click.option(
    "--give-up-after", type=click.FloatRange(min=1), default=120.0, show_default=True, metavar="SECONDS",
    help="End when nothing has come for so long; what is here is kept.",
)  # fmt: skip
@click.option(
    "--adopt", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
    help="Look for good blocks here too: another copy, an older version (repeatable).",
)  # fmt: skip
@network_options
def command(
    *,
    target: str,
    meant: str | None,
    peers: tuple[str, ...],
    mirror_only: bool,
    p2p_only: bool,
    no_p2p: bool,
    give_up_after: float,
    adopt: tuple[Path, ...],
    **network: Any,
) -> None:
    """Read every block again and replace the wrong ones, in the store and in place.

    What is good stays, what lies elsewhere here is copied, only the rest is fetched. A damaged file is never written
    to: a whole one takes its name. Interrupted, killed or out of disk: run the same command again.
    """
    from samara.fetcher.options import PullOptions
    from samara.fetcher.repair import repair

    mirror_only = mirror_only or no_p2p
    if mirror_only and p2p_only:
        raise UsageError("--mirror-only and --p2p-only leave nobody to ask", next_step="give one of them")
    options = PullOptions(
        swarm=swarm_options(**network),
        peers=tuple(parse_peer(peer) for peer in peers),
        mirrors=not p2p_only,
        peer_to_peer=not mirror_only,
        adopt=adopt,
        give_up_after=give_up_after,
    )
    with terminate_like_ctrl_c(), Progress(screen) as progress:
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
