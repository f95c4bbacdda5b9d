"""The recovery file: everything a publisher is, in one file to print or to keep in a safe. Bytes in, values out.

JSON {"format": "samara-recovery-1", "name", "created", "roots": [base64…], "keys": [{"file", "use", "public",
"sealed"}], "catalog": base64 of the metadata bundle}, where each `sealed` is an encrypted OpenSSH private key file. Who
finds it learns the public parts only; changing those is noticed, because opened keys must match them and belong to the
roots, and who can't seal keys with the passphrase can't make another publisher of it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from samara.registry.trust.keys import MAX_KEY_FILE_BYTES, is_sealed
from samara.schemas.digests import Hex64
from samara.schemas.envelope import base64_bytes, canonical_json, strict_json
from samara.schemas.errors import MalformedError, UsageError
from samara.schemas.metadata_bundle import MAX_BUNDLE_BYTES
from samara.schemas.references import check_name
from samara.schemas.release_file import MAX_ROOT_BYTES, MAX_ROOTS

FORMAT = "samara-recovery-1"
MAX_RECOVERY_BYTES = 32 * 1024 * 1024

KeyUse = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,36}$")]
KeyFileName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,40}\.key$")]


class KeyRecord(BaseModel):
    """One key a publisher holds. `use`: what it was made as (root, online, beacon, targets…), for people; which TUF
    roles it has is the root's word.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)

    file: KeyFileName
    use: KeyUse
    public: Hex64

    @property
    def public_bytes(self) -> bytes:
        """32 raw public bytes."""
        return bytes.fromhex(self.public)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """A publisher's state outside its folder. `keys`: record and OpenSSH key file of each key; `catalog`: a metadata
    bundle, so that who restores it goes on from its versions rather than from the first.
    """

    name: str
    created: str
    roots: tuple[bytes, ...]
    keys: tuple[tuple[KeyRecord, bytes], ...]
    catalog: bytes | None = None


class _SealedKey(KeyRecord):
    sealed: str = Field(max_length=2 * MAX_KEY_FILE_BYTES)


class _RecoveryFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)

    format: Literal["samara-recovery-1"]
    name: str = Field(max_length=64)
    created: str = Field(max_length=32)
    roots: list[str] = Field(min_length=1, max_length=MAX_ROOTS)
    keys: list[_SealedKey] = Field(min_length=1, max_length=64)
    catalog: str | None = Field(default=None, max_length=2 * MAX_BUNDLE_BYTES)


def pack_recovery(recovery: Recovery) -> bytes:
    """Recovery → file bytes. Raises UsageError rather than write a key without a passphrase."""
    if not all(is_sealed(data) for _, data in recovery.keys):
        raise UsageError("a recovery file needs a passphrase", next_step="set SAMARA_PASSPHRASE or type one when asked")
    keys = [{**record.model_dump(), "sealed": data.decode("ascii")} for record, data in recovery.keys]
    roots = [base64.b64encode(root).decode() for root in recovery.roots]
    value: dict[str, object] = {
        "format": FORMAT,
        "name": recovery.name,
        "created": recovery.created,
        "roots": roots,
        "keys": keys,
    }
    if recovery.catalog is not None:
        value["catalog"] = base64.b64encode(recovery.catalog).decode()
    return canonical_json(value) + b"\n"


def unpack_recovery(data: bytes) -> Recovery:
    """File bytes → Recovery, not yet proven. Raises MalformedError."""
    if len(data) > MAX_RECOVERY_BYTES:
        raise MalformedError("recovery file too large", expected=f"≤ {MAX_RECOVERY_BYTES} bytes", actual=len(data))
    try:
        value = _RecoveryFile.model_validate(strict_json(data, "recovery file"))
        check_name(value.name, "publisher")
        keys = tuple((KeyRecord(file=k.file, use=k.use, public=k.public), k.sealed.encode("ascii")) for k in value.keys)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:64] for part in first["loc"]) or "document"
        raise MalformedError(f"not a recovery file: field {place}: {first['msg']}") from None
    except (UsageError, UnicodeEncodeError) as error:
        raise MalformedError(f"not a recovery file: {error}") from None
    if not all(is_sealed(data) for _, data in keys):
        raise MalformedError(
            "recovery file with a key that anybody can read", expected="every key encrypted",
            next_step="this is not the file that samara wrote: don't restore from it",
        )  # fmt: skip
    if len({record.file for record, _ in keys}) != len(keys):
        raise MalformedError("recovery file names one key file twice")
    return Recovery(
        name=value.name,
        created=value.created,
        roots=tuple(base64_bytes(root, "recovery file's root", limit=MAX_ROOT_BYTES) for root in value.roots),
        keys=keys,
        catalog=None
        if value.catalog is None
        else base64_bytes(value.catalog, "recovery file's catalog", limit=MAX_BUNDLE_BYTES),
    )
