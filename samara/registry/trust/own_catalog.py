"""A publisher's own catalog: keys/<name>/catalog, a metadata bundle that each change replaces whole.

A change is a function of the catalog as it stands; the file is written once everything in it is signed, so a kill
leaves the old catalog or the new one. Keys are opened before the lock is taken: a person may take long to type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from samara.registry.durable import write_durably
from samara.registry.home import Home
from samara.registry.trust.catalog_client import CatalogState
from samara.registry.trust.catalogs import read_catalog, read_own, refresh_due, signed_digest, write_catalog
from samara.registry.trust.files import locked, read_small, sweep_leftovers
from samara.registry.trust.keys import SecretKey
from samara.registry.trust.publishers import CATALOG_FILE, Publisher, load_publisher
from samara.schemas.catalog import MAX_REASON, MAX_WITHDRAWN, Catalog, CatalogEntry, Withdrawn
from samara.schemas.errors import MalformedError, NotFoundError, StoreError, TrustError, UsageError
from samara.schemas.metadata_bundle import MAX_BUNDLE_BYTES, MetadataBundle, pack_metadata, unpack_metadata

Changes = Mapping[str, CatalogEntry | None]
Change = Callable[[Catalog | None], Changes]


def own_catalog(publisher: Publisher) -> CatalogState | None:
    """The catalog as this machine published it last; None before the first release.

    Raises StoreError or TrustError for a file that is damaged or was changed.
    """
    bundle = own_bundle(publisher)
    if bundle is None:
        return None
    try:
        catalog = read_own(publisher.chain, bundle)
    except TrustError as error:
        raise TrustError(
            error.what,
            next_step=f"it was changed or is damaged: move {_path(publisher)} away, then run: samara publisher sync"
            f" {publisher.name}",
        ) from None
    return CatalogState(catalog=catalog, bundle=bundle, chain=publisher.chain)


def own_bundle(publisher: Publisher) -> MetadataBundle | None:
    """The same as it lies there, its signatures unread. Raises StoreError for a damaged file."""
    path = _path(publisher)
    if not path.exists():
        return None
    try:
        return unpack_metadata(read_small(path, limit=MAX_BUNDLE_BYTES))
    except MalformedError as error:
        raise StoreError(
            f"the catalog {path} is damaged ({error})",
            next_step=f"move it away, then run: samara publisher sync {publisher.name}",
        ) from None


def update_catalog(
    home: Home, publisher: Publisher, change: Change, *, signers: Sequence[SecretKey], now: datetime
) -> CatalogState:
    """Apply `change` to the publisher's catalog and sign the outcome; durable at return.

    Raises what `change` raises, TrustError for too few keys, StoreError.
    """
    with locked(home.keys, mode=0o700):
        publisher = load_publisher(home, publisher.name)  # its roots may have grown meanwhile
        sweep_leftovers(publisher.folder)
        state = own_catalog(publisher)
        changes = change(None if state is None else state.catalog)
        bundle = write_catalog(
            publisher.chain, changes, None if state is None else state.bundle, signers=signers, now=now
        )
        write_durably(_path(publisher), pack_metadata(bundle))
        return CatalogState(
            catalog=read_catalog(publisher.identity, bundle),
            bundle=bundle,
            chain=publisher.chain,
        )


def renew_catalog(
    home: Home, publisher: Publisher, signers: Callable[[], Sequence[SecretKey]], *, now: datetime
) -> bool:
    """Sign the catalog again if it is past half of its time; whether that was so. `signers` is called only then.

    Raises what `update_catalog` and `signers` raise.
    """
    state = own_catalog(publisher)
    if state is None or not refresh_due(state.catalog, now):
        return False
    update_catalog(home, publisher, nothing, signers=signers(), now=now)
    return True


def adopt_catalog(home: Home, publisher: Publisher, state: CatalogState) -> None:
    """Go on from a catalog of this publisher that was published elsewhere and has been checked. Durable at return.

    Raises UsageError if the one here is newer.
    """
    with locked(home.keys, mode=0o700):
        publisher = load_publisher(home, publisher.name)
        sweep_leftovers(publisher.folder)
        sweep_leftovers(publisher.folder / "roots")
        if not is_ahead(state, own_catalog(publisher)):
            raise UsageError(f"the catalog of {publisher.name} here is newer already")
        for number, root in enumerate(state.chain.roots, start=1):
            path = publisher.folder / "roots" / f"{number}.root.json"
            if number > publisher.chain.version:
                write_durably(path, root)
        write_durably(_path(publisher), pack_metadata(state.bundle))


def is_ahead(theirs: CatalogState, mine: CatalogState | None) -> bool:
    """Whether a next version made here would contradict `theirs`: it is newer, by its keys or its number, or it is this
    machine's version with other contents.
    """
    if mine is None:
        return True
    there, here = (
        (state.chain.version, *signed_digest(state.bundle.timestamp)) for state in (theirs, mine)
    )  # fmt: skip
    return there[:2] > here[:2] or (there[:2] == here[:2] and there != here)


def refuse_fork(mine: CatalogState | None, theirs: CatalogState, source: str, name: str) -> None:
    """Raises TrustError if `theirs` has anything that a next version made here would contradict."""
    if not is_ahead(theirs, mine):
        return
    here = 0 if mine is None else mine.catalog.versions["timestamp"]
    there = theirs.catalog.versions["timestamp"]
    raise TrustError(
        f"{source} has {'a newer' if there != here else 'another'} catalog of {name} than this machine: somebody"
        " published elsewhere",
        expected=f"at most version {here}" if there != here else f"version {here} as it is here",
        actual=f"version {there}", next_step=f"take it over first: samara publisher sync {name} (--from {source})",
    )  # fmt: skip


def listing(entry: CatalogEntry) -> Change:
    """List a release under its name; what its name meant before stays known as withdrawn if it was."""

    def change(catalog: Catalog | None) -> Changes:
        old = None if catalog is None else catalog.entries.get(entry.path)
        if old is None:
            return {entry.path: entry}
        return {entry.path: _with_history(entry, old)}

    return change


def retraction(model: str, tag: str, reason: str) -> Change:
    """Withdraw what a name means now, and every other name of the same release. Raises NotFoundError or UsageError."""
    reason = reason.strip()
    if not reason or len(reason) > MAX_REASON:
        raise UsageError("a reason is needed", expected=f"1…{MAX_REASON} characters", actual=len(reason))
    if not reason.isprintable():
        raise UsageError(
            "a reason must be one line of printable text", expected=f"1…{MAX_REASON} characters", actual=ascii(reason)
        )

    def change(catalog: Catalog | None) -> Changes:
        entry = _entry(catalog, model, tag)
        assert catalog is not None
        same = [one for one in catalog.entries.mentioning(entry.manifest) if one.manifest == entry.manifest]
        return {one.path: replace(one, retracted=reason) for one in same}

    return change


def tagging(model: str, tag: str, new: str) -> Change:
    """Let another tag of a model mean what `tag` means now. Raises NotFoundError; UsageError if that was withdrawn."""

    def change(catalog: Catalog | None) -> Changes:
        entry = _entry(catalog, model, tag)
        assert catalog is not None
        if entry.retracted is not None:
            raise UsageError(
                f"{entry.path} was withdrawn ({entry.retracted})", next_step="tag a release that may be pulled"
            )
        moved = replace(entry, tag=new, withdrawn=())
        old = catalog.entries.get(moved.path)
        return {moved.path: moved if old is None else _with_history(moved, old)}

    return change


def nothing(_catalog: Catalog | None) -> Changes:
    """Only sign again: a new timestamp, and whatever else has passed half of its time."""
    return {}


def _path(publisher: Publisher) -> Path:
    return publisher.folder / CATALOG_FILE


def _entry(catalog: Catalog | None, model: str, tag: str) -> CatalogEntry:
    entry = None if catalog is None else catalog.find(model, tag)
    if entry is None:
        raise NotFoundError(f"{model}:{tag} is not in the catalog", next_step="publish it first")
    return entry


def _with_history(entry: CatalogEntry, old: CatalogEntry) -> CatalogEntry:
    """`entry` in the place of `old`: what was withdrawn there is not forgotten, unless it is what comes back."""
    gone = [one for one in old.withdrawn if one.manifest != entry.manifest]
    if old.retracted is not None and old.manifest != entry.manifest:
        gone.append(Withdrawn(manifest=old.manifest, version=old.version, reason=old.retracted))
    return replace(entry, withdrawn=tuple(gone[-MAX_WITHDRAWN:]))
