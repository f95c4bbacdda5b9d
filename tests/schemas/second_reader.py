"""A second implementation of docs/manifest-spec.md, written from that document and nothing else. No test in here.

It imports nothing of the project, and test_vectors.py sees to that: if the two agree on the vectors, the text says
enough. Numbers in comments are the document's sections. Everything refused is `Refused`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import re
import stringprep
import struct
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KIB, MIB = 1 << 10, 1 << 20


class Refused(Exception):  # noqa: N818  (an outcome)
    """What a reader must refuse."""


def must(rule: object, why: str) -> None:
    if not rule:
        raise Refused(why)


# -- 2: encodings ------------------------------------------------------------------------------------------------------


def b3(data: bytes) -> str:
    return "b3:" + blake3(data).hexdigest()


def read_json(data: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        must(len(dict(pairs)) == len(pairs), "a key twice")
        return dict(pairs)

    def no_constant(name: str) -> None:
        raise Refused(name)

    must(data.count(b",") + data.count(b"[") + data.count(b"{") <= 2_097_152, "too many values")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None


def read_base64(text: Any, most: int) -> bytes:
    must(isinstance(text, str) and text, "base64: no text")
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise Refused("base64") from None
    must(base64.b64encode(data).decode() == text and 1 <= len(data) <= most, "base64: not canonical, or too long")
    return data


# -- what a field must be ----------------------------------------------------------------------------------------------


def text(value: Any, most: int) -> str:
    must(isinstance(value, str) and len(value) <= most, f"not a text of at most {most} characters")
    must(not any("\ud800" <= character <= "\udfff" for character in value), "half a surrogate pair")
    return str(value)


def matching(value: Any, pattern: str) -> str:
    must(isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII), f"not {pattern}")
    return str(value)


def hex_of(value: Any, digits: int) -> str:
    return matching(value, f"[0-9a-f]{{{digits}}}")


def integer(value: Any, least: int, below: int) -> int:
    must(type(value) is int and least <= value < below, f"not an integer from {least} to below {below}")
    return int(value)


def moment(value: Any) -> None:
    matching(value, r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
    try:
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007
    except ValueError:
        raise Refused("no such moment") from None


def items(value: Any, least: int, most: int) -> list[Any]:
    must(isinstance(value, list) and least <= len(value) <= most, f"not a list of {least} to {most}")
    return list(value)


def fields(value: Any) -> dict[str, Any]:
    must(isinstance(value, dict), "not an object")
    return dict(value)


def optional(value: Any, read: Callable[[Any], Any]) -> Any:
    return None if value is None else read(value)


DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    port + number for port in ("com", "lpt") for number in "0123456789¹²³"
}


def is_device(part: str) -> bool:
    return part.split(".")[0].rstrip(" ").lower() in DEVICES


def name_of(value: Any) -> str:  # 3
    found = matching(value, "[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
    must(".." not in found and not is_device(found), "not a name")
    return found


def identity_text(value: Any) -> str:
    return matching(value, "[a-z2-7]{51}[aq]")


# -- 3: identity -------------------------------------------------------------------------------------------------------


def bencode(value: Any) -> bytes:
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    pairs = sorted((key.encode() if isinstance(key, str) else key, item) for key, item in value.items())
    return b"d" + b"".join(bencode(key) + bencode(item) for key, item in pairs) + b"e"


def identity_of(root: bytes) -> str:
    must(1 <= len(root) <= 16_384, "root version 1 must have 1 to 16,384 bytes")
    leaf = {"length": len(root), "pieces root": hashlib.sha256(root).digest()}
    name = "1.root.json"
    info = {"file tree": {name: {"": leaf}}, "meta version": 2, "name": name, "piece length": 16_384}
    return base64.b32encode(hashlib.sha256(bencode(info)).digest()).decode().rstrip("=").lower()


# -- 4: roots ----------------------------------------------------------------------------------------------------------


def olpc(value: Any) -> str:
    """OLPC canonical JSON."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{" + ",".join(f"{olpc(key)}:{olpc(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(olpc, value)) + "]"
    must(not isinstance(value, float), "a fraction has no canonical form")
    return json.dumps(value)


