"""What a publisher hands to a registry: its catalog, releases that it lists, perhaps the claim of a name. Pure.

bencoded {"claim": DSSE JSON (may be left out), "format": "samara-publication-1", "metadata": a metadata bundle,
"releases": [release objects]}. An untrusted container: `samara.registry.publications` proves every part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from samara.schemas.bittorrent import Bencodable, bdecode, bencode
from samara.schemas.envelope import Envelope, canonical_json, parse_envelope, strict_json
from samara.schemas.errors import MalformedError
from samara.schemas.metadata_bundle import MAX_BUNDLE_BYTES, MetadataBundle, pack_metadata, unpack_metadata
from samara.schemas.release_file import ReleaseBundle, pack_release_object, unpack_release_object

FORMAT = "samara-publication-1"
MEDIA_TYPE = "application/vnd.samara.publication"
MAX_RELEASES = 4096  # in one publication
MAX_CLAIM_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """A publication, unproven. `claim`: an envelope of `samara.schemas.namespace_claim`."""

    metadata: MetadataBundle
    releases: tuple[ReleaseBundle, ...] = ()
    claim: Envelope | None = None


def pack_publication(publication: Publication) -> bytes:
    """Publication → bytes."""
    return pack_parts(
        publication.metadata,
        [pack_release_object(release) for release in publication.releases],
        publication.claim,
    )


def pack_parts(metadata: MetadataBundle, releases: Iterable[bytes], claim: Envelope | None) -> bytes:
    """The same from release objects that are packed already."""
    value: dict[str, Bencodable] = {"format": FORMAT, "metadata": pack_metadata(metadata), "releases": list(releases)}
    if claim is not None:
        value["claim"] = canonical_json(claim.as_dict())
    return bencode(value)


def unpack_publication(data: bytes, *, limit: int) -> Publication:
    """Bytes, at most `limit` of them, → Publication. Raises MalformedError."""
    if len(data) > limit:
        raise MalformedError("publication too large", expected=f"≤ {limit} bytes", actual=len(data))
    value = bdecode(data)
    if not isinstance(value, dict) or value.get(b"format") != FORMAT.encode():
        raise MalformedError("not a publication", expected=FORMAT)
    metadata, releases, claim = value.get(b"metadata"), value.get(b"releases"), value.get(b"claim")
    if not isinstance(metadata, bytes) or len(metadata) > MAX_BUNDLE_BYTES:
        raise MalformedError("publication's metadata", expected=f"a metadata bundle of ≤ {MAX_BUNDLE_BYTES} bytes")
    if not isinstance(releases, list) or len(releases) > MAX_RELEASES:
        raise MalformedError("publication's releases", expected=f"a list of at most {MAX_RELEASES}")
    if claim is not None and (not isinstance(claim, bytes) or len(claim) > MAX_CLAIM_BYTES):
        raise MalformedError("publication's claim", expected=f"a DSSE envelope of ≤ {MAX_CLAIM_BYTES} bytes")
    return Publication(
        metadata=unpack_metadata(metadata),
        releases=tuple(_release(one) for one in releases),
        claim=None if claim is None else parse_envelope(strict_json(claim, "claim")),
    )


def _release(value: object) -> ReleaseBundle:
    if not isinstance(value, bytes):
        raise MalformedError("publication's releases", expected="byte strings")
    return unpack_release_object(value)
