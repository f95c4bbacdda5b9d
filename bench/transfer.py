"""The main job against plain HTTP, in one run, alternating: how the README's transfer figures are made.

    python bench/transfer.py [--size llama-1b|256mb] [--rounds 5] [--work DIR] [--output FILE.json]

Each round copies the model with `cp`, gets it with curl from nginx, publishes it, pulls it from a running
`samara seed` in a fresh SAMARA_HOME, and pulls it again with a SIGKILL at 63 % and a rerun. Everything is on loopback
and on one disk. Ratios are of medians. The model is made once and kept in DIR (default: .cache/bench). Needs Linux,
nginx and curl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Cost, children_of, cpu_of, mid, nginx, peak_rss, report, run, run_for_output

ROOT = Path(__file__).resolve().parent.parent
SAMARA = [sys.executable, "-m", "samara"]
KILL_AT = 0.63
HTTP_PORT, SEED_PORT = 18642, 18643


@dataclass(frozen=True)
class Seeder:
    """A running `samara seed`."""

    pid: int
    port: int


def main() -> None:
    """Parse, run the rounds, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["llama-1b", "256mb"], default="llama-1b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "bench")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    model = work / f"{options.size}.gguf"
    if not model.exists():
        run([sys.executable, ROOT / "scripts" / "make_models.py", "big", model, "--preset", options.size])
    home = work / "publisher"
    shutil.rmtree(home, ignore_errors=True)
    env = {"SAMARA_HOME": str(home)}
    run([*SAMARA, "publisher", "init", "bench", "--json"], env=env)
    identity = json.loads(run_for_output([*SAMARA, "publisher", "show", "bench", "--json"], env=env)[1])["identity"]
    release = work / "bench.samara"
    publish: list[str | Path] = [*SAMARA, "publish", model, "--as", "bench/model:big", "-o", release, "--json"]
    run(publish, env=env)
    costs: dict[str, list[Cost]] = {name: [] for name in ("cp", "curl", "nginx", "publish", "pull", "seed")}
    kills: list[dict[str, float]] = []
    with nginx(work, HTTP_PORT, work / "nginx") as web, seeding(home) as seeder:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            _round(work, model, web, seeder, release, identity, costs)
            costs["publish"].append(_publish_again(work, publish))
            kills.append(_killed_pull(work, seeder, release, identity, model.stat().st_size))
        seed_rss = peak_rss(seeder.pid)
    _report(options, model.stat().st_size, costs, kills, seed_rss)


def _round(
    work: Path, model: Path, web: int, seeder: Seeder, release: Path, identity: str, costs: dict[str, list[Cost]]
) -> None:  # fmt: skip
    target = work / "copy.gguf"
    target.unlink(missing_ok=True)
    costs["cp"].append(run(["cp", "--reflink=never", model, target]))
    target.unlink()
    os.sync()
    before = cpu_of(children_of(web))
    costs["curl"].append(run(["curl", "-sS", "-o", target, f"http://127.0.0.1:{HTTP_PORT}/{model.name}"]))
    costs["nginx"].append(Cost(seconds=0, cpu=cpu_of(children_of(web)) - before))
    target.unlink()
    os.sync()
    home = _puller(work, identity)
    before = cpu_of([seeder.pid])
    cost, _ = run_for_output(_pull(seeder, release), env={"SAMARA_HOME": str(home)})
    costs["pull"].append(cost)
    costs["seed"].append(Cost(seconds=0, cpu=cpu_of([seeder.pid]) - before))
    shutil.rmtree(home)
    os.sync()


def _publish_again(work: Path, publish: list[str | Path]) -> Cost:
    """A first publish, in a home of its own so that nothing is known yet."""
    home = work / "publisher-again"
    shutil.rmtree(home, ignore_errors=True)
    env = {"SAMARA_HOME": str(home)}
    run([*SAMARA, "publisher", "init", "bench", "--json"], env=env)
    other = [part if str(part) != str(publish[-2]) else work / "again.samara" for part in publish]
    cost = run(other, env=env)
    shutil.rmtree(home)
    os.sync()
    return cost


def _puller(work: Path, identity: str) -> Path:
    home = work / "puller"
    shutil.rmtree(home, ignore_errors=True)
    run([*SAMARA, "trust", "add", "bench", "--identity", identity, "--yes"], env={"SAMARA_HOME": str(home)})
    return home


def _pull(seeder: Seeder, release: Path) -> list[str]:
    return [
        *SAMARA, "pull", str(release), "--peer", f"127.0.0.1:{seeder.port}", "--no-discovery",
        "--listen", "127.0.0.1:0", "--json",
    ]  # fmt: skip


