"""What a bundle's documents are worth on this machine: who made each release, and whether it is what its name means.

Reads the trust folder; keeps nothing (evidence of equivocation excepted) until `remember` is called, after the bytes.

A catalog in the bundle runs through the whole TUF workflow. If this machine knows a newer one, that one judges, and
nothing is taken back; an old release then comes in under its digest alone, and no name begins to mean it. Without a
catalog a release is worth what a `.samara` file is: its signature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from samara.fetcher.catalogs import ago
from samara.registry.home import Home
from samara.registry.trust.catalog_client import CatalogClient, CatalogState
from samara.registry.trust.catalogs import is_signed_by, read_catalog
from samara.registry.trust.known import KnownCatalogs
from samara.registry.trust.pins import Pin, TrustFolder
from samara.registry.trust.release import VerifiedRelease, match_torrents, open_listed
from samara.registry.trust.roots import RootChain
from samara.registry.trust.signing import verify_envelope
from samara.registry.trust.sources import BundleSource
from samara.registry.trust.updater import ExpiredCatalogError, RolledBackError
from samara.schemas.bundle import BundledRelease, BundleIndex, Kind, Member, check_blobs, unpack_roots
from samara.schemas.catalog import Catalog
from samara.schemas.errors import MalformedError, TrustError
from samara.schemas.events import Note, OnEvent, Warned
from samara.schemas.manifest import Release, parse_manifest
from samara.schemas.metadata_bundle import MetadataBundle, unpack_metadata
from samara.schemas.release_file import ReleaseBundle, unpack_release_object

THIS_MACHINE = "this machine"


class Standing(StrEnum):
    """What the newest catalog known says of a release."""

    CURRENT = "current"
    OLDER = "older"
    UNLISTED = "unlisted"
    RETRACTED = "retracted"
    UNCHECKED = "unchecked"  # no catalog of its publisher is known


@dataclass(frozen=True, kw_only=True, slots=True)
class Vouched:
    """One publisher of a bundle. `state`: the newest catalog known, which judges; None if there is none at all.

    `checked`: the catalog to remember, checked as of now; None if the bundle brought none. `outdated`: it brought one,
    but this machine knows a newer one.
    """

    pin: Pin
    chain: RootChain
    state: CatalogState | None
    checked: CatalogState | None
    outdated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One release, proven. `tags`: the names under its model that mean it by the catalog."""

    verified: VerifiedRelease
    standing: Standing
    tags: tuple[str, ...]

    @property
    def release(self) -> Release:
        """The release itself."""
        return self.verified.release

    @property
    def reference(self) -> str:
        """How people on this machine name it: by tag only if that is what the tag means."""
        at = f"@{self.release.digest}" if self.by_digest_only else f":{self.release.tag}"
        return f"{self.verified.pin.alias}/{self.release.model}{at}"

    @property
    def by_digest_only(self) -> bool:
        """Whether no name means it."""
        return self.standing not in {Standing.CURRENT, Standing.UNCHECKED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A bundle's documents, every one proven."""

    publishers: tuple[Vouched, ...]
    releases: tuple[Judged, ...]


def judge(
    home: Home,
    index: BundleIndex,
    documents: Mapping[Member, bytes],
    source: str,
    *,
    now: datetime,
    allow_stale: bool,
    on_event: OnEvent,
) -> Verdict:
    """Prove every document of the bundle called `source`. Raises TrustError, MalformedError or IntegrityError."""
    judging = _Judging(home, source, now=now, allow_stale=allow_stale, on_event=on_event)
    bundles = {
        member.key: unpack_release_object(data)
        for member, data in documents.items()
        if member.kind is Kind.RELEASE
    }  # fmt: skip
    releases = [_release_of(listed, bundles[listed.manifest]) for listed in index.releases]
    check_blobs(index, releases)
    names = {release.identity: release.publisher_name for release in releases}
    pins = {
        identity: judging.trust.resolve(identity, claimed_name=name) for identity, name in sorted(names.items())
    }  # fmt: skip
    publishers = {
        member.key: judging.publisher(pins[member.key], member, data)
        for member, data in documents.items()
        if member.kind is not Kind.RELEASE
    }
    judged = [
        judging.release(listed, release, bundles[release.digest], publishers[release.identity])
        for listed, release in zip(index.releases, releases, strict=True)
    ]
    return Verdict(publishers=tuple(publishers.values()), releases=tuple(judged))


def remember(home: Home, publishers: Sequence[Vouched], source: str, *, now: datetime) -> None:
    """Make the catalogs and roots that a bundle brought this machine's, durably and never backwards."""
    trust = TrustFolder(home.trust)
    for one in publishers:
        if one.checked is not None:
            CatalogClient(trust, one.pin.identity).commit(one.checked, now=now, source=source)
        trust.store_roots(one.pin.identity, one.chain)


class _Judging:
    """One verdict in the making."""

    def __init__(self, home: Home, source: str, *, now: datetime, allow_stale: bool, on_event: OnEvent) -> None:
        self.trust = TrustFolder(home.trust)
        self._known = KnownCatalogs(home, self.trust)
        self._source = source
        self._now = now
        self._allow_stale = allow_stale
        self._on_event = on_event

    def publisher(self, pin: Pin, member: Member, data: bytes) -> Vouched:
        if member.kind is Kind.ROOTS:
            return self._without_catalog(pin, unpack_roots(data))
        checked = self._check(pin, unpack_metadata(data))
        outdated = checked is None
        if checked is None:
            checked = self._check_known(pin)
        own = self._known.of(pin.identity)  # a publisher's own machine may have signed a newer one since
        state = checked
        if own is not None and own.catalog.versions["timestamp"] > checked.catalog.versions["timestamp"]:
            state, outdated = own, True
        if outdated:
            self._on_event(
                Warned(
                    message=f"the bundle's catalog of {pin.alias} is older than the one known here (version"
                    f" {state.catalog.versions['timestamp']}): that one stays, and says what is current"
                )
            )
        self._say_age(pin, checked)
        chain = self.trust.chain_for(pin.identity, checked.chain.roots)
        return Vouched(pin=pin, chain=chain, state=state, checked=checked, outdated=outdated)

    def release(self, listed: BundledRelease, release: Release, bundle: ReleaseBundle, by: Vouched) -> Judged:
        name = f"{by.pin.alias}/{release.model}:{release.tag}"
        catalog = None if by.state is None else by.state.catalog
        standing = standing_of(release, catalog)
        if standing is Standing.RETRACTED:
            assert catalog is not None
            message = f"{name} was withdrawn by its publisher: {catalog.retraction(release.digest)}"
            if not listed.pinned:
                raise TrustError(
                    message,
                    next_step="get a bundle of what replaced it; one exported by its digest is imported with a warning",
                )
            self._on_event(Warned(message=message))
        entry = None if catalog is None else catalog.of_manifest(release.digest)
        if entry is None or by.state is None:
            verified = _open_alone(release, bundle, by)
        else:
            verified = open_listed(bundle, entry, by.state, self.trust)
        tags = () if catalog is None or standing is not Standing.CURRENT else _tags(catalog, release)
        judged = Judged(verified=verified, standing=standing, tags=tags)
        self._say_standing(judged, name, by)
        return judged

    def _without_catalog(self, pin: Pin, roots: tuple[bytes, ...]) -> Vouched:
        return Vouched(
            pin=pin,
            chain=self.trust.chain_for(pin.identity, roots),
            state=self._known.of(pin.identity),
            checked=None,
            outdated=False,
        )

    def _check(self, pin: Pin, bundle: MetadataBundle) -> CatalogState | None:
        """The bundle's catalog, verified; None if this machine knows a newer one."""
        client = CatalogClient(self.trust, pin.identity)
        before = client.stored()
        try:
            return client.check(BundleSource(bundle, self._source), now=self._now, allow_stale=self._allow_stale)
        except ExpiredCatalogError as error:
            raise self._expired(pin, read_catalog(pin.identity, bundle), error) from None
        except RolledBackError:
            if before is None:  # versions were seen, but the catalog they were of is lost: nothing else can judge
                raise
        except TrustError:
            # unless it was made before the publisher's keys changed, so that those of today haven't signed it
            if before is None or len(bundle.roots) >= before.chain.version:
                raise
            if is_signed_by(before.chain.roots[-1], "timestamp", bundle.timestamp):
                raise
        return None

    def _check_known(self, pin: Pin) -> CatalogState:
        """The catalog that this machine trusts already, held against the time."""
        client = CatalogClient(self.trust, pin.identity)
        stored = client.stored()
        assert stored is not None
        try:
            return client.check(
                BundleSource(stored.bundle, THIS_MACHINE), now=self._now, allow_stale=self._allow_stale
            )  # fmt: skip
        except ExpiredCatalogError as error:
            raise self._expired(pin, stored.catalog, error) from None

    def _expired(self, pin: Pin, catalog: Catalog, error: ExpiredCatalogError) -> ExpiredCatalogError:
        return ExpiredCatalogError(
            f"{error.what}; {pin.alias} ({pin.short}…) says that it was {self._age(catalog)}",
            next_step="bring a newer bundle; to accept this one knowingly, add --allow-stale",
        )

    def _age(self, catalog: Catalog) -> str:
        if catalog.signed is None:
            return f"good until {catalog.expires:%Y-%m-%d}"
        return f"signed {ago(self._now - catalog.signed)}"

    def _say_age(self, pin: Pin, state: CatalogState) -> None:
        said = f"{pin.alias} is {pin.short}…; its catalog: {self._age(state.catalog)}"
        if state.stale:
            expired = f"EXPIRED on {state.catalog.expires:%Y-%m-%d} ({', '.join(state.stale)}), accepted knowingly"
            self._on_event(Warned(message=f"{said}; {expired}"))
        else:
            self._on_event(Note(message=said))

    def _say_standing(self, judged: Judged, name: str, by: Vouched) -> None:
        release = judged.release
        if by.checked is None:
            self._on_event(
                Note(message=f"{name} is signed by {by.pin.short}…; freshness not checked: no catalog came with it")
            )
        if judged.standing is Standing.OLDER:
            assert by.state is not None
            entry = by.state.catalog.find(release.model, release.tag)
            version = "" if entry is None else f" (version {entry.version}; this one is {release.version})"
            self._on_event(Warned(message=f"{name} means a newer release by now{version}: use {judged.reference}"))
        elif judged.standing is Standing.UNLISTED:
            self._on_event(
                Warned(message=f"the catalog known here doesn't list this {name}: use {judged.reference}")
            )  # fmt: skip


def standing_of(release: Release, catalog: Catalog | None) -> Standing:
    """What a catalog says of a release; a tag may since have been moved to it or away from it."""
    if catalog is None:
        return Standing.UNCHECKED
    if catalog.retraction(release.digest) is not None:
        return Standing.RETRACTED
    if catalog.of_manifest(release.digest) is not None:
        return Standing.CURRENT
    entry = catalog.find(release.model, release.tag)
    if entry is not None and entry.version > release.version:
        return Standing.OLDER
    return Standing.UNLISTED


def _tags(catalog: Catalog, release: Release) -> tuple[str, ...]:
    """The tags of its model that mean a release."""
    meaning = (entry for entry in catalog.entries.mentioning(release.digest) if entry.manifest == release.digest)
    return tuple(entry.tag for entry in meaning if entry.model == release.model)


def _release_of(listed: BundledRelease, bundle: ReleaseBundle) -> Release:
    """The release of a document, which must be the one that was listed under that digest."""
    release = parse_manifest(bundle.envelope.payload)
    said = (listed.manifest, listed.identity, listed.model, listed.tag)
    found = (release.digest, release.identity, release.model, release.tag)
    if said != found:
        raise MalformedError(
            "bundle's release document is not what its list says", expected=" ".join(said), actual=" ".join(found),
            next_step="get the bundle again",
        )  # fmt: skip
    return release


def _open_alone(release: Release, bundle: ReleaseBundle, by: Vouched) -> VerifiedRelease:
    """As `open_release`, by a chain of roots that is known already; stores nothing."""
    assert release.identity == by.chain.identity
    return VerifiedRelease(
        release=release,
        envelope=bundle.envelope,
        pin=by.pin,
        chain=by.chain,
        signers=verify_envelope(bundle.envelope, by.chain),
        torrents=match_torrents(release.files, bundle.torrents),
    )
