"""A second implementation of docs/names-spec.md, written from that document and nothing else. No test in here.

It stands on the second reader of docs/manifest-spec.md, whose words names-spec uses, and imports nothing of the
project: test_names_spec.py sees to that. Numbers in comments are the document's sections. Everything refused is
`Refused`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from blake3 import blake3
from second_reader import (
    KIB,
    MIB,
    bencode,
    fields,
    hex_of,
    identity_of,
    integer,
    items,
    matching,
    moment,
    must,
    name_of,
    olpc,
    open_envelope,
    pae,
    read_base64,
    read_chain,
    read_json,
    read_manifest,
    signed_by,
    text,
)

# -- bencoding (BEP 3), in its one spelling ----------------------------------------------------------------------------


def bdecode(data: bytes) -> Any:
    value, end = _bdecode(data, 0)
    must(end == len(data), "something after the end")
    return value


def _bdecode(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.find(b"e", at)
        must(0 < end - at < 25, "an endless integer")
        return _number(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        found: list[Any] = []
        at += 1
        while data[at : at + 1] != b"e":
            value, at = _bdecode(data, at)
            found.append(value)
        if kind == b"l":
            return found, at + 1
        keys = found[::2]
        must(len(found) % 2 == 0 and all(isinstance(key, bytes) for key in keys), "no dictionary")
        must(keys == sorted(set(keys)), "keys not in order, each once")
        return dict(zip(keys, found[1::2], strict=True)), at + 1
    colon = data.find(b":", at)
    must(0 < colon - at < 20, "not bencoding")
    start, length = colon + 1, _number(data[at:colon])
    must(0 <= length <= len(data) - start, "a string past the end")
    return data[start : start + length], start + length


def _number(digits: bytes) -> int:
    matching(digits.decode("latin-1"), "0|-?[1-9][0-9]*")
    return int(digits)


def string(value: Any, most: int) -> bytes:
    must(isinstance(value, bytes) and 1 <= len(value) <= most, f"not a string of 1 to {most} bytes")
    return bytes(value)


# -- 1: the catalog ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    model: str
    tag: str
    length: int
    sha256: str
    manifest: str
    btmh: str
    version: int
    retracted: str | None
    withdrawn: list[tuple[str, int, str]]


def one_line(value: Any) -> str:
    return "".join(character if character.isprintable() else " " for character in text(value, 500))


def read_entry(path: str, target: Any) -> Entry:
    model, _, tag = path.partition("/")
    said = fields(fields(fields(target)["custom"])["samara"])
    return Entry(
        model=name_of(model),
        tag=name_of(tag),
        length=integer(target["length"], 1, 32 * MIB + 1),
        sha256=hex_of(target["hashes"]["sha256"], 64),
        manifest=matching(said["manifest"], "b3:[0-9a-f]{64}"),
        btmh=hex_of(said["btmh"], 64),
        version=integer(said["version"], 1, 2**53),
        retracted=one_line(said["retracted"]) if "retracted" in said else None,
        withdrawn=[
            (
                matching(one["manifest"], "b3:[0-9a-f]{64}"),
                integer(one["version"], 1, 2**53),
                one_line(one["reason"]),
            )
            for one in items(said.get("withdrawn", []), 0, 64)
        ],
    )


@dataclass(frozen=True)
class Catalog:
    identity: str
    roots: list[bytes]
    versions: dict[str, int]
    signed_at: str
    targets: dict[str, Any]

    def entry(self, model: str, tag: str) -> Entry:
        return read_entry(f"{name_of(model)}/{name_of(tag)}", self.targets[f"{model}/{tag}"])


def signed_part(role: str, data: bytes, identity: str, roots: Sequence[bytes], now: str) -> dict[str, Any]:
    """TUF §5.4 to §5.6 of one role: enough of its keys in the newest root have signed, and it has not expired."""
    root = read_chain(identity, roots)
    whole = fields(read_json(data))
    signed = fields(whole["signed"])
    must(signed["_type"] == role, "another role")
    signatures = [(hex_of(one["keyid"], 64), bytes.fromhex(one["sig"])) for one in items(whole["signatures"], 1, 128)]
    good = signed_by(olpc(signed).encode(), signatures, root.keys[role])
    must(len(good) >= root.thresholds[role], f"{role}: too few signatures")
    moment(signed["expires"])
    must(now < signed["expires"], f"{role}: expired")
    return signed


def is_named_by(above: dict[str, Any], name: str, data: bytes, version: int) -> None:
    said = above["meta"][name]
    must(said["version"] == version and said["length"] == len(data), f"{name}: version or length")
    must(said["hashes"]["sha256"] == hashlib.sha256(data).hexdigest(), f"{name}: SHA-256")


def read_catalog(identity: str, bundle: bytes, now: str) -> Catalog:
    """What a metadata bundle says to whoever has seen nothing before."""
    roots, snapshot, targets, timestamp = read_bundle(bundle)
    parts = {
        role: signed_part(role, data, identity, roots, now)
        for role, data in (("timestamp", timestamp), ("snapshot", snapshot), ("targets", targets))
    }
    is_named_by(parts["timestamp"], "snapshot.json", snapshot, parts["snapshot"]["version"])
    is_named_by(parts["snapshot"], "targets.json", targets, parts["targets"]["version"])
    said = fields(parts["timestamp"]["x-samara"])
    must(integer(said["v"], 1, 2), "x-samara of another kind")
    moment(said["signed"])
    return Catalog(
        identity=identity,
        roots=roots,
        versions={role: integer(part["version"], 1, 2**53) for role, part in parts.items()},
        signed_at=said["signed"],
        targets=fields(parts["targets"]["targets"]),
    )


def read_listed(catalog: Catalog, entry: Entry, payload: bytes, signatures: Sequence[tuple[str, bytes]]) -> Any:
    """A manifest as the catalog lists it: three digests, model, version, and a threshold of any root's targets keys."""
    must(len(payload) == entry.length, "length")
    must(hashlib.sha256(payload).hexdigest() == entry.sha256, "SHA-256")
    must("b3:" + blake3(payload).hexdigest() == entry.manifest, "BLAKE3")
    manifest = read_manifest(payload)
    predicate = manifest["predicate"]
    must((predicate["model"], predicate["version"]) == (entry.model, entry.version), "another release")
    must(predicate["publisher"]["identity"] == catalog.identity, "another publisher")
    chain = [read_chain(catalog.identity, catalog.roots[:number]) for number in range(1, len(catalog.roots) + 1)]
    must(
        any(
            len(signed_by(pae(payload), signatures, root.keys["targets"])) >= root.thresholds["targets"]
            for root in chain
        ),
        "not signed by the publisher",
    )
    return manifest


