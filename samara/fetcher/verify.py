"""`verify`: read every block of a release or a file again and hold it against the signed manifest.

Changes nothing but the stamp: a file that proves right is recorded as verified now, one that doesn't is forgotten as a
location, so that nobody seeds or runs it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from samara.fetcher.blocks import BadBlock, check_blocks, opened, whole_digest
from samara.fetcher.resolve import open_index, reopen, resolve_reference
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.store import stamp_at, whole_copy
from samara.registry.trust.pins import TrustFolder
from samara.schemas.digests import b3_text
from samara.schemas.errors import IntegrityError, NotFoundError, UsageError
from samara.schemas.events import CheckProgress, Note, OnEvent, ignore
from samara.schemas.manifest import ReleaseFile
from samara.schemas.rates import RateMeter
from samara.schemas.references import looks_like_reference, parse_reference
from samara.schemas.release_file import SUFFIX

_PROGRESS_EVERY = 0.1


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


def verify(home: Home, target: str, *, on_event: OnEvent = ignore) -> tuple[CheckedFile, ...]:
    """Re-read every block of a reference's files, or of one file that holds a known blob.

    Raises NotFoundError (unknown, or not here), TrustError; returns bad blocks rather than raising for them.
    """
    with open_index(home, target) as index:
        if looks_like_reference(target) and not Path(target).exists():
            resolved = resolve_reference(home, index, parse_reference(target))
            return tuple(_verify_file(index, file, resolved.reference, on_event) for file in resolved.release.files)
        if target.endswith(SUFFIX):
            raise UsageError("a release file has no model bytes to verify", next_step=f"samara show {target}")
        return (_verify_path(home, index, Path(target), on_event),)


def problem_of(file: CheckedFile) -> IntegrityError | None:
    """The first thing wrong with a checked file, as the error to show; None when all is right."""
    if file.bad:
        more = f" (and {len(file.bad) - 1} more)" if len(file.bad) > 1 else ""
        return IntegrityError(f"{file.location}: {file.bad[0]}{more}", next_step="pull the release again to mend it")
    if not file.whole_matches:
        return IntegrityError(f"{file.location} is not {file.blob} although each block is right")
    return None


def recheck(
    path: Path, file: ReleaseFile, *, on_event: OnEvent = ignore, name: str | None = None
) -> CheckedFile:  # fmt: skip
    """Every block of `file` as it lies at `path`, then the whole. Touches no index."""
    meter = RateMeter(total=file.size)
    last = 0.0

    def report(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PROGRESS_EVERY or done == file.size:
            last = now
            rate, eta = meter.at(done, now)
            on_event(CheckProgress(path=name or str(path), done=done, total=file.size, rate=rate, eta=eta))

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


def _verify_file(index: Index, file: ReleaseFile, reference: str, on_event: OnEvent) -> CheckedFile:
    blob = index.blob(file.b3)
    place = None if blob is None else whole_copy(blob)
    if place is None and blob is not None:
        # a changed stamp is exactly what verify is for: look at the bytes wherever they were last seen
        place = next((known for known in blob.locations if known.path.is_file()), None)
    if place is None:
        raise NotFoundError(f"{file.path} of {reference} is not here", next_step=f"samara pull {reference}")
    return _recheck_at(index, place.path, file, in_store=place.in_store, on_event=on_event)


def _verify_path(home: Home, index: Index, path: Path, on_event: OnEvent) -> CheckedFile:
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}")
    path = path.absolute()
    known = index.location_at(path)
    blobs = [known[0]] if known else [b.b3 for b in index.blobs_of_size(path.stat().st_size)]
    for b3 in blobs:
        for stored in index.releases_of_blob(b3):
            release = reopen(index, stored, TrustFolder(home.trust)).release
            file = next(f for f in release.files if f.b3 == b3)
            if known is None and len(blobs) > 1:
                on_event(Note(message=f"comparing {path} with {release.publisher_name}/{release.model}:{release.tag}"))
            in_store = known[1].in_store if known else False
            checked = _recheck_at(index, path, file, in_store=in_store, on_event=on_event)
            if checked.ok or known is not None or len(blobs) == 1:
                return checked
    raise NotFoundError(
        f"{path} is no blob of a release known here",
        next_step="pull or publish its release first, or verify by reference",
    )


def _recheck_at(index: Index, path: Path, file: ReleaseFile, *, in_store: bool, on_event: OnEvent) -> CheckedFile:
    before = stamp_at(path)
    checked = recheck(path, file, on_event=on_event)
    if checked.ok and before is not None and stamp_at(path) == before:
        index.set_location(file.b3, path, before, in_store=in_store, verified_at=time.time())
    elif not checked.ok and index.location_at(path) is not None:
        index.drop_location(path)
    return checked
