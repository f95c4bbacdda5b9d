"""TUF root metadata: write a version, verify a chain of them. Bytes in, frozen values out.

The library checks signatures and thresholds (TUF §5.3); this module adds what it leaves open: the identity that
version 1 must hash to, strict shapes before the library sees anything, Ed25519 only, one key id per key. It reads no
clock: a chain exposes when it expires, and whoever has a clock decides what that means. Fetching newer roots is not
done here.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from samara.registry.trust.identity import identity_of
from samara.registry.trust.keys import SecretKey, tuf_key
from samara.schemas.digests import Hex64
from samara.schemas.envelope import strict_json
from samara.schemas.errors import MalformedError, SamaraError, TrustError, UsageError
from samara.schemas.release_file import MAX_ROOT_BYTES, MAX_ROOTS

if TYPE_CHECKING:
    from samara.registry.trust.library import Metadata, Root

ROOT_LIFETIME = timedelta(days=365)
ROLES: Final = ("root", "targets", "snapshot", "timestamp")
EXTENSION: Final = "x-samara"
SPEC_VERSION: Final = "1.0.31"  # said here, so that a root's bytes don't depend on the library's version
_MAX_KEYS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleKeys:
    """Who may sign for one role, and how many of them must."""

    threshold: int
    keyids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RootView:
    """What one root version says. `keys`: key id → 32 raw public bytes. `expires` is aware, UTC."""

    version: int
    expires: datetime
    keys: Mapping[str, bytes]
    roles: Mapping[str, RoleKeys]
    beacon: bytes | None
    signed_sha256: bytes  # of the canonical signed part: tells two roots apart whatever signatures they carry

    def keys_of(self, role: str) -> dict[str, bytes]:
        """Key id → public bytes of everyone who may sign for `role`."""
        return {keyid: self.keys[keyid] for keyid in self.roles[role].keyids}


@dataclass(frozen=True, kw_only=True, slots=True)
class RootChain:
    """A verified chain from the identity to its newest known root: what `verify_root_chain` returns.

    `roots` are the bytes as published, version 1 first; `views` what they say.
    """

    identity: str
    roots: tuple[bytes, ...]
    views: tuple[RootView, ...]

    @property
    def newest(self) -> RootView:
        """The root in force."""
        return self.views[-1]

    @property
    def version(self) -> int:
        """The newest root's version."""
        return self.newest.version

    @property
    def expires(self) -> datetime:
        """When the newest root expires. Not enforced here."""
        return self.newest.expires

    @property
    def targets_keys(self) -> dict[str, bytes]:
        """Who may sign manifests now: key id → public bytes."""
        return self.newest.keys_of("targets")

    @property
    def targets_threshold(self) -> int:
        """How many of them must."""
        return self.newest.roles["targets"].threshold

    @property
    def all_targets_keys(self) -> dict[str, bytes]:
        """Who may sign manifests now or could under any earlier root."""
        return {keyid: public for view in self.views for keyid, public in view.keys_of("targets").items()}

    @property
    def beacon(self) -> bytes | None:
        """The key of the DHT pointer (32 raw public bytes)."""
        return self.newest.beacon


@dataclass(frozen=True, kw_only=True, slots=True)
class RolePlan:
    """One role of a root to be written: public keys and threshold."""

    keys: tuple[bytes, ...]
    threshold: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class RootPlan:
    """One root version to be written. `roles` has all of ROLES."""

    version: int
    expires: datetime
    roles: Mapping[str, RolePlan]
    beacon: bytes


def first_root_plan(
    *,
    root: bytes,
    online: bytes,
    beacon: bytes,
    now: datetime,
    more_roots: Sequence[bytes] = (),
    root_threshold: int = 1,
    targets: bytes | None = None,
) -> RootPlan:
    """The plan of a new publisher: one root key, one online key for everything else, unless there are to be more."""
    keys = {"root": (root, *more_roots), "targets": (targets or online,)}
    roles = {
        role: RolePlan(keys=keys.get(role, (online,)), threshold=root_threshold if role == "root" else 1)
        for role in ROLES
    }
    return RootPlan(version=1, expires=now + ROOT_LIFETIME, roles=roles, beacon=beacon)


