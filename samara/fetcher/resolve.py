"""From what a person typed to a release that was checked: a reference, a `.samara` file or its URL, a magnet link.

What a reference means is told by `names` when others may be asked, else by `held`. What travels alone is proven by its
signature, and the result says that its freshness was not checked. Files and URLs are untrusted containers.
"""

from __future__ import annotations

import os
from pathlib import Path

from samara.fetcher.catalogs import Asking
from samara.fetcher.held import Resolved, open_index, resolve_reference
from samara.fetcher.names import by_digest, by_magnet, by_name
from samara.registry.home import Home
from samara.registry.trust.known import KnownCatalogs
from samara.registry.trust.release import open_release
from samara.registry.web import download, is_url
from samara.schemas.errors import TrustError, UsageError, cannot_read
from samara.schemas.events import OnEvent, Warned, ignore
from samara.schemas.references import looks_like_reference, parse_reference
from samara.schemas.release_file import MAX_COMPRESSED_BYTES, SUFFIX, ReleaseBundle, unpack_release


def resolve(home: Home, source: str, asking: Asking | None = None) -> Resolved:
    """Find and verify the release that `source` names: a reference, a `.samara` file or URL, or a magnet link.

    With `asking`, others are asked: a tag means what its publisher's catalog says now, and nothing else. Without, it
    means what this machine knows. Raises NotFoundError, TrustError, MalformedError, IntegrityError, NetworkError.
    """
    known = KnownCatalogs(home)
    on_event = ignore if asking is None else asking.on_event
    if is_magnet(source):
        return _alone(by_magnet(home, source, asking), known, on_event)
    if is_url(source) or is_release_file(source):
        return _alone(read_bundle(source, asking), known, on_event)
    reference = parse_reference(source)
    if asking is not None and reference.manifest is None:
        return by_name(home, reference, known, asking)
    if asking is not None:
        return by_digest(home, reference, known, asking)
    with open_index(home, source) as index:
        return resolve_reference(home, index, reference)


def is_magnet(source: str) -> bool:
    """Whether `source` is a magnet link."""
    return source.startswith("magnet:")


def is_release_file(source: str) -> bool:
    """Whether `source` means a file rather than a reference."""
    if is_magnet(source):
        return False
    return source.endswith(SUFFIX) or not looks_like_reference(source) or os.path.isfile(source)  # noqa: PTH113


def read_bundle(source: str, asking: Asking | None = None) -> ReleaseBundle:
    """The unproven parts of a `.samara` file or URL. Raises NotFoundError, UsageError, NetworkError, MalformedError."""
    if not is_url(source):
        return unpack_release(_read_file(Path(source)))
    make = None if asking is None else asking.client
    return unpack_release(download(source, client=None if make is None else make()))


def _alone(bundle: ReleaseBundle, known: KnownCatalogs, on_event: OnEvent) -> Resolved:
    """A release that travels alone: proven by its signature; how fresh it is, only a catalog could say."""
    verified = open_release(bundle, known.trust)
    release, pin = verified.release, verified.pin
    reason = known.retraction(release)
    if reason is not None:
        raise TrustError(
            f"{pin.alias} ({pin.short}…) has withdrawn this release: {reason}",
            next_step=f"to have it all the same: {pin.alias}/{release.model}@{release.digest}",
        )
    newer = known.newer(release)
    if newer is not None:
        on_event(
            Warned(
                message=f"this is version {release.version} of {pin.alias}/{release.model}:{release.tag};"
                f" its catalog knows version {newer}"
            )
        )
    return Resolved(
        verified=verified,
        alias=pin.alias,
        tag=release.tag,
        says=f"{pin.alias}/{release.model}:{release.tag} is signed by {pin.short}…; freshness not checked",
    )


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_COMPRESSED_BYTES + 1)
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", expected=f"a {SUFFIX} file") from None
    except (OSError, ValueError) as error:
        is_no_file = not isinstance(error, PermissionError) and not os.path.lexists(path)
        if path.suffix != SUFFIX and is_no_file:
            parse_reference(str(path))  # says what a reference looks like, should that have been meant
        if isinstance(error, ValueError):
            raise UsageError(f"{str(path)!r} can't be the name of a file") from None
        raise cannot_read(path, error) from None
