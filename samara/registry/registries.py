"""The registries this machine asks, in order: SAMARA_HOME/trust/registries.json, or SAMARA_REGISTRIES in its place.

A registry is its origin (`https://models.example.org`). What it says is proven elsewhere; here is only where to ask for
what: catalogs, bytes of blobs, peers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from samara.registry.durable import io_errors, write_durably
from samara.registry.home import Home
from samara.registry.trust.files import locked, read_small
from samara.schemas.envelope import canonical_json, strict_json
from samara.schemas.errors import MalformedError, NotFoundError, StoreError, UsageError
from samara.schemas.namespace_claim import check_origin

ENV_REGISTRIES = "SAMARA_REGISTRIES"  # origins, separated by commas; empty: none
FORMAT = "samara-registries-1"
MAX_REGISTRIES = 32
_MAX_BYTES = 64 * 1024


def configured(home: Home, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The origins to ask, in order. Raises UsageError for a malformed variable, StoreError for a damaged file."""
    told = environ.get(ENV_REGISTRIES)
    if told is not None:
        return tuple(dict.fromkeys(check_origin(part.strip()) for part in told.split(",") if part.strip()))
    path = _file(home)
    with io_errors(path):
        if not path.exists():
            return ()
    try:
        value = strict_json(read_small(path, limit=_MAX_BYTES), "registries.json")
        if not isinstance(value, dict) or value.get("format") != FORMAT or not isinstance(value.get("origins"), list):
            raise MalformedError("registries.json of a kind this version doesn't know")  # noqa: TRY301
        return tuple(check_origin(str(origin)) for origin in value["origins"])
    except (MalformedError, UsageError) as error:
        raise StoreError(
            f"{path} is damaged ({error.what})", next_step="remove it and add the registries again"
        ) from None


def add(home: Home, text: str, *, first: bool) -> tuple[str, ...]:
    """Ask this registry too, last, or `first`; all of them are returned. Raises UsageError or StoreError."""
    origin = check_origin(text)

    def change(origins: Sequence[str]) -> Sequence[str]:
        others = [one for one in origins if one != origin]
        if len(others) >= MAX_REGISTRIES:
            raise UsageError("too many registries", expected=f"at most {MAX_REGISTRIES}")
        return [origin, *others] if first else [*others, origin]

    return _change(home, change)


def remove(home: Home, text: str) -> tuple[str, ...]:
    """Ask this registry no longer. Raises NotFoundError if it isn't configured."""
    origin = check_origin(text)

    def change(origins: Sequence[str]) -> Sequence[str]:
        if origin not in origins:
            raise NotFoundError(f"{origin} is no registry of this machine", next_step="see: samara registry list")
        return [one for one in origins if one != origin]

    return _change(home, change)


def metadata_source(origin: str, identity: str) -> str:
    """Where a registry has a publisher's catalog and releases: a source as `samara pull --from` takes it."""
    return f"{origin}/v1/publishers/{identity}/metadata/"


def blob_mirror(origin: str, b3_hex: str) -> str:
    """Where a registry gives the bytes of a blob, if it has them."""
    return f"{origin}/v1/blobs/{b3_hex}"


def tracker(origin: str) -> str:
    """Where a registry says who else has a blob (BEP 3)."""
    return f"{origin}/announce"


def _change(home: Home, change: Callable[[Sequence[str]], Sequence[str]]) -> tuple[str, ...]:
    home.prepare()
    with locked(home.trust):
        origins = tuple(change(configured(home, {})))
        write_durably(_file(home), canonical_json({"format": FORMAT, "origins": list(origins)}) + b"\n")
    return origins


def _file(home: Home) -> Path:
    return home.trust / "registries.json"