# -- 2: the metadata bundle --------------------------------------------------------------------------------------------


def read_bundle(data: bytes) -> tuple[list[bytes], bytes, bytes, bytes]:
    """Roots, snapshot, targets, timestamp."""
    must(len(data) <= 16 * MIB, "bundle too large")
    value = bdecode(data)
    must(isinstance(value, dict) and value.get(b"format") == b"samara-metadata-1", "no metadata bundle")
    roots = [string(root, 256 * KIB) for root in items(value.get(b"roots"), 1, 1024)]
    limits = {b"snapshot": 64 * KIB, b"targets": 12 * MIB, b"timestamp": 16 * KIB}
    snapshot, targets, timestamp = (string(value.get(name), limit) for name, limit in limits.items())
    return roots, snapshot, targets, timestamp


# -- 3: small files ----------------------------------------------------------------------------------------------------


def info_of(name: str, data: bytes) -> bytes:
    """The info dictionary of a small file."""
    must(1 <= len(data) <= 16 * MIB, "not a small file")
    piece = 16 * KIB
    while piece < len(data):
        piece *= 2
    leaves = [hashlib.sha256(data[at : at + 16 * KIB]).digest() for at in range(0, len(data), 16 * KIB)]
    while len(leaves) & (len(leaves) - 1):
        leaves.append(bytes(32))
    while len(leaves) > 1:
        leaves = [hashlib.sha256(leaves[at] + leaves[at + 1]).digest() for at in range(0, len(leaves), 2)]
    file = {"": {"length": len(data), "pieces root": leaves[0]}}
    return bencode({"file tree": {name: file}, "meta version": 2, "name": name, "piece length": piece})


def infohash(name: str, data: bytes) -> str:
    return hashlib.sha256(info_of(name, data)).hexdigest()


