"""Repositories and revisions: which releases `owner/model` at a tag, a commit or `main` are, and their files as a tree.

A commit is the first 40 hex digits of a manifest's digest, of any release of the model that is kept here and wasn't
withdrawn. `main` is what the tag `main` means, else what `latest` means, else all current releases side by side, as
people put many quantisations into one repository of the Hub; it then has a commit of its own, made of theirs, which can
be resolved for as long as the model lists the same.

Asks the index for every request, which reads few and small rows, and parses a manifest only once; trees that were asked
for are kept, so many files of them at most. Safe to use from several threads.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from samara.registry.listed_publishers import Owner
from samara.registry.repositories import Tag
from samara.registry.service.hub.problems import HubError, no_repository, no_revision, withdrawn
from samara.registry.service.hub.trees import Tree, TreeFile, files_of, grow, side_by_side
from samara.registry.service.kept import Kept
from samara.registry.service.service import Service
from samara.schemas.errors import StoreError
from samara.schemas.references import is_identity, is_name

MAIN = "main"
_MAIN_TAGS = (MAIN, "latest")
_MAIN_TOO = frozenset({MAIN, "HEAD", "refs/heads/main"})
MAX_SIDE_BY_SIDE = 100  # tags in `main`, the newest; so many files of them:
MAX_FILES = 20_000
MAX_TAGS = 1000  # told of one model, the newest; the others are found by their names
MAX_FILES_KEPT = 50_000  # in memory; about 50 MB
_TAGS_PREFIX = "refs/tags/"
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """A model as a repository. `name`: as it was asked for; `newest`: what was published last, withdrawn or not."""

    name: str
    owner: Owner
    model: str
    newest: Tag


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


def commit_of(manifests: Sequence[str]) -> str:
    """The commit of releases side by side; of a single one its own."""
    if len(manifests) == 1:
        return manifests[0][3:43]
    return blake3("\n".join(sorted(manifests)).encode()).hexdigest()[:40]


class Revisions:
    """Repositories of one service."""

    def __init__(self, service: Service, *, max_files_kept: int = MAX_FILES_KEPT) -> None:
        self._service = service
        self._releases = Kept[str, tuple[TreeFile, ...]](max_files_kept, lambda files: len(files) + 1)
        self._trees = Kept[tuple[str, ...], Tree](max_files_kept, lambda tree: len(tree.paths) + 1)

    def repository(self, owner: str, model: str) -> Repository:
        """Raises HubError (no such repository), BarredError, StoreError."""
        name = f"{owner}/{model}"
        if not (is_name(owner) or is_identity(owner)) or not is_name(model):
            raise no_repository(name)
        found = self._service.listings.owner(owner)
        if found is None:
            raise no_repository(name)
        newest = self._service.listings.tags(found, model, limit=1)
        if not newest:
            self._service.barred.check_model(found.identity, model)
        if not newest:  # nor are kept releases given of a model that its publisher lists no more
            raise no_repository(name)
        return Repository(name=name, owner=found, model=model, newest=newest[0])

    def snapshot(self, repository: Repository, revision: str) -> Snapshot:
        """Raises HubError (no such revision, withdrawn), BarredError, StoreError."""
        manifests = self._manifests(repository, revision)
        return Snapshot(
            repository=repository,
            commit=commit_of(manifests),
            is_pinned=_COMMIT.match(revision) is not None,
            manifests=manifests,
            tree=self._trees.get(manifests, lambda: self._grow(manifests)),
        )

    def main(self, repository: Repository) -> tuple[str, ...]:
        """The manifests of what `main` is made of, the newest first. Raises HubError if all were withdrawn."""
        listings, owner, model = self._service.listings, repository.owner, repository.model
        chosen = {one.tag: one for one in listings.tags(owner, model, limit=2, current=True, named=_MAIN_TAGS)}
        for tag in _MAIN_TAGS:
            if tag in chosen:
                return (chosen[tag].manifest,)
        current = listings.tags(owner, model, limit=MAX_SIDE_BY_SIDE, current=True)
        if not current:
            raise withdrawn(repository.name, repository.newest.retracted or "no reason was given")
        return tuple(dict.fromkeys(one.manifest for one in current))

    def tags(self, repository: Repository) -> tuple[Tag, ...]:
        """What may be asked for by name, the newest first."""
        return self._service.listings.tags(repository.owner, repository.model, limit=MAX_TAGS, current=True)

    def tags_of(self, snapshot: Snapshot) -> tuple[Tag, ...]:
        """The tags that mean what a snapshot is made of, the newest first; none if it is of older releases."""
        owner, model = snapshot.repository.owner, snapshot.repository.model
        return self._service.listings.tags(owner, model, limit=MAX_SIDE_BY_SIDE, manifests=snapshot.manifests)

    def inline(self, file: TreeFile) -> bytes | None:
        """The bytes of a file that travels in its manifest."""
        release = self._service.manifests.release(file.source.manifest)
        found = (one.inline for one in release.files if one.path == file.path_in_release) if release else iter(())
        return next(found, None)

    def _manifests(self, repository: Repository, revision: str) -> tuple[str, ...]:
        if revision in _MAIN_TOO:
            return self.main(repository)
        if _COMMIT.match(revision):
            return self._of_commit(repository, revision)
        tag = revision.removeprefix(_TAGS_PREFIX)
        if is_name(tag):
            for one in self._service.listings.tags(repository.owner, repository.model, limit=1, named=(tag,)):
                if one.retracted is not None:
                    raise withdrawn(revision, one.retracted)
                return (one.manifest,)
            self._service.barred.check_model(repository.owner.identity, repository.model, tag)
        raise no_revision(revision)

    def _of_commit(self, repository: Repository, commit: str) -> tuple[str, ...]:
        owner = repository.owner
        manifest = self._service.listings.kept_release(owner, repository.model, bytes.fromhex(commit))
        if manifest is not None:
            self._service.barred.check_release(manifest)
            catalog = self._service.catalog(owner.identity)
            reason = None if catalog is None else catalog.catalog.retraction(manifest)
            if reason is not None:
                raise withdrawn(commit, reason)
            return (manifest,)
        try:
            main = self.main(repository)
        except HubError:
            raise no_revision(commit) from None
        if commit_of(main) != commit:
            raise no_revision(commit)
        return main

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
