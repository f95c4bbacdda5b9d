"""Publishing: files → hashes → manifest → signature → torrents → index → the portable `.samara` file.

Each file is read once and stays where it is. Nothing half-published is visible: the release enters the index in one
transaction after everything is signed, and its `.samara` file appears last. Publishing the same files with the same
description again gives back the release that exists.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from samara.registry.durable import TEMPORARY_PREFIX, io_errors, write_durably
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.progress import reporting
from samara.registry.source_date import publishing_time
from samara.registry.store import stamp_at
from samara.registry.sweep import sweep, sweep_folder
from samara.registry.trust.files import time_text
from samara.registry.trust.keys import AskPassphrase, SecretKey
from samara.registry.trust.own_catalog import listing, own_catalog, update_catalog
from samara.registry.trust.publishers import Publisher
from samara.registry.trust.signing import verify_envelope
from samara.schemas.bittorrent import piece_length_for
from samara.schemas.catalog import CatalogEntry
from samara.schemas.digests import b3_text, sha256_text
from samara.schemas.envelope import MAX_SIGNATURES, Envelope
from samara.schemas.errors import IntegrityError, MalformedError, NotFoundError, TrustError, UsageError
from samara.schemas.events import HashProgress, Note, OnEvent, Warned, ignore
from samara.schemas.manifest import (
    INLINE_LIMIT,
    BlockEntry,
    FileEntry,
    Predicate,
    Release,
    ReleaseFile,
    Role,
    TorrentEntry,
    build_payload,
    parse_manifest,
)
from samara.schemas.references import Reference
from samara.schemas.release_file import (
    SUFFIX,
    ZSTD_MAGIC,
    ReleaseBundle,
    pack_release,
    pack_release_object,
    release_torrent,
    unpack_release,
    unpack_release_object,
)
from samara.schemas.stamps import Stamp
from samara.seeder.gguf_facts import describe
from samara.seeder.hashing import FileHashes, hash_file
from samara.seeder.release_files import SourceFile, collect, role_of
from samara.seeder.release_words import NOTHING_SAID, mirrors_of, portable, words_of
from samara.seeder.release_words import Description as Description  # of `publish`'s arguments
from samara.seeder.source_file import open_source
from samara.seeder.torrent import build_torrent

INLINE_TOTAL = 4 << 20  # bytes of all inline files of one release: a manifest is fetched whole, and held in memory


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What came of publishing. `release_v2`: infohash of the release object's swarm."""

    release: Release
    release_file: Path
    release_v2: str
    is_new: bool
    bytes_hashed: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _HashedFile:
    source: Path
    entry: FileEntry
    hashes: FileHashes
    torrent: bytes | None


def _nothing_to_check() -> None:
    """For who publishes from one machine alone."""


