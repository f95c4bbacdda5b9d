"""What people say of a release they publish, in the manifest's words; refused before a byte of it is hashed.

Reads who is trusted here, to name a base model so that others know it too; nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from samara.registry.home import Home
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import Publisher
from samara.schemas.errors import UsageError
from samara.schemas.manifest import BlockEntry, FileEntry, Predicate, PublisherEntry, Role
from samara.schemas.references import looks_like_reference, parse_reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What people write about a release, and where plain HTTP copies of it lie.

    `base_model`: for adapters; a reference, as people here write it, or any name.
    """

    license: str | None = None
    description: str | None = None
    upstream_repo: str | None = None
    upstream_commit: str | None = None
    base_model: str | None = None
    mirrors: tuple[str, ...] = ()


NOTHING_SAID = Description()
_SAID = {"mirrors": "mirror", "base_model": "base model"}  # a field of the manifest → what people call it


def words_of(
    model: str, tag: str, publisher: Publisher, said: Description, created: str, mirrors: dict[str, list[str]]
) -> Predicate:
    """The predicate but for its files and version: what people wrote is refused before anything is hashed."""
    stand_in = FileEntry(
        path="x", size=1, role=Role.OTHER, layout="", blocks=[BlockEntry(size=1, b3=f"b3:{'0' * 64}")], inline="eA=="
    )  # fmt: skip
    try:
        for urls in mirrors.values():
            FileEntry.model_validate({**stand_in.model_dump(), "mirrors": urls})
        return Predicate.model_validate(
            {
                "publisher": PublisherEntry(identity=publisher.identity, name=publisher.name),
                "model": model,
                "tag": tag,
                "version": 1,
                "created": created,
                "license": said.license,
                "description": said.description,
                "upstream": {"repo": said.upstream_repo, "commit": said.upstream_commit}
                if said.upstream_repo
                else None,
                "base_model": said.base_model,
                "files": [stand_in],
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = _SAID.get(str(first["loc"][0]), str(first["loc"][0]))
        message = first["msg"].removeprefix("Value error, ").removeprefix("String ").removeprefix(f"{name} ")
        raise UsageError(f"{name}: {message}", next_step="see: samara publish --help") from None


def portable(home: Home, publisher: Publisher, base_model: str | None) -> str | None:
    """A base model as the manifest names it: portable if it is a reference to somebody known here, else as it is told.

    Another machine's `acme` may be somebody else.
    """
    if base_model is None or not looks_like_reference(base_model):
        return base_model
    reference = parse_reference(base_model)
    if reference.by_identity:
        return str(reference)
    pin = TrustFolder(home.trust).find(reference.publisher)
    known = publisher.identity if reference.publisher == publisher.name else None if pin is None else pin.identity
    return base_model if known is None else str(replace(reference, publisher=known, by_identity=True))


def mirrors_of(names: Sequence[str], urls: Sequence[str]) -> dict[str, list[str]]:
    """Each file's mirror URLs. A URL ending in / is a folder; any other is the one file itself."""
    from urllib.parse import quote

    found: dict[str, list[str]] = {name: [] for name in names}
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise UsageError("not a mirror URL", expected="http(s)://…", actual=url)
        if not url.endswith("/") and len(names) > 1:
            raise UsageError(f"mirror {url} names one file, the release has {len(names)}", next_step="end it with /")
        for name in names:
            found[name].append(url + quote(name) if url.endswith("/") else url)
    return found
