"""Whole releases become visible: names below models/ for other programs, and in the folder that people chose (`--to`).

Decides nothing about what to fetch. Nothing that was there before is replaced: the same bytes are left as they are,
others are refused before a byte is fetched (`check_targets`). A file in place is its owner's, and is looked at again
before it is named: it may have changed while the rest of the release came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from samara.fetcher.arrivals import HasIndex
from samara.fetcher.held import Resolved
from samara.fetcher.recheck import recheck
from samara.registry.home import Home
from samara.registry.store import link_into, link_view, stamp_at
from samara.schemas.errors import IntegrityError, UsageError
from samara.schemas.events import FileReady, OnEvent
from samara.schemas.manifest import ReleaseFile


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The files of one release that were chosen."""

    resolved: Resolved
    files: tuple[ReleaseFile, ...]

    @property
    def reference(self) -> str:
        """How people name the release."""
        return self.resolved.reference


class Showing:
    """The names that one pull gives. `here`, wherever it is asked for: where whole blobs lie, by their names."""

    def __init__(self, home: Home, index: HasIndex, to: Path | None, on_event: OnEvent) -> None:
        self._home = home
        self._index = index
        self._to = to
        self._on_event = on_event
        self._shown: dict[tuple[str, str], Path] = {}
        self._given: set[tuple[str, str]] = set()

    def location(self, wanted: Wanted, file: ReleaseFile) -> Path:
        """The name that a file was given."""
        return self._shown[wanted.resolved.release.digest, file.path]

    def check_targets(self, every: Iterable[Wanted], here: Mapping[str, Path]) -> None:
        """Say before fetching that `to` has another file of that name. The same bytes, put there before, are fine."""
        if self._to is None:
            return
        names: dict[str, str] = {}
        for wanted in every:
            for file in wanted.files:
                if names.setdefault(file.path, file.b3) != file.b3:
                    raise UsageError(
                        f"two of these releases have different files named {file.path}",
                        next_step="pull them into different folders (--to)",
                    )
                if self._is_given(file, self._to / file.path, here.get(file.b3)):
                    self._given.add((wanted.resolved.release.digest, file.path))

    def _is_given(self, file: ReleaseFile, target: Path, blob: Path | None) -> bool:
        if not target.exists() or (blob is not None and target.samefile(blob)):
            return False
        same_size = target.is_file() and target.stat().st_size == file.size
        if not same_size or not recheck(target, file, on_event=self._on_event).ok:
            raise UsageError(f"{target} already exists and is something else", next_step="move it away or choose --to")
        return True

    def show_whole(self, every: Iterable[Wanted], here: Mapping[str, Path]) -> None:
        """Releases of which every file is here become visible, while others may still be on their way."""
        for wanted in every:
            digest = wanted.resolved.release.digest
            if all(file.b3 in here for file in wanted.files):
                for file in wanted.files:
                    if (digest, file.path) not in self._shown:
                        self._show(wanted, file, here[file.b3])

    def _show(self, wanted: Wanted, file: ReleaseFile, blob: Path) -> None:
        release = wanted.resolved.release
        shown = blob
        in_store = blob == self._home.blob(file.b3_hex)
        if not in_store:
            self._require_untouched(file, blob, wanted.reference)
        if in_store:
            place = Path(wanted.resolved.alias, release.model, wanted.resolved.tag, file.path)
            shown = link_view(self._home, blob, place)
        if self._to is not None:
            shown = self._to / file.path
            if (release.digest, file.path) not in self._given:
                link_into(blob, shown, replace=False, hard_links=in_store)
                if not in_store:
                    self._require_untouched(file, blob, wanted.reference)
        self._shown[release.digest, file.path] = shown
        self._on_event(FileReady(path=file.path, blob=file.b3, location=str(shown)))

    def _require_untouched(self, file: ReleaseFile, path: Path, reference: str) -> None:
        known = self._index.get().location_at(path)
        if known is None or known[0] != file.b3 or stamp_at(path) != known[1].stamp:
            raise IntegrityError(f"{path} changed while {reference} was pulled", next_step="run the same command again")