def publish(
    home: Home,
    files: Sequence[Path],
    reference: Reference,
    publisher: Publisher,
    *,
    ask: AskPassphrase | None = None,
    description: Description = NOTHING_SAID,
    output: Path | None = None,
    now: datetime | None = None,
    check_newest: Callable[[], None] = _nothing_to_check,
    on_event: OnEvent = ignore,
) -> Published:
    """Publish `files`, and what is in folders among them, as one release under `reference`, signed by `publisher`.

    The release's name in the publisher's catalog changes last. `now` stamps the manifest (SOURCE_DATE_EPOCH, then the
    clock, when None); `ask` is called for a passphrase if the online key has one; `check_newest` raises if somebody
    published elsewhere meanwhile, and is asked before hashing and before listing. Raises UsageError, NotFoundError,
    IntegrityError (a file changed while it was read), TrustError, StoreError or DiskFullError.
    """
    started = time.monotonic()
    sources = collect(files, on_event=on_event)
    mirrors = mirrors_of([one.path for one in sources], description.mirrors)
    if reference.tag is None:
        raise UsageError(
            "publish under a tag, not under a digest", expected="publisher/model:tag", actual=str(reference)
        )
    description = replace(description, base_model=portable(home, publisher, description.base_model))
    words = words_of(reference.model, reference.tag, publisher, description, time_text(publishing_time(now)), mirrors)
    target = output or Path.cwd() / f"{reference.model}-{reference.tag}{SUFFIX}"
    _check_target(target)
    sweep(home, now=time.time())
    sweep_folder(target.parent, now=time.time())
    check_newest()
    keys = publisher.online_keys(ask)  # a wrong passphrase should be noticed before a terabyte is hashed
    with Index.open(home) as index:
        hashed = _hash_all(sources, mirrors, on_event)
        roles = {item.entry.role for item in hashed}
        if Role.ADAPTER in roles and Role.WEIGHTS not in roles and description.base_model is None:
            on_event(Warned(message="an adapter without its base: say which model it is for with --base-model"))
        predicate = words.model_copy(
            update={
                "version": _next_version(index, publisher, reference.model),
                "files": [item.entry for item in hashed],
            }
        )
        digests = [(b3_text(item.hashes.b3), sha256_text(item.hashes.sha256)) for item in hashed]
        envelope, is_new = _sign(index, publisher, predicate, digests, keys)
        release = parse_manifest(envelope.payload)
        torrents = {b3_text(item.hashes.b3): item.torrent for item in hashed if item.torrent is not None}
        bundle = ReleaseBundle(
            roots=publisher.chain.roots,
            envelope=envelope,
            torrents=tuple(torrents[f.b3] for f in _distinct(release) if f.b3 in torrents),
        )
        packed = _packed(bundle)
        _still_the_same(hashed)
        _require_writable(target.parent)
        moment = time.time()
        index.add_release(release, envelope, torrents, now=moment, must_be_newest=is_new)
        for item in hashed:
            index.set_location(
                b3_text(item.hashes.b3), item.source.absolute(), item.hashes.stamp, in_store=False, verified_at=moment
            )
    write_durably(target, packed)
    check_newest()
    list_in_catalog(home, publisher, bundle, keys=keys, now=moment)
    if not is_new:
        on_event(Note(message=f"unchanged: {reference} is already published as version {release.version}"))
    return Published(
        release=release,
        release_file=target,
        release_v2=release_torrent(bundle).v2,
        is_new=is_new,
        bytes_hashed=sum(item.hashes.size for item in hashed),
        seconds=time.monotonic() - started,
    )


def list_in_catalog(
    home: Home, publisher: Publisher, bundle: ReleaseBundle, *, keys: Sequence[SecretKey], now: float
) -> None:
    """Let the release's name mean it, from now on. Changes nothing if it does already."""
    entry = entry_of(bundle)
    state = own_catalog(publisher)
    known = None if state is None else state.catalog.entries.get(entry.path)
    if known is not None and replace(known, withdrawn=()) == entry:
        return
    update_catalog(home, publisher, listing(entry), signers=keys, now=datetime.fromtimestamp(now, UTC))


def entry_of(bundle: ReleaseBundle) -> CatalogEntry:
    """The catalog entry of a release under its own tag."""
    payload = bundle.envelope.payload
    release = parse_manifest(payload)
    return CatalogEntry(
        model=release.model,
        tag=release.tag,
        manifest=release.digest,
        length=len(payload),
        sha256=hashlib.sha256(payload).hexdigest(),
        release_v2=release_torrent(bundle).v2,
        version=release.version,
    )


def _next_version(index: Index, publisher: Publisher, model: str) -> int:
    """Higher than any that this machine or the catalog, which may have been published elsewhere, has seen."""
    state = own_catalog(publisher)
    listed = [] if state is None else [
        version
        for path, entry in state.catalog.entries.items()
        if path.startswith(model + "/")
        for version in (entry.version, *(one.version for one in entry.withdrawn))
    ]  # fmt: skip
    return max([index.next_version(publisher.identity, model) - 1, *listed]) + 1


def _check_target(target: Path) -> None:
    """Before anything is hashed: the release file has a folder, and writes over nothing but another release file."""
    if not target.parent.is_dir():
        raise NotFoundError(f"the folder {target.parent} for the release file doesn't exist")
    if target.is_dir():
        raise UsageError(f"{target} is a folder", expected="a file name", next_step="give one with -o")
    if target.exists():
        with io_errors(target), target.open("rb") as file:
            if file.read(len(ZSTD_MAGIC)) != ZSTD_MAGIC:
                raise UsageError(f"{target} exists and is no release file", next_step="choose another name with -o")


def _require_writable(folder: Path) -> None:
    """Before the release enters the index: its `.samara` file will have a place."""
    with io_errors(folder):
        probe = folder / (TEMPORARY_PREFIX + secrets.token_hex(8))
        probe.touch(exist_ok=False)
        probe.unlink()


