"""What a model is and whether this machine can hold it, said before it is fetched: from its manifest alone.

Weights are mapped into memory by the engine; a model that is larger than the memory runs from disk at a crawl.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from samara.schemas.manifest import ReleaseFile, Role

GB = 1e9
HEADROOM = 0.9  # of the memory: the rest is the system's and the conversation's


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes."""

    total: int
    free: int


def memory_of_this_machine() -> Memory | None:
    """None where the system doesn't tell."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return Memory(total=page * os.sysconf("SC_PHYS_PAGES"), free=page * os.sysconf("SC_AVPHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return None


def facts_of(files: Iterable[ReleaseFile], memory: Memory | None) -> Iterator[str]:
    """A line for the weights of a release: architecture, size, quantisation, context, and whether they fit."""
    weights = [file for file in files if file.role == Role.WEIGHTS]
    if not weights:
        return
    size = sum(file.size for file in weights)
    gguf = next((file.gguf for file in weights if file.gguf is not None), None)
    said = []
    if gguf is not None:
        said.append(f"{gguf.architecture}, {gguf.parameter_count:,} parameters, {gguf.quantisation}")
        if gguf.context_length:
            said.append(f"context {gguf.context_length:,}")
    if memory is not None:
        room = f"{memory.total / GB:.1f} GB of memory"
        weighs = f"{size / GB:.1f} GB" if size >= GB / 10 else f"{size / 1e6:.1f} MB"
        fits = size <= HEADROOM * memory.total
        said.append(
            f"{weighs} of weights fit into this machine's {room}"
            if fits
            else f"{weighs} of weights do NOT fit into this machine's {room}: it would crawl"
        )
    if said:
        yield " · ".join(said)
