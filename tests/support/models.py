"""Two versions of one model: GGUF files that differ where people edit them, and nowhere else."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from pathlib import Path

STRING, UINT32, ARRAY = 8, 4, 9
F32 = 0
ALIGNMENT = 32


def gguf(
    path: Path,
    *,
    template: str = "{{ messages }}",
    tokens: int = 20_000,
    tensors: int = 12,
    tensor_bytes: int = 1 << 20,
    tuned: Mapping[int, int] | None = None,
) -> Path:
    """A GGUF file whose tensors are noise. `tuned`: number of a tensor → another seed for its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = [
        _key("general.architecture", STRING, _string("llama")),
        _key("general.name", STRING, _string("two versions")),
        _key("tokenizer.chat_template", STRING, _string(template)),
        _key(
            "tokenizer.ggml.tokens",
            ARRAY,
            struct.pack("<IQ", STRING, tokens) + b"".join(_string(f"token-{number:06}") for number in range(tokens)),
        ),
    ]
    infos = b"".join(
        _string(f"blk.{number}.weight") + struct.pack("<IQIQ", 1, tensor_bytes // 4, F32, number * tensor_bytes)
        for number in range(tensors)
    )
    header = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(keys)) + b"".join(keys) + infos
    with path.open("wb") as file:
        file.write(header + bytes(-len(header) % ALIGNMENT))
        for number in range(tensors):
            file.write(random.Random((tuned or {}).get(number, number)).randbytes(tensor_bytes))
    return path


def _key(name: str, kind: int, value: bytes) -> bytes:
    return _string(name) + struct.pack("<I", kind) + value


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
