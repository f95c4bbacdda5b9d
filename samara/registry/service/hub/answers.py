"""What the Hub's clients read, as JSON values: model, tree, refs, commits. Pure.

The fields are those that huggingface_hub, @huggingface/hub, transformers.js and llama.cpp look at; counts of the Hub
that nobody keeps here (downloads, likes) are 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from samara.registry.listed_models import Listing
from samara.registry.repositories import Tag
from samara.registry.service.hub.revisions import Snapshot
from samara.registry.service.hub.trees import Source, Tree, TreeFile

Json = dict[str, object]

_MAX_TAGS = 200
_DATE_LENGTH = len("2026-01-02T03:04:05")


def model_card(name: str, listings: Sequence[Listing | Tag]) -> Json:
    """A repository in a list. `listings`: what `main` is made of, the newest first, at least one."""
    newest = listings[0]
    dates = sorted(one.created for one in listings)
    return {
        "_id": blake3(name.encode()).hexdigest()[:24],
        "id": name,
        "modelId": name,
        "author": name.split("/", 1)[0],
        "lastModified": date(dates[-1]),
        "createdAt": date(dates[0]),
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": _tags(listings),
        "library_name": "gguf" if newest.architecture else None,
    }


def model_info(snapshot: Snapshot, tags: Sequence[Tag], *, with_blobs: bool) -> Json:
    """A repository at one commit. `tags`: what they say of it; of an older release the newest has to do."""
    repository, tree = snapshot.repository, snapshot.tree
    told = tuple(tags) or (repository.newest,)
    found: Json = {
        **model_card(repository.name, told),
        "sha": snapshot.commit,
        "siblings": [_sibling(file, with_blob=with_blobs) for file in tree.files.values()],
        "usedStorage": tree.size,
        "spaces": [],
    }
    if told[0].license is not None:
        found["cardData"] = {"license": told[0].license}
    if told[0].architecture is not None:
        found["gguf"] = {
            "architecture": told[0].architecture,
            "total": told[0].parameters,
            "context_length": told[0].context_length,
        }
    return found


def entry(tree: Tree, path: str, *, expand: bool) -> Json:
    """A file or folder of a tree."""
    file = tree.files.get(path)
    if file is None:
        return {"type": "directory", "oid": tree.folders[path], "size": 0, "path": path}
    found: Json = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
    if file.is_lfs:
        found["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer}
    if expand:
        source = file.source
        found["lastCommit"] = {"id": source.commit, "title": _title(source), "date": date(source.created)}
    return found


def refs(main: str, tags: Sequence[Tag]) -> Json:
    """The names of commits. `main`: its commit."""
    branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": main}]
    named = [{"name": one.tag, "ref": f"refs/tags/{one.tag}", "targetCommit": one.commit} for one in tags]
    return {"branches": branches, "converts": [], "tags": named, "pullRequests": []}


def commits(snapshot: Snapshot) -> list[Json]:
    """The history of a snapshot: each release it is made of, before them itself if there are several."""
    by_manifest = {file.source.manifest: file.source for file in snapshot.tree.files.values()}
    sources = sorted(by_manifest.values(), key=lambda source: (source.version, source.manifest), reverse=True)
    author = snapshot.repository.owner.slug
    releases = [_commit(source.commit, _title(source), source.created, author) for source in sources]
    if len(snapshot.manifests) == 1:
        return releases
    title = f"{len(snapshot.manifests)} releases side by side"
    return [_commit(snapshot.commit, title, sources[0].created, author), *releases]


def date(created: str) -> str:
    """A manifest's date as the Hub writes it."""
    return created[:_DATE_LENGTH] + ".000Z"


def _commit(digest: str, title: str, created: str, author: str) -> Json:
    return {
        "id": digest, "title": title, "message": "", "date": date(created), "authors": [{"user": author, "avatar": ""}],
    }  # fmt: skip


def _title(source: Source) -> str:
    return f"{source.tag}, version {source.version}"


def _sibling(file: TreeFile, *, with_blob: bool) -> Json:
    if not with_blob:
        return {"rfilename": file.path}
    found: Json = {"rfilename": file.path, "size": file.size, "blobId": file.oid}
    if file.is_lfs:
        found["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer}
    return found


def _tags(listings: Sequence[Listing | Tag]) -> list[str]:
    """What people filter by."""
    found: dict[str, None] = {}
    for one in listings[:_MAX_TAGS]:
        if one.architecture is not None:
            found.update(dict.fromkeys(("gguf", one.architecture)))
        if one.quantisation is not None:
            found[one.quantisation] = None
        if one.license is not None:
            found[f"license:{one.license.lower()}"] = None
    return list(found)
