"""The bundle: releases on a stick, with the proof of who made them and what was current. Pure bytes in, values out.

A zstd-compressed tar with one possible spelling. `samara-bundle.json` comes first and lists every further member in
order: metadata/<identity> or roots/<identity>, releases/<manifest hex>.release.json, blobs/<b3 hex>. A member's tar
header is a pure function of its name and size (`tar_header`), so a reader never parses one: it knows from the list what
each must be, byte for byte, and there is no place for a link, a device, a long name, a `..` or another order.

An untrusted container: every part proves itself, so nothing here is believed, only bounded and held to the format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from samara.schemas.bittorrent import MAX_SMALL_FILE, bdecode, bencode
from samara.schemas.digests import B3_PREFIX, b3_hex, b3_raw
from samara.schemas.envelope import canonical_json, strict_json
from samara.schemas.errors import MalformedError, UsageError
from samara.schemas.manifest import MAX_SIZE, Release
from samara.schemas.metadata_bundle import MAX_BUNDLE_BYTES
from samara.schemas.references import IDENTITY_PATTERN, is_identity, is_name
from samara.schemas.release_file import MAX_ROOT_BYTES, MAX_ROOTS, release_object_name

FORMAT = "samara-bundle-1"
ROOTS_FORMAT = "samara-roots-1"
SUFFIX = ".tar.zst"
INDEX_NAME = "samara-bundle.json"
MAX_INDEX_BYTES = 8 * 1024 * 1024
MAX_MEMBERS = 32_768
MAX_RELEASES = 1024
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024  # all members but the blobs together: a reader holds them in memory
MAX_WINDOW = 8 * 1024 * 1024  # zstd history a reader keeps, whatever the frame asks for
TAR_BLOCK = 512
TAR_END = bytes(2 * TAR_BLOCK)
_OCTAL_LIMIT = 8**11  # bytes; ustar's size field (POSIX.1-1988) holds no more in octal, GNU tar goes on in base 256
_HEX64 = "[0-9a-f]{64}"
_CREATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")


class Kind(StrEnum):
    """What a member is; also its folder in the tar."""

    METADATA = "metadata"
    ROOTS = "roots"
    RELEASE = "releases"
    BLOB = "blobs"


_ORDER = {kind: at for at, kind in enumerate(Kind)}
_LIMITS = {
    Kind.METADATA: MAX_BUNDLE_BYTES,
    Kind.ROOTS: MAX_BUNDLE_BYTES,
    Kind.RELEASE: MAX_SMALL_FILE,
    Kind.BLOB: MAX_SIZE - 1,
}
_NAMES = {
    Kind.METADATA: re.compile(rf"metadata/({IDENTITY_PATTERN})\Z"),
    Kind.ROOTS: re.compile(rf"roots/({IDENTITY_PATTERN})\Z"),
    Kind.RELEASE: re.compile(rf"releases/({_HEX64})\.release\.json\Z"),
    Kind.BLOB: re.compile(rf"blobs/({_HEX64})\Z"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file of the tar after the list. `key`: the identity, or the digest as `b3:<hex>`; `size` in bytes."""

    kind: Kind
    key: str
    size: int

    @property
    def name(self) -> str:
        """Its name in the tar."""
        if self.kind is Kind.RELEASE:
            return f"{self.kind}/{release_object_name(b3_hex(self.key))}"
        return f"{self.kind}/{b3_hex(self.key) if self.kind is Kind.BLOB else self.key}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BundledRelease:
    """What the list says of a release. `pinned`: somebody asked for this very manifest, not for what a tag meant."""

    identity: str
    model: str
    tag: str
    manifest: str
    pinned: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleIndex:
    """`samara-bundle.json`. `created`: when, as text (`2026-01-31T12:00:00Z`); it proves nothing."""

    created: str
    releases: tuple[BundledRelease, ...]
    members: tuple[Member, ...]

    def of(self, kind: Kind) -> tuple[Member, ...]:
        """The members of one kind, in order."""
        return tuple(member for member in self.members if member.kind is kind)

    @property
    def tar_size(self) -> int:
        """Bytes of the uncompressed tar."""
        return sum(map(_room, (len(pack_index(self)), *(member.size for member in self.members)))) + len(TAR_END)


def make_index(
    created: str, releases: Iterable[BundledRelease], members: Iterable[Member]
) -> BundleIndex:  # fmt: skip
    """The list in its one order. Raises MalformedError for what no reader would take."""
    made = BundleIndex(
        created=created,
        releases=tuple(sorted(releases, key=lambda release: release.manifest)),
        members=tuple(sorted(members, key=_place)),
    )
    return unpack_index(pack_index(made))