def signed_by(message: bytes, signatures: Iterable[tuple[str, bytes]], keys: dict[str, bytes]) -> set[bytes]:
    """The keys that really signed."""
    good = set()
    for keyid, signature in signatures:
        if keyid in keys:
            try:
                Ed25519PublicKey.from_public_bytes(keys[keyid]).verify(signature, message)
            except InvalidSignature:
                continue
            good.add(keys[keyid])
    return good


@dataclass(frozen=True)
class Root:
    keys: dict[str, dict[str, bytes]]  # role → key id → public bytes
    thresholds: dict[str, int]


def read_chain(identity: str, roots: Sequence[bytes]) -> Root:
    """The newest root of a valid chain."""
    must(1 <= len(roots) <= 1024 and identity_of(roots[0]) == identity, "roots of another publisher")
    previous: Root | None = None
    one_id: dict[bytes, str] = {}
    for number, data in enumerate(roots, start=1):
        must(len(data) <= 262_144, "root too large")
        whole = fields(read_json(data))
        signed = fields(whole["signed"])
        must(signed["_type"] == "root" and integer(signed["version"], 1, 2**31 + 1) == number, "wrong version")
        matching(text(signed["spec_version"], 32), r"1\.[0-9]+(\.[0-9]+)?")
        must(type(signed.get("consistent_snapshot", True)) is bool, "consistent_snapshot")
        moment(signed["expires"])
        must(len(fields(signed["keys"])) <= 64, "too many keys")
        publics = {}
        for keyid, key in signed["keys"].items():
            must(key["keytype"] == key["scheme"] == "ed25519", "not Ed25519")
            publics[hex_of(keyid, 64)] = bytes.fromhex(hex_of(key["keyval"]["public"], 64))
        for keyid, public in publics.items():
            must(one_id.setdefault(public, keyid) == keyid, "one key, two ids")
        must(len(one_id) == len(set(one_id.values())), "one id, two keys")
        must(set(fields(signed["roles"])) == {"root", "targets", "snapshot", "timestamp"}, "wrong roles")
        keys = {}
        for role, entry in signed["roles"].items():
            ids = items(entry["keyids"], 1, 64)
            must(len(set(ids)) == len(ids) and set(ids) <= set(publics), "a role's keys")
            keys[role] = {keyid: publics[keyid] for keyid in ids}
        thresholds = {role: integer(entry["threshold"], 1, 65) for role, entry in signed["roles"].items()}
        if (extension := optional(signed.get("x-samara"), fields)) is not None:
            must(integer(extension["v"], 1, 2) and hex_of(extension["beacon"], 64), "x-samara")
        root = Root(keys, thresholds)
        message = olpc(signed).encode()
        signatures = [
            (hex_of(one["keyid"], 64), bytes.fromhex(one["sig"])) for one in items(whole["signatures"], 0, 128)
        ]
        for judge in (previous or root, root):
            must(len(signed_by(message, signatures, judge.keys["root"])) >= judge.thresholds["root"], "root signatures")
        previous = root
    assert previous is not None
    return previous


# -- 5: envelope -------------------------------------------------------------------------------------------------------

PAYLOAD_TYPE = b"application/vnd.in-toto+json"


def pae(payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE, len(payload), payload)


def open_envelope(value: Any) -> tuple[bytes, list[tuple[str, bytes]]]:
    envelope = fields(value)
    must(envelope.get("payloadType") == PAYLOAD_TYPE.decode(), "payload type")
    signatures = [
        (hex_of(fields(one).get("keyid"), 64), read_base64(one.get("sig"), 512))
        for one in items(envelope.get("signatures"), 1, 32)
    ]
    must(len({keyid for keyid, _ in signatures}) == len(signatures), "a key id twice")
    return read_base64(envelope.get("payload"), 32 * MIB), signatures


# -- 6: manifest -------------------------------------------------------------------------------------------------------


def path_of(value: Any) -> str:  # 6.2
    must(isinstance(value, str), "path: no text")
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise Refused("path: half a surrogate pair") from None
    must(1 <= length <= 1024 and unicodedata.is_normalized("NFC", value), "path: length or form")
    for part in value.split("/"):
        must(1 <= len(part.encode()) <= 200, "path: a part's length")
        must(part[0] not in ". " and part[-1] not in ". " and not is_device(part), "path: a part")
        for character in part:
            must(character not in '\\:*?"<>|', "path: character")
            category = unicodedata.category(character)
            must(category not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}, "path: category")
            must(category != "Zs" or character == " ", "path: a space that is none")
            must(not stringprep.in_table_a1(character), "path: newer than Unicode 3.2")
    return str(value)


