"""What a GGUF header says, as frozen values: where its parts lie, and the facts a person chooses a model by.

Pure. Reading a header from a file is `samara.seeder.gguf_facts`; cutting a blob by it is `samara.schemas.layouts`.
Offsets and ends are absolute byte positions in the file; `end` is exclusive. Format: ggml's docs/gguf.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True, kw_only=True, slots=True)
class KeySpan:
    """One header key-value: its whole encoding (key length, key, type, value)."""

    key: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpan:
    """One tensor's bytes, without the padding that follows them."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufHeader:
    """The structure of one GGUF file (v2 or v3, little-endian), every position checked against the file's size.

    `keys` are in file order and contiguous; `tensors` are sorted by `start` and don't overlap.
    """

    version: int
    keys: tuple[KeySpan, ...]
    tensor_infos_at: int
    data_at: int
    tensors: tuple[TensorSpan, ...]


class GgufFacts(BaseModel):
    """What a person chooses a GGUF by; travels in the manifest."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    architecture: str = Field(max_length=64)
    parameter_count: int = Field(ge=0, lt=2**63)
    quantisation: str = Field(max_length=32)
    context_length: int | None = Field(default=None, ge=0, lt=2**63)
    has_chat_template: bool | None = False
