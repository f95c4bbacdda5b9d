"""/v1/publishers: who publishes here, their TUF repositories and release objects, evidence against them, names.

`/v1/publishers/{owner}/metadata/` is a folder as `samara.registry.trust.sources` describes it: any Samara client takes
its address as a source of catalogs.
"""

from __future__ import annotations

import base64
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from samara.registry.listings import Listings, Owner
from samara.registry.service.service import Service
from samara.registry.trust.catalogs import read_catalog
from samara.registry.trust.files import time_text
from samara.registry.trust.roots import RootChain, verify_root_chain
from samara.schemas.errors import NotFoundError
from samara.schemas.manifest import parse_manifest
from samara.schemas.release_file import ReleaseBundle, pack_release_object, release_object_name

IMMUTABLE = "public, max-age=31536000, immutable"
_RELEASE = re.compile(r"releases/([0-9a-f]{64})\.release\.json\Z")
_KEPT = 32  # publishers whose files are kept at hand

OwnerName = Annotated[str, Path(max_length=64, description="A namespace of this registry, or an identity")]


class KeyView(BaseModel):
    """A public key (Ed25519, 64 hex digits) and the TUF roles it may sign for."""

    model_config = ConfigDict(frozen=True)

    keyid: str
    public: str
    roles: list[str]


class RootSummary(BaseModel):
    """One version of a publisher's root. `expires`: RFC 3339; `thresholds`: role → how many keys must sign."""

    model_config = ConfigDict(frozen=True)

    version: int
    expires: str
    thresholds: dict[str, int]
    keys: list[KeyView]


class PublisherSummary(BaseModel):
    """A publisher. `name`: what it calls itself, proven by nothing; `namespace`: its name at this registry."""

    model_config = ConfigDict(frozen=True)

    identity: str
    name: str
    namespace: str | None


class PublisherPage(BaseModel):
    """Some publishers, and how many there are."""

    model_config = ConfigDict(frozen=True)

    publishers: list[PublisherSummary]
    total: int


class PublisherDetails(PublisherSummary):
    """With its catalog's versions and its keys' history. `signed`, `expires`: RFC 3339."""

    root_version: int
    timestamp_version: int
    signed: str | None
    expires: str
    listed: int
    equivocations: int
    roots: list[RootSummary]


class EquivocationView(BaseModel):
    """Two documents of one version, both signed: base64 of TUF metadata files."""

    model_config = ConfigDict(frozen=True)

    version: int
    seen: str
    known: str
    offered: str


class NamespaceView(BaseModel):
    """Whose a name is at this registry."""

    model_config = ConfigDict(frozen=True)

    name: str
    identity: str


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["publishers"])
    listings = service.listings
    files = _Files(listings)

    @router.get("/v1/publishers", summary="Publishers", response_model=PublisherPage)
    def publishers(
        limit: Annotated[int, Query(ge=1, le=500)] = 100, offset: Annotated[int, Query(ge=0, le=10**9)] = 0
    ) -> PublisherPage:
        every = listings.owners()
        return PublisherPage(publishers=[_summary(one) for one in every[offset : offset + limit]], total=len(every))

    @router.get("/v1/publishers/{owner}", summary="A publisher", response_model=PublisherDetails, responses={404: {}})
    def publisher(owner: OwnerName) -> PublisherDetails:
        return _details(listings, _owner(listings, owner))

    @router.get(
        "/v1/publishers/{owner}/equivocations",
        summary="What a publisher should not have signed",
        response_model=list[EquivocationView],
        responses={404: {}},
    )
    def equivocations(owner: OwnerName) -> list[EquivocationView]:
        return [
            EquivocationView(
                version=one.version,
                seen=time_text(datetime.fromtimestamp(one.seen_at, UTC)),
                known=base64.b64encode(one.known).decode(),
                offered=base64.b64encode(one.offered).decode(),
            )
            for one in listings.equivocations(_owner(listings, owner).identity)
        ]

    @router.get(
        "/v1/publishers/{owner}/metadata/{name:path}",
        summary="A file of a publisher's TUF repository, or a release object",
        response_class=Response,
        responses={200: {"content": {"application/json": {}}}, 304: {}, 404: {}},
    )
    def metadata(owner: OwnerName, name: Annotated[str, Path(max_length=128)], request: Request) -> Response:
        found = _owner(listings, owner)
        release = _RELEASE.match(name)
        if release is not None:
            return _file(_release_object(service, found, release[1]), request, etag=release[1], immutable=True)
        versions, named = files.of(found.identity)
        data = named.get(name)
        if data is None:
            raise NotFoundError(f"no {name} of {found.slug} here")
        return _file(data, request, etag=f"{versions}-{name}", immutable=name != "timestamp.json")

    @router.get(
        "/v1/namespaces/{name}", summary="Whose a name is here", response_model=NamespaceView, responses={404: {}}
    )
    def namespace(name: Annotated[str, Path(max_length=64)]) -> NamespaceView:
        identity = listings.namespace_owner(name)
        if identity is None:
            raise NotFoundError(f"the name {name} is nobody's here")
        return NamespaceView(name=name, identity=identity)

    @router.get(
        "/v1/namespaces/{name}/claim",
        summary="The signed claim of a name (DSSE)",
        response_class=Response,
        responses={200: {"content": {"application/json": {}}}, 404: {}},
    )
    def claim(name: Annotated[str, Path(max_length=64)]) -> Response:
        statement = listings.namespace_statement(name)
        if statement is None:
            raise NotFoundError(f"no claim of the name {name} is kept here")
        return Response(statement, media_type="application/json")

    return router


