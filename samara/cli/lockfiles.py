"""Reading the lockfiles that `pull` and `prune` are told of."""

from __future__ import annotations

from pathlib import Path

from samara.schemas.errors import cannot_read
from samara.schemas.lockfile import MAX_LOCKFILE_BYTES, Locked, parse_lockfile


def read_lockfile(path: Path) -> tuple[Locked, ...]:
    """What the lockfile at `path` names. Raises NotFoundError, UsageError, MalformedError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LOCKFILE_BYTES + 1)
    except OSError as error:
        raise cannot_read(path, error) from None
    return parse_lockfile(data)