def paths_together(paths: Sequence[str]) -> None:
    folded = [unicodedata.normalize("NFC", path.casefold()) for path in paths]
    must(len(set(folded)) == len(folded), "paths: two are one")
    for path in folded:
        parts = path.split("/")
        must(not {"/".join(parts[:i]) for i in range(1, len(parts))} & set(folded), "paths: a file is a folder")


def read_manifest(payload: bytes) -> dict[str, Any]:
    """The manifest as a JSON value, every rule of section 6 checked."""
    value = fields(read_json(payload))
    must(value.get("predicateType") == "urn:x-samara:release:v1", "another major version")
    must(value.get("_type") == "https://in-toto.io/Statement/v1", "no Statement")
    subjects = [fields(one) for one in items(value.get("subject"), 1, 4096)]
    predicate = fields(value.get("predicate"))
    publisher = fields(predicate.get("publisher"))
    identity_text(publisher.get("identity"))
    for found in (publisher.get("name"), predicate.get("model"), predicate.get("tag")):
        name_of(found)
    integer(predicate.get("version"), 1, 2**53)
    moment(predicate.get("created"))
    optional(predicate.get("license"), lambda found: text(found, 256))
    optional(predicate.get("description"), lambda found: text(found, 8192))
    optional(predicate.get("base_model"), lambda found: text(found, 512))
    if (upstream := optional(predicate.get("upstream"), fields)) is not None:
        text(upstream.get("repo"), 512)
        optional(upstream.get("commit"), lambda found: text(found, 64))
    files = [fields(one) for one in items(predicate.get("files"), 1, 4096)]
    must(len(files) == len(subjects), "files and subjects")
    blobs: dict[str, tuple[Any, ...]] = {}
    for subject, file in zip(subjects, files, strict=True):
        must(path_of(subject.get("name")) == path_of(file.get("path")), "files and subjects")
        digest = fields(subject.get("digest"))
        blob, sha256 = hex_of(digest.get("blake3"), 64), hex_of(digest.get("sha256"), 64)
        check_file(file, blob, sha256)
        said = (sha256, *(file.get(key) for key in ("size", "layout", "blocks", "torrent")))
        must(blobs.setdefault(blob, said) == said, "two descriptions of one blob")
    paths_together([file["path"] for file in files])
    return value


