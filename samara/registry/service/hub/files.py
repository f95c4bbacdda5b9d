"""/{owner}/{model}/resolve/{revision}/{path}: a file's bytes; …/raw/…: what git would keep of it."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from samara.registry.service.blob_files import blob_answer
from samara.registry.service.downloads import IMMUTABLE, OCTETS
from samara.registry.service.hub.problems import HubError, no_entry
from samara.registry.service.hub.requests import base_url
from samara.registry.service.hub.revisions import Revisions, Snapshot, split_revision
from samara.registry.service.hub.shared import FRESH, allow_preflights, answered
from samara.registry.service.hub.trees import TreeFile, lfs_pointer
from samara.registry.service.service import Service
from samara.schemas.digests import b3
from samara.schemas.errors import NotFoundError, StoreError

_RESOLVE = "/{owner}/{model}/resolve/{rest:path}"
_RAW = "/{owner}/{model}/raw/{rest:path}"
# Shown as text, never run: a page that is opened here would speak with this registry's origin.
_PLAIN = "text/plain; charset=utf-8"
_TEXT = {".json": "application/json", ".txt": _PLAIN, ".md": _PLAIN}


def routes(service: Service, revisions: Revisions) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    @answered
    def resolve(request: Request, owner: str, model: str, rest: str) -> Response:
        """A file of a release: GET (also a range of it) or HEAD. `rest`: revision/path."""
        snapshot, file = find(owner, model, rest)
        headers = {"X-Repo-Commit": snapshot.commit, "X-Linked-Size": str(file.size)}
        if file.is_lfs:
            headers["X-Linked-Etag"] = f'"{file.sha256}"'
        if request.method == "HEAD" and not snapshot.is_pinned:
            headers["Location"] = _pinned(service, request, snapshot, file)
        try:
            return blob_answer(
                service,
                request,
                b3=file.b3,
                size=file.size,
                inline=None if file.is_lfs else _inline(revisions, file),
                etag=file.etag,
                media_type=_media_type(file),
                file_name=file.path,
                cache_control=IMMUTABLE if snapshot.is_pinned else FRESH,
                headers=headers,
                publisher=snapshot.repository.owner.identity,
            )
        except NotFoundError:
            raise _elsewhere(snapshot, file) from None

    @answered
    def raw(request: Request, owner: str, model: str, rest: str) -> Response:
        """What git would keep of a file: a small one itself, of a large one the LFS pointer."""
        snapshot, file = find(owner, model, rest)
        data = lfs_pointer(file.sha256, file.size) if file.is_lfs else _inline(revisions, file)
        return blob_answer(
            service,
            request,
            b3=b3(data),
            size=len(data),
            inline=data,
            etag=file.oid,
            media_type=_PLAIN,
            file_name=file.path,
            cache_control=IMMUTABLE if snapshot.is_pinned else FRESH,
            headers={"X-Repo-Commit": snapshot.commit},
        )

    def find(owner: str, model: str, rest: str) -> tuple[Snapshot, TreeFile]:
        revision, path = split_revision(rest)
        snapshot = revisions.snapshot(revisions.repository(owner, model), revision)
        file = snapshot.tree.files.get(path)
        if file is None:
            raise no_entry(path, snapshot.commit)
        return snapshot, file

    for path, handler in ((_RESOLVE, resolve), (_RAW, raw)):
        router.add_api_route(path, handler, methods=["GET"], response_class=Response)
        router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
    allow_preflights(router, _RESOLVE, _RAW)
    return router


def _inline(revisions: Revisions, file: TreeFile) -> bytes:
    data = revisions.inline(file)
    if data is None:
        raise StoreError(f"the manifest {file.source.manifest} isn't here any more", next_step="ask again")
    return data


def _pinned(service: Service, request: Request, snapshot: Snapshot, file: TreeFile) -> str:
    """The same file by its commit. huggingface_hub fetches what HEAD names: otherwise a release that is published
    between its HEAD and its GET would be kept under the old one's digest.
    """
    base = base_url(service.settings.origin, request.headers, request.url.scheme)
    return f"{base}/{snapshot.repository.name}/resolve/{snapshot.commit}/{quote(file.path)}"


def _elsewhere(snapshot: Snapshot, file: TreeFile) -> HubError:
    """Not a 404: clients would remember that the release has no such file, or do without it."""
    name = f"{snapshot.repository.owner.slug}/{snapshot.repository.model}:{file.source.tag}"
    return HubError(
        f"the bytes of {file.path} aren't on this registry, only in the swarm; get them by: samara pull {name}",
        status=409,
    )


def _media_type(file: TreeFile) -> str:
    return OCTETS if file.is_lfs else _TEXT.get(PurePosixPath(file.path).suffix.lower(), OCTETS)
