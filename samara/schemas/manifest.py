"""The manifest: one signed description of one release. Pure.

Wire form: an in-toto Statement v1 whose predicate is ours (docs/manifest-spec.md). `Statement` and the models below it
are the wire form; `Release` is what the rest of the program works with. Unknown fields are ignored; an unknown
predicate type (a new major version) is refused. The manifest's digest is the BLAKE3 of the payload's bytes as signed:
nobody re-serialises them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from stringprep import in_table_a1
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from samara.schemas.bittorrent import MAX_PIECE, MIN_PIECE, magnet, piece_count, piece_length_for
from samara.schemas.digests import B3Text, Hex40, Hex64, b3, b3_raw, sha256_raw, sha256_text
from samara.schemas.envelope import base64_bytes, canonical_json, strict_json
from samara.schemas.errors import MalformedError
from samara.schemas.gguf import GgufFacts
from samara.schemas.layouts import BLOCK, MAX_BLOCKS
from samara.schemas.references import Identity, Name, is_device_name, is_name

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:x-samara:release:v1"
MAX_FILES = 4096
MAX_DEPTH = 64  # parts of a path
MAX_MIRRORS = 32
INLINE_LIMIT = 64 * 1024
MAX_SIZE = 2**53  # what JSON numbers carry exactly everywhere


class Role(StrEnum):
    """What a file is for."""

    WEIGHTS = "weights"
    PROJECTOR = "projector"
    ADAPTER = "adapter"
    TOKENIZER = "tokenizer"
    CONFIG = "config"
    LICENCE = "licence"
    OTHER = "other"


# What category a character has, and whether it has one, changes with Unicode's version, and with it would which
# manifests are valid: so only what Unicode 3.2 had (RFC 3454 table A.1 lists the rest), less what can't be seen.
_NO_PATH = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})


def check_path(path: str) -> str:
    """A file's path inside a release: relative, portable, unable to leave the folder. Raises ValueError."""
    if not path or len(path.encode()) > 1024:
        raise ValueError("path must have 1…1024 bytes")
    if path != unicodedata.normalize("NFC", path):
        raise ValueError("path must be in Unicode NFC")
    if any(c in '\\:*?"<>|' or in_table_a1(c) or unicodedata.category(c) in _NO_PATH for c in {*path} - {" "}):
        raise ValueError("path has a character that isn't portable")
    parts = path.split("/")
    if len(parts) > MAX_DEPTH:
        raise ValueError(f"path is too deep: at most {MAX_DEPTH} parts")
    for part in parts:
        if part in {"", ".", ".."}:
            raise ValueError("path must be relative, without empty, '.' or '..' parts")
        if len(part.encode()) > 200 or part[-1] in ". " or part[0] in ". " or is_device_name(part):
            raise ValueError("path has a part no filesystem should be asked for")
    return path


def _check_name(name: str) -> str:
    if not is_name(name):
        raise ValueError("not a portable lower-case name")
    return name


_MIRROR = re.compile(r"https?://[!-.0-~][!-~]*")  # a host, then anything printable in ASCII


def _check_mirror(url: str) -> str:
    if not _MIRROR.fullmatch(url):
        raise ValueError("mirror must be an http(s) URL in printable ASCII")
    return url


def _check_created(text: str) -> str:
    datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007  (there is such a moment; nobody asks which)
    return text


FilePath = Annotated[str, StringConstraints(max_length=1024), AfterValidator(check_path)]
SafeName = Annotated[Name, AfterValidator(_check_name)]
MirrorUrl = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_check_mirror)]
Created = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
    AfterValidator(_check_created),
]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)


class BlockEntry(_Wire):
    """One block: its size in bytes and the BLAKE3 of its bytes alone."""

    size: int = Field(ge=1, lt=MAX_SIZE)
    b3: B3Text


class TorrentEntry(_Wire):
    """The blob's swarm: infohashes (BEP 3, BEP 52), piece length in bytes, root of the file's Merkle tree."""

    v1: Hex40
    v2: Hex64
    piece_length: int = Field(ge=MIN_PIECE, le=MAX_PIECE)
    pieces_root: Hex64


