"""What goes into the engine and what comes out, as frozen values; and how many threads a machine can spare.

Starts nothing and opens no model. `default_threads` reads this machine's CPU topology; `spare_threads`, its rule,
is a function of numbers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from samara.schemas.errors import UsageError

DEFAULT_CONTEXT = 4096
"""Tokens. A few hundred MB for an 8B model; the engine restarts itself with more when a prompt needs it."""

DEFAULT_MAX_TOKENS = 256

DEFAULT_TEMPERATURE = 0.0
"""Greedy: the same prompt gets the same answer, every time and on every run."""

_MOST_THREADS = 512  # ggml's own limit
_INT32_MAX = 2**31 - 1


def spare_threads(*, cores: int, quota: float | None) -> int:
    """Threads for the engine: all real cores but one, and no more than the CPU quota of a container.

    One core stays free because the engine's threads spin while they wait for each other: a single one that shares
    its core with a seeder or a browser holds up all others (10 to 70 times slower was measured on two cores).
    """
    usable = cores if quota is None else min(cores, int(quota))
    return max(1, min(usable - 1, _MOST_THREADS))


def default_threads() -> int:
    """`spare_threads` of the machine, or container, this process runs in."""
    return spare_threads(cores=_physical_cores(), quota=_cpu_quota())


def _physical_cores() -> int:
    """Cores this process may use, hyper-threads counted once (Linux); elsewhere half of what the system reports."""
    if hasattr(os, "sched_getaffinity"):
        cpus = os.sched_getaffinity(0)
        siblings = set()
        for cpu in cpus:
            try:
                topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
                siblings.add(topology.read_text())
            except OSError:
                return max(1, len(cpus) // 2)
        return len(siblings)
    return max(1, (os.cpu_count() or 2) // 2)


def _cpu_quota() -> float | None:
    """CPUs' worth of time a container may use (cgroup v2 `cpu.max`: quota and period in µs), None without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup v2, or "max"
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """How to load one model.

    `model` is the path of a GGUF file; of a split model the first part, the others beside it under their own names.
    `context` is in tokens, prompt and answer together; None takes `DEFAULT_CONTEXT` and grows when a prompt needs it.
    The engine never takes more than the model was trained for.
    """

    model: Path
    threads: int = field(default_factory=default_threads)
    context: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= _MOST_THREADS:
            raise UsageError("number of threads", expected=f"1 to {_MOST_THREADS}", actual=self.threads)
        if self.context is not None and not 1 <= self.context <= _INT32_MAX:
            raise UsageError("context length", expected="at least 1 token", actual=self.context)


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One finished answer and what it cost. Times are seconds by this process's clock."""

    text: str
    tokens: int
    """Tokens the model produced, the end-of-text one included."""
    prompt_tokens: int
    seconds_to_first_token: float
    """From handing over the prompt to the first piece of text; to the end when there was no text."""
    tokens_per_second: float | None
    """Of generation alone, as the engine measured it; None for an answer of fewer than two tokens."""
    finish_reason: str
    """`stop`: the model was done. `length`: `max_tokens`, or the end of the context, came first."""
    raw: bool
    """The prompt went in as it is, without the model's chat template."""
