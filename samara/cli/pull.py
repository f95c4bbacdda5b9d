"""`samara pull`: get a release, resuming what is already here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.naming import check_sources
from samara.cli.network import network_options, swarm_options
from samara.cli.progress import Progress
from samara.cli.signals import terminate_like_ctrl_c
from samara.cli.text import duration, size
from samara.registry.home import Home
from samara.schemas.endpoints import parse_peer
from samara.schemas.errors import ExitCode, UsageError


@common_command(
    "pull",
    examples=(
        "samara pull tiny.samara\n"
        "samara pull https://example.org/tiny.samara --to ./models\n"
        "samara pull acme/tiny:q8_0\n"
        "samara pull acme/tiny:q8_0 --from https://example.org/acme/ --no-dht\n"
        "samara pull tiny.samara --peer nas.local:6901 --no-discovery"
    ),
    exits=(
        ExitCode.NOT_FOUND, ExitCode.NETWORK, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE,
    ),
)  # fmt: skip
@click.argument("sources", metavar="REF|FILE|URL|MAGNET...", nargs=-1, required=True)
@click.option("--peer", "peers", multiple=True, metavar="HOST:PORT", help="A peer that has it (repeatable).")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Also put the files here.")
@click.option("--mirror-only", is_flag=True, help="Only HTTP mirrors, no peers.")
@click.option("--p2p-only", is_flag=True, help="Only peers, no HTTP mirrors.")
@click.option("--no-p2p", is_flag=True, help="Same as --mirror-only.")
@click.option(
    "--give-up-after", type=click.FloatRange(min=1), default=120.0, show_default=True, metavar="SECONDS",
    help="End when nothing has come for so long; what is here is kept.",
)  # fmt: skip
@click.option(
    "--from",
    "catalogs",
    multiple=True,
    metavar="URL|DIR",
    help="Also ask here for the publisher's catalog (repeatable).",
)
@click.option("--include", multiple=True, metavar="GLOB", help="Only files that fit, e.g. '*.gguf' (repeatable).")
@click.option("--exclude", multiple=True, metavar="GLOB", help="No files that fit (repeatable).")
@click.option(
    "--adopt", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
    help="Look for blocks here too: an older version, another program's half download, a folder (repeatable).",
)  # fmt: skip
@click.option(
    "--private-mirrors", is_flag=True, envvar="SAMARA_PRIVATE_MIRRORS",
    help="Mirrors that a manifest names may be on this machine or in private networks (SAMARA_PRIVATE_MIRRORS=1).",
)  # fmt: skip
@click.option("--allow-stale", is_flag=True, help="Take a catalog that has expired, knowingly; that is recorded.")
@network_options
def command(
    *,
    sources: tuple[str, ...],
    catalogs: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    adopt: tuple[Path, ...],
    allow_stale: bool,
    private_mirrors: bool,
    peers: tuple[str, ...],
    to: Path | None,
    mirror_only: bool,
    p2p_only: bool,
    no_p2p: bool,
    give_up_after: float,
    **network: Any,
) -> None:
    """Get a release by reference, .samara file, URL or magnet link: verified block by block, resumed after anything.

    Interrupted, killed or out of disk: run the same command again.
    """
    from samara.fetcher.options import PullOptions
    from samara.fetcher.pull import pull

    mirror_only = mirror_only or no_p2p
    if mirror_only and p2p_only:
        raise UsageError("--mirror-only and --p2p-only leave nobody to ask", next_step="give one of them")
    options = PullOptions(
        swarm=swarm_options(**network),
        peers=tuple(parse_peer(peer) for peer in peers),
        mirrors=not p2p_only,
        peer_to_peer=not mirror_only,
        to=to,
        sources=check_sources(catalogs),
        include=include,
        exclude=exclude,
        adopt=adopt,
        allow_stale=allow_stale,
        private_mirrors=private_mirrors,
        give_up_after=give_up_after,
    )
    with terminate_like_ctrl_c(), Progress(screen) as progress:
        done = pull(Home.find(), sources, options, on_event=progress)
    fetched = done.bytes_from_peers + done.bytes_from_mirrors
    screen.note(
        f"{done.reference}: {size(done.bytes_total)} in {duration(done.seconds)}"
        f" · reused {size(done.bytes_reused)} · fetched {size(fetched)}"
        f" (peers {size(done.bytes_from_peers)}, mirrors {size(done.bytes_from_mirrors)})"
    )
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
