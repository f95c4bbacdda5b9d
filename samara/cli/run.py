"""`samara run`: answer a prompt with a model that is here, streaming to stdout."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict

import click

from samara.cli.amounts import Amount
from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.signals import terminate_like_ctrl_c
from samara.cli.streams import reader_is_gone
from samara.cli.text import clean
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, UsageError
from samara.schemas.manifest import Role


@common_command(
    "run",
    examples='samara run acme/tiny:q8_0 "What is 7+8?"\nsamara run acme/tiny:q8_0 "2+3=" --raw --max-tokens 8',
    exits=(ExitCode.NOT_FOUND, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.ENGINE, ExitCode.STORE),
)
@click.argument("reference", metavar="REF")
@click.argument("prompt")
@click.option("--raw", is_flag=True, help="Give the prompt as it is, without the model's chat template.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--temperature", type=Amount(min=0), default=0.0, show_default=True, help="0 always answers the same.")
@click.option("--file", "chosen", metavar="NAME", help="Which model, where the release has several.")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads.")
def command(
    *,
    reference: str,
    prompt: str,
    raw: bool,
    max_tokens: int,
    temperature: float,
    chosen: str | None,
    threads: int | None,
) -> None:
    """Answer PROMPT with a model that is here. Never downloads."""
    from samara.fetcher.local import locate
    from samara.runner.engine import Engine
    from samara.runner.options import EngineOptions

    found = locate(Home.find(), reference, on_event=screen.hear)
    files = {f.file.path: f.path for f in found.files if f.file.role == Role.WEIGHTS and f.file.gguf is not None}
    model = files[choose_model(tuple(files), chosen, reference)]
    options = EngineOptions(model=model) if threads is None else EngineOptions(model=model, threads=threads)
    with terminate_like_ctrl_c(), Engine(options) as engine:
        if engine.raw_reason is not None and not raw:
            screen.note(engine.raw_reason)
        for piece in engine.stream(prompt, max_tokens=max_tokens, temperature=temperature, raw=raw):
            if not screen.json:
                sys.stdout.write(clean(piece) if sys.stdout.isatty() else piece)
                sys.stdout.flush()
                if reader_is_gone(sys.stdout):
                    return
        generation = engine.generation
    if screen.json:
        answer = asdict(generation) if generation is not None else {}
        screen.result({"reference": found.reference, **answer}, "")
    elif generation is not None and not generation.text.endswith("\n"):
        sys.stdout.write("\n")


_PART = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.gguf", re.IGNORECASE)


def choose_model(names: tuple[str, ...], chosen: str | None, reference: str) -> str:
    """The model to load, of a split one its first part. Raises UsageError where that isn't clear."""
    if not names:
        raise UsageError(f"{reference} has no GGUF model to run", next_step=f"see: samara show {reference}")
    if chosen is not None:
        if chosen not in names:
            raise UsageError("no such model in the release", expected=f"one of {', '.join(names)}", actual=chosen)
        return chosen
    parts = [_PART.fullmatch(name) for name in names]
    is_one_split_model = len({part and (part[1], part[3]) for part in parts}) == 1 and parts[0] is not None
    if len(names) > 1 and not is_one_split_model:
        raise UsageError(
            f"{reference} has several models: {', '.join(names)}", next_step=f"choose one: --file {min(names)}"
        )
    return min(names)
