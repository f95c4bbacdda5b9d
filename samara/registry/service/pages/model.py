"""/{owner}/{model} and its releases: everything that helps to choose one, to get it and to doubt it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from samara.registry.barred import BarredError
from samara.registry.listed_models import KnownRelease, Listing
from samara.registry.listed_publishers import Owner
from samara.registry.publications.accepted import AcceptedCatalog
from samara.registry.service.pages import badge, commands
from samara.registry.service.pages.block_map import summary
from samara.registry.service.pages.qr import qr_code
from samara.registry.service.pages.release_facts import file_line, main_file, swarm
from samara.registry.service.pages.rendering import Pages, answer, number_in, paged
from samara.registry.trust.identity import identity_uri
from samara.schemas.errors import NotFoundError, StoreError
from samara.schemas.manifest import MAX_SIZE, Release
from samara.schemas.references import is_name

FILES_PER_PAGE = 12
NAMES_PER_PAGE = 25
OLDER_PER_PAGE = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """The release of a page: what its name means now, and the release itself, which may be an older one."""

    listing: Listing
    known: KnownRelease
    retracted: str | None

    @property
    def is_current(self) -> bool:
        """Whether its name means it."""
        return self.known.manifest == self.listing.manifest


def answer_model(pages: Pages, request: Request) -> Response:
    """A model: its newest release, and all its names."""
    owner, listings = _model(pages, request)
    listing = newest(listings)
    return _page(pages, request, owner, listings, _current(listing), is_model=True)


def answer_release(pages: Pages, request: Request) -> Response:
    """What a tag means, or with ?version= what it meant."""
    owner, listings = _model(pages, request)
    tag = str(request.path_params["tag"])
    listing = next((one for one in listings if one.tag == tag), None)
    if listing is None:
        if is_name(tag):
            pages.service.barred.check_model(owner.identity, listings[0].model, tag)
        raise NotFoundError(
            f"{owner.slug}/{listings[0].model} has no tag {tag[:64]!r}", next_step="see the model's other names"
        )
    version = number_in(request, "version", most=MAX_SIZE)
    shown = _current(listing)
    if version is not None and version != listing.version:
        shown = _older(pages, owner, listing, version)
    return _page(pages, request, owner, listings, shown, is_model=False)


def answer_badge(pages: Pages, request: Request) -> Response:
    """A picture for READMEs."""
    try:
        owner = pages.owner(str(request.path_params["owner"]))
        listings = pages.service.listings.model(owner, str(request.path_params["model"])[:64])
    except BarredError:  # somebody's README needs a picture, not a reason
        listings = ()
    found = newest(listings) if listings else None
    picture = badge.badge(
        tag=found.tag if found else None,
        version=found.version if found else None,
        withdrawn=found is not None and found.retracted is not None,
    )
    return answer(request, picture.encode(), "image/svg+xml")


def newest(listings: Sequence[Listing]) -> Listing:
    """What a model's page shows: the highest version that wasn't withdrawn, or else the highest."""
    return next((one for one in listings if one.retracted is None), listings[0])


def previous_of(history: Sequence[KnownRelease], known: KnownRelease) -> KnownRelease | None:
    """The release that one is compared to: the next lower version of its tag, else of the model. `history`: highest
    versions first.
    """
    lower = [one for one in history if one.version < known.version]
    return next((one for one in lower if one.tag == known.tag), lower[0] if lower else None)


def _model(pages: Pages, request: Request) -> tuple[Owner, tuple[Listing, ...]]:
    owner = pages.owner(str(request.path_params["owner"]))
    model = str(request.path_params["model"])
    listings = pages.service.listings.model(owner, model) if is_name(model) else ()
    if not listings:
        raise NotFoundError(f"{owner.slug} lists no model {model[:64]!r} here", next_step="see what else it publishes")
    return owner, listings


def _current(listing: Listing) -> Shown:
    known = KnownRelease(
        manifest=listing.manifest, tag=listing.tag, version=listing.version, created=listing.created
    )  # fmt: skip
    return Shown(listing=listing, known=known, retracted=listing.retracted)


def _older(pages: Pages, owner: Owner, listing: Listing, version: int) -> Shown:
    history = pages.service.listings.history(owner, listing.model, barred_too=True)
    known = next((one for one in history if one.tag == listing.tag and one.version == version), None)
    if known is None:
        raise NotFoundError(f"no version {version} of {owner.slug}/{listing.model}:{listing.tag} is kept here")
    pages.service.barred.check_release(known.manifest)
    reasons = withdrawn_reasons(pages.service.catalog(owner.identity), listing)
    return Shown(listing=listing, known=known, retracted=reasons.get(known.manifest))


def withdrawn_reasons(accepted: AcceptedCatalog | None, listing: Listing) -> dict[str, str]:
    """Manifest → why it was withdrawn, of everything that a name ever meant."""
    reasons = {}
    entry = accepted.catalog.find(listing.model, listing.tag) if accepted else None
    if entry is not None:
        for one in entry.withdrawn:
            reasons[one.manifest] = one.reason
    if listing.retracted is not None:
        reasons[listing.manifest] = listing.retracted
    return reasons


def _release(pages: Pages, manifest: str) -> Release:
    release = pages.service.manifests.release(manifest)
    if release is None:
        raise StoreError(f"the manifest {manifest} is listed but not kept here", next_step="try again in a while")
    return release


def _page(
    pages: Pages, request: Request, owner: Owner, listings: Sequence[Listing], shown: Shown, *, is_model: bool
) -> Response:
    service = pages.service
    release, accepted = _release(pages, shown.known.manifest), service.catalog(owner.identity)
    entry = accepted.catalog.of_manifest(release.digest) if accepted else None
    release_v2 = entry.release_v2 if entry else None
    history = service.listings.history(owner, release.model)
    before = previous_of(history, shown.known)
    current = {one.manifest for one in listings}
    older = [one for one in history if one.manifest not in current]
    main = main_file(release)
    files = paged(release.files, number_in(request, "files") or 1, FILES_PER_PAGE)
    main_line = file_line(service, release, main, release_v2)
    previous = _kept(pages, before)
    sharing = pages.sharing.of(release, previous)
    return pages.page(
        request,
        "model.html",
        is_model=is_model,
        owner=owner,
        shown=shown,
        release=release,
        facts=release.facts,
        stamp=accepted.stamp if accepted else None,
        main=main_line,
        files=files,
        lines=tuple(file_line(service, release, file, release_v2) for file in files.items),
        tags=frozenset(one.tag for one in listings),
        names=paged(listings, number_in(request, "names") or 1, NAMES_PER_PAGE),
        older=paged(older, number_in(request, "older") or 1, OLDER_PER_PAGE),
        reasons={
            manifest: reason
            for listing in listings
            for manifest, reason in withdrawn_reasons(accepted, listing).items()
        },
        sharing=sharing,
        summary=summary(sharing.blocks, version=previous.version if previous else None),
        swarm=swarm(service, release),
        commands=commands.commands(
            owner,
            release,
            main,
            origin=service.settings.origin,
            is_current=shown.is_current,
            is_given=main_line.is_given,
        ),
        magnet_qr=qr_code(main_line.magnet) if main_line.magnet else None,
        trust_qr=qr_code(identity_uri(owner.identity).upper()),
    )  # fmt: skip


def _kept(pages: Pages, known: KnownRelease | None) -> Release | None:
    return pages.service.manifests.release(known.manifest) if known is not None else None
