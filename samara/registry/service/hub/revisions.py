"""Repositories and revisions: which releases `owner/model` at a tag, a commit or `main` are, and their files as a tree.

A commit is the first 40 hex digits of a manifest's digest, of any release of the model that is kept here and wasn't
withdrawn. `main` is what the tag `main` means, else what `latest` means, else all current releases side by side, as
people put many quantisations into one repository of the Hub; it then has a commit of its own, made of theirs, which can
be resolved for as long as the model lists the same.

Reads the index for every request and parses a manifest only once; trees that were asked for are kept, so many files of
them at most. Safe to use from several threads.
"""

from __future__ import annotations

import functools
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from blake3 import blake3

from samara.registry.listings import Listing, Owner
from samara.registry.service.hub.problems import no_repository, no_revision, withdrawn
from samara.registry.service.hub.trees import Tree, TreeFile, files_of, grow, side_by_side
from samara.registry.service.service import Service
from samara.schemas.errors import StoreError
from samara.schemas.references import is_identity, is_name

MAIN = "main"
_MAIN_TAGS = (MAIN, "latest")
_MAIN_TOO = frozenset({MAIN, "HEAD", "refs/heads/main"})
MAX_SIDE_BY_SIDE = 100  # releases in `main`, the newest; so many files of them:
MAX_FILES = 20_000
MAX_FILES_KEPT = 50_000  # in memory; about 50 MB
_TAGS_PREFIX = "refs/tags/"
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """A model as a repository. `name`: as it was asked for; `listings`: what its tags mean, the newest first."""

    name: str
    owner: Owner
    model: str
    listings: tuple[Listing, ...]

    @property
    def current(self) -> tuple[Listing, ...]:
        """What wasn't withdrawn."""
        return tuple(one for one in self.listings if one.retracted is None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A repository at one commit. `is_pinned`: it was asked for by its commit, and always has these files."""

    repository: Repository
    commit: str
    is_pinned: bool
    manifests: tuple[str, ...]
    tree: Tree = field(repr=False)


def split_revision(rest: str) -> tuple[str, str]:
    """Both halves of revision/path, decoded. A revision has no slash, but for git's own spelling of main and tags."""
    parts = rest.split("/")
    length = 3 if rest.startswith(("refs/heads/", _TAGS_PREFIX)) else 1
    return "/".join(parts[:length]), "/".join(parts[length:])


def main_of(repository: Repository) -> tuple[str, ...]:
    """The manifests of the releases that `main` is made of, the newest first. Raises HubError if all were withdrawn."""
    current = repository.current
    if not current:
        raise withdrawn(repository.name, repository.listings[0].retracted or "no reason was given")
    for tag in _MAIN_TAGS:
        for one in current:
            if one.tag == tag:
                return (one.manifest,)
    return tuple(dict.fromkeys(one.manifest for one in current))[:MAX_SIDE_BY_SIDE]


def commit_of(manifests: Sequence[str]) -> str:
    """The commit of releases side by side; of a single one its own."""
    if len(manifests) == 1:
        return manifests[0][3:43]
    return blake3("\n".join(sorted(manifests)).encode()).hexdigest()[:40]


class Revisions:
    """Repositories of one service."""

    def __init__(self, service: Service, *, max_files_kept: int = MAX_FILES_KEPT) -> None:
        self._service = service
        self._releases = _Kept[str, tuple[TreeFile, ...]](max_files_kept, len)
        self._trees = _Kept[tuple[str, ...], Tree](max_files_kept, lambda tree: len(tree.paths))

    def repository(self, owner: str, model: str) -> Repository:
        """Raises HubError (no such repository), StoreError."""
        name = f"{owner}/{model}"
        if not (is_name(owner) or is_identity(owner)) or not is_name(model):
            raise no_repository(name)
        found = self._service.listings.owner(owner)
        if found is None:
            raise no_repository(name)
        listings = self._service.listings.model(found, model)
        if not listings:  # nor are kept releases given of a model that its publisher lists no more
            raise no_repository(name)
        return Repository(name=name, owner=found, model=model, listings=listings)

    def snapshot(self, repository: Repository, revision: str) -> Snapshot:
        """Raises HubError (no such revision, withdrawn), StoreError."""
        manifests = self._manifests(repository, revision)
        return Snapshot(
            repository=repository,
            commit=commit_of(manifests),
            is_pinned=_COMMIT.match(revision) is not None,
            manifests=manifests,
            tree=self._trees.get(manifests, lambda: self._grow(manifests)),
        )

    def inline(self, file: TreeFile) -> bytes | None:
        """The bytes of a file that travels in its manifest."""
        release = self._service.manifests.release(file.source.manifest)
        found = (one.inline for one in release.files if one.path == file.path_in_release) if release else iter(())
        return next(found, None)

    def _manifests(self, repository: Repository, revision: str) -> tuple[str, ...]:
        if revision in _MAIN_TOO:
            return main_of(repository)
        if _COMMIT.match(revision):
            return self._of_commit(repository, revision)
        tag = revision.removeprefix(_TAGS_PREFIX)
        for one in repository.listings:
            if one.tag == tag:
                return _unless_withdrawn(one, revision)
        raise no_revision(revision)

    def _of_commit(self, repository: Repository, commit: str) -> tuple[str, ...]:
        for one in repository.listings:
            if one.commit == commit:
                return _unless_withdrawn(one, commit)
        if repository.current:
            main = main_of(repository)
            if commit_of(main) == commit:
                return main
        for known in self._service.listings.history(repository.owner, repository.model):
            if known.manifest[3:43] == commit:
                self._require_not_withdrawn(repository.owner, known.manifest)
                return (known.manifest,)
        raise no_revision(commit)

    def _require_not_withdrawn(self, owner: Owner, manifest: str) -> None:
        """Of a release that no tag means any more, by its publisher's catalog."""
        from samara.registry.trust.catalogs import read_catalog  # loads TUF

        bundle = self._service.listings.metadata(owner.identity)
        reason = None if bundle is None else read_catalog(owner.identity, bundle).retraction(manifest)
        if reason is not None:
            raise withdrawn(manifest[3:43], reason)

    def _grow(self, manifests: tuple[str, ...]) -> Tree:
        chosen: list[tuple[TreeFile, ...]] = []
        room = MAX_FILES
        for manifest in manifests:
            files = self._releases.get(manifest, functools.partial(self._files, manifest))
            room -= len(files)
            if room < 0:
                break
            chosen.append(files)
        return grow(side_by_side(chosen))

    def _files(self, manifest: str) -> tuple[TreeFile, ...]:
        release = self._service.manifests.release(manifest)
        if release is None:  # forgotten since the listing was read
            raise StoreError(f"the manifest {manifest} isn't here any more", next_step="ask again")
        return files_of(release)


def _unless_withdrawn(listing: Listing, revision: str) -> tuple[str, ...]:
    if listing.retracted is not None:
        raise withdrawn(revision, listing.retracted)
    return (listing.manifest,)


class _Kept(Generic[K, V]):
    """Values by key, those asked for last, with a bound on their weight."""

    def __init__(self, room: int, weigh: Callable[[V], int]) -> None:
        self._room = room
        self._weigh = weigh
        self._values: OrderedDict[K, V] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        made = make()
        weight = self._weigh(made) + 1
        with self._lock:
            if weight <= self._room and key not in self._values:
                self._values[key] = made
                self._weight += weight
                while self._weight > self._room:
                    _, gone = self._values.popitem(last=False)
                    self._weight -= self._weigh(gone) + 1
        return made
