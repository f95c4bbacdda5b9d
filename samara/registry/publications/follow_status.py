"""How it stands with a registry that is followed: what `following` tells its operator's pages and metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowStatus:
    """How it stands with a registry that is followed. Times: UTC epoch seconds, None for never.

    `running`: it is being asked at the moment; `last_ok`: when all of it had been asked for; `failures`: in a row, the
    last one's reason is `trouble`. Of the last time: `publishers` listed there, of these `failed` couldn't be taken in
    and of `behind` the catalog there is older than here; `refused`: (who, why), the first hundred. `changed`
    publishers and new `releases`: since the start.
    """

    origin: str
    running: bool = False
    last_ok: float | None = None
    next_at: float | None = None
    failures: int = 0
    trouble: str | None = None
    publishers: int = 0
    failed: int = 0
    behind: int = 0
    changed: int = 0
    releases: int = 0
    refused: tuple[tuple[str, str], ...] = ()
