"""/v1/manifests, /v1/envelopes, /v1/releases, /v1/torrents, /v1/blobs: what is signed, and the bytes it is about.

Manifests are given byte for byte, so that `b3sum` proves them; torrents hold what the manifest's infohash covers and
this registry's own addresses, nothing that an uploader wrote beside it; blobs only of releases that are listed and not
withdrawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import zstandard
from blake3 import blake3
from fastapi import APIRouter, Path, Request, Response

from samara.registry.records import StoredRelease
from samara.registry.service.blob_files import blob_answer, is_given, open_verified
from samara.registry.service.codings import takes
from samara.registry.service.downloads import OCTETS
from samara.registry.service.kept import Kept
from samara.registry.service.service import Service
from samara.schemas.bittorrent import bdecode, bencode, blob_file_name, parse_blob_torrent
from samara.schemas.envelope import PAYLOAD_TYPE, canonical_json
from samara.schemas.errors import NotFoundError, StoreError
from samara.schemas.hops import parse_hops
from samara.schemas.manifest import INLINE_LIMIT, Release
from samara.schemas.release_file import SUFFIX, ReleaseBundle, pack_release

SHORTLY = "public, max-age=60"  # what may be another one tomorrow
_KEPT = 48 << 20  # bytes of manifests and release files at hand
_LEVEL = 6  # of zstd: a manifest is digests, which more effort doesn't make smaller
_LOOKED_AT = 16  # releases with the same blob that are asked what it is, where it isn't here

Hex = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="64 lower-case hex digits")]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Described:
    """A blob as a listed release describes it; `is_proven`: as it is; `is_agreed`: all say that it is that long."""

    size: int
    name: str
    inline: bytes | None
    is_proven: bool = True
    is_agreed: bool = True


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["manifests and blobs"])
    kept = Kept[tuple[object, ...], bytes](_KEPT, len)

    @router.get(
        "/v1/manifests/{digest}",
        summary="A signed payload, byte for byte",
        response_class=Response,
        responses=_binary(PAYLOAD_TYPE),
    )
    def manifest(request: Request, digest: Hex) -> Response:
        """Its BLAKE3 digest is `digest`. With `Accept-Encoding: zstd` it comes compressed."""
        _kept_release(service, digest)
        payload = kept.get(("payload", digest), lambda: _stored(service, digest).envelope.payload)
        headers = {"Vary": "Accept-Encoding"}
        etag = digest
        if takes("zstd", request.headers.getlist("accept-encoding")):
            payload = kept.get(("zstd", digest), lambda: zstandard.ZstdCompressor(level=_LEVEL).compress(payload))
            headers["Content-Encoding"] = "zstd"
            etag = f"{digest}-zstd"
        return blob_answer(
            service, request, b3=f"b3:{digest}", size=len(payload), inline=payload, etag=etag,
            media_type=PAYLOAD_TYPE, file_name=f"{digest}.json", headers=headers,
        )  # fmt: skip

    @router.get(
        "/v1/envelopes/{digest}",
        summary="A manifest with its signatures (DSSE)",
        response_class=Response,
        responses=_binary("application/json"),
    )
    def envelope(request: Request, digest: Hex) -> Response:
        """The same manifest may gain signatures: it is not kept for good."""
        _kept_release(service, digest)
        data = canonical_json(_stored(service, digest).envelope.as_dict())
        return _document(service, request, data, media_type="application/json", file_name=f"{digest}.dsse.json")

    @router.get(
        "/v1/releases/{digest}.samara",
        summary="A release that travels alone",
        response_class=Response,
        responses=_binary(OCTETS),
    )
    def release_file(request: Request, digest: Hex) -> Response:
        """Manifest, signatures, the publisher's roots, torrents: enough for `samara pull FILE`."""
        release = _kept_release(service, digest)
        stored = _stored(service, digest)
        metadata = service.listings.metadata(release.identity)
        if metadata is None:
            raise _unknown(digest)
        bundle = ReleaseBundle(roots=metadata.roots, envelope=stored.envelope, torrents=stored.torrents)
        key = ("release", digest, len(metadata.roots), len(stored.torrents), stored.envelope.signatures)
        data = kept.get(key, lambda: pack_release(bundle))
        name = f"{release.model}-{release.tag}{SUFFIX}"
        return _document(service, request, data, media_type=OCTETS, file_name=name)

    @router.get(
        "/v1/torrents/{infohash}.torrent",
        summary="A torrent by its v2 infohash",
        response_class=Response,
        responses=_binary("application/x-bittorrent"),
    )
    def torrent(request: Request, infohash: Hex) -> Response:
        """With this registry as its tracker and, where it has the bytes, as a web seed (BEP 19)."""
        stored = service.listings.torrent(infohash)
        if stored is None:
            service.barred.check_torrent(infohash)
            raise NotFoundError(f"no listed release names a torrent {infohash}")
        parsed = parse_blob_torrent(stored)
        digits = parsed.name[:64]
        seeds = [f"{service.settings.origin}/v1/blobs/{digits}/{parsed.name}"] if _can_give(service, digits) else []
        data = _with_addresses(parsed.canonical, f"{service.settings.origin}/announce", seeds)
        return _document(
            service, request, data, media_type="application/x-bittorrent", file_name=f"{digits}.torrent"
        )  # fmt: skip

    @router.get(
        "/v1/blobs/{digest}",
        summary="A blob",
        response_class=Response,
        responses=_binary(OCTETS, ranged=True),
    )
    def blob(request: Request, digest: Hex) -> Response:
        """Its BLAKE3 digest is `digest`. One range at a time; the ETag is the digest."""
        return give(request, digest, None)

    @router.get(
        "/v1/blobs/{digest}/{name}",
        summary="A blob under a name",
        response_class=Response,
        responses=_binary(OCTETS, ranged=True),
    )
    def named_blob(
        request: Request,
        digest: Hex,
        name: Annotated[str, Path(max_length=255, description="A file name that a listed release gives it")],
    ) -> Response:
        """The same, saved under the name; for torrents' web seeds also under `{digest}.gguf` and `.bin`."""
        return give(request, digest, name)

    def give(request: Request, digest: str, name: str | None) -> Response:
        found = _uncontested(service, request, f"b3:{digest}", _described(service, digest))
        own = {blob_file_name(digest, gguf=True), blob_file_name(digest, gguf=False)}
        if name is not None and name not in own and service.listings.file_name(f"b3:{digest}", name) is None:
            raise NotFoundError(f"no listed release calls blob b3:{digest} so", actual=repr(name[:80]))
        return blob_answer(
            service, request, b3=f"b3:{digest}", size=found.size, inline=found.inline,
            file_name=name or found.name,
        )  # fmt: skip

    return router


