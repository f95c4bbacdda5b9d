"""The `.samara` file: a release that travels alone. Pure bytes in, values out.

zstd-compressed JSON {"format": "samara-release-1", "roots": [base64…], "envelope": {…}, "torrents": [base64…]}.
An untrusted container: every part proves itself, so nothing here is believed, only bounded and parsed.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import zstandard
from blake3 import blake3

from samara.schemas.bittorrent import MAX_SMALL_FILE, MAX_TORRENT_BYTES, SmallTorrent, small_torrent
from samara.schemas.envelope import (
    MAX_PAYLOAD_BYTES,
    Envelope,
    base64_bytes,
    canonical_json,
    parse_envelope,
    strict_json,
)
from samara.schemas.errors import MalformedError
from samara.schemas.zstd_frame import FrameError, FrameFault, unpack_frame

FORMAT = "samara-release-1"
SUFFIX = ".samara"
MAX_ROOT_BYTES = 256 * 1024
MAX_ROOTS = 1024
MAX_COMPRESSED_BYTES = 64 * 1024 * 1024
MAX_JSON_BYTES = 2 * MAX_PAYLOAD_BYTES + 64 * 1024 * 1024
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseBundle:
    """The parts of a `.samara` file, still unproven. `roots`: TUF root metadata, version 1 first."""

    roots: tuple[bytes, ...]
    envelope: Envelope
    torrents: tuple[bytes, ...]


def pack_release(bundle: ReleaseBundle) -> bytes:
    """ReleaseBundle → file bytes; the same bundle always gives the same JSON."""
    return zstandard.ZstdCompressor(level=9).compress(canonical_json(_as_json(bundle, roots=bundle.roots)))


def unpack_release(data: bytes) -> ReleaseBundle:
    """File bytes → ReleaseBundle. Raises MalformedError; never allocates more than the stated bounds."""
    if len(data) > MAX_COMPRESSED_BYTES:
        raise MalformedError("release file too large", expected=f"≤ {MAX_COMPRESSED_BYTES} bytes", actual=len(data))
    if not data.startswith(ZSTD_MAGIC):
        raise MalformedError("not a .samara file", expected="zstd data", actual=repr(data[:4]))
    return _from_json(_decompress(data))


def _as_json(bundle: ReleaseBundle, *, roots: tuple[bytes, ...]) -> dict[str, object]:
    return {
        "format": FORMAT,
        "roots": [base64.b64encode(root).decode() for root in roots],
        "envelope": bundle.envelope.as_dict(),
        "torrents": [base64.b64encode(torrent).decode() for torrent in bundle.torrents],
    }


def _from_json(data: bytes | bytearray) -> ReleaseBundle:
    value = strict_json(data, "release file")
    if not isinstance(value, dict):
        raise MalformedError("release file is not a JSON object")
    if value.get("format") != FORMAT:
        raise MalformedError(
            "release file of a kind this version doesn't know", expected=FORMAT, actual=repr(value.get("format"))[:80]
        )
    return ReleaseBundle(
        roots=_list_of_bytes(value.get("roots"), "roots", at_most=MAX_ROOTS, each=MAX_ROOT_BYTES),
        envelope=parse_envelope(value.get("envelope")),
        torrents=_list_of_bytes(value.get("torrents"), "torrents", at_most=4096, each=MAX_TORRENT_BYTES),
    )


def pack_release_object(bundle: ReleaseBundle) -> bytes:
    """The same JSON uncompressed and without roots: what a release's own swarm carries, named by the catalog.

    Roots come with the catalog; leaving them out keeps the bytes, hence the swarm, the same when keys rotate.
    """
    return canonical_json(_as_json(bundle, roots=()))


def release_torrent(bundle: ReleaseBundle) -> SmallTorrent:
    """The torrent of the release object: its infohash is what catalog and magnet links call `btmh` and `x.release`."""
    name = release_object_name(blake3(bundle.envelope.payload).hexdigest())
    return small_torrent(name, pack_release_object(bundle))


def unpack_release_object(data: bytes) -> ReleaseBundle:
    """What `pack_release_object` wrote → ReleaseBundle, still unproven. Raises MalformedError."""
    if len(data) > MAX_SMALL_FILE:
        raise MalformedError("release object too large", expected=f"≤ {MAX_SMALL_FILE} bytes", actual=len(data))
    return _from_json(data)


def release_object_name(manifest_hex: str) -> str:
    """The file name of a release object in its swarm and in a folder that serves it."""
    return f"{manifest_hex}.release.json"


def _decompress(data: bytes) -> bytearray:
    try:
        return unpack_frame(data, MAX_JSON_BYTES)
    except FrameError as error:
        raise _refused(error) from None


def _refused(error: FrameError) -> MalformedError:
    match error.fault:
        case FrameFault.TOO_LARGE:
            return MalformedError("release file unpacks to too much", expected=f"≤ {MAX_JSON_BYTES} bytes")
        case FrameFault.DAMAGED:
            return MalformedError(f"release file is damaged ({error.what})")
        case FrameFault.SHORT:
            return MalformedError("release file ends early", next_step="get it again")
        case FrameFault.LONG:
            return MalformedError("release file goes on after its end", next_step="get it again")


def _list_of_bytes(value: object, what: str, *, at_most: int, each: int) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > at_most:
        raise MalformedError(f"release file's {what}", expected=f"a list of at most {at_most}")
    return tuple(base64_bytes(item, f"release file's {what}", limit=each) for item in value)
