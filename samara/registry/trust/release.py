"""A release that travels alone, checked against this machine's trust. Touches the trust folder only.

`open_release` proves the parts of one that travels alone: the manifest by the pinned publisher's signature, the roots
by the identity, each torrent by the manifest. Freshness is not checked: whoever shows the result should say so.
`open_listed` proves one by the publisher's catalog, which says what is current; `prove_listed` does without a pin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from samara.registry.trust.pins import Pin, TrustFolder
from samara.registry.trust.roots import RootChain, verify_root_chain
from samara.registry.trust.signing import verify_envelope, verify_listed_envelope
from samara.schemas.bittorrent import ParsedTorrent, blob_file_name, parse_blob_torrent
from samara.schemas.catalog import CatalogEntry
from samara.schemas.digests import b3
from samara.schemas.envelope import Envelope
from samara.schemas.errors import IntegrityError, MalformedError, SamaraError, TrustError
from samara.schemas.manifest import Release, ReleaseFile, TorrentEntry, parse_manifest
from samara.schemas.release_file import ReleaseBundle

if TYPE_CHECKING:
    from samara.registry.trust.catalog_client import CatalogState


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedRelease:
    """A release whose signature, publisher and torrents were checked. `torrents`: by blob (`b3:…`)."""

    release: Release
    envelope: Envelope
    pin: Pin
    chain: RootChain
    signers: tuple[str, ...]
    torrents: Mapping[str, ParsedTorrent]
    trusted: Literal[True] = True

    @property
    def bundle(self) -> ReleaseBundle:
        """The same as a file to hand on, with every root known here and without anything unproven."""
        canonical = dict.fromkeys(torrent.canonical for torrent in self.torrents.values())
        return ReleaseBundle(roots=self.chain.roots, envelope=self.envelope, torrents=tuple(canonical))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvenRelease:
    """A release that its publisher's catalog lists, signature and torrents checked. Says nothing of who trusts whom."""

    release: Release
    envelope: Envelope
    signers: tuple[str, ...]
    torrents: Mapping[str, ParsedTorrent]


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectedRelease:
    """What a file says of itself. `problem`: why even its own roots, signature or torrents don't hold; else None."""

    release: Release
    chain: RootChain | None
    signers: tuple[str, ...]
    problem: SamaraError | None
    trusted: Literal[False] = False


def open_release(bundle: ReleaseBundle, trust: TrustFolder) -> VerifiedRelease:
    """Check every part of `bundle`; remember newer roots it brings.

    Raises TrustError (publisher not pinned, wrong roots or signature), IntegrityError (a torrent of other bytes) or
    MalformedError (a part breaks its format, or a torrent is missing).
    """
    release = parse_manifest(bundle.envelope.payload)
    pin = trust.resolve(release.identity, claimed_name=release.publisher_name)
    chain = trust.chain_for(pin.identity, bundle.roots)
    trust.store_roots(pin.identity, chain)  # before the signature: a proven rotation counts whatever carried it
    signers = _check_signature(release, bundle.envelope, chain)
    return VerifiedRelease(
        release=release,
        envelope=bundle.envelope,
        pin=pin,
        chain=chain,
        signers=signers,
        torrents=match_torrents(release.files, bundle.torrents),
    )


def open_listed(bundle: ReleaseBundle, entry: CatalogEntry, state: CatalogState, trust: TrustFolder) -> VerifiedRelease:
    """Check a release of a pinned publisher against the entry of a verified catalog that names it.

    Raises what `prove_listed` raises, and TrustError if the publisher isn't pinned.
    """
    pin = trust.resolve(state.chain.identity)
    proven = prove_listed(bundle, entry, state.chain)
    return VerifiedRelease(
        release=proven.release,
        envelope=proven.envelope,
        pin=pin,
        chain=state.chain,
        signers=proven.signers,
        torrents=proven.torrents,
    )


