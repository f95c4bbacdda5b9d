"""Lockfiles: exactly these releases, by identity and digest, whatever names mean later. Pure.

    {"format": "samara-lock-1",
     "releases": [{"reference": "acme/tiny:q8_0", "identity": "3vla…", "manifest": "b3:…"}]}

`reference` is for people; `identity` and `manifest` are what is meant. Unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from samara.schemas.digests import b3_raw
from samara.schemas.envelope import strict_json
from samara.schemas.errors import MalformedError, UsageError
from samara.schemas.references import URI_SCHEME, is_identity, parse_reference

FORMAT = "samara-lock-1"
MAX_LOCKFILE_BYTES = 4 << 20
_MAX_REFERENCE = 400  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Locked:
    """One release that a lockfile names."""

    reference: str
    identity: str
    manifest: str

    @property
    def pinned(self) -> str:
        """The same as a reference that needs neither alias nor catalog. Raises UsageError for an odd `reference`."""
        return f"{URI_SCHEME}{self.identity}/{parse_reference(self.reference).model}@{self.manifest}"


def lockfile(releases: Iterable[Locked]) -> dict[str, object]:
    """The lockfile of these releases, to be written as JSON."""
    return {"format": FORMAT, "releases": [asdict(one) for one in releases]}


def parse_lockfile(data: bytes) -> tuple[Locked, ...]:
    """What a lockfile names. Raises MalformedError: half a lockfile must never pass for a whole one."""
    if len(data) > MAX_LOCKFILE_BYTES:
        raise MalformedError("a lockfile of that size", expected=f"at most {MAX_LOCKFILE_BYTES} bytes")
    value = strict_json(data, "lockfile")
    if not isinstance(value, dict) or value.get("format") != FORMAT or not isinstance(value.get("releases"), list):
        raise MalformedError("not a lockfile", expected=f'{{"format": "{FORMAT}", "releases": […]}}')
    return tuple(_locked(one) for one in value["releases"])


def _locked(value: object) -> Locked:
    found = value if isinstance(value, dict) else {}
    reference, identity, manifest = (found.get(name) for name in ("reference", "identity", "manifest"))
    if (
        not isinstance(reference, str)
        or len(reference) > _MAX_REFERENCE
        or not isinstance(identity, str)
        or not is_identity(identity)
        or not isinstance(manifest, str)
        or not _is_digest(manifest)
    ):
        raise MalformedError(
            "a lockfile with an odd release", expected="reference, identity and manifest", actual=repr(value)[:120]
        )
    return Locked(reference=reference, identity=identity, manifest=manifest)


def _is_digest(text: str) -> bool:
    try:
        b3_raw(text)
    except UsageError:
        return False
    return True
