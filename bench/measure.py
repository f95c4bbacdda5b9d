"""Measuring for the benches: wall seconds, CPU seconds and peak memory of child processes, a static web server, tables.

Linux only where it reads /proc; says so elsewhere. Figures are for ratios within one run on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run cost. `rss` in bytes."""

    seconds: float
    cpu: float
    rss: int = 0


@contextmanager
def bench(about: str | None, *, preset: str, **numbers: float) -> Iterator[tuple[Path, argparse.Namespace]]:
    """A folder to work in, removed at the end, and the options: --preset, --folder, --json, and a number for each of
    `numbers`, of the type of its default.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default=preset)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--folder", type=Path, help="where to work: the disk to measure")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled
    with tempfile.TemporaryDirectory(prefix="samara-bench-", dir=options.folder) as folder:
        yield Path(folder), options


def run(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, allow: tuple[int, ...] = (0,)) -> Cost:
    """Run to the end; its cost. Output is shown only if it fails."""
    cost, _ = run_for_output(command, env=env, allow=allow)
    return cost


def run_for_output(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, allow: tuple[int, ...] = (0,)
) -> tuple[Cost, str]:
    """The same, and what it wrote to stdout (which must be short)."""
    started = time.monotonic()
    # stderr to a file: a full pipe would stall the measured process
    log = Path(os.environ.get("TMPDIR", "/tmp")) / f"samara-bench-{os.getpid()}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **(env or {})}
        )
        assert process.stdout is not None
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
    seconds = time.monotonic() - started
    if process.returncode not in allow:
        sys.exit(f"{command} exited {process.returncode}:\n{log.read_text(errors='replace')[-4000:]}")
    log.unlink()
    return Cost(seconds=seconds, cpu=usage.ru_utime + usage.ru_stime, rss=usage.ru_maxrss * 1024), output


def cpu_of(pids: Sequence[int]) -> float:
    """CPU seconds that these running processes have used so far, their threads included."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / _TICK
    return total


def peak_rss(pid: int) -> int:
    """The most memory a running process has had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def children_of(pid: int) -> list[int]:
    """A process and its direct children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@contextmanager
def nginx(folder: Path, port: int, scratch: Path) -> Iterator[int]:
    """nginx serving `folder` on 127.0.0.1, with sendfile, as it comes from its distribution. Gives its pid."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        sys.exit("this bench needs nginx: apt-get install nginx-light")
    scratch.mkdir(parents=True, exist_ok=True)
    config = scratch / "nginx.conf"
    config.write_text(
        f"worker_processes 2; daemon off; pid {scratch}/pid; error_log {scratch}/error.log;\n"
        "events { worker_connections 64; }\n"
        f"http {{ access_log off; sendfile on; client_body_temp_path {scratch}/b; proxy_temp_path {scratch}/p;\n"
        f"  fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;\n"
        f"  server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    user = [] if os.geteuid() else ["-g", "user root;"]
    process = subprocess.Popen([program, "-p", str(scratch), "-c", str(config), *user], stderr=subprocess.PIPE)
    try:
        _await_port(port, process)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    import socket

    for _ in range(500):
        if process.poll() is not None:
            assert process.stderr is not None
            sys.exit(f"nginx didn't start: {process.stderr.read().decode()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    sys.exit("nginx didn't answer")


def mid(costs: Sequence[Cost]) -> Cost:
    """The median of each column."""
    return Cost(
        seconds=median(c.seconds for c in costs), cpu=median(c.cpu for c in costs), rss=max(c.rss for c in costs)
    )


def machine() -> dict[str, object]:
    """What this was measured on; no host name."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (ln.split(":")[1].strip() for ln in info.read_text().splitlines() if ln.startswith("model name")), model
        )
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def report(result: Mapping[str, object], rows: Sequence[Sequence[str]], output: Path | None) -> None:
    """Print the table; write the JSON to `output` or print it."""
    print(table(rows))
    text = json.dumps({"machine": machine(), **result}, indent=2)
    if output is None:
        print(text)
    else:
        output.write_text(text + "\n")
        print(f"wrote {output}")
