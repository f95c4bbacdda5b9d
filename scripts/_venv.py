"""What scripts/quickstart and scripts/test share: the environment .venv, and how they print.

Standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036  (the very thing to find out)
    sys.exit("Samara needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": try python3.13 " + sys.argv[0])

import hashlib
import io
import json
import os
import shutil
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "constraints.txt"
PYPROJECT = ROOT / "pyproject.toml"
STAMP = VENV / "samara-installed.json"

for _stream in (sys.stdout, sys.stderr):  # a pipe on Windows may not know our letters
    if isinstance(_stream, io.TextIOWrapper):
        _stream.reconfigure(errors="replace", line_buffering=True)


class Failed(Exception):  # noqa: N818
    """Something did not come out as it should; the message says what, and what to do."""


def ensure_venv(*extras: str) -> Path:
    """Make or complete .venv with the project (editable) and `extras` ("run", "serve", "dev"); its Python.

    Reused as it is while pyproject.toml, constraints.txt and the Python are those it was made from.
    """
    digest = _digest()
    done = _installed()
    if done.get("digest") == digest and set(extras) <= set(done["extras"]) and python_in(VENV).exists():
        return python_in(VENV)
    wanted = sorted({*extras, *(done["extras"] if done.get("digest") == digest else ())})
    print(f"installing into {VENV} ({''.join(f'{name}, ' for name in wanted)}about a minute the first time) ...")
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if done.get("digest") != digest:
        make_venv(VENV)
    development = requirements("dev") if "dev" in wanted else []
    runtime = ",".join(extra for extra in wanted if extra != "dev")
    pip_install(VENV, "--editable", f"{ROOT}[{runtime}]" if runtime else str(ROOT), *development)
    STAMP.write_text(json.dumps({"digest": digest, "extras": wanted}), encoding="utf-8")
    print(f"installed in {time.monotonic() - started:.0f} s")
    return python_in(VENV)


def make_venv(folder: Path) -> None:
    """An empty environment; one that is there is replaced. Raises Failed."""
    if folder.exists():
        shutil.rmtree(folder)
    done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        hint = "on Debian and Ubuntu: sudo apt-get install python3-venv"
        raise Failed(f"{sys.executable} can't make an environment ({hint})\n{done.stdout}{done.stderr}".rstrip())


def pip_install(folder: Path, *what: str) -> None:
    """pip with the tested versions, also for what builds the package. From where is for pip's configuration to say."""
    names = {"PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"}  # pip before 25.3 knows only the first
    pins = {name: " ".join([*os.environ.get(name, "").split(), CONSTRAINTS.as_uri()]) for name in names}
    command = [str(python_in(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    done = subprocess.run(command, env=clean_environment(**pins), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"pip could not install: {' '.join(command)}\n{done.stdout}{done.stderr}".rstrip())


def requirements(*groups: str) -> list[str]:
    """Requirement strings of pyproject.toml: "dev", "build", or an extra with everything the package itself needs."""
    settings = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    found: list[str] = []
    for group in groups:
        if group == "dev":
            found += settings["dependency-groups"]["dev"]
        elif group == "build":
            found += [*settings["build-system"]["requires"], "editables"]
        else:
            found += [*settings["project"]["dependencies"], *settings["project"]["optional-dependencies"][group]]
    return found


def python_in(folder: Path) -> Path:
    """The environment's Python."""
    return program_in(folder, "python")


def program_in(folder: Path, name: str) -> Path:
    """A program of an environment."""
    return folder / "Scripts" / f"{name}.exe" if os.name == "nt" else folder / "bin" / name


def clean_environment(**changes: str) -> dict[str, str]:
    """This process's environment without what would lead children astray: another Python's paths, a real store."""
    astray = ("SAMARA_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(astray)}
    return {**kept, "PYTHONUTF8": "1", **changes}


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)


def _digest() -> str:
    made_from = hashlib.sha256()
    for part in (PYPROJECT.read_bytes(), CONSTRAINTS.read_bytes(), sys.version.encode(), str(VENV).encode()):
        made_from.update(hashlib.sha256(part).digest())
    return made_from.hexdigest()


def _installed() -> dict[str, Any]:
    try:
        found = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("extras"), list) else {}