class _Files:
    """The files of publishers' repositories, taken apart once for each catalog. Thread-safe."""

    def __init__(self, listings: Listings) -> None:
        self._listings = listings
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[str, Mapping[str, bytes]]] = OrderedDict()

    def of(self, identity: str) -> tuple[str, Mapping[str, bytes]]:
        """("root-timestamp" versions, name → bytes)."""
        order = self._listings.catalog_order(identity)
        versions = "" if order is None else f"{order[0]}-{order[1]}"
        with self._lock:
            kept = self._kept.get(identity)
            if kept is not None and kept[0] == versions:
                self._kept.move_to_end(identity)
                return kept
        bundle = self._listings.metadata(identity)
        if bundle is None:
            raise NotFoundError(f"no catalog of {identity} here")
        said = read_catalog(identity, bundle).versions
        named = dict(bundle.files(snapshot_version=said["snapshot"], targets_version=said["targets"]))
        found = (f"{len(bundle.roots)}-{said['timestamp']}", named)
        with self._lock:
            self._kept[identity] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found


def _owner(listings: Listings, name: str) -> Owner:
    owner = listings.owner(name)
    if owner is None:
        raise NotFoundError(f"no publisher {name} here", next_step="see /v1/publishers")
    return owner


def _summary(owner: Owner) -> PublisherSummary:
    return PublisherSummary(identity=owner.identity, name=owner.name, namespace=owner.namespace)


def _details(listings: Listings, owner: Owner) -> PublisherDetails:
    bundle = listings.metadata(owner.identity)
    if bundle is None:
        raise NotFoundError(f"no catalog of {owner.slug} here")
    catalog = read_catalog(owner.identity, bundle)
    return PublisherDetails(
        identity=owner.identity,
        name=owner.name,
        namespace=owner.namespace,
        root_version=len(bundle.roots),
        timestamp_version=catalog.versions["timestamp"],
        signed=None if catalog.signed is None else time_text(catalog.signed),
        expires=time_text(catalog.expires),
        listed=len(catalog.entries),
        equivocations=len(listings.equivocations(owner.identity)),
        roots=_roots(verify_root_chain(owner.identity, bundle.roots)),
    )


def _roots(chain: RootChain) -> list[RootSummary]:
    return [
        RootSummary(
            version=view.version,
            expires=time_text(view.expires),
            thresholds={role: keys.threshold for role, keys in view.roles.items()},
            keys=[
                KeyView(
                    keyid=keyid,
                    public=public.hex(),
                    roles=[role for role, keys in view.roles.items() if keyid in keys.keyids],
                )
                for keyid, public in view.keys.items()
            ],
        )
        for view in chain.views
    ]


def _release_object(service: Service, owner: Owner, manifest_hex: str) -> bytes:
    stored = service.index.release_by_digest(f"b3:{manifest_hex}")
    if stored is None or parse_manifest(stored.envelope.payload).identity != owner.identity:
        raise NotFoundError(f"{owner.slug} has no {release_object_name(manifest_hex)} here")
    return pack_release_object(ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents))


def _file(data: bytes, request: Request, *, etag: str, immutable: bool) -> Response:
    headers = {"ETag": f'"{etag}"', "Cache-Control": IMMUTABLE if immutable else "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="application/json", headers=headers)