def prove_listed(bundle: ReleaseBundle, entry: CatalogEntry, chain: RootChain) -> ProvenRelease:
    """Check a release against the entry of a verified catalog of `chain`'s publisher; whether anybody here trusts that
    one is another question.

    Raises IntegrityError (other bytes than the catalog's), TrustError (not signed by a targets key of any of the
    publisher's roots) or MalformedError.
    """
    payload = bundle.envelope.payload
    facts = {
        "length": (entry.length, len(payload)),
        "SHA-256": (entry.sha256, hashlib.sha256(payload).hexdigest()),
        "BLAKE3": (entry.manifest, b3(payload)),
    }
    for what, (expected, actual) in facts.items():
        if expected != actual:
            raise IntegrityError(
                f"the manifest of {entry.path} is not the one its catalog names ({what})", expected=expected,
                actual=actual, next_step="get it from another source",
            )  # fmt: skip
    release = parse_manifest(payload)
    if (release.model, release.version) != (entry.model, entry.version):
        raise TrustError(
            f"the catalog's {entry.path} is another release", expected=f"{entry.model} version {entry.version}",
            actual=f"{release.model} version {release.version}", next_step="tell its publisher",
        )  # fmt: skip
    if release.identity != chain.identity:
        raise TrustError("manifest names another publisher", expected=chain.identity, actual=release.identity)
    return ProvenRelease(
        release=release,
        envelope=bundle.envelope,
        signers=verify_listed_envelope(bundle.envelope, chain),
        torrents=match_torrents(release.files, bundle.torrents),
    )


def inspect_release(bundle: ReleaseBundle) -> InspectedRelease:
    """What the file claims, for showing it: asks no pin, proves nothing about who the publisher is.

    Raises MalformedError only if there is no readable manifest.
    """
    release = parse_manifest(bundle.envelope.payload)
    chain: RootChain | None = None
    signers: tuple[str, ...] = ()
    try:
        chain = verify_root_chain(release.identity, bundle.roots)
        signers = _check_signature(release, bundle.envelope, chain)
        match_torrents(release.files, bundle.torrents)
    except SamaraError as problem:
        return InspectedRelease(release=release, chain=chain, signers=signers, problem=problem)
    return InspectedRelease(release=release, chain=chain, signers=signers, problem=None)


def match_torrents(files: Sequence[ReleaseFile], torrents: Sequence[bytes]) -> dict[str, ParsedTorrent]:
    """Blob (`b3:…`) → its torrent, for every file that has one; torrents of no file are dropped.

    Raises MalformedError for a missing or malformed torrent, IntegrityError for one that isn't the manifest's.
    """
    by_name: dict[str, ParsedTorrent] = {}
    for data in torrents:
        parsed = parse_blob_torrent(data)
        if by_name.setdefault(parsed.name, parsed).canonical != parsed.canonical:
            raise MalformedError(f"release file has two different torrents named {parsed.name}")
    return {file.b3: _torrent_of(file, file.torrent, by_name) for file in files if file.torrent is not None}


def _torrent_of(file: ReleaseFile, entry: TorrentEntry, by_name: Mapping[str, ParsedTorrent]) -> ParsedTorrent:
    # Which of the two endings a blob has is part of the info dictionary, hence of the signed infohashes.
    names = [blob_file_name(file.b3_hex, gguf=gguf) for gguf in (True, False)]
    found = [by_name[name] for name in names if name in by_name]
    if not found:
        raise MalformedError(
            f"release file lacks the torrent of {file.path}", expected=" or ".join(names), actual="none of that name",
            next_step="get a complete .samara file",
        )  # fmt: skip
    matching = [torrent for torrent in found if torrent.v2 == entry.v2]
    _check_torrent(file, entry, matching[0] if matching else found[0])
    return matching[0]


def _check_torrent(file: ReleaseFile, entry: TorrentEntry, torrent: ParsedTorrent) -> None:
    facts = {
        "v2 infohash": (entry.v2, torrent.v2),
        "v1 infohash": (entry.v1, torrent.v1),
        "size": (file.size, torrent.hashes.size),
        "piece length": (entry.piece_length, torrent.hashes.piece_length),
        "pieces root": (entry.pieces_root, torrent.hashes.pieces_root.hex()),
    }
    for what, (expected, actual) in facts.items():
        if expected != actual:
            raise IntegrityError(
                f"the torrent of {file.path} is not the one its manifest names ({what})", expected=expected,
                actual=actual, next_step="get the .samara file from another source",
            )  # fmt: skip


def _check_signature(release: Release, envelope: Envelope, chain: RootChain) -> tuple[str, ...]:
    if release.identity != chain.identity:
        raise TrustError("manifest names another publisher", expected=chain.identity, actual=release.identity)
    return verify_envelope(envelope, chain)
