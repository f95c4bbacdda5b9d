"""`samara du`: what takes how much room, and what forgetting each release would give back."""

from __future__ import annotations

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.text import size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


@common_command(
    "du", examples="samara du\nsamara du --json", exits=(ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.STORE)
)
def command() -> None:
    """Print the disk use of SAMARA_HOME, and what each release would free alone.

    Each file counts once, however many names it has; what other releases need too is freed by none alone. Files in
    place are their owner's and don't count.
    """
    from samara.fetcher.clean import usage

    home = Home.find()
    used = usage(home)
    rooms = {
        "blobs": used.blobs,
        "partials": used.partials,
        "view_copies": used.view_copies,
        "announced": used.announced,
        "index": used.index,
        "temporary": used.temporary,
    }
    named = [(room.replace("_", " "), count) for room, count in rooms.items()]
    width = max(len(name) for name, _ in [*named, ("total", 0)])
    lines = [f"{name:<{width}}  {size(count):>9}" for name, count in [*named, ("total", used.total)]]
    if used.orphans:
        lines.append(f"{size(used.orphans)} of the blobs are of no release here; see: samara prune")
    if used.frees:
        lines += ["", "each alone would free"]
        lines += [
            f"{size(count):>9}  {reference}" for reference, _, count in sorted(used.frees, key=lambda one: -one[2])
        ]
    screen.result(
        {
            "home": str(home.root),
            **rooms,
            "orphans": used.orphans,
            "total": used.total,
            "releases": [
                {"reference": reference, "manifest": manifest, "frees": count}
                for reference, manifest, count in used.frees
            ],
        },
        "\n".join(lines),
    )