def _binary(media_type: str, *, ranged: bool = False) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: what comes."""
    content = {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}
    answers: dict[int | str, dict[str, Any]] = {
        200: content,
        304: {},
        404: {},
        410: {},
        412: {},
        416: {},
        429: {},
        503: {},
    }
    return answers | ({206: content, 502: {}, 507: {}} if ranged else {206: content})


def _document(service: Service, request: Request, data: bytes, *, media_type: str, file_name: str) -> Response:
    """What isn't named by its own digest: its ETag is the digest of what it is now."""
    digits = blake3(data).hexdigest()
    return blob_answer(
        service, request, b3=f"b3:{digits}", size=len(data), inline=data, media_type=media_type,
        file_name=file_name, cache_control=SHORTLY,
    )  # fmt: skip


def _kept_release(service: Service, digest: str) -> Release:
    """A release of a publisher that has a catalog here: what the operator merely pulled isn't ours to give."""
    release = service.manifests.release(f"b3:{digest}")
    if release is None or service.listings.owner(release.identity) is None:
        service.barred.check_digests([f"b3:{digest}"])
        raise _unknown(digest)
    service.barred.check_release(release.digest)  # small files travel in it
    return release


def _stored(service: Service, digest: str) -> StoredRelease:
    stored = service.index.release_by_digest(f"b3:{digest}")
    if stored is None:  # forgotten a moment ago
        raise _unknown(digest)
    return stored


def _unknown(digest: str) -> NotFoundError:
    return NotFoundError(f"no manifest b3:{digest} here", next_step="look for the model by its name")


def _described(service: Service, digest: str) -> _Described:
    """What listed releases say of a blob. Anybody may list anybody's blob and say what they like of it, so a verified
    copy decides where there is one, and no manifest is read for it unless the bytes may be in there.
    """
    b3 = f"b3:{digest}"
    name = service.listings.file_name(b3)
    if name is None:
        service.barred.check_digests([b3])
        raise _unlisted(b3)
    record = service.index.blob(b3)
    sizes: list[int] = []
    if record is not None and record.locations:
        sizes.append(min(record.locations, key=lambda place: not place.in_store).stamp.size)
    if sizes and sizes[0] > INLINE_LIMIT:
        return _Described(size=sizes[0], name=name, inline=None)
    for _, manifest in service.listings.manifests_of(b3)[:_LOOKED_AT]:
        release = service.manifests.release(manifest)
        for file in release.files if release is not None else ():
            if file.b3 == b3 and file.inline is not None:  # proven against its digest
                return _Described(size=len(file.inline), name=name, inline=file.inline)
            if file.b3 == b3:
                sizes.append(file.size)
    if not sizes:  # withdrawn a moment ago
        raise _unlisted(b3)
    here = record is not None and bool(record.locations)
    return _Described(size=sizes[0], name=name, inline=None, is_proven=here, is_agreed=len(set(sizes)) == 1)


def _uncontested(service: Service, request: Request, b3: str, found: _Described) -> _Described:
    """The same, if nobody contradicts it; else with its true size, once it is here. Raises StoreError until then."""
    bringer = service.bringer
    if found.is_proven or bringer is None or (found.is_agreed and not bringer.is_contested(b3)):
        return found
    if request.method == "HEAD":
        raise StoreError(f"publishers contradict each other about {b3}", next_step="ask for it, and try again later")
    hops = parse_hops(request.query_params.get("via"), request.query_params.get("held"))
    arriving = bringer.bring(b3, hops=hops)
    arriving.close()
    return replace(found, size=arriving.size)


def _unlisted(b3: str) -> NotFoundError:
    return NotFoundError(f"no listed release has a blob {b3}", next_step="look for the model by its name")


def _can_give(service: Service, digest: str) -> bool:
    try:
        found = _described(service, digest)
    except NotFoundError:
        return False
    if found.inline is not None:
        return True
    record = service.index.blob(f"b3:{digest}")
    file = None if record is None else open_verified(record, found.size)
    if file is None or record is None:
        return service.bringer is not None
    file.close()
    return is_given(service, record)


def _with_addresses(canonical: bytes, announce: str, seeds: list[str]) -> bytes:
    """A torrent of ours with where to go (BEP 3, BEP 12, BEP 19). The info dictionary stays byte for byte."""
    parts = bdecode(canonical)
    assert isinstance(parts, dict)
    added: dict[bytes, Any] = {b"announce": announce.encode(), b"announce-list": [[announce.encode()]]}
    if seeds:
        added[b"url-list"] = [seed.encode() for seed in seeds]
    return bencode({**parts, **added})
