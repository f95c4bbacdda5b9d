"""The files of a repository as clients of the Hub see them: one release, or many side by side. Pure.

A manifest says nothing of git, the Hub's clients expect it: a file has the object id that git would give it. Files
whose bytes travel inline in the manifest are git blobs (SHA-1 of their bytes); all others are LFS objects, which
clients check by SHA-256, and git keeps a pointer to them. Everything comes out of verified manifests.
"""

from __future__ import annotations

import hashlib
import unicodedata
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from samara.schemas.digests import sha256_raw
from samara.schemas.manifest import Release, ReleaseFile

_FILE_MODE, _FOLDER_MODE = b"100644", b"40000"  # git's


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The release that a file is of."""

    manifest: str
    tag: str
    version: int
    created: str

    @property
    def commit(self) -> str:
        """40 hex digits that stand for this release."""
        return self.manifest[3:43]


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeFile:
    """One file. `path`: in the tree; `path_in_release`: in the release; `oid`: git's SHA-1; `sha256`: 64 hex digits;
    `pointer`: bytes of the LFS pointer that git would keep, 0 for a file that is a git blob itself.
    """

    path: str
    path_in_release: str
    size: int
    b3: str
    sha256: str
    oid: str
    pointer: int
    source: Source

    @property
    def is_lfs(self) -> bool:
        """Whether clients check it by SHA-256; else by `oid`."""
        return self.pointer > 0

    @property
    def etag(self) -> str:
        """What clients name its bytes by, and check them with."""
        return self.sha256 if self.is_lfs else self.oid


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """Files by path, in order of their paths. `folders`: path → git's SHA-1 of it, but for the root."""

    files: Mapping[str, TreeFile]
    folders: Mapping[str, str]
    paths: Sequence[str] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def below(self, folder: str, *, recursive: bool) -> Sequence[str] | None:
        """Paths of the files and folders in `folder` ("": the root), in order; None if there is no such folder."""
        if not folder:
            found = self.paths
        elif folder in self.folders:
            first = bisect_left(self.paths, folder + "/")
            found = self.paths[first : bisect_left(self.paths, folder + "0", lo=first)]  # "0" comes after "/"
        else:
            return None
        depth = folder.count("/") + 1 if folder else 0
        return found if recursive else [path for path in found if path.count("/") == depth]


def files_of(release: Release) -> tuple[TreeFile, ...]:
    """The files of a release, by path."""
    source = Source(manifest=release.digest, tag=release.tag, version=release.version, created=release.created)
    return tuple(sorted((_file(file, source) for file in release.files), key=lambda file: file.path))


def side_by_side(releases: Sequence[Sequence[TreeFile]]) -> tuple[TreeFile, ...]:
    """One tree out of several releases, the newest first. Its paths are as published; where a newer release has other
    bytes under a path (or one that differs only in case, or that is a folder), the older file is below a folder named
    as its tag, or as its commit if even that is taken.
    """
    placed = _Placed()
    for files in releases:
        for file in files:
            placed.add(file)
    return tuple(placed.files.values())


def grow(files: Sequence[TreeFile]) -> Tree:
    """Files, no two of which are in each other's way → the tree."""
    ordered = {file.path: file for file in sorted(files, key=lambda file: file.path)}
    folders = _folders(ordered)
    return Tree(files=ordered, folders=folders, paths=sorted(chain(ordered, folders)))


def lfs_pointer(sha256: str, size: int) -> bytes:
    """What git keeps in place of a large file (Git LFS specification, version 1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_object(kind: str, data: bytes) -> str:
    """The name of a git object: "blob" or "tree"."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def _file(file: ReleaseFile, source: Source) -> TreeFile:
    sha256 = sha256_raw(file.sha256).hex()
    kept = lfs_pointer(sha256, file.size) if file.inline is None else file.inline
    return TreeFile(
        path=file.path,
        path_in_release=file.path,
        size=file.size,
        b3=file.b3,
        sha256=sha256,
        oid=git_object("blob", kept),
        pointer=len(kept) if file.inline is None else 0,
        source=source,
    )


class _Placed:
    """Files that are in nobody's way, also on disks that take capitals and small letters for the same."""

    def __init__(self) -> None:
        self.files: dict[str, TreeFile] = {}
        self._names: set[str] = set()
        self._folders: set[str] = set()

    def add(self, file: TreeFile) -> None:
        same = self.files.get(file.path)
        if same is not None and same.b3 == file.b3:
            return
        ways = (file.path, f"{file.source.tag}/{file.path}", f"{file.source.commit}/{file.path}")
        path = next((way for way in ways if self._is_free(way)), None)
        if path is None:  # no digest can be chosen so that a file is in the way of its own
            return
        self.files[path] = replace(file, path=path)
        self._names.add(_folded(path))
        self._folders.update(_parents(_folded(path)))

    def _is_free(self, path: str) -> bool:
        name = _folded(path)
        return name not in self._names and name not in self._folders and self._names.isdisjoint(_parents(name))


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path.casefold())


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _folders(files: Mapping[str, TreeFile]) -> dict[str, str]:
    """Every folder and the name that git would give it."""
    inside: dict[str, list[tuple[bytes, bytes, str]]] = {}  # folder → (mode, name, object)
    for path, file in files.items():
        folder, _, name = path.rpartition("/")
        inside.setdefault(folder, []).append((_FILE_MODE, name.encode(), file.oid))
        for parent in _parents(path):
            inside.setdefault(parent, [])
    found: dict[str, str] = {}
    for folder in sorted(inside, key=lambda path: path.count("/"), reverse=True):  # the innermost first
        if not folder:
            continue
        found[folder] = git_object("tree", _tree(inside[folder]))
        outer, _, name = folder.rpartition("/")
        inside.setdefault(outer, []).append((_FOLDER_MODE, name.encode(), found[folder]))
    return found


def _tree(entries: list[tuple[bytes, bytes, str]]) -> bytes:
    """A git tree's bytes: folders are ordered as if their names ended with a slash."""
    ordered = sorted(entries, key=lambda entry: entry[1] + b"/" if entry[0] == _FOLDER_MODE else entry[1])
    return b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in ordered)
