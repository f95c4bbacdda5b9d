"""How people and machines name releases. Pure.

    acme/llama-3.2-1b:q4_0                  alias of a pinned publisher, model, tag (`:latest` if left out)
    acme/llama-3.2-1b@b3:<64 hex>           the same, pinned to one manifest
    samara:<identity>/llama-3.2-1b:q4_0     portable: the identity instead of this machine's alias

Names are lower case so that a release has the same path on every filesystem.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import StringConstraints

from samara.schemas.digests import b3_raw
from samara.schemas.errors import UsageError

DEFAULT_TAG = "latest"
URI_SCHEME = "samara:"

NAME_PATTERN = r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?"
IDENTITY_PATTERN = r"[a-z2-7]{51}[aq]"  # 256 bits in 52 base32 digits: the last one carries a single bit

Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$", max_length=64)]
Identity = Annotated[str, StringConstraints(pattern=f"^{IDENTITY_PATTERN}$", max_length=52)]

_NAME = re.compile(NAME_PATTERN + r"\Z")
_IDENTITY = re.compile(IDENTITY_PATTERN + r"\Z")
_WINDOWS_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$", *(port + i for port in ("com", "lpt") for i in "0123456789¹²³")]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """One parsed reference. `publisher` is an alias or, when `by_identity`, an identity."""

    publisher: str
    model: str
    tag: str | None = None
    manifest: str | None = None
    by_identity: bool = False

    def __str__(self) -> str:
        head = f"{URI_SCHEME if self.by_identity else ''}{self.publisher}/{self.model}"
        return f"{head}@{self.manifest}" if self.manifest else f"{head}:{self.tag}"


def is_name(text: str) -> bool:
    """Whether `text` may be an alias, a model or a tag."""
    return bool(_NAME.match(text)) and ".." not in text and not is_device_name(text)


def is_device_name(component: str) -> bool:
    """Whether Windows would open a device instead of a file of this name."""
    return component.split(".", 1)[0].rstrip(" ").lower() in _WINDOWS_DEVICES


def is_identity(text: str) -> bool:
    """Whether `text` has the form of a publisher's identity (52 base32 digits)."""
    return bool(_IDENTITY.match(text))


def check_name(text: str, what: str) -> str:
    """`text` itself, or UsageError saying what a `what` may look like."""
    if not is_name(text):
        raise UsageError(
            f"not a {what} name", expected="1–64 of a–z 0–9 . _ - , starting and ending with a letter or digit",
            actual=repr(text[:80]),
        )  # fmt: skip
    return text


def check_identity(text: str) -> str:
    """`text` itself, or UsageError."""
    if not is_identity(text):
        raise UsageError(
            "not a publisher identity", expected="52 lower-case base32 digits (a–z, 2–7)", actual=repr(text[:80])
        )
    return text


def looks_like_reference(text: str) -> bool:
    """Whether `text` parses as a reference (to tell `acme/tiny:q8_0` from a path or URL)."""
    try:
        parse_reference(text)
    except UsageError:
        return False
    return True


def parse_reference(text: str) -> Reference:
    """Parse any of the three forms. Raises UsageError with the expected form."""
    by_identity = text.startswith(URI_SCHEME)
    body = text[len(URI_SCHEME) :] if by_identity else text
    publisher, slash, rest = body.partition("/")
    if not slash:
        raise _bad(text)
    model, at, pinned = rest.partition("@")
    manifest: str | None = None
    tag: str | None = None
    if at:
        manifest = pinned
    else:
        model, colon, tag_text = rest.partition(":")
        tag = tag_text if colon else DEFAULT_TAG
    valid_publisher = is_identity(publisher) if by_identity else is_name(publisher)
    if not valid_publisher or not is_name(model) or (tag is not None and not is_name(tag)):
        raise _bad(text)
    if manifest is not None:
        try:
            b3_raw(manifest)
        except UsageError:
            raise _bad(text) from None
    return Reference(publisher=publisher, model=model, tag=tag, manifest=manifest, by_identity=by_identity)


def parse_tagged(text: str) -> tuple[Reference, str]:
    """A reference that names a tag, and the tag. Raises UsageError for a digest: that can't be moved or withdrawn."""
    reference = parse_reference(text)
    if reference.tag is None:
        raise UsageError("name a tag, not a digest", expected="publisher/model:tag", actual=repr(text[:120]))
    return reference, reference.tag


def _bad(text: str) -> UsageError:
    return UsageError(
        "not a reference",
        expected="publisher/model:tag, publisher/model@b3:<digest> or samara:<identity>/model:tag (lower case)",
        actual=repr(text[:120]),
    )
