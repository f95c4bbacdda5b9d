"""How the last `samara audit` of this machine ended: SAMARA_HOME/last-audit.json, for who watches the registry.

A small JSON object of our own; whoever can write it can also write the store. What can't be read counts as no audit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from samara.registry.durable import write_durably
from samara.registry.home import Home

FILE_NAME = "last-audit.json"
LEVELS = ("error", "warning", "note", "unchecked")
_MAX_BYTES = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class LastAudit:
    """`at`: UTC epoch seconds when it ended; `outcome`: ok, findings or unchecked; `findings`: how many of each level;
    `blocks_read`: whether every block's bytes were read.
    """

    at: float
    outcome: str
    findings: dict[str, int]
    blocks_read: bool


def audit_of(levels: Iterable[str], *, at: float, outcome: str, blocks_read: bool) -> LastAudit:
    """The value for findings of these levels."""
    counted = Counter(levels)
    return LastAudit(
        at=at, outcome=outcome, findings={level: counted[level] for level in LEVELS}, blocks_read=blocks_read
    )  # fmt: skip


def write_last_audit(home: Home, audit: LastAudit) -> None:
    """Leave it for readers. Raises StoreError or DiskFullError."""
    value = {
        "at": audit.at,
        "outcome": audit.outcome,
        "findings": audit.findings,
        "blocks_read": audit.blocks_read,
    }
    write_durably(home.root / FILE_NAME, json.dumps(value).encode())


def read_last_audit(home: Home) -> LastAudit | None:
    """The last one; None if there was none, or it can't be read."""
    try:
        with (home.root / FILE_NAME).open("rb") as file:
            value = json.loads(file.read(_MAX_BYTES))
        counts = value["findings"]
        return LastAudit(
            at=float(value["at"]),
            outcome=str(value["outcome"])[:32],
            findings={level: int(counts.get(level, 0)) for level in LEVELS},
            blocks_read=bool(value["blocks_read"]),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
