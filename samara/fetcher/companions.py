"""What a release needs beside itself to be of use, and isn't here: other files of a set, an adapter's base.

Reads the index; fetches nothing and contacts nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samara.registry.home import Home
from samara.registry.store import whole_copy
from samara.registry.trust.pins import TrustFolder
from samara.schemas.file_sets import incomplete_sets
from samara.schemas.manifest import Release, Role, parse_manifest
from samara.schemas.references import Reference, looks_like_reference, parse_reference

if TYPE_CHECKING:
    from samara.registry.index import Index


def what_is_missing(home: Home, index: Index, release: Release) -> tuple[str, ...]:
    """Sentences for people, none where nothing is missing; each names the command that gets it, if there is one."""
    name = f"{release.model}:{release.tag}"
    said = [
        f"{name} is not a whole model: its publisher left out {one}"
        for one in incomplete_sets(file.path for file in release.files)
    ]
    base = _missing_base(home, index, release)
    if base is not None:
        said.append(f"{name} is an adapter and needs its base, {base}")
    return tuple(said)


def is_adapter(release: Release) -> bool:
    """Whether a release is of use only together with another one: adapters, and no weights of its own."""
    roles = {file.role for file in release.files}
    return Role.ADAPTER in roles and Role.WEIGHTS not in roles


def _missing_base(home: Home, index: Index, release: Release) -> str | None:
    if release.base_model is None or not is_adapter(release):
        return None
    if not looks_like_reference(release.base_model):
        return f"{release.base_model}, which its publisher names by no reference"
    base = parse_reference(release.base_model)
    if not base.by_identity:  # the publisher's own word for somebody: it may mean anybody here
        return f"which its publisher calls {base}"
    if _is_here(index, base):
        return None
    return f"which is not here; run: samara pull {_as_known_here(home, base)}"


def _is_here(index: Index, base: Reference) -> bool:
    """Whether all of it lies here, untouched since it was verified."""
    if base.manifest is not None:
        stored = index.release_by_digest(base.manifest)
    else:
        stored = index.release(base.publisher, base.model, base.tag or "")
    if stored is None:
        return False
    blobs = (index.blob(file.b3) for file in parse_manifest(stored.envelope.payload).files)
    return all(blob is not None and whole_copy(blob) is not None for blob in blobs)


def _as_known_here(home: Home, base: Reference) -> Reference:
    pin = TrustFolder(home.trust).find(base.publisher)
    if pin is None:
        return base
    return Reference(publisher=pin.alias, model=base.model, tag=base.tag, manifest=base.manifest)
