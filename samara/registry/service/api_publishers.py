"""/v1/publishers: who publishes here, their TUF repositories and release objects, evidence against them, names.

`/v1/publishers/{owner}/metadata/` is a folder as `samara.registry.trust.sources` describes it: any Samara client takes
its address as a source of catalogs.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Annotated

from blake3 import blake3
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from samara.registry.listed_publishers import Owner
from samara.registry.listings import Listings
from samara.registry.publications.accepted import AcceptedCatalog
from samara.registry.service.service import Service
from samara.registry.trust.files import time_text
from samara.registry.trust.roots import RootChain
from samara.schemas.errors import NotFoundError
from samara.schemas.release_file import ReleaseBundle, pack_release_object, release_object_name

IMMUTABLE = "public, max-age=31536000, immutable"
SHORTLY = "public, max-age=60"  # a release may gain signatures
_RELEASE = re.compile(r"releases/([0-9a-f]{64})\.release\.json\Z")

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

    @router.get("/v1/publishers", summary="Publishers", response_model=PublisherPage)
    def publishers(
        limit: Annotated[int, Query(ge=1, le=500)] = 100, offset: Annotated[int, Query(ge=0, le=10**9)] = 0
    ) -> PublisherPage:
        some = listings.owners(limit=limit, offset=offset)
        return PublisherPage(publishers=[_summary(one) for one in some], total=listings.owners_count())

    @router.get(
        "/v1/publishers/{owner}", summary="A publisher", response_model=PublisherDetails, responses={404: {}, 410: {}}
    )
    def publisher(owner: OwnerName) -> PublisherDetails:
        return _details(service, _owner(listings, owner))

    @router.get(
        "/v1/publishers/{owner}/equivocations",
        summary="What a publisher should not have signed",
        response_model=list[EquivocationView],
        responses={404: {}, 410: {}},
    )
    def equivocations(owner: OwnerName) -> list[EquivocationView]:
        return [
            EquivocationView(
                version=one.version,
                seen=time_text(datetime.fromtimestamp(one.seen_at, UTC)),
                known=base64.b64encode(one.known).decode(),
                offered=base64.b64encode(one.offered).decode(),
            )
            for one in listings.equivocations(_owner(listings, owner, barred_too=True).identity)  # evidence stays
        ]

    @router.get(
        "/v1/publishers/{owner}/metadata/{name:path}",
        summary="A file of a publisher's TUF repository, or a release object",
        response_class=Response,
        responses={200: {"content": {"application/json": {}}}, 304: {}, 404: {}, 410: {}},
    )
    def metadata(owner: OwnerName, name: Annotated[str, Path(max_length=128)], request: Request) -> Response:
        found = _owner(listings, owner)
        release = _RELEASE.match(name)
        if release is not None:
            data = _release_object(service, found, release[1])
            return _file(data, request, etag=blake3(data).hexdigest(), cache_control=SHORTLY)
        accepted = _accepted(service, found)
        said = accepted.catalog.versions
        files = accepted.bundle.files(snapshot_version=said["snapshot"], targets_version=said["targets"])
        content = next((data for file, data in files if file == name), None)
        if content is None:
            raise NotFoundError(f"no {name} of {found.slug} here")
        etag = f"{said['root']}-{said['timestamp']}-{name}"
        return _file(content, request, etag=etag, cache_control="no-cache" if name == "timestamp.json" else IMMUTABLE)

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


def _owner(listings: Listings, name: str, *, barred_too: bool = False) -> Owner:
    owner = listings.owner(name, barred_too=barred_too)
    if owner is None:
        raise NotFoundError(f"no publisher {name} here", next_step="see /v1/publishers")
    return owner


def _summary(owner: Owner) -> PublisherSummary:
    return PublisherSummary(identity=owner.identity, name=owner.name, namespace=owner.namespace)


def _accepted(service: Service, owner: Owner) -> AcceptedCatalog:
    found = service.catalog(owner.identity)
    if found is None:
        raise NotFoundError(f"no catalog of {owner.slug} here")
    return found


def _details(service: Service, owner: Owner) -> PublisherDetails:
    accepted = _accepted(service, owner)
    catalog = accepted.catalog
    return PublisherDetails(
        identity=owner.identity,
        name=owner.name,
        namespace=owner.namespace,
        root_version=accepted.chain.version,
        timestamp_version=catalog.versions["timestamp"],
        signed=None if catalog.signed is None else time_text(catalog.signed),
        expires=time_text(catalog.expires),
        listed=len(catalog.entries),
        equivocations=len(service.listings.equivocations(owner.identity)),
        roots=_roots(accepted.chain),
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
    release = service.manifests.release(f"b3:{manifest_hex}")
    stored = service.index.release_by_digest(f"b3:{manifest_hex}")
    if release is None or stored is None or release.identity != owner.identity:
        raise NotFoundError(f"{owner.slug} has no {release_object_name(manifest_hex)} here")
    service.barred.check_release(release.digest)
    return pack_release_object(ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents))


def _file(data: bytes, request: Request, *, etag: str, cache_control: str) -> Response:
    headers = {"ETag": f'"{etag}"', "Cache-Control": cache_control}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="application/json", headers=headers)
