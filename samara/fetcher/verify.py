"""`verify`: read every block of a release or a file again and hold it against the signed manifest.

Changes nothing but the stamp: a file that proves right is recorded as verified now, of one that doesn't only the place
is remembered, for `repair`, so that nobody seeds or runs it. Where the index can't be written that is said, and the
answer is the same.
"""

from __future__ import annotations

import time
from pathlib import Path

from samara.fetcher.held import open_index, resolve_reference
from samara.fetcher.recheck import CheckedFile, recheck
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.store import last_seen, stamp_at, whole_copy
from samara.registry.trust.known import KnownCatalogs
from samara.schemas.errors import DiskFullError, NotFoundError, SamaraError, StoreError, UsageError
from samara.schemas.events import Note, OnEvent, Warned, ignore
from samara.schemas.manifest import ReleaseFile
from samara.schemas.references import looks_like_reference, parse_reference
from samara.schemas.release_file import SUFFIX
from samara.schemas.stamps import Stamp
from samara.seeder.source_file import open_source


def verify(home: Home, target: str, *, on_event: OnEvent = ignore) -> tuple[CheckedFile, ...]:
    """Re-read every block of a reference's files, or of one file that holds a known blob.

    Raises NotFoundError (unknown, or not here), UsageError (not a file, or not readable), TrustError; returns bad
    blocks rather than raising for them.
    """
    if looks_like_reference(target) and not Path(target).exists():
        with open_index(home, target) as index:
            resolved = resolve_reference(home, index, parse_reference(target), on_event=on_event)
            on_event(Note(message=resolved.says))
            return tuple(_verify_file(index, file, resolved.reference, on_event) for file in resolved.release.files)
    open_source(target).close()  # says what is wrong with the path
    if target.endswith(SUFFIX):
        raise UsageError("a release file has no model bytes to verify", next_step=f"samara show {target}")
    with open_index(home, target) as index:
        return (_verify_path(home, index, Path(target).absolute(), on_event),)


def _verify_file(index: Index, file: ReleaseFile, reference: str, on_event: OnEvent) -> CheckedFile:
    blob = index.blob(file.b3)
    place = None if blob is None else whole_copy(blob)
    if place is None and blob is not None:
        # a changed stamp is exactly what verify is for: look at the bytes wherever they were last seen
        place = last_seen(blob)
    if place is None:
        raise NotFoundError(f"{file.path} of {reference} is not here", next_step=f"samara pull {reference}")
    return _recheck_at(index, place.path, file, in_store=place.in_store, on_event=on_event)


def _verify_path(home: Home, index: Index, path: Path, on_event: OnEvent) -> CheckedFile:
    known = index.location_at(path)
    if known is not None and not index.releases_of_blob(known[0]):
        known = None  # merely found by `adopt`, maybe as a damaged copy of what a release has
    blobs = [known[0]] if known else [b.b3 for b in index.blobs_of_size(path.stat().st_size) if b.is_released]
    in_store = known[1].in_store if known else False
    before = stamp_at(path)
    wrong: CheckedFile | None = None
    refused: SamaraError | None = None
    catalogs = KnownCatalogs(home)
    candidates = [(b3, stored) for b3 in blobs for stored in index.releases_of_blob(b3)]
    for b3, stored in candidates:
        try:
            release = catalogs.reopen(stored).release
        except SamaraError as error:  # one publisher's bad release says nothing of another's
            refused = error
            continue
        if known is None and len(blobs) > 1:
            on_event(Note(message=f"comparing {path} with {release.publisher_name}/{release.model}:{release.tag}"))
        checked = recheck(path, next(file for file in release.files if file.b3 == b3), on_event=on_event)
        if checked.ok:
            return _recorded(index, checked, before, in_store=in_store, on_event=on_event)
        wrong = wrong or checked
    if wrong is not None and (known is not None or len(blobs) == 1):
        return _recorded(index, wrong, before, in_store=in_store, on_event=on_event)
    if refused is not None and wrong is None:
        raise refused
    raise NotFoundError(
        f"{path} is no blob of a release known here",
        next_step="pull or publish its release first, or verify by reference",
    )


def _recheck_at(index: Index, path: Path, file: ReleaseFile, *, in_store: bool, on_event: OnEvent) -> CheckedFile:
    before = stamp_at(path)
    checked = recheck(path, file, on_event=on_event)
    return _recorded(index, checked, before, in_store=in_store, on_event=on_event)


def _recorded(
    index: Index, checked: CheckedFile, before: Stamp | None, *, in_store: bool, on_event: OnEvent
) -> CheckedFile:  # fmt: skip
    """`checked` itself, after the index heard of it."""
    path = checked.location
    try:
        if checked.ok and before is not None and stamp_at(path) == before:
            index.set_location(checked.blob, path, before, in_store=in_store, verified_at=time.time())
        elif not checked.ok and (known := index.location_at(path)) is not None and known[0] == checked.blob:
            index.doubt_location(path)
    except (StoreError, DiskFullError) as error:  # what was read is the answer, also where nothing can be written
        on_event(Warned(message=f"checked {path}, but that was not recorded: {error}"))
    return checked
