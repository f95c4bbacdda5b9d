#!/usr/bin/env python3
"""Write constraints.txt anew: the newest versions that pyproject.toml allows, with all they need in turn.

    python3.11 scripts/renew_constraints.py     with the oldest Python we support, so that every pin is good for all

Installs everything into an empty environment and notes what came. What is needed only on another platform or a newer
Python (colorama on Windows) isn't installed here; it is found through the installed packages' own metadata.
Afterwards run scripts/test and look at the differences.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from _venv import ROOT, python_in, requirements

HEADER = """\
# The versions this project was tested with: everything that running, building and testing it installs.
# Renew: python3.11 scripts/renew_constraints.py, then scripts/test
"""

# Runs in the fresh environment, where `packaging` is: prints what is needed elsewhere but not installed here.
FIND_FOREIGN = """
import itertools, sys
from importlib.metadata import distributions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

platforms = [("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"), ("win32", "Windows", "nt")]
pythons = [f"3.{minor}" for minor in range(11, 15)]
installed = {canonicalize_name(d.metadata["Name"]): d for d in distributions()}
foreign = set()
for distribution in installed.values():
    for text in distribution.requires or []:
        needed = Requirement(text)
        for (sys_platform, system, os_name), python in itertools.product(platforms, pythons):
            where = dict(sys_platform=sys_platform, platform_system=system, os_name=os_name, extra="")
            where.update(python_version=python, python_full_version=python + ".0")
            if needed.marker is None or needed.marker.evaluate(where):
                foreign.add(canonicalize_name(needed.name))
print("\\n".join(sorted(foreign - set(installed))))
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="samara-pins-") as folder:
        venv.create(folder, with_pip=True)
        python = python_in(Path(folder))
        pip = [str(python), "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip"], check=True)
        subprocess.run([*pip, "install", "--quiet", *requirements("run", "serve", "dev", "build")], check=True)
        pins = installed(python)
        found = subprocess.run([str(python), "-c", FIND_FOREIGN], check=True, capture_output=True, text=True)
        if foreign := found.stdout.split():
            pins.update(would_install(python, foreign))
    text = HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))
    (ROOT / "constraints.txt").write_text(text, encoding="utf-8")
    print(f"{len(pins)} pins written to constraints.txt with Python {sys.version.split()[0]}")


def installed(python: Path) -> dict[str, str]:
    """Name → version of what is there, without the installers themselves."""
    done = subprocess.run(
        [str(python), "-m", "pip", "list", "--format", "json", "--exclude", "pip", "--exclude", "setuptools"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return {item["name"].lower().replace("_", "-"): item["version"] for item in json.loads(done.stdout)}


def would_install(python: Path, names: list[str]) -> dict[str, str]:
    """Name → version that pip would choose, those not for this platform as well."""
    command = [str(python), "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--report", "-", *names]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = [item["metadata"] for item in json.loads(done.stdout)["install"]]
    return {item["name"].lower().replace("_", "-"): item["version"] for item in found}


if __name__ == "__main__":
    main()
