"""Bytes of blobs as answers: from a verified file here, out of a manifest, or while they arrive.

Who calls has decided that these bytes may be given. What is given was verified and bears the same stamp since: the file
is opened once, and the open file's stamp is what counts. Conditions and ranges: `byte_ranges`; sending: `sending`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from types import MappingProxyType

from fastapi import Request
from fastapi.responses import Response

from samara.registry.records import BlobRecord
from samara.registry.service.byte_ranges import Part, Wanted, part_of
from samara.registry.service.downloads import IMMUTABLE, OCTETS, content_disposition
from samara.registry.service.problems import RefusedError
from samara.registry.service.sending import ArrivingAnswer, BytesAnswer, FileAnswer, OpenFile, Sent
from samara.registry.service.service import Service
from samara.registry.service.wire_limits import is_within
from samara.schemas.digests import b3_hex
from samara.schemas.errors import NotFoundError
from samara.schemas.hops import parse_hops
from samara.schemas.stamps import Stamp

_NOTHING: Mapping[str, str] = MappingProxyType({})
_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def blob_answer(
    service: Service,
    request: Request,
    *,
    b3: str,
    size: int,
    inline: bytes | None = None,
    etag: str | None = None,
    media_type: str = OCTETS,
    file_name: str | None = None,
    cache_control: str = IMMUTABLE,
    headers: Mapping[str, str] = _NOTHING,
    publisher: str | None = None,
) -> Response:
    """GET or HEAD of one blob (`b3:…`, `size` bytes): 200, 206, 304, or raises 404, 412, 416. To be called in a thread.

    `inline`: the bytes themselves, out of a verified manifest. `etag`: without quotes; the BLAKE3 digest's hex unless
    told. `headers`: added to every answer. `publisher`: whose release it is asked for as, where that is known. A blob
    that isn't here is brought (`service.bringer`) and given while it arrives; HEAD brings nothing.
    """
    tag = etag or b3_hex(b3)
    part = part_of(_wanted(request), etag=tag, size=size)
    common = {"ETag": f'"{tag}"', "Cache-Control": cache_control, **headers}
    if part.status == 304:
        return Response(status_code=304, headers=common)
    if part.status == 412:
        raise RefusedError("the blob has another entity tag", status=412, actual=tag, headers=dict(common))
    if part.status == 416:
        told = {"Content-Range": part.content_range(size) or "", "Accept-Ranges": "bytes"}
        raise RefusedError(
            "no such range", status=416, expected=f"a range within {size} bytes", headers={**headers, **told}
        )
    about = {
        **common,
        "Accept-Ranges": "bytes",
        "Content-Type": media_type,
        "Content-Disposition": content_disposition(file_name),
        "Content-Security-Policy": "default-src 'none'; sandbox",  # whatever it is, it runs nothing here
        "X-Content-Type-Options": "nosniff",
    }
    if inline is not None:
        return _inline(service, request, part, inline, about)
    return _from_disk(service, request, part, b3, size, about, publisher)


def open_verified(record: BlobRecord, size: int) -> OpenFile | None:
    """An open file that holds the whole blob untouched since it was verified; the store's own copy first.

    `size`: bytes by the manifest that is followed; in the index stands the word of who described the blob first.
    """
    for place in sorted(record.locations, key=lambda place: not place.in_store):
        if place.stamp.size != size:
            continue
        try:
            fd = os.open(place.path, _OPEN)
        except OSError:  # gone, or a disk that fails: another place may do
            continue
        file = OpenFile(fd, place.stamp, in_store=place.in_store)
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and Stamp.of(found) == place.stamp:
                return file
        except OSError:
            pass
        file.close()
    return None


def is_given(service: Service, record: BlobRecord, publisher: str | None = None) -> bool:
    """Whether strangers get a blob that is here, as of a release of `publisher` (see `samara.registry.giving`)."""
    return service.giving.may_give(record.b3, [place.path for place in record.locations], publisher=publisher)


def _not_here(b3: str) -> NotFoundError:
    return NotFoundError(f"{b3} isn't on this registry's disk", next_step="pull it: its swarm may have it")


def _wanted(request: Request) -> Wanted:
    names = ("if-match", "if-none-match", "if-range", "range")
    return Wanted.of(request.method, {name: request.headers.getlist(name) for name in names})


def _head_of(part: Part, size: int, about: Mapping[str, str]) -> dict[str, str]:
    ranged = part.content_range(size)
    return {**about, "Content-Length": str(part.size), **({"Content-Range": ranged} if ranged else {})}


def _inline(service: Service, request: Request, part: Part, data: bytes, about: Mapping[str, str]) -> Response:
    head = _head_of(part, len(data), about)
    if request.method == "HEAD":
        return Response(status_code=part.status, headers=head)
    return BytesAnswer(data, part.start, part.end, part.status, head, Sent(service.metrics, "index"))


def _from_disk(
    service: Service,
    request: Request,
    part: Part,
    b3: str,
    size: int,
    about: Mapping[str, str],
    publisher: str | None,
) -> Response:
    record = service.index.blob(b3)
    file = None if record is None else open_verified(record, size)
    if file is not None and record is not None and not is_given(service, record, publisher):
        file.close()
        raise _not_here(b3)  # nor is it brought: readers would get the same file
    is_head = request.method == "HEAD"
    if file is not None:
        if service.keeper is not None and not is_head:
            service.keeper.touch(b3)
        # HEAD is answered from here: the web server would leave out what it doesn't know (Location, X-Repo-Commit)
        if service.settings.accel is not None and file.in_store and not is_head and _is_behind(service, request):
            file.close()
            return _handed_over(service.settings.accel, b3_hex(b3), about)
        if is_head:
            file.close()
    elif service.bringer is None:
        raise _not_here(b3)
    head = _head_of(part, size, about)
    if is_head:
        return Response(status_code=part.status, headers=head)
    if file is not None:
        return FileAnswer(file, part.start, part.end, part.status, head, Sent(service.metrics, "disk"))
    assert service.bringer is not None
    hops = parse_hops(request.query_params.get("via"), request.query_params.get("held"))
    arriving = service.bringer.bring(b3, size, hops=hops)
    if arriving.size != size:
        arriving.close()
        raise NotFoundError(f"publishers contradict each other about the size of {b3}, and it isn't here")
    return ArrivingAnswer(
        arriving, part.start, part.end, part.status, head, Sent(service.metrics, "arriving")
    )  # fmt: skip


def _is_behind(service: Service, request: Request) -> bool:
    """Whether a web server of ours asked: anybody else would get a header instead of a file."""
    peer = request.scope.get("samara.peer") or (request.client.host if request.client else "")
    return is_within(peer, service.settings.proxies)


def _handed_over(location: str, digits: str, about: Mapping[str, str]) -> Response:
    """Let the web server in front send the store's file: it sees to ranges and lengths."""
    where = f"{location.rstrip('/')}/{digits[:2]}/{digits}"
    return Response(status_code=200, headers={**about, "X-Accel-Redirect": where})
