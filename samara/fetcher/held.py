"""What a reference means on this machine, from what it knows. Asks nobody.

The index is no authority: what it holds is verified again each time, so that a changed index can't change what is
trusted. Which release a tag means is the word of the newest catalog seen; without one, it is the newest release here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from samara.registry.home import Home
from samara.registry.trust.known import KnownCatalogs
from samara.registry.trust.pins import Pin
from samara.registry.trust.release import VerifiedRelease
from samara.schemas.errors import MalformedError, NotFoundError
from samara.schemas.events import OnEvent, Warned, ignore
from samara.schemas.manifest import Release
from samara.schemas.references import Reference
from samara.schemas.release_file import ReleaseBundle

if TYPE_CHECKING:
    from samara.registry.index import Index

PINNED = "{pin.alias} is {pin.short}…; this release is pinned by its digest"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A release to work with.

    `alias`: what this machine calls its publisher. `tag`: the one that was asked for; the release's own where none was.
    `says`: what is known of its freshness, for people. `current`: whether a catalog that hasn't expired says that this
    is what the name means now.
    """

    verified: VerifiedRelease
    alias: str
    tag: str
    says: str
    current: bool = False

    @property
    def release(self) -> Release:
        """The release itself."""
        return self.verified.release

    @property
    def reference(self) -> str:
        """How people on this machine name it."""
        return f"{self.alias}/{self.release.model}:{self.tag}"


def resolve_reference(home: Home, index: Index, reference: Reference, *, on_event: OnEvent = ignore) -> Resolved:
    """What a reference means on this machine, from what it knows, verified again. Asks nobody."""
    known = KnownCatalogs(home)
    pin = known.trust.resolve(reference.publisher)
    if reference.manifest is not None:
        resolved = held(index, reference, known, pin, reference.manifest)
        if resolved is None:
            raise unknown(str(reference))
        return resolved
    tag = reference.tag or ""
    state = known.of(pin.identity)
    entry = None if state is None else state.catalog.find(reference.model, tag)
    listed = None if entry is None else held(index, reference, known, pin, entry.manifest)
    if listed is not None and entry is not None:
        if entry.retracted is not None:
            on_event(Warned(message=f"{pin.alias} has withdrawn {reference}: {entry.retracted}"))
        return replace(
            listed, tag=tag, says=f"{pin.alias} is {pin.short}…; its catalog, as known here, lists this release"
        )
    stored = index.release(pin.identity, reference.model, tag)
    if stored is None:
        raise unknown(str(reference))
    older = held(index, reference, known, pin, stored.manifest)
    assert older is not None
    if (older.release.model, older.release.tag) != (reference.model, tag):
        raise contradiction(str(reference), older.release)
    if entry is not None:
        on_event(
            Warned(message=f"{reference} is version {entry.version} by now; here is version {older.release.version}")
        )
    return older


def held(index: Index, reference: Reference, known: KnownCatalogs, pin: Pin, manifest: str) -> Resolved | None:
    """A release that the index holds, verified again; None if it doesn't. Raises what verifying it raises."""
    stored = index.release_by_digest(manifest)
    if stored is None:
        return None
    verified = known.reopen(stored)
    release = verified.release
    if (release.identity, release.model, release.digest) != (pin.identity, reference.model, manifest):
        raise contradiction(str(reference), release)
    return Resolved(
        verified=verified,
        alias=pin.alias,
        tag=release.tag,
        says=PINNED.format(pin=pin) if reference.manifest else f"{pin.alias} is {pin.short}…; freshness not checked",
    )


def held_bundle(home: Home, manifest: str) -> ReleaseBundle | None:
    """A release that the index holds, by its manifest's digest, unproven; None if it doesn't."""
    from samara.registry.index import Index

    index = Index.open_existing(home)
    if index is None:
        return None
    with index:
        stored = index.release_by_digest(manifest)
    return None if stored is None else ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents)


def open_index(home: Home, source: str) -> Index:
    """The index of a machine that should know `source`; NotFoundError where there is none yet."""
    from samara.registry.index import Index  # SQLAlchemy takes longer to import than a pull from a file can wait

    index = Index.open_existing(home)
    if index is None:
        raise unknown(source)
    return index


def unknown(source: str) -> NotFoundError:
    """The error for a reference that nothing here knows."""
    return NotFoundError(
        f"{source} is not known here", next_step="give its .samara file or URL: samara pull FILE.samara"
    )


def warn_of_retraction(known: KnownCatalogs, release: Release, pin: Pin, on_event: OnEvent) -> None:
    """Say that a publisher took a release back, if this machine knows it."""
    reason = known.retraction(release)
    if reason is not None:
        on_event(Warned(message=f"{pin.alias} has withdrawn this release: {reason}"))


def contradiction(reference: str, release: Release) -> MalformedError:
    """The error for an index that files a release under a name that isn't its own."""
    return MalformedError(
        f"the index says {reference} is another release than its manifest says", expected=reference,
        actual=f"{release.identity[:8]}…/{release.model}:{release.tag}", next_step='run "samara audit"',
    )  # fmt: skip