def _hash_all(
    sources: Sequence[SourceFile], mirrors: dict[str, list[str]], on_event: OnEvent
) -> list[_HashedFile]:  # fmt: skip
    """Small files travel inline, as many as fit: the manifest has to be fetched before anything else."""
    hashed = []
    room = INLINE_TOTAL
    for one in sources:
        hashed.append(_hash(one.source, one.path, mirrors[one.path], on_event, inline_limit=min(room, INLINE_LIMIT)))
        room -= hashed[-1].hashes.size if hashed[-1].torrent is None else 0
    return hashed


def _hash(source: Path, name: str, mirrors: list[str], on_event: OnEvent, *, inline_limit: int) -> _HashedFile:
    # One descriptor for header and hashing: what is described is what is hashed, even if the name moves meanwhile.
    with open_source(source) as file:
        size = os.fstat(file.fileno()).st_size
        shape = describe(file, size)
        if shape.warning is not None:
            on_event(Warned(message=f"{name}: {shape.warning}"))
        hashes = hash_file(
            source, shape.block_sizes, fd=file.fileno(), on_progress=reporting(HashProgress, name, size, on_event)
        )  # fmt: skip
    inline = None
    if hashes.size <= inline_limit:
        data = source.read_bytes()
        if len(data) != hashes.size or stamp_at(source) != hashes.stamp:
            raise IntegrityError(f"{source} changed while it was read", next_step="publish again once it holds still")
        inline = base64.b64encode(data).decode()
    built = (
        None if inline is not None else build_torrent(hashes.b3.hex(), gguf=shape.claims_gguf, hashes=hashes.torrent)
    )
    entry = FileEntry(
        path=name,
        size=hashes.size,
        role=role_of(name, kind=shape.kind, architecture=None if shape.facts is None else shape.facts.architecture),
        layout=shape.layout,
        blocks=[BlockEntry(size=length, b3=b3_text(digest)) for length, digest in hashes.blocks],
        torrent=None
        if built is None
        else TorrentEntry(
            v1=built.v1,
            v2=built.v2,
            piece_length=piece_length_for(hashes.size),
            pieces_root=hashes.torrent.pieces_root.hex(),
        ),
        mirrors=mirrors,
        gguf=shape.facts,
        inline=inline,
    )
    return _HashedFile(source=source, entry=entry, hashes=hashes, torrent=None if built is None else built.data)


def _sign(
    index: Index,
    publisher: Publisher,
    predicate: Predicate,
    digests: list[tuple[str, str]],
    keys: Sequence[SecretKey],
) -> tuple[Envelope, bool]:
    """Sign the predicate, unless the newest release under its tag says the same: then that one, unchanged."""
    known = index.release(publisher.identity, predicate.model, predicate.tag)
    if known is not None:
        old = parse_manifest(known.envelope.payload)
        same = predicate.model_copy(update={"version": old.version, "created": old.created})
        if build_payload(same, digests) == known.envelope.payload:
            return _signed_by_now(known.envelope, publisher, keys), False
    return publisher.sign(build_payload(predicate, digests), keys), True


def _signed_by_now(envelope: Envelope, publisher: Publisher, keys: Sequence[SecretKey]) -> Envelope:
    """The same release with a signature by the keys in force, if they were replaced since it was signed."""
    try:
        verify_envelope(envelope, publisher.chain)
    except TrustError:
        fresh = publisher.sign(envelope.payload, keys).signatures
        ours = {one.keyid for one in fresh}
        return Envelope(
            payload=envelope.payload,
            signatures=(*fresh, *(one for one in envelope.signatures if one.keyid not in ours))[:MAX_SIGNATURES],
        )
    return envelope


def _packed(bundle: ReleaseBundle) -> bytes:
    """The `.samara` file, as everybody will be able to read it: nothing is published that is too large for that."""
    packed = pack_release(bundle)
    try:
        unpack_release(packed)
        unpack_release_object(pack_release_object(bundle))
    except MalformedError as error:
        raise UsageError(
            f"too much for one release: {error}", next_step="publish it as several, or some of its files elsewhere"
        ) from None
    return packed


def _still_the_same(hashed: Sequence[_HashedFile]) -> None:
    for item in hashed:
        now: Stamp | None = stamp_at(item.source)
        if now != item.hashes.stamp:
            raise IntegrityError(f"{item.source} changed while the release was made", next_step="publish again")


def _distinct(release: Release) -> list[ReleaseFile]:
    return list({f.b3: f for f in release.files}.values())
