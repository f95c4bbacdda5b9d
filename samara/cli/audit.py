"""`samara audit`: check everything under SAMARA_HOME and say what is wrong."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.progress import Progress
from samara.cli.signals import terminate_like_ctrl_c
from samara.registry.home import Home
from samara.registry.last_audit import audit_of, write_last_audit
from samara.schemas.errors import DiskFullError, ExitCode, StoreError


@common_command(
    "audit",
    examples="samara audit\nsamara audit --json > audit.json\nsamara audit --skip-blocks",
    exits=(ExitCode.NOT_FOUND, ExitCode.STORE, ExitCode.FINDINGS, ExitCode.UNCHECKED),
)
@click.option("--skip-blocks", is_flag=True, help="Don't read the blobs' bytes: signatures, index and leftovers only.")
def command(*, skip_blocks: bool) -> int:
    """Check signatures, index against disk, every block and leftovers. Repairs nothing.

    Only how it ended is left, in last-audit.json, for the metrics of samara serve.

    Exit 0: clean. 10: findings. 11: nothing wrong found, but something could not be checked.
    """
    from samara.fetcher.audit import findings, outcome
    from samara.fetcher.audit_facts import collect

    home = Home.find()
    with terminate_like_ctrl_c(), Progress(screen) as progress:
        facts = collect(home, read_blocks=not skip_blocks, on_event=progress)
    found = findings(facts)
    code = outcome(found)
    ended = audit_of(
        (item.level.value for item in found), at=time.time(), outcome=code.name.lower(), blocks_read=not skip_blocks
    )
    with contextlib.suppress(StoreError, DiskFullError):  # a store that can only be read is audited all the same
        write_last_audit(home, ended)
    counts = {"releases": len(facts.releases), "blobs": len(facts.blobs), "locations": len(facts.locations)}
    lines = [
        f"{item.level.value:<9} {item.rule:<22} {item.subject}: {item.message}"
        + (f" — {item.next_step}" if item.next_step else "")
        for item in found
    ]
    checked = ", ".join(f"{count} {name}" for name, count in counts.items())
    verdict = {ExitCode.OK: "clean", ExitCode.FINDINGS: "findings"}.get(code, "could not check everything")
    screen.result(
        {
            "outcome": code.name.lower(),
            "blocks_read": not skip_blocks,
            **counts,
            "findings": [asdict(f) for f in found],
        },
        "\n".join([*lines, f"{verdict}: {checked}"]),
    )
    return int(code)