def _killed_pull(work: Path, seeder: Seeder, release: Path, identity: str, size: int) -> dict[str, float]:
    """SIGKILL at 63 %, rerun, run. What came over the network twice, and how soon new bytes came.

    What the first pull had received when it died is what it last reported or what the second one found on disk,
    whichever is more; what was still in socket buffers then is lost and not counted.
    """
    home = _puller(work, identity)
    env = {"SAMARA_HOME": str(home)}
    process = subprocess.Popen(
        _pull(seeder, release), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **env}
    )
    assert process.stderr is not None
    received = 0
    for line in process.stderr:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "pull_progress":
            received = max(received, event["from_peers"] + event["from_mirrors"])
            if event["done"] >= KILL_AT * size:
                break
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        sys.exit("the pull ended before it could be killed: use a larger model")
    process.stderr.close()
    rerun, output = run_for_output(_pull(seeder, release), env=env)
    second = json.loads(output)
    fetched = max(received, second["bytes_reused"]) + second["bytes_from_peers"] + second["bytes_from_mirrors"]
    verified = run([*SAMARA, "verify", "bench/model:big", "--json"], env=env)
    answer, output = run_for_output(
        [*SAMARA, "run", "bench/model:big", "2+3=", "--raw", "--max-tokens", "1", "--json"], env=env
    )
    shutil.rmtree(home)
    os.sync()
    return {
        "killed_at_share": second["bytes_reused"] / size,
        "fetched_twice_share": (fetched - size) / size,
        "rerun_seconds": rerun.seconds,
        "rerun_first_byte_seconds": second["seconds_to_first_byte"] or 0.0,
        "verify_seconds": verified.seconds,
        "killed_download_to_first_token_seconds": rerun.seconds + answer.seconds,
    }


@contextmanager
def seeding(home: Path) -> Iterator[Seeder]:
    """`samara seed` on loopback, ready."""
    process = subprocess.Popen(
        [*SAMARA, "seed", "--listen", f"127.0.0.1:{SEED_PORT}", "--no-discovery", "--json"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "SAMARA_HOME": str(home)},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if json.loads(line)["event"] == "seed_table":
                break
        else:
            sys.exit("samara seed ended by itself")
        # nobody reads further: let it write into nothing rather than into a full pipe
        with subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL):
            yield Seeder(process.pid, SEED_PORT)
            process.terminate()
    finally:
        process.terminate()
        process.wait()


def _report(
    options: argparse.Namespace, size: int, costs: dict[str, list[Cost]], kills: list[dict[str, float]], seed_rss: int
) -> None:
    medians = {name: mid(values) for name, values in costs.items()}
    pull, curl = medians["pull"], medians["curl"]
    killed = {key: sorted(k[key] for k in kills)[len(kills) // 2] for key in kills[0]}
    ratios = {
        "pull_over_curl_wall": pull.seconds / curl.seconds,
        "pull_over_curl_cpu": pull.cpu / curl.cpu,
        "both_sides_cpu_over_curl_and_nginx": (pull.cpu + medians["seed"].cpu) / (curl.cpu + medians["nginx"].cpu),
        "pull_over_cp_wall": pull.seconds / medians["cp"].seconds,
        "fetched_twice_after_kill": killed["fetched_twice_share"],
    }
    rows = [["what", "seconds", "MB/s", "CPU s", "peak RSS MB"]]
    for name in ("cp", "curl", "publish", "pull"):
        cost = medians[name]
        rss = f"{cost.rss / 1e6:.0f}"
        rows.append([name, f"{cost.seconds:.2f}", f"{size / cost.seconds / 1e6:.0f}", f"{cost.cpu:.2f}", rss])
    rows.append(["nginx (server side)", "", "", f"{medians['nginx'].cpu:.2f}", ""])
    rows.append(["samara seed (server side)", "", "", f"{medians['seed'].cpu:.2f}", f"{seed_rss / 1e6:.0f}"])
    killed_rows = {
        "rerun after SIGKILL at 63 %": "rerun_seconds",
        "rerun: first new byte, process start included": "rerun_first_byte_seconds",
        "killed download to first token": "killed_download_to_first_token_seconds",
    }
    rows += [[name, f"{killed[key]:.2f}", "", "", ""] for name, key in killed_rows.items()]
    rows += [["ratio " + name, f"{value:.3f}", "", "", ""] for name, value in ratios.items()]
    result = {
        "bench": "transfer",
        "model_bytes": size,
        "rounds": options.rounds,
        "medians": {name: vars(cost) for name, cost in medians.items()},
        "seed_peak_rss": seed_rss,
        "killed_at_63_percent": killed,
        "ratios": ratios,
    }
    report(result, rows, options.output)


if __name__ == "__main__":
    main()
