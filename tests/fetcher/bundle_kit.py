"""Bundles taken apart and put together again, and what a machine looks like before and after. No test in here."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import zstandard
from support.world import MIB, Shelf, random_file, shelf

from samara.fetcher.bundle_export import Exported, export_bundle
from samara.fetcher.bundle_import import STAGING, Imported, import_bundle
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.own_catalog import Change, update_catalog
from samara.schemas.bundle import (
    INDEX_NAME,
    TAR_END,
    Kind,
    Member,
    make_index,
    pack_index,
    tar_header,
    tar_padding,
    unpack_index,
)
from samara.schemas.events import Event, Note, Warned
from samara.schemas.manifest import ReleaseFile

Files = list[tuple[str, bytes]]
LATER = timedelta(days=400)  # every catalog made now has expired by then


def two_files(root: Path, *, seed: int = 1, size: int = 5 * MIB + 77, reference: str = "acme/tiny:v1") -> Shelf:
    """A release of a blob of several blocks and a text that travels inline."""
    weights = random_file(root / "files" / f"weights-{seed}.bin", size, seed=seed)
    text = root / "files" / f"licence-{seed}.txt"
    text.write_text(f"licence {seed}: use it well\n")
    return shelf(root, [weights, text], reference=reference)


def again(root: Path, before: Shelf, *, seed: int) -> Shelf:
    """The next release of the same publisher, model and tag."""
    weights = random_file(root / "files" / f"weights-{seed}.bin", 3 * MIB, seed=seed)
    release = before.release
    return shelf(
        root, [weights], reference=f"acme/{release.model}:{release.tag}", publisher=before.publisher
    )  # fmt: skip


def changed(published: Shelf, change: Change, *, now: datetime | None = None) -> None:
    """Change the publisher's own catalog."""
    keys = published.publisher.open_keys(("targets", "snapshot", "timestamp"))
    update_catalog(published.home, published.publisher, change, signers=keys, now=now or clock())


def clock(later: timedelta = timedelta(0)) -> datetime:
    """Now, or later."""
    return datetime.now(UTC) + later


def exported(published: Shelf, target: Path, *references: str, now: datetime | None = None) -> Exported:
    """Export a release by its name, or others."""
    return export_bundle(published.home, references or [published.reference], target, now=now)


class Told:
    """An `on_event` that remembers what people would read."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Warned)]

    @property
    def notes(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Note)]


def imported(
    home: Home, bundle: Path, *, now: datetime | None = None, allow_stale: bool = False, told: Told | None = None
) -> Imported:
    """Import as of now, or later."""
    return import_bundle(home, bundle, now=now or clock(), allow_stale=allow_stale, on_event=told or Told())


# -- the file ----------------------------------------------------------------------------------------------------------


def unpacked(bundle: Path) -> Files:
    """(name, bytes) of every member, read by other people's zstd and tar."""
    with bundle.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as tar:
        data = tar.read()
    found = []
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        for member in opened.getmembers():
            assert member.isreg(), member
            content = opened.extractfile(member)
            assert content is not None
            found.append((member.name, content.read()))
    return found


def tar_of(files: Iterable[tuple[str, bytes]], end: bytes = TAR_END) -> bytes:
    """A tar as ours are, of any members."""
    return b"".join(tar_header(name, len(data)) + data + bytes(tar_padding(len(data))) for name, data in files) + end


def put(bundle: Path, tar: bytes) -> Path:
    """Compress a tar into a file."""
    bundle.write_bytes(zstandard.ZstdCompressor(level=1).compress(tar))
    return bundle


def repacked(bundle: Path, target: Path, edit: Callable[[Files], Sequence[tuple[str, bytes]]]) -> Path:
    """The bundle with its members changed, its list as it was unless `edit` changes that too."""
    return put(target, tar_of(edit(unpacked(bundle))))


def relisted(files: Files, *, pinned: bool | None = None) -> Files:
    """Members with the list that describes them as they now are; of releases it says what it said."""
    index = unpack_index(dict(files)[INDEX_NAME])
    rest = {name: data for name, data in files if name != INDEX_NAME}
    known = {member.name: member for member in index.members}
    members = [
        replace(known[name], size=len(data))
        if name in known
        else Member(kind=Kind.BLOB, key="b3:" + name.rpartition("/")[2], size=len(data))
        for name, data in rest.items()
    ]
    releases = [one if pinned is None else replace(one, pinned=pinned) for one in index.releases]
    return [(INDEX_NAME, pack_index(make_index(index.created, releases, members))), *rest.items()]


# -- the machine -------------------------------------------------------------------------------------------------------


def visible(home: Home) -> dict[str, bytes]:
    """Everything on this machine that anybody would believe: blobs, names, trust. Locks and the index's files aside."""
    return {
        str(path.relative_to(home.root)): path.read_bytes()
        for folder in (home.blobs, home.models, home.trust, home.partials)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def nothing_left(home: Home) -> bool:
    """Whether no import left anything behind, and the index holds no release."""
    known = Index.open_existing(home)
    if known is not None:
        with known as index:
            assert index.counts().releases == 0
            assert index.counts().locations == 0
    return not (home.root / STAGING).exists()


def view(home: Home, published: Shelf, file: ReleaseFile, *, tag: str | None = None) -> Path:
    """A file's name for other programs."""
    return home.models / "acme" / published.release.model / (tag or published.release.tag) / file.path
