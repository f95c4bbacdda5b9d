#!/usr/bin/env python3
"""The wheel, as a user gets it: built from a clone, installed into empty environments, used, weighed.

    .venv/bin/python scripts/wheel_check.py        (scripts/test runs it)

The four links at the top level are left out of the clone: they are for readers, and neither package needs them.
Weight is what installing adds to an environment on disk, bytecode that pip compiles included. MB are 10^6 bytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from _venv import ROOT, Failed, clean_environment, make_venv, pip_install, program_in, python_in, table

MOST_SECONDS = 60.0
MOST_MB = {"": 135.0, "run": 250.0}
NOT_IN_A_CLONE = shutil.ignore_patterns(".*", "__pycache__", "dist", "build", "*.egg-info")
TINY = ROOT / "tests" / "fixtures" / "tiny-q8_0.gguf"


@dataclass(frozen=True, kw_only=True)
class Weight:
    """What one installation costs."""

    name: str
    seconds: float
    mb: float
    most_mb: float
    largest: str

    def row(self) -> tuple[str, ...]:
        limits = f"(at most {MOST_SECONDS:.0f} s, {self.most_mb:.0f} MB)"
        return self.name, f"{self.seconds:.1f} s", f"{self.mb:.1f} MB", limits, f"largest: {self.largest}"

    def excess(self) -> list[str]:
        over = []
        if self.mb > self.most_mb:
            over.append(f"{self.name} takes {self.mb:.1f} MB on disk, expected at most {self.most_mb:.0f}")
        if self.seconds > MOST_SECONDS:
            over.append(f"{self.name} took {self.seconds:.0f} s to install, expected at most {MOST_SECONDS:.0f}")
        return over


def main() -> int:
    try:
        with tempfile.TemporaryDirectory(prefix="samara-wheel-", ignore_cleanup_errors=True) as folder:
            work = Path(folder)
            clone(work / "clone")
            wheel = build(work / "clone", work / "dist")
            weights = [install(work / "core", wheel, ""), install(work / "run", wheel, "run")]
            use(work / "core", work / "core-home")
            use(work / "run", work / "run-home", run=True)
    except Failed as error:
        print(f"wheel check: {error}", file=sys.stderr)
        return 1
    print(table([weight.row() for weight in weights]))
    over = [line for weight in weights for line in weight.excess()]
    summary = ", ".join(f"{weight.name} {weight.mb:.0f} MB in {weight.seconds:.0f} s" for weight in weights)
    print("; ".join(over) if over else f"wheel works: {summary}")
    return 1 if over else 0


def clone(target: Path) -> None:
    """The files git knows or would take up, as they are now, without links."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False) if (ROOT / ".git").exists() else None
    if listed is None or listed.returncode:
        shutil.copytree(ROOT, target, ignore=NOT_IN_A_CLONE, symlinks=True)
        for link in [path for path in target.iterdir() if path.is_symlink()]:
            link.unlink()
        return
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_file() and not source.is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)


def build(tree: Path, dist: Path) -> Path:
    """The wheel, built from the sdist, built from the tree. Raises Failed if either holds what it should not."""
    command = [sys.executable, "-m", "build", "--outdir", str(dist), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    if done.returncode:
        raise Failed(f"python -m build failed:\n{done.stdout}{done.stderr}")
    (sdist,) = dist.glob("samara-*.tar.gz")
    (wheel,) = dist.glob("samara-*-py3-none-any.whl")
    with tarfile.open(sdist) as archive:
        names = [member.name.partition("/")[2] for member in archive]
        links = [member.name for member in archive if member.issym() or member.islnk()]
    if links or "samara/__init__.py" not in names or "constraints.txt" not in names:
        raise Failed(f"{sdist.name}: expected the package, constraints.txt and no links, got {links or names}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    foreign = [name for name in names if name.split("/")[0] != "samara" and ".dist-info/" not in name]
    sources = {path.relative_to(tree).as_posix() for path in (tree / "samara").rglob("*") if path.is_file()}
    if foreign or sources - set(names):
        raise Failed(f"{wheel.name}: not ours {foreign}, missing {sorted(sources - set(names))}")
    size = wheel.stat().st_size / 1e3
    print(f"{sdist.name} → {wheel.name}: {len(names)} files, {size:.0f} kB, only samara/ and its metadata")
    return wheel


def install(folder: Path, wheel: Path, extra: str) -> Weight:
    """pip install into an empty environment, timed and weighed."""
    make_venv(folder)
    before = disk_use(folder)
    name = f"samara[{extra}]" if extra else "samara"
    started = time.monotonic()
    pip_install(folder, f"{wheel}[{extra}]" if extra else str(wheel))
    seconds = time.monotonic() - started
    mb = (disk_use(folder) - before) / 1e6
    return Weight(name=name, seconds=seconds, mb=mb, most_mb=MOST_MB[extra], largest=largest(folder))


def disk_use(folder: Path) -> int:
    """Bytes on disk, as du counts them; file sizes where the platform does not tell."""
    seen: dict[tuple[int, int], int] = {}
    for where, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            found = os.lstat(Path(where, name))
            size = found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size
            seen[found.st_dev, found.st_ino or hash((where, name))] = size
    return sum(seen.values())


def largest(folder: Path) -> str:
    """The heaviest packages, so that a growing installation explains itself."""
    packages = python_packages(folder)
    sizes = sorted(((disk_use(path), path.name) for path in packages.iterdir() if path.is_dir()), reverse=True)
    ours = [(size, name) for size, name in sizes if name not in {"pip", "setuptools"}]
    return ", ".join(f"{name} {size / 1e6:.0f}" for size, name in ours[:6])


def python_packages(folder: Path) -> Path:
    """The environment's site-packages."""
    ask = "import sysconfig; print(sysconfig.get_paths()['platlib'])"
    return Path(call([str(python_in(folder)), "-c", ask], folder).strip())


def use(folder: Path, home: Path, *, run: bool = False) -> None:
    """Version, help, publish and verify, and with the engine an answer. Raises Failed."""
    home.mkdir()
    samara = str(program_in(folder, "samara"))
    python = str(python_in(folder))
    where = call([python, "-c", "import samara; print(samara.__file__)"], home)
    if not Path(where.strip()).is_relative_to(folder.resolve()):
        raise Failed(f"the environment imports {where.strip()}, not its own installation")
    call([python, "-m", "pip", "check"], home)
    if call([samara, "--version"], home) != call([python, "-m", "samara", "--version"], home):
        raise Failed("samara --version and python -m samara --version differ")
    call([samara, "--help"], home)
    call([samara, "publisher", "init", "acme"], home)
    call([samara, "publish", str(TINY), "--as", "acme/tiny:q8_0", "-o", str(home / "tiny.samara")], home)
    call([samara, "verify", "acme/tiny:q8_0"], home)
    if run:
        answer = call([samara, "run", "acme/tiny:q8_0", "2+3=", "--raw"], home)
        if answer.strip() != "5":
            raise Failed(f"samara run answers {answer!r}, expected '5'")


def call(command: list[str], home: Path) -> str:
    """stdout of a command that must succeed, away from the sources."""
    environment = clean_environment(SAMARA_HOME=str(home / "store"))
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command)} exits {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
