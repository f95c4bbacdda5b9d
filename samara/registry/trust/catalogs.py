"""A publisher's catalog as TUF metadata: write its next version, read one. Bytes in, frozen values out.

Whoever only reads believes what it is given: `catalog_client` runs the TUF workflow first. The publisher reads its own
files by `read_own`, which checks the signature of every entry it is about to sign again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from samara.registry.trust.files import parse_time, time_text
from samara.registry.trust.keys import SecretKey
from samara.registry.trust.roots import EXTENSION, SPEC_VERSION, RootChain, foreign_errors
from samara.schemas.catalog import Catalog, CatalogEntry, Entries, parse_entry
from samara.schemas.envelope import strict_json
from samara.schemas.errors import MalformedError, TrustError
from samara.schemas.metadata_bundle import MetadataBundle

if TYPE_CHECKING:
    from samara.registry.trust.library import Metadata

TARGETS_LIFETIME = timedelta(days=365)
ONLINE_LIFETIME = timedelta(days=30)  # snapshot and timestamp
ZERO = timedelta()
LIFETIMES: Final = {"targets": TARGETS_LIFETIME, "snapshot": ONLINE_LIFETIME, "timestamp": ONLINE_LIFETIME}


def write_catalog(
    chain: RootChain,
    changes: Mapping[str, CatalogEntry | None],
    previous: MetadataBundle | None,
    *,
    signers: Sequence[SecretKey],
    now: datetime,
) -> MetadataBundle:
    """The next version of a catalog, signed: a new timestamp and snapshot always, targets where they need one.

    `changes`: path → its new entry, None to remove it. Targets are kept as they are while their entries, their keys and
    half of their time remain, and longer where the key that could sign them is kept elsewhere. `previous`: the
    publisher's own files, already believed (`read_own`). Raises TrustError when the keys at hand don't reach a role's
    threshold, MalformedError for an entry that no reader would take.
    """
    from samara.registry.trust.library import MetaFile, Snapshot, TargetFile, Targets, Timestamp

    old = None if previous is None else read_catalog(chain.identity, previous)
    entries: dict[str, Any] = {} if old is None else dict(old.entries.raw)
    for path, entry in changes.items():
        if entry is None:
            entries.pop(path, None)
        else:
            hashes = {"sha256": entry.sha256}
            parse_entry(path, length=entry.length, hashes=hashes, custom=entry.custom())
            entries[path] = {"length": entry.length, "hashes": hashes, "custom": entry.custom()}
    targets_version = 0 if old is None else old.versions["targets"]
    if (
        previous is not None
        and old is not None
        and old.entries.raw == entries
        and old.expiries["targets"] - now > (TARGETS_LIFETIME / 2 if _can_sign(chain, "targets", signers) else ZERO)
        and is_signed_by(chain.roots[-1], "targets", previous.targets)
    ):
        targets_bytes = previous.targets
    else:
        targets_version += 1
        targets = Targets(
            version=targets_version,
            spec_version=SPEC_VERSION,
            expires=_expiry(now, TARGETS_LIFETIME),
            # from_dict takes its argument apart
            targets={path: TargetFile.from_dict(dict(entries[path]), path) for path in sorted(entries)},
        )
        targets_bytes = _signed(chain, "targets", targets, signers)
    snapshot = Snapshot(
        version=(0 if old is None else old.versions["snapshot"]) + 1,
        spec_version=SPEC_VERSION,
        expires=_expiry(now, ONLINE_LIFETIME),
        meta={"targets.json": _meta(MetaFile, targets_version, targets_bytes)},
    )
    snapshot_bytes = _signed(chain, "snapshot", snapshot, signers)
    timestamp = Timestamp(
        version=(0 if old is None else old.versions["timestamp"]) + 1,
        spec_version=SPEC_VERSION,
        expires=_expiry(now, ONLINE_LIFETIME),
        snapshot_meta=_meta(MetaFile, snapshot.version, snapshot_bytes),
        unrecognized_fields={EXTENSION: {"v": 1, "signed": time_text(now)}},
    )
    timestamp_bytes = _signed(chain, "timestamp", timestamp, signers)
    return MetadataBundle(
        roots=chain.roots, timestamp=timestamp_bytes, snapshot=snapshot_bytes, targets=targets_bytes
    )  # fmt: skip


def read_catalog(identity: str, bundle: MetadataBundle) -> Catalog:
    """What a bundle's metadata says, believed as it is. Raises MalformedError."""
    signed = {
        "root": _signed_part(bundle.roots[-1], "root"),
        "timestamp": _signed_part(bundle.timestamp, "timestamp"),
        "snapshot": _signed_part(bundle.snapshot, "snapshot"),
        "targets": _signed_part(bundle.targets, "targets"),
    }
    with foreign_errors("catalog"):
        targets = signed["targets"]["targets"]
        if not isinstance(targets, dict):
            raise MalformedError("targets metadata without targets")
        said = signed["timestamp"].get(EXTENSION)
        when = said.get("signed") if isinstance(said, dict) else None
        return Catalog(
            identity=identity,
            versions={role: _version(role, part["version"]) for role, part in signed.items()},
            expiries={role: parse_time(part["expires"]) for role, part in signed.items()},
            signed=parse_time(when) if isinstance(when, str) else None,
            entries=Entries(targets),
        )


