"""The catalog: a publisher's signed list of what each name means now. Pure values; `samara.registry.trust` proves them.

It is TUF targets metadata (TUF §4.5): path `model/tag` → length and SHA-256 of the manifest payload, and in
`custom.samara` what TUF has no word for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from samara.schemas.digests import b3_raw
from samara.schemas.errors import MalformedError, UsageError
from samara.schemas.references import is_name

MAX_REASON = 500  # characters
MAX_WITHDRAWN = 64  # releases remembered as withdrawn under one name
CUSTOM = "samara"


@dataclass(frozen=True, kw_only=True, slots=True)
class Withdrawn:
    """A release that its publisher took back, and why."""

    manifest: str
    version: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogEntry:
    """What `model/tag` means. `length` and `sha256` (64 hex) are of the manifest payload, `release_v2` is the v2
    infohash of the release object's swarm. `retracted`: why it was withdrawn; `withdrawn`: earlier releases that were.
    """

    model: str
    tag: str
    manifest: str
    length: int
    sha256: str
    release_v2: str
    version: int
    retracted: str | None = None
    withdrawn: tuple[Withdrawn, ...] = ()

    @property
    def path(self) -> str:
        """TUF target path."""
        return f"{self.model}/{self.tag}"

    def custom(self) -> dict[str, object]:
        """`custom` of the TUF target."""
        found: dict[str, object] = {"manifest": self.manifest, "btmh": self.release_v2, "version": self.version}
        if self.retracted is not None:
            found["retracted"] = self.retracted
        if self.withdrawn:
            found["withdrawn"] = [
                {"manifest": one.manifest, "version": one.version, "reason": one.reason} for one in self.withdrawn
            ]
        return {CUSTOM: found}


class Entries(Mapping[str, CatalogEntry]):
    """The entries of a catalog by path, each parsed when it is asked for: a catalog may have ten thousand.

    `raw`: TUF's `targets`, path → {"length", "hashes", "custom"}, which nobody changes any more. What is odd raises
    MalformedError when it is used.
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self._paths: Mapping[str, Sequence[str]] | None = None  # by manifest; made by the first who asks

    def __getitem__(self, path: str) -> CatalogEntry:
        found = self.raw[path]
        if not isinstance(found, dict) or not isinstance(found.get("length"), int):
            raise MalformedError("catalog entry without a length", actual=repr(path[:80]))
        hashes = found.get("hashes")
        return parse_entry(
            path,
            length=found["length"],
            hashes=hashes if isinstance(hashes, dict) else {},
            custom=found.get("custom"),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def mentioning(self, manifest: str) -> Iterator[CatalogEntry]:
        """Entries that mean this manifest, or have meant it and took it back."""
        if self._paths is None:
            self._paths = _paths_of(self.raw)
        for path in self._paths.get(manifest, ()):
            yield self[path]


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """A whole catalog. `versions` and `expiries`: of each TUF role; `signed`: when its timestamp was, if it says so;
    `entries` by path.
    """

    identity: str
    versions: Mapping[str, int]
    expiries: Mapping[str, datetime]
    signed: datetime | None
    entries: Entries = field(repr=False)

    @property
    def expires(self) -> datetime:
        """When it is no longer current, whatever it says."""
        return min(self.expiries.values())

    def expired_roles(self, now: datetime) -> tuple[str, ...]:
        """The roles whose metadata has expired."""
        return tuple(role for role, moment in self.expiries.items() if moment <= now)

    def find(self, model: str, tag: str) -> CatalogEntry | None:
        """The entry of a name."""
        return self.entries.get(f"{model}/{tag}")

    def of_manifest(self, manifest: str) -> CatalogEntry | None:
        """An entry that means this manifest now."""
        return next((entry for entry in self.entries.mentioning(manifest) if entry.manifest == manifest), None)

    def retraction(self, manifest: str) -> str | None:
        """Why a manifest was withdrawn, under whichever name; None if it wasn't."""
        for entry in self.entries.mentioning(manifest):
            if entry.manifest == manifest and entry.retracted is not None:
                return entry.retracted
            for one in entry.withdrawn:
                if one.manifest == manifest:
                    return one.reason
        return None


def _paths_of(raw: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """Manifest → paths of the entries that mention it. What has another shape mentions nothing."""
    paths: dict[str, list[str]] = {}
    for path, found in raw.items():
        custom = found.get("custom") if isinstance(found, dict) else None
        said = custom.get(CUSTOM) if isinstance(custom, dict) else None
        if isinstance(said, dict):
            withdrawn = said.get("withdrawn")
            earlier = [one for one in withdrawn if isinstance(one, dict)] if isinstance(withdrawn, list) else []
            mentioned = [one.get("manifest") for one in (said, *earlier)]
            for manifest in dict.fromkeys(one for one in mentioned if isinstance(one, str)):
                paths.setdefault(manifest, []).append(path)
    return paths


def parse_entry(path: str, *, length: int, hashes: Mapping[str, str], custom: object) -> CatalogEntry:
    """One TUF target → CatalogEntry. Raises MalformedError for what no catalog of ours has."""
    model, slash, tag = path.partition("/")
    if not slash or not is_name(model) or not is_name(tag):
        raise MalformedError("catalog with a name that can't be", expected="model/tag", actual=repr(path[:80]))
    said = custom.get(CUSTOM) if isinstance(custom, dict) else None
    if not isinstance(said, dict):
        raise MalformedError(f"catalog entry {path} lacks custom.{CUSTOM}")
    retracted = said.get("retracted")
    raw_withdrawn = said.get("withdrawn", [])
    if not isinstance(raw_withdrawn, list) or len(raw_withdrawn) > MAX_WITHDRAWN:
        raise MalformedError(f"catalog entry {path}: withdrawn", expected=f"a list of at most {MAX_WITHDRAWN}")
    return CatalogEntry(
        model=model,
        tag=tag,
        manifest=_manifest(path, said.get("manifest")),
        length=length,
        sha256=_hex64(path, "sha256", hashes.get("sha256")),
        release_v2=_hex64(path, "btmh", said.get("btmh")),
        version=_version(path, said.get("version")),
        retracted=None if retracted is None else _reason(path, retracted),
        withdrawn=tuple(_withdrawn(path, one) for one in raw_withdrawn),
    )


def _withdrawn(path: str, value: object) -> Withdrawn:
    if not isinstance(value, dict):
        raise MalformedError(f"catalog entry {path}: withdrawn is not a list of objects")
    return Withdrawn(
        manifest=_manifest(path, value.get("manifest")),
        version=_version(path, value.get("version")),
        reason=_reason(path, value.get("reason")),
    )


def _manifest(path: str, value: object) -> str:
    if isinstance(value, str):
        try:
            b3_raw(value)
        except UsageError:
            pass
        else:
            return value
    raise MalformedError(f"catalog entry {path}: manifest", expected="b3:<64 hex digits>", actual=repr(value)[:80])


def _hex64(path: str, what: str, value: object) -> str:
    if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef"):
        return value
    raise MalformedError(f"catalog entry {path}: {what}", expected="64 hex digits", actual=repr(value)[:80])


def _version(path: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53:
        return value
    raise MalformedError(f"catalog entry {path}: version", expected="1…2^53", actual=repr(value)[:80])


def _reason(path: str, value: object) -> str:
    """In one line, and without what could drive a terminal: a reason is other people's word, and travels."""
    if isinstance(value, str) and len(value) <= MAX_REASON:
        return "".join(c if c.isprintable() else " " for c in value)
    raise MalformedError(f"catalog entry {path}: reason", expected=f"at most {MAX_REASON} characters")