def read_info(info: bytes, wanted: str, name: str, most: int) -> int:
    """The size that an info dictionary promises, before any data is asked for."""
    must(hashlib.sha256(info).hexdigest() == wanted, "another torrent")
    value = bdecode(info)
    must(isinstance(value, dict) and set(value) == {b"file tree", b"meta version", b"name", b"piece length"}, "fields")
    must(value[b"meta version"] == 2 and value[b"name"] == name.encode(), "version or name")
    must(isinstance(value[b"file tree"], dict) and set(value[b"file tree"]) == {name.encode()}, "not one file")
    file = value[b"file tree"][name.encode()]
    must(isinstance(file, dict) and set(file) == {b""} and set(file[b""]) == {b"length", b"pieces root"}, "the file")
    must(len(string(file[b""][b"pieces root"], 32)) == 32, "pieces root")
    size = integer(file[b""][b"length"], 1, most + 1)
    piece = 16 * KIB
    while piece < size:
        piece *= 2
    must(value[b"piece length"] == piece, "piece length")
    return size


def read_release(data: bytes) -> tuple[bytes, list[tuple[str, bytes]], list[bytes]]:
    """A release object: payload, signatures, torrents."""
    must(len(data) <= 16 * MIB, "release object too large")
    value = fields(read_json(data))
    must(value.get("format") == "samara-release-1" and value.get("roots") == [], "no release object")
    torrents = [read_base64(one, 8 * MIB) for one in items(value.get("torrents"), 0, 4096)]
    return (*open_envelope(value.get("envelope")), torrents)


# -- 4: the pointer ----------------------------------------------------------------------------------------------------


def read_pointer(data: bytes) -> tuple[str, int, int]:
    """(infohash, length, timestamp version) of the bytes in a DHT item's string."""
    value = bdecode(data)
    must(isinstance(value, dict) and value.get(b"v") == 1, "another kind of pointer")
    where = string(value.get(b"b"), 32)
    must(len(where) == 32, "not an infohash")
    return where.hex(), integer(value.get(b"n"), 1, 16 * MIB + 1), integer(value.get(b"t"), 1, 2**53)


def signed_item(value: bytes, sequence: int) -> bytes:
    """What the beacon signs (BEP 44): salt, sequence number, and the value, itself a bencoded string."""
    return b"4:salt8:samara/13:seqi%de1:v%d:%s" % (sequence, len(value), value)


# -- 5: magnet links ---------------------------------------------------------------------------------------------------


def read_magnet(link: str) -> dict[str, str]:
    """Infohashes `v1` and `v2`, `manifest` and `release`; everything else is passed over."""
    head, _, query = link.partition("?")
    must(head == "magnet:", "no magnet link")
    found: dict[str, str] = {}
    for key, value in parse_qsl(query):
        if key == "xt" and value.startswith("urn:btih:"):
            found["v1"] = hex_of(value.removeprefix("urn:btih:"), 40)
        elif key == "xt" and value.startswith("urn:btmh:1220"):
            found["v2"] = hex_of(value.removeprefix("urn:btmh:1220"), 64)
        elif key == "x.manifest":
            found["manifest"] = matching(value, "b3:[0-9a-f]{64}")
        elif key == "x.release":
            found["release"] = hex_of(value, 64)
    return found


# -- from an identity to a manifest ------------------------------------------------------------------------------------


def resolve(identity: str, model: str, tag: str, swarms: dict[str, bytes], item: bytes, now: str) -> Any:
    """What a name means, given what each infohash leads to and the item that the beacon signed."""
    root = swarms[infohash_of_identity(identity)]
    must(identity_of(root) == identity, "another publisher's root")
    where, length, version = read_pointer(item)
    bundle = swarms[where]
    must(len(bundle) == length and infohash(f"{identity}.metadata", bundle) == where, "another bundle")
    catalog = read_catalog(identity, bundle, now)
    must(catalog.versions["timestamp"] == version and catalog.roots[0] == root, "another catalog")
    entry = catalog.entry(model, tag)
    must(entry.retracted is None, "withdrawn")
    data = swarms[entry.btmh]
    must(infohash(f"{entry.manifest.removeprefix('b3:')}.release.json", data) == entry.btmh, "another release object")
    payload, signatures, _ = read_release(data)
    return read_listed(catalog, entry, payload, signatures)


def infohash_of_identity(identity: str) -> str:
    return base64.b32decode(identity.upper() + "====").hex()


def now_text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
