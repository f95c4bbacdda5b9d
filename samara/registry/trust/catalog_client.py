"""What this machine knows of a publisher's catalog, and how that may change: TUF's workflow and what it lacks.

    trust/<identity>/metadata        the metadata bundle trusted last
    trust/<identity>/seen.json       time floor, timestamp digests by version, stale catalogs that were accepted
    trust/<identity>/equivocation/   both sides of what a publisher must never sign

`check` runs the workflow over a source in a scratch folder and writes nothing here but evidence and newer roots, which
are proven whatever else is wrong; `commit` makes its outcome this machine's, bytes before record, whole or not at all,
and never backwards. Beside the library's rules: the time only grows (`now` = the later of the clock and the highest
time seen), a lost file lowers no version, and one version with two contents is an error that keeps both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from samara.registry.durable import TEMPORARY_PREFIX, io_errors, make_folder, write_durably
from samara.registry.trust.catalogs import is_signed_by, read_catalog, signed_digest
from samara.registry.trust.files import locked, parse_time, read_small, sweep_leftovers, time_text
from samara.registry.trust.identity import ROOT_V1_NAME
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.roots import RootChain, verify_root_chain
from samara.registry.trust.sources import BundleSource, MetadataSource, read_whole
from samara.registry.trust.updater import LONG_AGO, ExpiredCatalogError, RolledBackError
from samara.registry.trust.workflow import ONLINE_ROLES, run_workflow
from samara.schemas.catalog import Catalog
from samara.schemas.envelope import canonical_json, strict_json
from samara.schemas.errors import MalformedError, NotFoundError, SamaraError, StoreError, TrustError
from samara.schemas.metadata_bundle import (
    MAX_BUNDLE_BYTES,
    MAX_TIMESTAMP_BYTES,
    MetadataBundle,
    pack_metadata,
    unpack_metadata,
)
from samara.schemas.release_file import MAX_ROOT_BYTES

SEEN_FORMAT = "samara-seen-1"
_MAX_SEEN_BYTES = 256 * 1024
_KEPT = 64  # timestamps and acceptances remembered
_MAX_SOURCE = 200  # characters of a source's name remembered
_FLOOR_STEP = timedelta(minutes=10)  # a floor this much too low costs nothing; a write at every refresh would


class EquivocationError(TrustError):
    """One version of a catalog with two contents, both signed: whoever holds the key tells two people two things."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogState:
    """A verified catalog: what it says, the bytes behind it, the roots it hangs from.

    `stale`: roles that had expired and were accepted knowingly; empty for a current one. `timestamp_digest` as in
    `catalogs.signed_digest`. `checked_against`: what was trusted when it was checked.
    """

    catalog: Catalog
    bundle: MetadataBundle
    chain: RootChain
    stale: tuple[str, ...] = ()
    timestamp_digest: str = ""
    checked_against: MetadataBundle | None = field(default=None, repr=False, compare=False)

    @property
    def order(self) -> tuple[int, int]:
        """Grows from one to the next: root version, timestamp version. New keys begin to count anew (TUF §5.3.11)."""
        return len(self.bundle.roots), self.catalog.versions["timestamp"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """A stale catalog that was accepted: when, which roles had expired, where it came from."""

    at: str
    roles: tuple[str, ...]
    source: str
    timestamp_version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """seen.json. `floor`: the highest time at which a current catalog was accepted; `keys`: the online roles' keys that
    `versions` were signed by: new keys begin to count anew (TUF §5.3.11). `timestamps`: version → signed digest.
    """

    floor: datetime = LONG_AGO
    keys: str = ""
    versions: dict[str, int] = field(default_factory=dict)
    timestamps: dict[int, str] = field(default_factory=dict)
    accepted: tuple[Accepted, ...] = ()


class CatalogClient:
    """One pinned publisher's catalog on this machine. Cheap to make; touches the disk only when asked something."""

    def __init__(self, trust: TrustFolder, identity: str) -> None:
        self._trust = trust
        self._identity = identity
        self._folder = trust.folder / identity

    def stored(self) -> CatalogState | None:
        """What this machine trusts already, expired or not; None if it never saw a catalog, or the file is damaged."""
        bundle = self._stored_bundle()
        if bundle is None:
            return None
        try:
            return CatalogState(
                catalog=read_catalog(self._identity, bundle),
                bundle=bundle,
                chain=self._trust.chain_for(self._identity, bundle.roots),
            )
        except MalformedError:
            return None

    def seen(self) -> Seen:
        """What was seen before, whatever became of the files. Raises StoreError if they are there and can't be read."""
        seen = self._read_seen()
        if seen is None:
            if (self._seen_file.exists() or self._bundle_file.exists()) and self._stored_bundle() is None:
                raise StoreError(
                    f"what this machine knew of {self._identity} is damaged: how new its catalog was can't be told",
                    next_step=f"run: samara trust remove {self._identity} — then add it again with its identity",
                )
            return Seen()
        return seen

    def damage(self) -> str | None:
        """What is wrong with the files kept of this publisher; None if nothing is."""
        if self._bundle_file.exists() and self._stored_bundle() is None:
            return f"{self._bundle_file} is damaged"
        if self._seen_file.exists() and self._read_seen() is None:
            return f"{self._seen_file} is damaged"
        return None

    def evidence(self) -> tuple[Path, ...]:
        """Files that prove an equivocation: both sides of it, as far as both were seen."""
        folder = self._folder / "equivocation"
        with io_errors(folder):
            files = sorted(folder.iterdir()) if folder.is_dir() else []
        return tuple(file for file in files if not file.name.startswith(TEMPORARY_PREFIX))

    def check(self, source: MetadataSource, *, now: datetime, allow_stale: bool = False) -> CatalogState:
        """The catalog that `source` has, verified against all that was seen before.

        Raises TrustError (ExpiredCatalogError, RolledBackError, equivocation, signatures), MalformedError,
        NetworkError, NotFoundError (the source has no catalog) or StoreError.
        """
        seen = self.seen()
        moment = max(now, seen.floor)
        unchanged = self._as_before(source, seen, moment)
        if unchanged is not None:
            return unchanged
        watched = _Watched(source)
        try:
            state = self._run(watched, moment)
        except ExpiredCatalogError:
            self._catch_equivocation(watched, seen, None)
            if not allow_stale:
                raise
            state = self._run(watched, LONG_AGO)
            state = replace(state, stale=state.catalog.expired_roles(moment))
        except RolledBackError:
            self._catch_equivocation(watched, seen, None)
            raise
        self._catch_equivocation(watched, seen, state)
        self._require_not_lowered(state, seen, source)
        return state

    def commit(self, state: CatalogState, *, now: datetime, source: str) -> None:
        """Make a checked catalog this machine's, unless a newer one has become that meanwhile. Durable at return."""
        self._trust.store_roots(self._identity, state.chain)
        with locked(self._trust.folder):
            sweep_leftovers(self._folder)
            seen = self.seen()
            mine = self._stored_bundle()
            if mine != state.bundle:
                if mine != state.checked_against:  # another process was quicker: never backwards, nor sideways
                    try:
                        self.check(BundleSource(state.bundle, source), now=now, allow_stale=True)
                    except RolledBackError:
                        return
                write_durably(self._bundle_file, pack_metadata(state.bundle))
            new = _seen_now(seen, state, now=now, source=source)
            if new != seen:
                write_durably(self._seen_file, _seen_bytes(new))

    # -- the workflow --------------------------------------------------------------------------------------------

    def _as_before(self, source: MetadataSource, seen: Seen, moment: datetime) -> CatalogState | None:
        """The stored catalog, if the source has the same timestamp, byte for byte, and no newer root.

        The library has judged these very bytes before, when they were stored; of what it judges by only the time can
        have changed. Verifying ten thousand entries again takes it longer than all else together.
        """
        bundle = self._stored_bundle()
        if bundle is None:
            return None
        if read_whole(source, "timestamp.json", MAX_TIMESTAMP_BYTES) != bundle.timestamp:
            return None
        if read_whole(source, f"{len(bundle.roots) + 1}.root.json", MAX_ROOT_BYTES) is not None:
            return None
        state = self.stored()
        if state is None or state.chain.roots != bundle.roots or state.catalog.expires <= moment:
            return None
        digest = seen.timestamps.get(state.catalog.versions["timestamp"])
        if digest is None:
            return None
        return replace(state, timestamp_digest=digest, checked_against=bundle)

    def _run(self, source: MetadataSource, moment: datetime) -> CatalogState:
        before = self._stored_bundle()
        bundle = run_workflow(
            source, roots=self._trusted_roots(source), before=before, now=moment, on_roots=self._keep_roots
        )
        chain = self._trust.chain_for(self._identity, bundle.roots)
        return CatalogState(
            catalog=read_catalog(self._identity, bundle),
            bundle=bundle,
            chain=chain,
            timestamp_digest=signed_digest(bundle.timestamp)[1],
            checked_against=before,
        )

    def _keep_roots(self, roots: Sequence[bytes]) -> None:
        """A rotation counts (TUF §5.3.8) whatever is wrong with the rest: else who holds the rest back undoes it."""
        with contextlib.suppress(SamaraError):  # what went wrong before is the news
            chain = self._trust.chain_for(self._identity, roots)
            stored = self._trust.stored_chain(self._identity)
            if chain.version > (0 if stored is None else stored.version):
                self._trust.store_roots(self._identity, chain)

    def _trusted_roots(self, source: MetadataSource) -> tuple[bytes, ...]:
        """The roots that trust begins with: those seen already, else the first one, which the identity proves."""
        chain = self._trust.stored_chain(self._identity)
        if chain is not None:
            return chain.roots
        first = read_whole(source, ROOT_V1_NAME, MAX_ROOT_BYTES)
        if first is None:
            raise NotFoundError(f"{source.name} lacks {ROOT_V1_NAME}", next_step="try another source")
        return verify_root_chain(self._identity, [first]).roots

    def _require_not_lowered(self, state: CatalogState, seen: Seen, source: MetadataSource) -> None:
        """What the library would see by itself, had the files that it compares with not been lost."""
        if seen.keys != _online_keys(state.chain):
            return
        for role in ONLINE_ROLES:
            if state.catalog.versions[role] < seen.versions.get(role, 0):
                raise RolledBackError(
                    f"{source.name} offers an older catalog than was seen before ({role})",
                    expected=f"version {seen.versions[role]} at least", actual=state.catalog.versions[role],
                    next_step="try another source; if all say the same, ask the publisher",
                )  # fmt: skip

    def _catch_equivocation(self, watched: _Watched, seen: Seen, state: CatalogState | None) -> None:
        """Both a timestamp that was just fetched and one of the same version seen before are signed, and differ."""
        offered = watched.timestamp
        chain = self._trust.stored_chain(self._identity) if state is None else state.chain
        if offered is None or chain is None or not is_signed_by(chain.roots[-1], "timestamp", offered):
            return
        version, digest = signed_digest(offered)
        # numbers of before a change of keys may come again: a thief had fast-forwarded them, say
        known = seen.timestamps.get(version) if seen.keys == _online_keys(chain) else None
        if known is None and state is not None and version == state.catalog.versions["timestamp"]:
            known = state.timestamp_digest
        if known is None or known == digest:
            return
        folder = self._folder / "equivocation"
        make_folder(folder)
        write_durably(folder / f"timestamp-{version}-{digest[:16]}.json", offered)
        bundle = self._stored_bundle()
        if bundle is not None and signed_digest(bundle.timestamp) == (version, known):
            write_durably(folder / f"timestamp-{version}-{known[:16]}.json", bundle.timestamp)
        raise EquivocationError(
            f"the publisher signed two different catalogs as version {version}, or its online key is stolen",
            expected=f"sha256:{known} as seen before", actual=f"sha256:{digest} from {watched.name}",
            next_step=f"use neither and ask the publisher; both are kept in {folder}",
        )  # fmt: skip

    # -- files ---------------------------------------------------------------------------------------------------

    @property
    def _bundle_file(self) -> Path:
        return self._folder / "metadata"

    @property
    def _seen_file(self) -> Path:
        return self._folder / "seen.json"

    def _stored_bundle(self) -> MetadataBundle | None:
        if not self._bundle_file.exists():
            return None
        try:
            return unpack_metadata(read_small(self._bundle_file, limit=MAX_BUNDLE_BYTES))
        except MalformedError:
            return None

    def _read_seen(self) -> Seen | None:
        if not self._seen_file.exists():
            return None
        try:
            return _parse_seen(strict_json(read_small(self._seen_file, limit=_MAX_SEEN_BYTES), "seen.json"))
        except SamaraError:
            return None


class _Watched:
    """A source that remembers the timestamp it gave."""

    def __init__(self, source: MetadataSource) -> None:
        self._source = source
        self.name = source.name
        self.timestamp: bytes | None = None

    def read(self, name: str) -> Iterator[bytes] | None:
        pieces = self._source.read(name)
        if pieces is None or name != "timestamp.json":
            return pieces
        return self._remember(pieces)

    def _remember(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        data = b""
        for piece in pieces:
            data += piece
            yield piece
        self.timestamp = data


def _online_keys(chain: RootChain) -> str:
    return " ".join(sorted({keyid for role in ONLINE_ROLES for keyid in chain.newest.roles[role].keyids}))


def _seen_now(seen: Seen, state: CatalogState, *, now: datetime, source: str) -> Seen:
    """`seen` after accepting `state`. A stale catalog moves no clock: only what was current proves a time.

    Hence the floor stays below the end of a catalog that was current, and what is signed after that one is good beyond
    the floor: a clock that ran ahead for a while locks nobody out.
    """
    versions = dict(state.catalog.versions)
    keys = _online_keys(state.chain)
    if keys == seen.keys:
        versions = {role: max(version, seen.versions.get(role, 0)) for role, version in versions.items()}
    accepted = seen.accepted
    floor = seen.floor
    if state.stale:
        accepted = (
            *accepted,
            Accepted(
                at=time_text(now),
                roles=state.stale,
                source=source[:_MAX_SOURCE],
                timestamp_version=versions["timestamp"],
            ),
        )[-_KEPT:]
    elif now - floor >= _FLOOR_STEP:
        floor = now.replace(microsecond=0)
    timestamps = {} if keys != seen.keys else dict(seen.timestamps)
    timestamps[state.catalog.versions["timestamp"]] = state.timestamp_digest or signed_digest(state.bundle.timestamp)[1]
    newest = sorted(timestamps)[-_KEPT:]
    return Seen(
        floor=floor,
        keys=keys,
        versions=versions,
        timestamps={version: timestamps[version] for version in newest},
        accepted=accepted,
    )


def _seen_bytes(seen: Seen) -> bytes:
    value = {
        "format": SEEN_FORMAT,
        "time": time_text(seen.floor),
        "keys": seen.keys,
        "versions": seen.versions,
        "timestamps": {str(version): digest for version, digest in seen.timestamps.items()},
        "accepted_stale": [
            {"at": a.at, "roles": list(a.roles), "source": a.source, "timestamp_version": a.timestamp_version}
            for a in seen.accepted
        ],
    }
    return canonical_json(value) + b"\n"


def _parse_seen(value: object) -> Seen | None:
    """seen.json → Seen; None for what we didn't write."""
    if not isinstance(value, dict) or value.get("format") != SEEN_FORMAT:
        return None
    try:
        return Seen(
            floor=parse_time(value["time"]),
            keys=str(value["keys"]),
            versions={str(role): int(version) for role, version in value["versions"].items()},
            timestamps={int(version): str(digest) for version, digest in value["timestamps"].items()},
            accepted=tuple(
                Accepted(
                    at=str(one["at"]),
                    roles=tuple(map(str, one["roles"])),
                    source=str(one["source"]),
                    timestamp_version=int(one["timestamp_version"]),
                )
                for one in value["accepted_stale"]
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