def check_file(file: dict[str, Any], blob: str, sha256: str) -> None:
    size = integer(file.get("size"), 1, 2**53)
    text(file.get("role"), 32)
    text(file.get("layout"), 64)
    blocks = [fields(one) for one in items(file.get("blocks"), 1, 16_384)]
    for block in blocks:
        integer(block.get("size"), 1, max(4 * MIB, size // 4096) + 1)
        matching(block.get("b3"), "b3:[0-9a-f]{64}")
    must(sum(block["size"] for block in blocks) == size, "blocks don't add up")
    must(len(blocks) > 1 or blocks[0]["b3"] == "b3:" + blob, "the only block")
    if (torrent := optional(file.get("torrent"), fields)) is not None:
        for key, digits in (("v1", 40), ("v2", 64), ("pieces_root", 64)):
            hex_of(torrent.get(key), digits)
        must(integer(torrent.get("piece_length"), 0, 2**53) == piece_length(size), "piece length")
    for url in optional(file.get("mirrors"), lambda found: items(found, 0, 32)) or []:
        must(len(matching(url, "https?://[!-.0-~][!-~]*")) <= 2048, "mirror")
    if (gguf := optional(file.get("gguf"), fields)) is not None:
        text(gguf.get("architecture"), 64)
        text(gguf.get("quantisation"), 32)
        integer(gguf.get("parameter_count"), 0, 2**63)
        optional(gguf.get("context_length"), lambda found: integer(found, 0, 2**63))
        optional(gguf.get("has_chat_template"), lambda found: must(isinstance(found, bool), "not a boolean"))
    must(torrent is not None or file.get("inline") is not None, "no way to get the file")
    if file.get("inline") is not None:
        data = read_base64(file["inline"], 64 * KIB)
        must((b3(data), hashlib.sha256(data).hexdigest()) == ("b3:" + blob, sha256), "inline: other bytes")
        check_blocks(data, blocks)


def check_blocks(data: bytes, blocks: Sequence[dict[str, Any]]) -> None:
    """Step 9 for bytes in memory."""
    ends = list(accumulate(block["size"] for block in blocks))
    must(ends[-1] == len(data), "blocks don't cover the bytes")
    for block, end in zip(blocks, ends, strict=True):
        must(b3(data[end - block["size"] : end]) == block["b3"], "a block of other bytes")


# -- 7: layouts --------------------------------------------------------------------------------------------------------

Part = tuple[int, int]  # own, span


def cut(regions: Sequence[int]) -> list[int]:
    block = 4 * MIB
    while sum(-(-region // block) for region in regions) > 16_384:
        block *= 2
    return [min(block, region - at) for region in regions for at in range(0, region, block)]


def group(parts: Sequence[Part], threshold: int) -> list[int]:
    regions, pending = [], 0
    for own, span in parts:
        large = own >= threshold
        if pending > 0 and (large or pending + span > threshold):
            regions.append(pending)
            pending = 0
        if large:
            regions.append(span)
        else:
            pending += span
    return [*regions, pending] if pending > 0 else regions


def gguf_layout(key_ends: Sequence[int], data_at: int, tensors: Sequence[tuple[int, int]], size: int) -> list[int]:
    """Block sizes from the ends of the keys (24 first), the start of the data, and (start, end) of each tensor."""
    keys = [(24, 24), *((end - start, end - start) for start, end in pairwise(key_ends))]
    infos = data_at - key_ends[-1]
    ordered = sorted(tensors)
    data: list[Part] = []
    first = ordered[0][0] if ordered else size
    if first > data_at:
        data.append((first - data_at, first - data_at))
    following = [start for start, _ in ordered[1:]] + [size]
    data += [(end - start, after - start) for (start, end), after in zip(ordered, following, strict=bool(ordered))]
    threshold = 64 * KIB
    while len(regions := group(keys, threshold) + ([infos] if infos else []) + group(data, threshold)) > 8192:
        threshold *= 2
    return cut(regions)


SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
TYPES = {0: (1, 4), 1: (1, 2), 8: (32, 34), 2: (32, 18)}  # those that the examples have; the rest is in the table


def walk_gguf(data: bytes) -> tuple[list[int], int, list[tuple[int, int]]]:  # 7.3
    """(ends of keys, start of data, tensors) of a well-formed file in memory."""
    file = io.BytesIO(data)

    def number(form: str) -> int:
        (found,) = struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))
        return int(found)

    def string() -> bytes:
        return file.read(number("Q"))

    def skip(kind: int) -> None:
        if kind == 8:
            string()
        elif kind == 9:
            element, count = number("I"), number("Q")
            for _ in range(count):
                skip(element)
        else:
            file.seek(SCALARS[kind], io.SEEK_CUR)

    must(file.read(4) == b"GGUF" and number("I") in (2, 3), "not GGUF")
    tensor_count, key_count = number("Q"), number("Q")
    ends, alignment = [24], 32
    for _ in range(key_count):
        key, kind = string(), number("I")
        if key == b"general.alignment":
            alignment = number("I")
        else:
            skip(kind)
        ends.append(file.tell())
    spans = []
    for _ in range(tensor_count):
        string()
        elements = 1
        for _ in range(number("I")):
            elements *= number("Q")
        in_block, block_bytes = TYPES[number("I")]
        spans.append((number("Q"), elements // in_block * block_bytes))
    padded = -(-file.tell() // alignment) * alignment
    data_at = padded if spans else min(padded, len(data))
    return ends, data_at, [(data_at + offset, data_at + offset + length) for offset, length in spans]


# -- 8: torrents -------------------------------------------------------------------------------------------------------


def piece_length(size: int) -> int:
    length = 256 * KIB
    while length < 16 * MIB and length * 2048 < size:
        length *= 2
    return length


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tree(nodes: list[bytes], width: int, filler: bytes) -> bytes:
    """The root over nodes, filled up to `width` (a power of two)."""
    nodes = nodes + [filler] * (width - len(nodes))
    while len(nodes) > 1:
        nodes = [sha256(left + right) for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
    return nodes[0]


def power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def torrent_of(data: bytes, ending: str) -> tuple[bytes, dict[str, Any]]:
    """The .torrent of a blob in memory, and what the manifest says of it."""
    length = piece_length(len(data))
    pieces = [data[i : i + length] for i in range(0, len(data), length)]
    leaves = [[sha256(piece[i : i + 16_384]) for i in range(0, len(piece), 16_384)] for piece in pieces]
    missing = bytes(32)
    if len(pieces) == 1:
        layer, root = [], tree(leaves[0], power_of_two(len(leaves[0])), missing)
    else:
        layer = [tree(each, length // 16_384, missing) for each in leaves]
        root = tree(layer, power_of_two(len(layer)), tree([], length // 16_384, missing))
    name = blake3(data).hexdigest() + ending
    info = {
        "file tree": {name: {"": {"length": len(data), "pieces root": root}}},
        "length": len(data),
        "meta version": 2,
        "name": name,
        "piece length": length,
        "pieces": b"".join(hashlib.sha1(piece).digest() for piece in pieces),
    }
    whole = {"info": info, "piece layers": {root: b"".join(layer)}} if layer else {"info": info}
    said = {
        "v1": hashlib.sha1(bencode(info)).hexdigest(),
        "v2": hashlib.sha256(bencode(info)).hexdigest(),
        "piece_length": length,
        "pieces_root": root.hex(),
    }
    return bencode(whole), said


# -- 9 and 10: the file, and all steps ---------------------------------------------------------------------------------


def unpack(data: bytes) -> dict[str, Any]:
    must(len(data) <= 64 * MIB and data[:4] == b"\x28\xb5\x2f\xfd", "no zstd frame")
    frame = zstandard.ZstdDecompressor(max_window_size=8 * MIB).decompressobj()
    body = b""
    try:
        for at in range(0, len(data), 256):
            must(not frame.eof, "more after the frame")
            body += frame.decompress(data[at : at + 256])
            must(len(body) <= 128 * MIB, "too much inside")
    except zstandard.ZstdError as error:
        raise Refused(str(error)) from None
    must(frame.eof and not frame.unused_data, "more after the frame, or less")
    value = fields(read_json(body))
    must(value.get("format") == "samara-release-1", "format")
    return value


def parts(data: bytes) -> tuple[list[bytes], bytes, list[tuple[str, bytes]], list[bytes]]:
    """(roots, payload, signatures, torrents) of a file."""
    value = unpack(data)
    roots = [read_base64(one, 256 * KIB) for one in items(value.get("roots"), 0, 1024)]
    torrents = [read_base64(one, 8 * MIB) for one in items(value.get("torrents"), 0, 4096)]
    return roots, *open_envelope(value.get("envelope")), torrents


def verify(data: bytes, pinned: str, files: dict[str, bytes]) -> dict[str, Any]:
    """All steps of section 10 for a file, a pinned identity and the bytes of what it names: the manifest."""
    roots, payload, signatures, torrents = parts(data)
    manifest = read_manifest(payload)
    must(manifest["predicate"]["publisher"]["identity"] == pinned, "a publisher nobody pinned")
    newest = read_chain(pinned, roots)
    signers = signed_by(pae(payload), signatures, newest.keys["targets"])
    must(len(signers) >= newest.thresholds["targets"], "not signed by the publisher")
    for subject, file in zip(manifest["subject"], manifest["predicate"]["files"], strict=True):
        content = files[file["path"]]
        if file.get("torrent"):
            ending = ".gguf" if file["layout"] == "gguf-4MiB-v1" else ".bin"
            torrent, said = torrent_of(content, ending)
            must(torrent in torrents and said == file["torrent"], "another torrent")
        check_blocks(content, file["blocks"])
        must(b3(content) == "b3:" + subject["digest"]["blake3"], "another file")
        must(hashlib.sha256(content).hexdigest() == subject["digest"]["sha256"], "another file")
    return manifest
