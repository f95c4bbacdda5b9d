"""/api/models…: repositories, their trees and names, in the Hub's JSON; who one is there (nobody)."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from samara.registry.service.hub import answers
from samara.registry.service.hub.problems import HubError, no_entry
from samara.registry.service.hub.requests import MAX_BODY, base_url, flag, number, paths_asked
from samara.registry.service.hub.revisions import MAIN, Revisions, Snapshot, commit_of, split_revision
from samara.registry.service.hub.shared import FRESH, allow_preflights, answered, attempt, readable
from samara.registry.service.service import Service
from samara.schemas.manifest import MAX_FILES

_MODEL = "/api/models/{owner}/{model}"
_REVISION = f"{_MODEL}/revision/{{revision:path}}"
_TREE = f"{_MODEL}/tree/{{rest:path}}"
_PATHS = f"{_MODEL}/paths-info/{{revision:path}}"
_REFS = f"{_MODEL}/refs"
_COMMITS = f"{_MODEL}/commits/{{revision:path}}"
# A whole release of any size at once: llama.cpp reads no second page.
MAX_PAGE = MAX_FILES
MAX_EXPANDED = 1000  # with the last commit of each


def routes(service: Service, revisions: Revisions) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    def snapshot_of(owner: str, model: str, revision: str) -> Snapshot:
        return revisions.snapshot(revisions.repository(owner, model), revision)

    def told(snapshot: Snapshot, request: Request) -> Response:
        with_blobs = flag(request.query_params.get("blobs"))
        return _json(answers.model_info(snapshot, revisions.tags_of(snapshot), with_blobs=with_blobs), snapshot)

    @router.get(_MODEL)
    @answered
    def model_info(request: Request, owner: str, model: str) -> Response:
        """A model at `main`."""
        return told(snapshot_of(owner, model, MAIN), request)

    @router.get(_REVISION)
    @answered
    def revision_info(request: Request, owner: str, model: str, revision: str) -> Response:
        """A model at a revision: a tag, a commit or `main`."""
        return told(snapshot_of(owner, model, revision), request)

    @router.get(_TREE)
    @answered
    def tree(request: Request, owner: str, model: str, rest: str) -> Response:
        """Files and folders. `rest`: revision[/folder]. Query: recursive, expand, limit, cursor; Link to the next."""
        revision, folder = split_revision(rest)
        snapshot = snapshot_of(owner, model, revision)
        query = request.query_params
        recursive, expand = flag(query.get("recursive")), flag(query.get("expand"))
        most = MAX_EXPANDED if expand else MAX_PAGE
        limit = max(1, number(query.get("limit"), "limit", default=most, most=most))
        first = number(query.get("cursor"), "cursor", default=0, most=10**9)
        paths = snapshot.tree.below(folder.strip("/"), recursive=recursive)
        if paths is None:
            raise no_entry(folder, snapshot.commit)
        page = [answers.entry(snapshot.tree, path, expand=expand) for path in paths[first : first + limit]]
        response = _json(page, snapshot)
        if first + limit < len(paths):  # by the commit: a release that comes meanwhile must not shift the pages
            more = {"recursive": recursive, "expand": expand, "limit": limit, "cursor": first + limit}
            base = base_url(service.settings.origin, request.headers, request.url.scheme)
            where = f"/api/models/{snapshot.repository.name}/tree/{snapshot.commit}"
            where += f"/{quote(folder.strip('/'))}" if folder.strip("/") else ""
            text = urlencode({name: str(value).lower() for name, value in more.items()})
            response.headers["Link"] = f'<{base}{where}?{text}>; rel="next"'
        return response

    @router.post(_PATHS)
    async def paths_info(request: Request, owner: str, model: str, revision: str) -> Response:
        """Those of the paths asked about that there are. Body: a form or JSON with `paths` and `expand`."""

        def find(body: bytes) -> Response:
            paths, expand = paths_asked(body, request.headers.get("content-type", ""))
            snapshot = snapshot_of(owner, model, revision)
            tree = snapshot.tree
            found = [path for path in paths if path in tree.files or path in tree.folders]
            return _json([answers.entry(tree, path, expand=expand) for path in found], snapshot)

        body = await _body(request)
        return readable(await run_in_threadpool(attempt, lambda: find(body)))

    @router.get(_REFS)
    @answered
    def refs(owner: str, model: str) -> Response:
        """`main` and the tags."""
        repository = revisions.repository(owner, model)
        return _json(answers.refs(commit_of(revisions.main(repository)), revisions.tags(repository)))

    @router.get(_COMMITS)
    @answered
    def commits(owner: str, model: str, revision: str) -> Response:
        """What a revision is made of, the newest first."""
        snapshot = snapshot_of(owner, model, revision)
        return _json(answers.commits(snapshot), snapshot)

    @router.get("/api/whoami-v2")
    @answered
    def whoami() -> Response:
        """Nobody: there are no accounts here."""
        raise HubError("Invalid username or password.", status=401)

    allow_preflights(router, _MODEL, _REVISION, _TREE, _PATHS, _REFS, _COMMITS)
    return router


def _json(value: object, snapshot: Snapshot | None = None) -> JSONResponse:
    headers = {"Cache-Control": FRESH}
    if snapshot is not None:
        headers["X-Repo-Commit"] = snapshot.commit
    return JSONResponse(value, headers=headers)


async def _body(request: Request) -> bytes:
    """The body, or a little more than is allowed of it."""
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > MAX_BODY:
            break
    return bytes(found)