def pack_index(index: BundleIndex) -> bytes:
    """BundleIndex → the bytes of `samara-bundle.json`."""
    return canonical_json(
        {
            "format": FORMAT,
            "created": index.created,
            "releases": [
                {
                    "identity": one.identity,
                    "model": one.model,
                    "tag": one.tag,
                    "manifest": one.manifest,
                    "pinned": one.pinned,
                }
                for one in index.releases
            ],
            "members": [_member_json(member) for member in index.members],
        }
    )


def unpack_index(data: bytes) -> BundleIndex:
    """Bytes → BundleIndex whose members are in order, each once, bounded, and as many as its releases need.

    Raises MalformedError. Whether the blobs are the releases' is for `check_blobs`, once the manifests are read.
    """
    if len(data) > MAX_INDEX_BYTES:
        raise MalformedError(f"{INDEX_NAME} too large", expected=f"≤ {MAX_INDEX_BYTES} bytes", actual=len(data))
    value = strict_json(data, INDEX_NAME)
    if not isinstance(value, dict):
        raise MalformedError(f"{INDEX_NAME} is not a JSON object")
    if value.get("format") != FORMAT:
        raise MalformedError(
            "bundle of a kind this version doesn't know", expected=FORMAT, actual=repr(value.get("format"))[:80],
            next_step="a newer samara may be able to read it",
        )  # fmt: skip
    created = value.get("created")
    if not isinstance(created, str) or not _CREATED.match(created):
        raise MalformedError(f"{INDEX_NAME}: created", expected="YYYY-MM-DDTHH:MM:SSZ", actual=repr(created)[:80])
    index = BundleIndex(
        created=created,
        releases=tuple(map(_release, _list(value, "releases", at_most=MAX_RELEASES))),
        members=tuple(map(_member, _list(value, "members", at_most=MAX_MEMBERS))),
    )
    _check_order(index)
    _check_complete(index)
    return index


def check_blobs(index: BundleIndex, releases: Sequence[Release]) -> None:
    """Raise MalformedError unless the bundle's blobs are exactly those its releases need and don't carry inline."""
    needed = {file.b3: file.size for release in releases for file in release.files if file.inline is None}
    listed = {member.key: member.size for member in index.of(Kind.BLOB)}
    if needed == listed:
        return
    for b3 in sorted(needed.keys() | listed.keys()):
        if needed.get(b3) != listed.get(b3):
            raise MalformedError(
                f"bundle's blob {b3} is not what its releases need",
                expected=f"{needed[b3]} bytes" if b3 in needed else "no such blob",
                actual=f"{listed[b3]} bytes" if b3 in listed else "none", next_step="get the bundle again",
            )  # fmt: skip


def pack_roots(roots: Sequence[bytes]) -> bytes:
    """A publisher's chain of roots alone, for a bundle from a machine that knows no catalog of it."""
    return bencode({"format": ROOTS_FORMAT, "roots": list(roots)})


def unpack_roots(data: bytes) -> tuple[bytes, ...]:
    """What `pack_roots` wrote → the roots, version 1 first, unproven. Raises MalformedError."""
    value = bdecode(data)
    if not isinstance(value, dict) or value.get(b"format") != ROOTS_FORMAT.encode():
        raise MalformedError("not a chain of roots", expected=ROOTS_FORMAT)
    roots = value.get(b"roots")
    if not isinstance(roots, list) or not 1 <= len(roots) <= MAX_ROOTS:
        raise MalformedError("bundle's roots", expected=f"a list of 1…{MAX_ROOTS}")
    return tuple(map(_root, roots))


def _root(value: object) -> bytes:
    if not isinstance(value, bytes) or not 0 < len(value) <= MAX_ROOT_BYTES:
        raise MalformedError("bundle's root has a wrong size", expected=f"1…{MAX_ROOT_BYTES} bytes")
    return value


# -- tar ---------------------------------------------------------------------------------------------------------------


def tar_header(name: str, size: int) -> bytes:
    """The ustar header of a regular file: mode 0644, owner 0, time 0. Sizes from 8 GiB on are in base 256 (GNU tar)."""
    sizes = b"%011o\0" % size if size < _OCTAL_LIMIT else (0x80 << 88 | size).to_bytes(12, "big")
    fields = b"".join(
        (
            name.encode("ascii").ljust(100, b"\0"),
            b"0000644\0" + b"0000000\0" * 2,  # mode, user, group
            sizes,
            b"%011o\0" % 0,  # time
            b" " * 8,  # the checksum, counted as spaces
            b"0".ljust(101, b"\0"),  # a regular file; of no link
            b"ustar\x0000".ljust(72, b"\0"),
            b"0000000\0" * 2,  # device
        )
    ).ljust(TAR_BLOCK, b"\0")
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def tar_padding(size: int) -> int:
    """Zero bytes after a member of `size` bytes, up to the next header."""
    return -size % TAR_BLOCK