def read_own(chain: RootChain, bundle: MetadataBundle) -> Catalog:
    """A publisher's own catalog, from its own disk or recovery file. Raises TrustError for what no key of its own ever
    signed, or not together: its next version is made of these entries and versions.
    """
    for role, data in (("timestamp", bundle.timestamp), ("snapshot", bundle.snapshot), ("targets", bundle.targets)):
        if not any(is_signed_by(root, role, data) for root in reversed(chain.roots)):
            raise TrustError(f"the {role} of {chain.identity} on this disk is not signed by any key it ever had")
    if not _belong_together(bundle):
        raise TrustError(f"the catalog of {chain.identity} on this disk is mixed of several versions")
    return read_catalog(chain.identity, bundle)


def _belong_together(bundle: MetadataBundle) -> bool:
    """Whether the timestamp names this very snapshot, and that one these targets, as `write_catalog` has them do."""
    with foreign_errors("catalog"):
        for by, role, data in (
            (_signed_part(bundle.timestamp, "timestamp"), "snapshot", bundle.snapshot),
            (_signed_part(bundle.snapshot, "snapshot"), "targets", bundle.targets),
        ):
            if by["meta"][f"{role}.json"]["hashes"]["sha256"] != hashlib.sha256(data).hexdigest():
                return False
        return True


def signed_digest(metadata: bytes) -> tuple[int, str]:
    """(version, SHA-256 of the canonical signed part) of one metadata file: the same whatever signatures it carries."""
    from samara.registry.trust.library import Metadata

    with foreign_errors("metadata"):
        parsed: Metadata[Any] = Metadata.from_bytes(metadata)
        return int(parsed.signed.version), hashlib.sha256(parsed.signed_bytes).hexdigest()


def is_signed_by(root: bytes, role: str, data: bytes) -> bool:
    """Whether enough of `role`'s keys in a root have signed a metadata file. Raises MalformedError."""
    from samara.registry.trust.library import Metadata

    with foreign_errors(role):
        parsed: Metadata[Any] = Metadata.from_bytes(data)
        keeper: Any = Metadata.from_bytes(root).signed
        return bool(keeper.get_verification_result(role, parsed.signed_bytes, parsed.signatures))


def refresh_due(catalog: Catalog, now: datetime) -> bool:
    """Whether a role that the online key signs has passed half of its time."""
    return any(catalog.expiries[role] - now < lifetime / 2 for role, lifetime in LIFETIMES.items())


def _expiry(now: datetime, lifetime: timedelta) -> datetime:
    return (now.astimezone(UTC) + lifetime).replace(microsecond=0)


def _meta(kind: Any, version: int, data: bytes) -> Any:
    """With length and digest: whoever has two snapshots of one version has two timestamps, and is caught by that."""
    return kind(version=version, length=len(data), hashes={"sha256": hashlib.sha256(data).hexdigest()})


def _signed(chain: RootChain, role: str, part: Any, signers: Sequence[SecretKey]) -> bytes:
    from samara.registry.trust.library import JSONSerializer, Metadata

    chosen = _keys_for(chain, role, signers)
    if not _can_sign(chain, role, signers):
        raise TrustError(
            f"too few keys here to sign {role} metadata",
            expected=f"{chain.newest.roles[role].threshold} of the {role} role's keys", actual=len(chosen),
            next_step="put the missing key files back (see: samara publisher show)",
        )  # fmt: skip
    metadata = Metadata(part)
    for key in chosen:
        metadata.sign(key.signer(), append=True)
    return metadata.to_bytes(JSONSerializer(compact=True))


def _keys_for(chain: RootChain, role: str, signers: Sequence[SecretKey]) -> list[SecretKey]:
    allowed = set(chain.newest.keys_of(role).values())
    return [key for key in signers if key.public in allowed]


def _can_sign(chain: RootChain, role: str, signers: Sequence[SecretKey]) -> bool:
    return len(_keys_for(chain, role, signers)) >= chain.newest.roles[role].threshold


def _version(role: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53:
        return value
    raise MalformedError(f"{role} metadata: version", expected="1…2^53", actual=repr(value)[:80])


def _signed_part(data: bytes, role: str) -> dict[str, Any]:
    value = strict_json(data, f"{role} metadata")
    signed = value.get("signed") if isinstance(value, dict) else None
    if not isinstance(signed, dict) or signed.get("_type") != role:
        raise MalformedError(f"not {role} metadata")
    return signed
