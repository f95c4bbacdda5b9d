"""What of a release is here, verified and untouched: for `path` and `run`. Never fetches, never re-reads bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samara.fetcher.held import open_index, resolve_reference
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.store import last_seen, whole_copy
from samara.schemas.errors import NotFoundError
from samara.schemas.events import Note, OnEvent, ignore
from samara.schemas.manifest import ReleaseFile
from samara.schemas.references import parse_reference


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalFile:
    """One file and the path to read it by."""

    file: ReleaseFile
    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalRelease:
    """A release whose every file is here."""

    reference: str
    files: tuple[LocalFile, ...]


def locate(home: Home, reference: str, *, on_event: OnEvent = ignore) -> LocalRelease:
    """Where each file of the release lies, its stamp unchanged since it was verified.

    Says whose name it is, and what this machine knows of its freshness. Raises NotFoundError naming the command that
    would fetch or check what is missing, TrustError, UsageError.
    """
    parsed = parse_reference(reference)
    with open_index(home, reference) as index:
        resolved = resolve_reference(home, index, parsed, on_event=on_event)
        on_event(Note(message=resolved.says))
        release = resolved.release
        view = home.models / resolved.alias / release.model / release.tag
        files = tuple(
            LocalFile(file=file, path=_visible(index, file, view / file.path, reference)) for file in release.files
        )
    return LocalRelease(reference=resolved.reference, files=files)


def _visible(index: Index, file: ReleaseFile, view: Path, reference: str) -> Path:
    blob = index.blob(file.b3)
    place = None if blob is None else whole_copy(blob)
    if place is not None:
        # the view has the file's own name and ending, which other programs go by
        return view if place.in_store and _is_same(view, place.path) else place.path
    if blob is not None and last_seen(blob) is not None:
        raise NotFoundError(
            f"{file.path} of {reference} changed since it was verified", next_step=f"samara verify {reference}"
        )
    raise NotFoundError(f"{file.path} of {reference} is not here", next_step=f"samara pull {reference}")


def _is_same(view: Path, blob: Path) -> bool:
    try:
        return view.samefile(blob)
    except OSError:  # there is no view, or none that can be read by
        return False
