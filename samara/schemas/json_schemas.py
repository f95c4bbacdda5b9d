"""JSON Schemas of the wire formats, generated from the models so that they can't drift. Pure.

`scripts/make_json_schemas.py` writes them beside this file; a test holds the two equal.
"""

from __future__ import annotations

import json

from pydantic import BaseModel, Field

from samara.schemas.envelope import MAX_SIGNATURES, PAYLOAD_TYPE
from samara.schemas.manifest import Statement
from samara.schemas.pull_record import PullRecordDocument
from samara.schemas.release_file import FORMAT, MAX_ROOTS


class _SignatureModel(BaseModel):
    keyid: str = Field(pattern="^[0-9a-f]{64}$")
    sig: str = Field(description="base64 of a 64-byte Ed25519 signature")


class _EnvelopeModel(BaseModel):
    payload: str = Field(description="base64 of the manifest's bytes, exactly as signed")
    payloadType: str = Field(pattern=f"^{PAYLOAD_TYPE.replace('+', '[+]')}$")  # noqa: N815  (DSSE's spelling)
    signatures: list[_SignatureModel] = Field(min_length=1, max_length=MAX_SIGNATURES)


class _ReleaseFileModel(BaseModel):
    format: str = Field(pattern=f"^{FORMAT}$")
    roots: list[str] = Field(max_length=MAX_ROOTS, description="base64 of each TUF root version, 1 first")
    envelope: _EnvelopeModel
    torrents: list[str] = Field(description="base64 of each blob's .torrent")


_MODELS: dict[str, tuple[type[BaseModel], str]] = {
    "manifest-1.schema.json": (Statement, "Samara manifest: the DSSE payload of one release"),
    "envelope-1.schema.json": (_EnvelopeModel, "Samara manifest envelope (DSSE v1)"),
    "pull-record-1.schema.json": (PullRecordDocument, "Samara pull record: whom one pull was in contact with"),
    "release-file-1.schema.json": (_ReleaseFileModel, "Inside a .samara file, after zstd"),
}


def json_schemas() -> dict[str, str]:
    """File name → JSON Schema text (draft 2020-12)."""
    found = {}
    for name, (model, title) in _MODELS.items():
        schema = model.model_json_schema(by_alias=True, mode="validation")
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}
        found[name] = json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return found