class FileEntry(_Wire):
    """One file of the release. Its whole-file digests stand in the statement's `subject` under the same name."""

    path: FilePath
    size: int = Field(ge=1, lt=MAX_SIZE)
    role: str = Field(max_length=32, examples=[r.value for r in Role])
    layout: str = Field(max_length=64)
    blocks: list[BlockEntry] = Field(min_length=1, max_length=MAX_BLOCKS)
    torrent: TorrentEntry | None = None
    mirrors: list[MirrorUrl] | None = Field(default=None, max_length=MAX_MIRRORS)
    gguf: GgufFacts | None = None
    inline: str | None = Field(default=None, max_length=(INLINE_LIMIT + 2) // 3 * 4)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = sum(block.size for block in self.blocks)
        if total != self.size:
            raise ValueError(f"blocks add up to {total} bytes, the file has {self.size}")
        largest = max(block.size for block in self.blocks)
        if largest > max(BLOCK, self.size // (MAX_BLOCKS // 4)):  # readers hold a whole block in memory
            raise ValueError(f"a block of {largest} bytes is too large for a file of {self.size}")
        if self.torrent is not None and self.torrent.piece_length != piece_length_for(self.size):
            raise ValueError(f"piece length must be {piece_length_for(self.size)} for {self.size} bytes")
        if self.torrent is None and self.inline is None:
            raise ValueError("a file needs a torrent or inline bytes")
        return self


class PublisherEntry(_Wire):
    """Who publishes: the unchanging identity, and the name they call themselves (never trusted)."""

    identity: Identity
    name: SafeName


class UpstreamEntry(_Wire):
    """Where the release was converted from."""

    repo: str = Field(max_length=512)
    commit: str | None = Field(default=None, max_length=64)


class Predicate(_Wire):
    """Our part of the statement."""

    publisher: PublisherEntry
    model: SafeName
    tag: SafeName
    version: int = Field(ge=1, lt=MAX_SIZE)
    created: Created
    license: str | None = Field(default=None, max_length=256)
    description: str | None = Field(default=None, max_length=8192)
    upstream: UpstreamEntry | None = None
    base_model: str | None = Field(default=None, max_length=512)
    files: list[FileEntry] = Field(min_length=1, max_length=MAX_FILES)


class SubjectDigest(_Wire):
    """Whole-file digests, bare hex as in-toto wants them."""

    sha256: Hex64
    blake3: Hex64


class Subject(_Wire):
    """One file by name and digests."""

    name: FilePath
    digest: SubjectDigest


class Statement(_Wire):
    """The signed payload: in-toto Statement v1 with our predicate."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: list[Subject] = Field(min_length=1, max_length=MAX_FILES)
    predicateType: Literal["urn:x-samara:release:v1"]  # noqa: N815  (in-toto's spelling)
    predicate: Predicate

    @model_validator(mode="after")
    def _files_match_subjects(self) -> Self:
        names = [s.name for s in self.subject]
        if names != [f.path for f in self.predicate.files]:
            raise ValueError("subject and predicate must list the same files in the same order")
        folded = [unicodedata.normalize("NFC", name.casefold()) for name in names]
        if len(set(folded)) != len(folded):
            raise ValueError("two files have the same path (case is ignored)")
        # Sorted so that "/" comes before every other character, what lies in a folder follows the file of that name.
        ordered = sorted(name.replace("/", "\0") for name in folded)
        if any(after.startswith(before + "\0") for before, after in pairwise(ordered)):
            raise ValueError("a file's path is also the folder of another file")
        self._say_one_thing_of_each_blob()
        return self

    def _say_one_thing_of_each_blob(self) -> None:
        known: dict[str, tuple[object, ...]] = {}
        for subject, file in zip(self.subject, self.predicate.files, strict=True):
            blob = subject.digest.blake3
            if len(file.blocks) == 1 and file.blocks[0].b3[3:] != blob:
                raise ValueError("the only block of a file must have the file's digest")
            facts = (subject.digest.sha256, file.size, file.layout, file.blocks, file.torrent)
            if known.setdefault(blob, facts) != facts:
                raise ValueError("two files with one blake3 digest differ in what is said of their bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One block at its place in one blob."""

    index: int
    offset: int
    size: int
    digest: bytes

    @property
    def end(self) -> int:
        """Exclusive end of the block in the blob."""
        return self.offset + self.size


# what its __init__ does, in a third of the time (it is a frozen class's): a manifest may have 16,384
_put_index, _put_offset, _put_size, _put_digest = (
    Block.__dict__[name].__set__ for name in ("index", "offset", "size", "digest")
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseFile:
    """One file of a release with everything needed to get it and prove it."""

    path: str
    size: int
    b3: str
    sha256: str
    role: str
    layout: str
    blocks: tuple[Block, ...]
    torrent: TorrentEntry | None
    mirrors: tuple[str, ...]
    gguf: GgufFacts | None
    inline: bytes | None

    @property
    def b3_hex(self) -> str:
        """The blob's name on disk."""
        return b3_raw(self.b3).hex()

    @property
    def magnet(self) -> str | None:
        """A link plain BitTorrent clients understand; None if the file travels inline."""
        return self.magnet_of()

    def magnet_of(self, *, manifest: str | None = None, release: str | None = None) -> str | None:
        """The same with what tells samara whose word vouches for it: see `schemas.bittorrent.magnet`."""
        if self.torrent is None:
            return None
        name = self.path.rsplit("/", 1)[-1]
        return magnet(self.torrent.v1, self.torrent.v2, name=name, manifest=manifest, release=release)

    @property
    def piece_count(self) -> int:
        """Number of BitTorrent pieces."""
        return piece_count(self.size, piece_length_for(self.size))


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """One release, as its publisher describes it. Says nothing of whether the signature was checked."""

    digest: str
    identity: str
    publisher_name: str
    model: str
    tag: str
    version: int
    created: str
    license: str | None
    description: str | None
    upstream: UpstreamEntry | None
    base_model: str | None
    files: tuple[ReleaseFile, ...]

    @property
    def uri(self) -> str:
        """The portable reference."""
        return f"samara:{self.identity}/{self.model}:{self.tag}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    @property
    def facts(self) -> GgufFacts | None:
        """What people choose it by: of its weights, or of its first GGUF if it has none (an adapter, a projector)."""
        told = [file for file in self.files if file.gguf is not None]
        chosen = next((file for file in told if file.role == Role.WEIGHTS), next(iter(told), None))
        return None if chosen is None else chosen.gguf


def blocks_of(entries: Iterator[tuple[int, bytes]] | list[tuple[int, bytes]]) -> tuple[Block, ...]:
    """(size, digest) in file order → blocks with their offsets."""
    blocks: list[Block] = []
    offset = 0
    for index, (size, digest) in enumerate(entries):
        block = object.__new__(Block)
        _put_index(block, index)
        _put_offset(block, offset)
        _put_size(block, size)
        _put_digest(block, digest)
        blocks.append(block)
        offset += size
    return tuple(blocks)


def parse_manifest(payload: bytes) -> Release:
    """Signed payload bytes → Release. Raises MalformedError naming the first offending field."""
    value = strict_json(payload, "manifest")
    if isinstance(value, dict) and value.get("predicateType") != PREDICATE_TYPE:
        raise MalformedError(
            "manifest of a kind this version doesn't know", expected=PREDICATE_TYPE,
            actual=repr(value.get("predicateType"))[:80], next_step="a newer samara may be able to read it",
        )  # fmt: skip
    try:
        statement = Statement.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise MalformedError(f"manifest field {place}: {first['msg']}") from None
    return _release(statement, payload)


def _release(statement: Statement, payload: bytes) -> Release:
    predicate = statement.predicate
    files = []
    for entry, subject in zip(predicate.files, statement.subject, strict=True):
        inline = None if entry.inline is None else _inline_bytes(entry.inline, entry, subject.digest)
        files.append(
            ReleaseFile(
                path=entry.path,
                size=entry.size,
                b3=f"b3:{subject.digest.blake3}",
                sha256=f"sha256:{subject.digest.sha256}",
                role=entry.role,
                layout=entry.layout,
                blocks=blocks_of([(block.size, bytes.fromhex(block.b3[3:])) for block in entry.blocks]),
                torrent=entry.torrent,
                mirrors=tuple(entry.mirrors or ()),
                gguf=entry.gguf,
                inline=inline,
            )
        )
    return Release(
        digest=b3(payload),
        identity=predicate.publisher.identity,
        publisher_name=predicate.publisher.name,
        model=predicate.model,
        tag=predicate.tag,
        version=predicate.version,
        created=predicate.created,
        license=predicate.license,
        description=predicate.description,
        upstream=predicate.upstream,
        base_model=predicate.base_model,
        files=tuple(files),
    )


def _inline_bytes(text: str, entry: FileEntry, digest: SubjectDigest) -> bytes:
    data = base64_bytes(text, f"inline bytes of {entry.path}", limit=INLINE_LIMIT)
    found = [b3(data), sha256_text(hashlib.sha256(data).digest())]
    at = 0
    for block in entry.blocks:
        found.append(b3(data[at : at + block.size]))
        at += block.size
    if at != len(data) or found != [f"b3:{digest.blake3}", f"sha256:{digest.sha256}", *(b.b3 for b in entry.blocks)]:
        raise MalformedError(f"inline bytes of {entry.path} don't match its digests")
    return data


def build_payload(predicate: Predicate, digests: list[tuple[str, str]]) -> bytes:
    """The bytes to sign. `digests`: (b3, sha256) of each file, in the predicate's order."""
    subjects = [
        Subject(
            name=entry.path, digest=SubjectDigest(sha256=sha256_raw(sha256).hex(), blake3=b3_raw(whole).hex())
        )
        for entry, (whole, sha256) in zip(predicate.files, digests, strict=True)
    ]  # fmt: skip
    statement = Statement(
        _type=STATEMENT_TYPE, subject=subjects, predicateType=PREDICATE_TYPE, predicate=predicate
    )  # fmt: skip
    return canonical_json(statement.model_dump(by_alias=True, exclude_none=True))