def write_root(plan: RootPlan, signers: Sequence[SecretKey]) -> bytes:
    """A signed root as bytes; the same plan and keys always give the same ones.

    For version N+1 `signers` must satisfy the thresholds of N and of N+1. Raises UsageError for a plan that no client
    of ours would accept.
    """
    from samara.registry.trust.library import JSONSerializer, Metadata, Root

    check_plan(plan)
    root = Root(
        version=plan.version,
        spec_version=SPEC_VERSION,
        expires=plan.expires.astimezone(UTC),
        consistent_snapshot=True,
        unrecognized_fields={EXTENSION: {"v": 1, "beacon": plan.beacon.hex()}},
    )
    for role, wanted in plan.roles.items():
        for public in wanted.keys:
            root.add_key(tuf_key(public), role)
        root.roles[role].threshold = wanted.threshold
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer.signer(), append=True)
    return metadata.to_bytes(JSONSerializer(compact=True))


def verify_root_chain(identity: str, roots: Sequence[bytes]) -> RootChain:
    """Root versions 1…N as bytes → RootChain.

    Version 1 must hash to `identity` and be signed by its own threshold; every later one is the next version, signed
    by the thresholds of its predecessor and of itself. Raises TrustError, or MalformedError for bytes that aren't
    root metadata.
    """
    if not roots:
        raise TrustError(
            f"no root metadata for {identity}", expected="version 1 at least",
            next_step="get a complete .samara file of this publisher",
        )  # fmt: skip
    if len(roots) > MAX_ROOTS:
        raise MalformedError("too many root versions", expected=f"≤ {MAX_ROOTS}", actual=len(roots))
    found = identity_of(roots[0])
    if found != identity:
        raise TrustError("root version 1 belongs to another publisher", expected=identity, actual=found)
    views: list[RootView] = []
    previous: Root | None = None
    for number, data in enumerate(roots, start=1):
        view, previous = _verified_root(data, number, previous)
        views.append(view)
    _check_one_keyid_per_key(views)
    return RootChain(identity=identity, roots=tuple(roots), views=tuple(views))


def inspect_root(data: bytes) -> RootView:
    """One root of any version, signed by its own keys: what it says, not whose it is. Raises as a chain does."""
    value = strict_json(data, "root metadata")
    signed = value.get("signed") if isinstance(value, dict) else None
    version = signed.get("version") if isinstance(signed, dict) else None
    if not isinstance(version, int) or version < 1:
        raise MalformedError("not root metadata", expected="a TUF root file such as 1.root.json")
    return _verified_root(data, version, None)[0]


class _Shape(BaseModel):
    # deferred: whoever only imports this module, say to list pins, doesn't pay for building the validators
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)


class _KeyValue(_Shape):
    public: Hex64


class _Key(_Shape):
    keytype: Literal["ed25519"]
    scheme: Literal["ed25519"]
    keyval: _KeyValue


class _Role(_Shape):
    keyids: list[Hex64] = Field(min_length=1, max_length=_MAX_KEYS)
    threshold: int = Field(ge=1, le=_MAX_KEYS)


class _Roles(_Shape):
    model_config = ConfigDict(extra="forbid")  # delegating roles is not the root's business (TUF §4.3)
    root: _Role
    targets: _Role
    snapshot: _Role
    timestamp: _Role


class _Extension(_Shape):
    v: int = Field(ge=1, le=1)  # Literal[1] would take true for 1
    beacon: Hex64


class _Signed(_Shape):
    type: Literal["root"] = Field(alias="_type")
    version: int = Field(ge=1, le=2**31)
    spec_version: str = Field(max_length=32)
    consistent_snapshot: bool = False
    expires: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")
    keys: dict[Hex64, _Key] = Field(max_length=_MAX_KEYS)
    roles: _Roles
    extension: _Extension | None = Field(default=None, alias=EXTENSION)


class _Signature(_Shape):
    keyid: Hex64
    sig: Annotated[str, StringConstraints(pattern=r"^(?:[0-9a-f]{2})*$", max_length=1024)]


class _RootFile(_Shape):
    signatures: list[_Signature] = Field(max_length=2 * _MAX_KEYS)
    signed: _Signed


