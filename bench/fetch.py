"""How little is fetched when something of a model is here already, and how long that takes beside `cp`.

    python bench/fetch.py                     a 773 MB GGUF (scripts/make_models.py big --preset llama-1b), a table
    python bench/fetch.py --preset 256mb --rounds 3 --json result.json

    template   the chat template was edited: every byte behind it has moved
    tensor     one tensor of 147 was fine-tuned
    partial    another program left 95 % of the file (`samara pull --adopt`)
    repair     one bit of one block turned over in the store (`samara repair`)

Each is a `samara pull` (or `repair`) as a process from a seeder on loopback, start-up and verification included, into a
home that holds the first version (or, for `partial`, nothing but the other program's file). `cp` copies the same file
and fsyncs it, in the same round. Figures asked for in issue 4: template ≤ 2 pieces and ≤ 2 × cp, tensor ≤ it + 2
pieces, partial ≤ 5 % + 2 pieces, repair ≤ its block rounded to pieces. Needs `samara` installed, or PYTHONPATH. `cp` is
one thread and the disk: with other work on the processors the ratios say more about that than about samara.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
from pathlib import Path

from measure import bench, report, run, run_for_output
from transfer import SAMARA, Seeder, seeding

from samara.schemas.bittorrent import piece_length_for
from samara.schemas.errors import MalformedError
from samara.schemas.gguf import GgufHeader
from samara.seeder.gguf_facts import read_gguf

ROOT = Path(__file__).resolve().parent.parent
ALIGNMENT = 32
CHUNK = 8 << 20
BLOCK = 4 << 20
TEMPLATE_KEY = "tokenizer.chat_template"


def main() -> None:
    with bench(__doc__, preset="llama-1b", rounds=3) as (work, options):
        measure(work, options)


def measure(work: Path, options: argparse.Namespace) -> None:
    model = work / "model.gguf"
    maker = [sys.executable, ROOT / "scripts" / "make_models.py", "big", model, "--preset", options.preset]
    subprocess.run(maker, check=True, stdout=subprocess.DEVNULL)
    with model.open("rb") as opened:
        header, _ = read_gguf(opened, model.stat().st_size)
    versions = {"v1": model, "template": work / "template.gguf", "tensor": work / "tensor.gguf"}
    edit_template(model, versions["template"], header)
    tensor = tune(model, versions["tensor"], header)
    part = work / "model.gguf.part"
    copy_range(model, part, 0, model.stat().st_size * 95 // 100)

    home = work / "publisher"
    env = {"SAMARA_HOME": str(home)}
    _, made = run_for_output([*SAMARA, "publisher", "init", "bench", "--json"], env=env)
    identity = json.loads(made)["identity"]
    for tag, path in versions.items():
        run([*SAMARA, "publish", path, "--as", f"bench/model:{tag}", "-o", work / f"{tag}.samara"], env=env)
    piece = piece_length_for(model.stat().st_size)
    fetched: dict[str, list[int]] = {}
    seconds: dict[str, list[float]] = {}
    with seeding(home) as seeder:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            seconds.setdefault("cp", []).append(timed_copy(model, work / "copy.gguf"))
            first = puller(work / "first", identity)
            pull(first, seeder, work / "v1.samara")
            if not number:  # before another version is here that has the block too
                fetched["repair"] = [repair(first, seeder)]
            for what in ("template", "tensor"):
                os.sync()
                got, took = pull(first, seeder, work / f"{what}.samara")
                fetched.setdefault(what, []).append(got)
                seconds.setdefault(what, []).append(took)
            shutil.rmtree(first)
            other = puller(work / "other", identity)
            os.sync()
            got, took = pull(other, seeder, work / "v1.samara", "--adopt", part)
            fetched.setdefault("partial", []).append(got)
            seconds.setdefault("partial", []).append(took)
            shutil.rmtree(other)
    size = model.stat().st_size
    bounds = {"template": 2 * piece, "tensor": tensor + 2 * piece, "partial": size // 20 + 2 * piece}
    bounds["repair"] = BLOCK + 2 * piece  # a block begins and ends inside pieces
    most = {what: max(values) for what, values in fetched.items()}
    ratios = {
        what: statistics.median(t / c for t, c in zip(seconds[what], seconds["cp"], strict=True)) for what in seconds
    }
    rows = [("", "fetched", "at most", "time", "× cp")]
    rows.append(("cp and fsync", "", "", f"{statistics.median(seconds['cp']):.2f} s", "1.0"))
    rows += [
        (
            what,
            f"{most[what]:,} bytes",
            f"{bounds[what]:,} bytes",
            f"{statistics.median(seconds[what]):.2f} s" if what in seconds else "",
            f"{ratios[what]:.1f}" if what in seconds else "",
        )
        for what in bounds
    ]
    result = {
        "bytes": size,
        "piece": piece,
        "fetched": most,
        "bounds": bounds,
        "seconds": {what: statistics.median(values) for what, values in seconds.items()},
        "over_cp": ratios,
    }
    report(result, rows, options.json)


def repair(home: Path, seeder: Seeder) -> int:
    """Turn over one bit in the middle of what lies in the store, find it and fetch its block: bytes that came."""
    env = {"SAMARA_HOME": str(home)}
    _, path = run_for_output([*SAMARA, "path", "bench/model:v1"], env=env)
    blob = Path(path.strip())
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(blob.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    blob.chmod(0o444)
    _, out = run_for_output(
        [
            *SAMARA, "repair", "bench/model:v1", "--peer", f"127.0.0.1:{seeder.port}", "--no-discovery",
            "--listen", "127.0.0.1:0", "--json",
        ],
        env=env,
    )  # fmt: skip
    done = json.loads(out)
    return int(done["bytes_fetched"])


def edit_template(source: Path, target: Path, header: GgufHeader) -> None:
    """The same file with another chat template, longer by a few lines: what is behind it moves."""
    span = next((key for key in header.keys if key.key == TEMPLATE_KEY), None)
    if span is None:
        sys.exit(f"{source} has no {TEMPLATE_KEY}")
    head = source.read_bytes()[: header.data_at] if header.data_at < 1 << 28 else b""
    name = struct.pack("<Q", len(TEMPLATE_KEY)) + TEMPLATE_KEY.encode() + struct.pack("<I", 8)
    text = b"{# edited #}\n" * 20 + b"{{ messages }}"
    rest = head[span.end : header.data_at].rstrip(b"\0")  # tensor infos, whose last field may itself end in zeros
    for zeros in range(9):
        new = head[: span.start] + name + struct.pack("<Q", len(text)) + text + rest + bytes(zeros)
        target.write_bytes(new + bytes(-len(new) % ALIGNMENT))
        copy_range(source, target, header.data_at, source.stat().st_size, append=True)
        with target.open("rb") as opened, contextlib.suppress(MalformedError):
            found, _ = read_gguf(opened, target.stat().st_size)
            if target.stat().st_size - found.data_at == source.stat().st_size - header.data_at:
                return
    sys.exit("could not edit the chat template")


def tune(source: Path, target: Path, header: GgufHeader) -> int:
    """The same file with other bytes in the tensor in the middle; its size."""
    copy_range(source, target, 0, source.stat().st_size)
    big = [tensor for tensor in header.tensors if tensor.end - tensor.start >= 1 << 20]
    tensor = big[len(big) // 2]
    with target.open("r+b") as file:
        file.seek(tensor.start)
        data = file.read(tensor.end - tensor.start)
        file.seek(tensor.start)
        file.write(bytes(byte ^ 0x55 for byte in data))
    return tensor.end - tensor.start


def copy_range(source: Path, target: Path, start: int, end: int, *, append: bool = False) -> None:
    with source.open("rb") as reader, target.open("ab" if append else "wb") as writer:
        reader.seek(start)
        left = end - start
        while left and (data := reader.read(min(CHUNK, left))):
            writer.write(data)
            left -= len(data)


def timed_copy(source: Path, target: Path) -> float:
    """Seconds of `cp` and making it durable."""
    os.sync()
    cost = run(["sh", "-c", 'cp --reflink=never "$0" "$1" && sync "$1"', source, target])
    target.unlink()
    return cost.seconds


def puller(home: Path, identity: str) -> Path:
    run([*SAMARA, "trust", "add", "bench", "--identity", identity, "--yes"], env={"SAMARA_HOME": str(home)})
    return home


def pull(home: Path, seeder: Seeder, release: Path, *more: object) -> tuple[int, float]:
    """(bytes over the network, seconds of the process)."""
    command: list[str | Path] = [
        *SAMARA, "pull", release, "--peer", f"127.0.0.1:{seeder.port}", "--no-discovery", "--listen", "127.0.0.1:0",
        "--json", *map(str, more),
    ]  # fmt: skip
    cost, out = run_for_output(command, env={"SAMARA_HOME": str(home)})
    done = json.loads(out)
    return done["bytes_from_peers"] + done["bytes_from_mirrors"], cost.seconds


if __name__ == "__main__":
    main()