def index_size(header: bytes) -> int:
    """The size of `samara-bundle.json` by the first header. Raises MalformedError if that isn't its header."""
    digits = header[124:135]
    if re.fullmatch(rb"[0-7]{11}", digits):
        size = int(digits, 8)
        if header == tar_header(INDEX_NAME, size):
            if not 0 < size <= MAX_INDEX_BYTES:
                raise MalformedError(f"{INDEX_NAME} too large", expected=f"1…{MAX_INDEX_BYTES} bytes", actual=size)
            return size
    raise MalformedError("not a bundle", expected=f"a tar that begins with {INDEX_NAME}")


def _room(size: int) -> int:
    return TAR_BLOCK + size + tar_padding(size)


# -- the list ----------------------------------------------------------------------------------------------------------


def _place(member: Member) -> tuple[int, str]:
    return _ORDER[member.kind], member.key


def _member_json(member: Member) -> dict[str, object]:
    found: dict[str, object] = {"name": member.name, "size": member.size}
    return {**found, "b3": member.key} if member.kind is Kind.BLOB else found


def _member(value: object) -> Member:
    if not isinstance(value, dict):
        raise MalformedError(f"{INDEX_NAME}: a member is not an object")
    name, size = value.get("name"), value.get("size")
    for kind, pattern in _NAMES.items():
        match = pattern.match(name) if isinstance(name, str) else None
        if match is None:
            continue
        digest = B3_PREFIX + match[1]
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= _LIMITS[kind]:
            raise MalformedError(f"bundle's {name}: size", expected=f"1…{_LIMITS[kind]}", actual=repr(size)[:80])
        if kind is Kind.BLOB and value.get("b3") != digest:
            raise MalformedError(f"bundle's {name}: b3", expected=digest, actual=repr(value.get("b3"))[:80])
        return Member(kind=kind, key=match[1] if kind in {Kind.METADATA, Kind.ROOTS} else digest, size=size)
    raise MalformedError("bundle with a member that can't be", actual=repr(name)[:120])


def _release(value: object) -> BundledRelease:
    found: Mapping[str, object] = value if isinstance(value, dict) else {}
    identity, model, tag = found.get("identity"), found.get("model"), found.get("tag")
    manifest, pinned = found.get("manifest"), found.get("pinned")
    if not isinstance(identity, str) or not is_identity(identity):
        raise MalformedError(f"{INDEX_NAME}: a release's identity", actual=repr(identity)[:80])
    if not isinstance(model, str) or not is_name(model) or not isinstance(tag, str) or not is_name(tag):
        raise MalformedError(f"{INDEX_NAME}: a release's name", actual=repr((model, tag))[:160])
    if not isinstance(manifest, str) or not _is_digest(manifest):
        raise MalformedError(f"{INDEX_NAME}: a release's manifest", actual=repr(manifest)[:80])
    if not isinstance(pinned, bool):
        raise MalformedError(f"{INDEX_NAME}: a release's pinned", expected="true or false", actual=repr(pinned)[:80])
    return BundledRelease(identity=identity, model=model, tag=tag, manifest=manifest, pinned=pinned)


def _check_order(index: BundleIndex) -> None:
    for before, after in pairwise(index.members):
        if _place(before) >= _place(after):
            raise MalformedError(
                "bundle's members are not in order, each once", expected=f"after {before.name}", actual=after.name
            )
    for one, other in pairwise(index.releases):
        if one.manifest >= other.manifest:
            raise MalformedError("bundle's releases are not in order, each once", actual=other.manifest)
    documents = sum(member.size for member in index.members if member.kind is not Kind.BLOB)
    if documents > MAX_DOCUMENT_BYTES:
        raise MalformedError(
            "bundle with too large documents", expected=f"≤ {MAX_DOCUMENT_BYTES} bytes in all", actual=documents
        )


def _check_complete(index: BundleIndex) -> None:
    """One release document for each release; of each publisher either metadata or roots."""
    if not index.releases:
        raise MalformedError("bundle without a release")
    if [member.key for member in index.of(Kind.RELEASE)] != [release.manifest for release in index.releases]:
        raise MalformedError("bundle's release documents are not those of its releases")
    vouched = [member.key for member in index.members if member.kind in {Kind.METADATA, Kind.ROOTS}]
    if len(set(vouched)) != len(vouched) or set(vouched) != {release.identity for release in index.releases}:
        raise MalformedError(
            "bundle's publishers are not those of its releases", expected="metadata or roots of each, once"
        )


def _list(value: Mapping[str, object], name: str, *, at_most: int) -> list[object]:
    found = value.get(name)
    if not isinstance(found, list) or len(found) > at_most:
        raise MalformedError(f"{INDEX_NAME}: {name}", expected=f"a list of at most {at_most}")
    return found


def _is_digest(text: str) -> bool:
    try:
        b3_raw(text)
    except UsageError:
        return False
    return True