def _verified_root(data: bytes, number: int, previous: Root | None) -> tuple[RootView, Root]:
    """One link of the chain: shape, version, signatures."""
    what = f"root version {number}"
    if len(data) > MAX_ROOT_BYTES:
        raise MalformedError(f"{what} is too large", expected=f"≤ {MAX_ROOT_BYTES} bytes", actual=len(data))
    value = strict_json(data, what)
    shape = _shape(value, what)
    if shape.signed.version != number:
        raise TrustError(
            "the chain of roots has a gap or is out of order", expected=what, actual=f"version {shape.signed.version}"
        )
    with foreign_errors(what):
        from samara.registry.trust.library import Metadata

        # from_dict takes its argument apart; nobody looks at `value` again, and the shape holds copies
        metadata = cast("Metadata[Root]", Metadata.from_dict(cast("dict[str, Any]", value)))
        signed_bytes = metadata.signed_bytes
        result = metadata.signed.get_root_verification_result(previous, signed_bytes, metadata.signatures)
        checks = (result.first, result.second)
    for check, whose in zip(checks, (f"root version {number - 1 or 1}", what), strict=True):
        if not check.verified:
            raise TrustError(
                f"{what} is not signed by enough root keys of {whose}", expected=check.threshold,
                actual=len(check.signed), next_step="don't use this file; ask the publisher over another channel",
            )  # fmt: skip
    return _view(shape.signed, metadata.signed.expires, signed_bytes), metadata.signed


def _shape(value: object, what: str) -> _RootFile:
    try:
        shape = _RootFile.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:64] for part in first["loc"]) or "document"
        raise MalformedError(f"{what}, field {place}: {first['msg']}") from None
    roles = shape.signed.roles
    for role in (roles.root, roles.targets, roles.snapshot, roles.timestamp):
        if not set(role.keyids) <= shape.signed.keys.keys():
            raise MalformedError(f"{what} gives a role to a key that it doesn't list")
    return shape


def _view(signed: _Signed, expires: datetime, signed_bytes: bytes) -> RootView:
    return RootView(
        version=signed.version,
        expires=expires,
        keys={keyid: bytes.fromhex(key.keyval.public) for keyid, key in signed.keys.items()},
        roles={
            name: RoleKeys(threshold=role.threshold, keyids=tuple(role.keyids)) for name, role in iter(signed.roles)
        },
        beacon=bytes.fromhex(signed.extension.beacon) if signed.extension else None,
        signed_sha256=hashlib.sha256(signed_bytes).digest(),
    )


def _check_one_keyid_per_key(views: Sequence[RootView]) -> None:
    """One key under two ids would count twice towards a threshold; one id for two keys would hide a change."""
    by_public: dict[bytes, str] = {}
    by_keyid: dict[str, bytes] = {}
    for view in views:
        for keyid, public in view.keys.items():
            if by_public.setdefault(public, keyid) != keyid or by_keyid.setdefault(keyid, public) != public:
                raise TrustError(
                    f"root version {view.version} has one key under two key ids, or one key id for two keys",
                    expected="one key id per key", next_step="don't use this file; tell the publisher",
                )  # fmt: skip


def check_plan(plan: RootPlan) -> None:
    """Raises UsageError for a plan that nobody could ever sign by."""
    if set(plan.roles) != set(ROLES):
        raise UsageError("a root needs every role", expected=", ".join(ROLES), actual=", ".join(sorted(plan.roles)))
    for role, wanted in plan.roles.items():
        if len(set(wanted.keys)) != len(wanted.keys) or not 1 <= wanted.threshold <= len(wanted.keys) <= _MAX_KEYS:
            raise UsageError(
                f"role {role} can't be signed for", expected=f"1…{_MAX_KEYS} different keys, 1 ≤ threshold ≤ keys",
                actual=f"{len(set(wanted.keys))} keys, threshold {wanted.threshold}",
            )  # fmt: skip


@contextlib.contextmanager
def foreign_errors(what: str) -> Iterator[None]:
    """Whatever the library raises on odd input → MalformedError."""
    try:
        yield
    except SamaraError:
        raise
    except Exception as error:
        raise MalformedError(f"{what} can't be read ({type(error).__name__}: {str(error)[:120]})") from None
