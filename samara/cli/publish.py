"""`samara publish`: hash, describe and sign model files where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.naming import asking_options, publisher_asking
from samara.cli.passphrase import ask_passphrase
from samara.cli.progress import Progress
from samara.cli.push import as_result, push_to
from samara.cli.signals import terminate_like_ctrl_c
from samara.cli.text import size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


@common_command(
    "publish",
    examples=(
        "samara publish tiny-q8_0.gguf --as acme/tiny:q8_0\n"
        "samara publish model.gguf mmproj.gguf LICENSE --as acme/vision:q4_k_m \\\n"
        "    --license Apache-2.0\n"
        "samara publish ./all-minilm --as acme/all-minilm:v2\n"
        "samara publish athens.gguf --as acme/athens:v1 --base-model acme/tiny:q8_0\n"
        "samara publish tiny.gguf --as acme/tiny:f16 \\\n"
        "    --mirror https://example.org/models/ -o tiny.samara"
    ),
    exits=(
        ExitCode.NOT_FOUND,
        ExitCode.NETWORK,
        ExitCode.INTEGRITY,
        ExitCode.TRUST,
        ExitCode.DISK_FULL,
        ExitCode.STORE,
    ),
)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(readable=False, path_type=Path), metavar="FILE|DIR..."
)
@click.option("--as", "reference", required=True, metavar="PUBLISHER/MODEL:TAG", help="The name to publish under.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where the .samara file goes.")
@click.option("--mirror", "mirrors", multiple=True, metavar="URL", help="An HTTP copy; ending in / a folder of copies.")
@click.option("--license", "licence", metavar="SPDX", help="SPDX licence expression.")
@click.option("--description", metavar="TEXT", help="What people should know.")
@click.option("--upstream", metavar="REPO[@COMMIT]", help="What it was converted from.")
@click.option("--base-model", metavar="REF|NAME", help="For adapters: the model they are for.")
@click.option(
    "--registry", "registries", multiple=True, metavar="URL", help="Then push it here (repeatable; see samara push)."
)
@click.option("--claim", metavar="NAME", help="With --registry: be known there by this name.")
@click.option("--offline", is_flag=True, help="Don't ask whether another machine has published meanwhile.")
@asking_options
def command(
    *,
    files: tuple[Path, ...],
    reference: str,
    output: Path | None,
    mirrors: tuple[str, ...],
    licence: str | None,
    description: str | None,
    upstream: str | None,
    base_model: str | None,
    registries: tuple[str, ...],
    claim: str | None,
    offline: bool,
    **asking: Any,
) -> None:
    """Hash, describe and sign FILEs where they lie, list them in the catalog, and write a .samara file to pull by.

    Of a DIR all files in it, by their paths in it; not what is hidden. Each file is read once and never copied.
    Publishing the same files again changes nothing. Sources of the catalog (samara trust sources) are asked first: two
    machines that publish as one must not contradict each other.
    """
    from samara.fetcher.forks import require_newest
    from samara.registry.trust.publishers import load_publisher
    from samara.schemas.references import parse_reference
    from samara.seeder.publish import Description, publish

    home = Home.find()
    parsed = parse_reference(reference)
    publisher = load_publisher(home, parsed.publisher)
    repo, _, commit = (upstream or "").partition("@")
    about = Description(
        license=licence,
        description=description,
        upstream_repo=repo or None,
        upstream_commit=commit or None,
        base_model=base_model,
        mirrors=mirrors,
    )
    with (
        terminate_like_ctrl_c(),
        Progress(screen) as progress,
        publisher_asking(home, **asking, on_event=progress) as ask,
    ):
        done = publish(
            home,
            files,
            parsed,
            publisher,
            ask=ask_passphrase,
            description=about,
            output=output,
            check_newest=lambda: None if offline else require_newest(home, publisher, ask),
            on_event=progress,
        )
    release = done.release
    pushed = push_to(home, publisher, registries, claim=claim) if registries else []
    rate = done.bytes_hashed / done.seconds if done.seconds else 0
    screen.note(f"hashed {size(done.bytes_hashed)} in {done.seconds:.1f} s ({size(rate)}/s)")
    screen.note(f"give it to its swarm: samara seed    pull it elsewhere: samara pull {parsed}")
    screen.note(f"without a network: samara pull {done.release_file.name}")
    screen.result(
        {
            "reference": str(parsed),
            "uri": release.uri,
            "identity": release.identity,
            "manifest": release.digest,
            "version": release.version,
            "new": done.is_new,
            "release_file": str(done.release_file),
            "bytes": release.size,
            "seconds": round(done.seconds, 3),
            "pushed": [as_result(one) for one in pushed],
            "files": [
                {
                    "path": file.path,
                    "size": file.size,
                    "blob": file.b3,
                    "sha256": file.sha256,
                    "layout": file.layout,
                    "blocks": len(file.blocks),
                    "infohash_v1": file.torrent.v1 if file.torrent else None,
                    "infohash_v2": file.torrent.v2 if file.torrent else None,
                    "magnet": file.magnet_of(manifest=release.digest, release=done.release_v2),
                }
                for file in release.files
            ],
        },
        f"{parsed} version {release.version}\nmanifest {release.digest}\n{done.release_file}",
    )
