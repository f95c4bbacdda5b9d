"""Reading one file again: every block against the signed manifest, then the whole-file digest. Touches no index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samara.fetcher.blocks import BadBlock, check_blocks, opened, whole_digest
from samara.registry.progress import reporting
from samara.schemas.digests import b3_text
from samara.schemas.errors import IntegrityError
from samara.schemas.events import CheckProgress, OnEvent, ignore
from samara.schemas.manifest import ReleaseFile


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedFile:
    """One file, re-read: every bad block, and whether the whole-file digest agrees."""

    path: str
    location: Path
    blob: str
    size: int
    blocks: int
    bad: tuple[BadBlock, ...]
    whole_matches: bool

    @property
    def ok(self) -> bool:
        """Whether every byte is the publisher's."""
        return not self.bad and self.whole_matches


def problem_of(file: CheckedFile) -> IntegrityError | None:
    """The first thing wrong with a checked file, as the error to show; None when all is right."""
    if file.bad:
        more = f" (and {len(file.bad) - 1} more)" if len(file.bad) > 1 else ""
        return IntegrityError(f"{file.location}: {file.bad[0]}{more}", next_step=f"samara repair {file.location}")
    if not file.whole_matches:
        return IntegrityError(f"{file.location} is not {file.blob} although each block is right")
    return None


def recheck(
    path: Path, file: ReleaseFile, *, on_event: OnEvent = ignore, name: str | None = None
) -> CheckedFile:  # fmt: skip
    """Every block of `file` as it lies at `path`, then the whole. Touches no index."""
    report = reporting(CheckProgress, name or str(path), file.size, on_event)
    bad = check_blocks(path, file.blocks, on_progress=report)
    size_matches = path.stat().st_size == file.size
    whole_matches = False
    if not bad and size_matches:
        with opened(path) as fd:
            whole_matches = b3_text(whole_digest(fd)) == file.b3
    return CheckedFile(
        path=file.path,
        location=path,
        blob=file.b3,
        size=file.size,
        blocks=len(file.blocks),
        bad=bad,
        whole_matches=whole_matches,
    )
