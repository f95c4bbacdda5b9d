"""What `rm` and `prune` print: what goes or went, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from samara.cli.common import screen
from samara.cli.text import clean, size

if TYPE_CHECKING:
    from samara.fetcher.clean import Cleaned

_MANY = 20  # lines of one kind that a person reads; --json has all


def show_cleaned(cleaned: Cleaned, *, dry_run: bool, next_step: str | None = None) -> None:
    """Print a plan (`dry_run`) or what was done. `next_step`: what to run to do it, where something would be done."""
    items = cleaned.plan.items if dry_run else cleaned.done
    freed = cleaned.plan.bytes if dry_run else cleaned.freed
    lines, seen = [], Counter[str]()
    for item in items:
        seen[item.kind] += 1
        if seen[item.kind] <= _MANY:
            lines.append(f"{item.kind:<9}  {size(item.bytes):>9}  {clean(item.path or item.what)}  ({clean(item.why)})")
    lines += [f"{kind:<9}  … and {count - _MANY} more" for kind, count in seen.items() if count > _MANY]
    for trouble in cleaned.troubles:
        screen.warn(trouble)
    if not items:
        screen.note("nothing to remove")
    elif dry_run:
        lines.append(f"would free {size(freed)}")
        if next_step is not None:
            screen.note(next_step)
    else:
        lines.append(f"freed {size(freed)}")
    screen.result(
        {
            "dry_run": dry_run,
            "bytes": freed,
            "items": [asdict(item) for item in items],
            "keeps": [{"what": what, "why": why} for what, why in cleaned.plan.keeps],
            "troubles": list(cleaned.troubles),
        },
        "\n".join(lines),
    )
