"""What a release's page tells of it: files and whether their bytes are here, its swarm, what can be copied."""

from __future__ import annotations

from dataclasses import dataclass

from samara.registry.service.blob_files import is_given
from samara.registry.service.pages.charts import Chart, chart
from samara.registry.service.service import Service
from samara.registry.store import whole_copy
from samara.registry.tracker import Counts
from samara.schemas.manifest import Release, ReleaseFile

CHART_DAYS = 14
CHART_STEP = 3600  # seconds: the chart ends on a full hour, so that a page stays the same for a while
MIRRORS_SHOWN = 4
_DAY = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class FileLine:
    """A file: `here`: when its bytes on this machine were last verified (UTC epoch seconds), None if they aren't here;
    `is_given`: whether a release that is listed has it, so that the registry gives it out; `magnet`: None for a file
    that travels inside the manifest.
    """

    file: ReleaseFile
    here: float | None
    is_given: bool
    magnet: str | None

    @property
    def name(self) -> str:
        """Its last part."""
        return self.file.path.rsplit("/", 1)[-1]

    @property
    def mirrors(self) -> tuple[str, ...]:
        """The first few."""
        return self.file.mirrors[:MIRRORS_SHOWN]


@dataclass(frozen=True, kw_only=True, slots=True)
class Swarm:
    """The main file's swarm, by this registry's tracker: now, and over time (None: nobody was seen)."""

    file: ReleaseFile
    now: Counts
    over_time: Chart | None


def main_file(release: Release) -> ReleaseFile:
    """The file that stands for a release where only one can: its largest GGUF, or its largest file."""
    return max(release.files, key=lambda file: (file.gguf is not None, file.size))


def file_line(service: Service, release: Release, file: ReleaseFile, release_v2: str | None) -> FileLine:
    """A file as the page shows it. Looks whether the bytes are still where they were verified."""
    here: float | None = None
    blob = service.index.blob(file.b3)
    place = whole_copy(blob) if blob is not None else None
    is_private = blob is not None and place is not None and not is_given(service, blob)
    if place is not None and not is_private:
        here = place.verified_at
    return FileLine(
        file=file,
        here=here,
        is_given=not is_private and bool(service.listings.manifests_of(file.b3)),
        magnet=file.magnet_of(manifest=release.digest, release=release_v2),
    )


def swarm(service: Service, release: Release) -> Swarm | None:
    """The swarm of the main file; None if it has none."""
    file = main_file(release)
    if file.torrent is None:
        return None
    until = int(service.clock()) // CHART_STEP * CHART_STEP + CHART_STEP
    since = until - CHART_DAYS * _DAY
    samples = service.listings.samples(file.b3, since=since)
    return Swarm(
        file=file, now=service.tracker.counts_of(file.torrent.v2), over_time=chart(samples, since=since, until=until)
    )  # fmt: skip
