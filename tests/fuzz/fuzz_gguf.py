"""Coverage-guided fuzzing of the GGUF header walk. Not part of the test run; needs `pip install atheris`.

    python tests/fuzz/fuzz_gguf.py CORPUS -max_total_time=60 -timeout=5 -rss_limit_mb=512 -max_len=65536

CORPUS is a folder that keeps what was found interesting; an empty one is filled with the headers of tests/fixtures and
a file with one value of every type. A crash is any exception but MalformedError inside, cuts that don't cover the file,
positions that contradict each other, 5 seconds, or 512 MB (most of which is the fuzzer's own).
"""

from __future__ import annotations

import io
import struct
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

atheris = import_module("atheris")  # by name: mypy must not need it either
with atheris.instrument_imports(include=["samara"]):
    from samara.schemas.errors import MalformedError
    from samara.schemas.layouts import MAX_BLOCKS, Layout
    from samara.seeder.gguf_facts import describe, read_gguf

FIXTURES = Path(__file__).parents[1] / "fixtures"


def seeds() -> dict[str, bytes]:
    """Small good files that between them use every part of the format."""
    found = {path.stem: path.read_bytes() for path in FIXTURES.glob("*.gguf")}
    headers = {name: model[: read_gguf(io.BytesIO(model), len(model))[0].data_at] for name, model in found.items()}
    scalars = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
    values = [struct.pack(f"<I{form}", kind, 1) for kind, form in scalars.items()]
    values += [struct.pack(f"<IIQ3{form}", 9, kind, 3, 1, 2, 3) for kind, form in scalars.items()]
    values += [struct.pack("<IQ2s", 8, 2, b"ab"), struct.pack("<IIQQ1sQ", 9, 8, 2, 1, b"a", 0)]
    values += [struct.pack("<IIQIQ2BIQQ", 9, 9, 2, 0, 2, 1, 2, 8, 1, 0)]
    keys = b"".join(struct.pack("<Q2s", 2, b"%02d" % i) + value for i, value in enumerate(values))
    info = struct.pack("<Q1sI2QIQ", 1, b"t", 2, 32, 1, 2, 0)
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1, len(values)) + keys + info
    return headers | {"every-type": head + bytes(-len(head) % 32 + 18)}


def check(data: bytes) -> None:
    """One input: read or refused, and coherent if read."""
    data = b"GGUF" + data[4:]
    shape = describe(io.BytesIO(data), len(data))
    assert sum(shape.block_sizes) == len(data)
    assert len(shape.block_sizes) <= MAX_BLOCKS
    assert all(size > 0 for size in shape.block_sizes)
    try:
        header, facts = read_gguf(io.BytesIO(data), len(data), window=1_024)
    except MalformedError:
        assert shape.layout is Layout.FIXED
        return
    assert (shape.layout, shape.facts) == (Layout.GGUF, facts)
    assert all(key.end == following.start for key, following in pairwise(header.keys))
    assert all(tensor.end <= following.start for tensor, following in pairwise(header.tensors))
    assert header.tensor_infos_at <= header.data_at <= len(data)
    assert not header.tensors or header.data_at <= header.tensors[0].start <= header.tensors[-1].end <= len(data)


def main() -> None:
    corpus = next((Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")), None)
    if corpus is not None:
        corpus.mkdir(parents=True, exist_ok=True)
        if not any(corpus.iterdir()):
            for name, seed in seeds().items():
                (corpus / name).write_bytes(seed)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
