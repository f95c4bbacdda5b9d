"""What /v1/search and /v1/models answer, as JSON: the shapes, and how values of the registry become them. Pure.

The shapes are the OpenAPI document's. All that describes a model is its publisher's word: whoever shows it escapes it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from samara.registry.listed_models import KnownRelease, Listing
from samara.registry.listed_publishers import Owner
from samara.registry.search import FoundModel, SearchPage
from samara.registry.trust.files import time_text
from samara.schemas.manifest import Release, ReleaseFile


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class OwnerView(_View):
    """A publisher. `name`: what it calls itself, proven by nothing; `namespace`: its name at this registry."""

    identity: str
    name: str
    namespace: str | None
    slug: str = Field(description="What stands for it in addresses here")


class TagView(_View):
    """What one name means. `size`: bytes of all files; `listed`: RFC 3339; `withdrawn`: why, if it was."""

    tag: str
    manifest: str
    version: int
    created: str
    listed: str
    license: str | None
    architecture: str | None
    quantisation: str | None
    parameters: int | None
    context_length: int | None
    has_chat_template: bool
    size: int
    withdrawn: str | None
    url: str


class ModelView(_View):
    """A model as a search finds it. `description`: of its newest tag here, cut short; `matching`: tags that fit, of
    which `tags` shows the newest.
    """

    owner: OwnerView
    model: str
    description: str | None
    tags: list[TagView]
    matching: int
    url: str


class FacetView(_View):
    """A value to filter by, and how many models it would leave."""

    value: str
    count: int


class SearchView(_View):
    """Some of the models found. `total`: all of them; at least so many unless `is_total`."""

    models: list[ModelView]
    total: int
    is_total: bool
    limit: int
    offset: int
    facets: dict[str, list[FacetView]]


class HistoryView(_View):
    """A release that is kept here, current or not."""

    tag: str
    manifest: str
    version: int
    created: str


class ModelDetails(_View):
    """A model: what its names mean now, and the releases kept here, the highest version first."""

    owner: OwnerView
    model: str
    description: str | None
    tags: list[TagView]
    history: list[HistoryView]


class GgufView(_View):
    """What a GGUF says of itself."""

    architecture: str
    parameters: int
    quantisation: str
    context_length: int | None
    has_chat_template: bool


class FileView(_View):
    """A file of a release. `size`: bytes; `blocks`: how many; `blob`, `torrent`: addresses here; `torrent`, `magnet`:
    None for what travels inside the manifest.
    """

    path: str
    role: str
    size: int
    b3: str
    sha256: str
    layout: str
    blocks: int
    blob: str
    torrent: str | None
    magnet: str | None
    mirrors: list[str]
    gguf: GgufView | None


class UpstreamView(_View):
    """Where a release was made from, by its publisher's word."""

    repo: str
    commit: str | None


class ReleaseDetails(_View):
    """What a name means now, with its files. `reference`: what `samara pull` takes anywhere."""

    owner: OwnerView
    model: str
    reference: str
    release: TagView
    description: str | None
    base_model: str | None
    upstream: UpstreamView | None
    files: list[FileView]
    manifest_url: str
    envelope_url: str
    release_url: str


def search_view(page: SearchPage, *, limit: int, offset: int) -> SearchView:
    """A page of a search."""
    return SearchView(
        models=[_model_view(found) for found in page.found],
        total=page.total,
        is_total=page.is_total,
        limit=limit,
        offset=offset,
        facets={
            name: [FacetView(value=one.value, count=one.count) for one in values]
            for name, values in page.facets.items()
        },
    )


def model_details(listings: tuple[Listing, ...], history: tuple[KnownRelease, ...]) -> ModelDetails:
    """A model by what its names mean, at least one, the newest first."""
    return ModelDetails(
        owner=owner_view(listings[0].owner),
        model=listings[0].model,
        description=_description(listings),
        tags=[_tag_view(one) for one in listings],
        history=[
            HistoryView(tag=one.tag, manifest=one.manifest, version=one.version, created=one.created) for one in history
        ],
    )


def release_details(listing: Listing, release: Release) -> ReleaseDetails:
    """A name with the files of the release that it means."""
    digits = listing.manifest.removeprefix("b3:")
    upstream = release.upstream
    return ReleaseDetails(
        owner=owner_view(listing.owner),
        model=listing.model,
        reference=f"samara:{listing.owner.identity}/{listing.model}:{listing.tag}",
        release=_tag_view(listing),
        description=release.description,
        base_model=release.base_model,
        upstream=None if upstream is None else UpstreamView(repo=upstream.repo, commit=upstream.commit),
        files=[_file_view(file, listing.manifest) for file in release.files],
        manifest_url=f"/v1/manifests/{digits}",
        envelope_url=f"/v1/envelopes/{digits}",
        release_url=f"/v1/releases/{digits}.samara",
    )


def owner_view(owner: Owner) -> OwnerView:
    """A publisher."""
    return OwnerView(identity=owner.identity, name=owner.name, namespace=owner.namespace, slug=owner.slug)


def _model_view(found: FoundModel) -> ModelView:
    return ModelView(
        owner=owner_view(found.owner),
        model=found.model,
        description=_description(found.listings),
        tags=[_tag_view(one) for one in found.listings],
        matching=found.matching,
        url=f"/v1/models/{found.owner.slug}/{found.model}",
    )


def _description(listings: tuple[Listing, ...]) -> str | None:
    """The newest one that isn't withdrawn."""
    return next((one.description for one in listings if one.description and one.retracted is None), None)


def _tag_view(listing: Listing) -> TagView:
    return TagView(
        tag=listing.tag,
        manifest=listing.manifest,
        version=listing.version,
        created=listing.created,
        listed=time_text(datetime.fromtimestamp(listing.listed_at, UTC)),
        license=listing.license,
        architecture=listing.architecture,
        quantisation=listing.quantisation,
        parameters=listing.parameters,
        context_length=listing.context_length,
        has_chat_template=listing.has_chat_template,
        size=listing.size,
        withdrawn=listing.retracted,
        url=f"/v1/models/{listing.owner.slug}/{listing.model}/releases/{listing.tag}",
    )


def _file_view(file: ReleaseFile, manifest: str) -> FileView:
    facts = file.gguf
    name = quote(file.path.rsplit("/", 1)[-1], safe="")
    return FileView(
        path=file.path,
        role=file.role,
        size=file.size,
        b3=file.b3,
        sha256=file.sha256,
        layout=file.layout,
        blocks=len(file.blocks),
        blob=f"/v1/blobs/{file.b3_hex}/{name}",
        torrent=None if file.torrent is None else f"/v1/torrents/{file.torrent.v2}.torrent",
        magnet=file.magnet_of(manifest=manifest),
        mirrors=list(file.mirrors),
        gguf=None if facts is None else GgufView(
            architecture=facts.architecture,
            parameters=facts.parameter_count,
            quantisation=facts.quantisation,
            context_length=facts.context_length,
            has_chat_template=bool(facts.has_chat_template),
        ),
    )  # fmt: skip
