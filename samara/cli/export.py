"""`samara export`: give a release that is here to other programs."""

from __future__ import annotations

from pathlib import Path

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.progress import Progress
from samara.cli.signals import terminate_like_ctrl_c
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, UsageError

_USUAL = "-"  # an option without its DIR


@common_command(
    "export",
    examples=(
        "samara export acme/tiny:q8_0 --to ./models\n"
        "samara export acme/tiny:q8_0 --hf-cache\n"
        "samara export acme/tiny:q8_0 --ollama /var/lib/ollama/models"
    ),
    exits=(ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.DISK_FULL, ExitCode.STORE),
)
@click.argument("reference", metavar="REF")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Put its files here.")
@click.option(
    "--hf-cache", is_flag=False, flag_value=_USUAL, metavar="[DIR]",
    help="Put it into the Hugging Face cache (by default the one huggingface_hub uses).",
)  # fmt: skip
@click.option(
    "--ollama", is_flag=False, flag_value=_USUAL, metavar="[DIR]",
    help="Put it into Ollama's models (by default the folder that Ollama uses).",
)  # fmt: skip
def command(*, reference: str, to: Path | None, hf_cache: str | None, ollama: str | None) -> None:
    """Give a release that is here to other programs, without a second copy where the disk can.

    Found there offline as publisher/model, the tag being the revision (Hugging Face) or the tag (Ollama). Files that
    are in the way are never replaced.
    """
    from samara.fetcher import export

    if [to, hf_cache, ollama].count(None) != 2:
        raise UsageError("say where to", expected="one of --to, --hf-cache and --ollama")
    home = Home.find()
    with terminate_like_ctrl_c(), Progress(screen) as progress:
        if to is not None:
            done = export.export_to(home, reference, to, on_event=progress)
        elif hf_cache is not None:
            cache = export.hub_cache() if hf_cache == _USUAL else Path(hf_cache)
            done = export.export_to_hub_cache(home, reference, cache, on_event=progress)
        else:
            models = export.ollama_models() if ollama == _USUAL else Path(ollama or "")
            done = export.export_to_ollama(home, reference, models, on_event=progress)
    screen.result(
        {
            "reference": done.reference,
            "manifest": done.manifest,
            "folder": str(done.folder),
            "name": done.name,
            "revision": done.revision,
            "files": [{"path": file.path, "location": str(file.location), "how": file.how} for file in done.files],
        },
        "\n".join(str(file.location) for file in done.files),
    )
