"""Plans a pull: what is here, what must come, is there room, is there anybody to ask. No disk, network or clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from samara.schemas.errors import DiskFullError, NetworkError, UsageError
from samara.schemas.manifest import ReleaseFile

RESERVE = 64 << 20  # bytes left free for the index, records and everybody else on the disk


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """One file of the release: whether its blob is whole here, else how much disk its partial already takes."""

    file: ReleaseFile
    is_here: bool
    allocated: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a pull will do. Bytes."""

    total: int
    here: int
    to_fetch: tuple[ReleaseFile, ...]
    room_needed: int


def chosen(files: Sequence[ReleaseFile], include: Sequence[str], exclude: Sequence[str]) -> tuple[ReleaseFile, ...]:
    """The files whose path, or the name at its end, fits any pattern of `include` (all fit none) and none of `exclude`.

    Patterns as a shell's: `*`, `?`, `[abc]`; `*` goes over folders too. Raises UsageError when nothing is left.
    """
    found = tuple(
        file for file in files if (not include or _fits(file.path, include)) and not _fits(file.path, exclude)
    )
    if not found:
        raise UsageError(
            "no file of this release fits", expected="patterns such as '*.gguf'",
            actual=f"--include {' '.join(include) or '*'} --exclude {' '.join(exclude)}".rstrip(),
            next_step=f"it has {', '.join(file.path for file in files[:12])}",
        )  # fmt: skip
    return found


def _fits(path: str, patterns: Sequence[str]) -> bool:
    name = path.rsplit("/", 1)[-1]
    return any(fnmatchcase(path, pattern) or fnmatchcase(name, pattern) for pattern in patterns)


def plan_pull(facts: Sequence[FileFacts]) -> Plan:
    """Two files with the same bytes are one transfer."""
    wanted = {fact.file.b3: fact for fact in facts if not fact.is_here and fact.file.inline is None}
    return Plan(
        total=sum(fact.file.size for fact in facts),
        here=sum(fact.file.size for fact in facts if fact.is_here),
        to_fetch=tuple(fact.file for fact in wanted.values()),
        room_needed=sum(max(0, fact.file.size - fact.allocated) for fact in wanted.values()),
    )


def require_room(plan: Plan, free: int, place: str) -> None:
    """Raise DiskFullError before anything is written if the plan can't fit into `free` bytes."""
    if plan.room_needed and plan.room_needed + RESERVE > free:
        raise DiskFullError(
            f"not enough room at {place}", expected=f"{plan.room_needed + RESERVE:,} bytes free",
            actual=f"{free:,}", next_step="free some space, or set SAMARA_HOME to a larger disk; nothing was lost",
        )  # fmt: skip


def require_sources(missing: int, *, peers: int, discovery: bool, mirrors: bool) -> None:
    """Raise NetworkError if so many pieces must be fetched and there is nobody to ask."""
    if missing and not peers and not discovery and not mirrors:
        raise NetworkError(
            "nobody to ask: no --peer, no mirror, and discovery is off",
            next_step="name a --peer HOST:PORT or leave out --no-discovery",
        )


def has_stalled(*, now: float, last_progress: float, give_up_after: float) -> bool:
    """Whether nothing has come for so long that the pull should end (and be resumed another time)."""
    return now - last_progress > give_up_after
