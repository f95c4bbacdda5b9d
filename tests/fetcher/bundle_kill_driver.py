"""Exports or imports, and dies by SIGKILL at one step after another; then does it once more. Run by test_bundle_kills.

    python bundle_kill_driver.py < CASE

CASE is a JSON object {act: "export" | "import", source, targets, calls}: the home to export from or the bundle to
import, for each step a folder or home to do it in, and the functions of `os` before and after each of which is a step.
The first target is done without a kill. In the n-th a forked child dies at step n - 1; what it left there is told; then
the act is done to its end. Ends with the first that wasn't killed. Prints a list of {killed, left}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # started by its path, not as part of the tests

from support.kills import die_at_step, forked

from samara.fetcher.bundle_export import export_bundle
from samara.fetcher.bundle_import import import_bundle
from samara.registry.home import Home


def main() -> None:
    case = json.load(sys.stdin)
    first, *targets = (_act(case["act"], Path(case["source"]), Path(target)) for target in case["targets"])
    first()  # here, so that no child has to import what it needs anew
    told = []
    for step, (act, target) in enumerate(zip(targets, case["targets"][1:], strict=True), start=1):
        killed = forked(partial(_act_and_die, act, step, case["calls"]))
        left = sorted(path.name for path in Path(target).rglob("*") if path.is_file())
        assert not forked(act)
        told.append({"killed": killed, "left": left})
        if not killed:
            break
    json.dump(told, sys.stdout)


def _act(name: str, source: Path, target: Path) -> Callable[[], object]:
    now = datetime.now(UTC)
    if name == "export":
        return lambda: export_bundle(Home(source), ["acme/tiny:v1"], target / "tiny.tar.zst", now=now)
    return lambda: import_bundle(Home(target), source, now=now)


def _act_and_die(act: Callable[[], object], step: int, calls: list[str]) -> None:
    die_at_step(step, calls)
    act()


if __name__ == "__main__":
    main()
