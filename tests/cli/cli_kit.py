"""`samara` in this process: as quick as a function call, with the real command line around it. No test in here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from samara.cli.common import screen
from samara.cli.main import run
from samara.registry.home import Home
from samara.schemas.errors import ExitCode


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command printed."""

    out: str
    err: str

    @property
    def data(self) -> Any:
        """The one JSON object on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)


class Samara:
    """Runs commands in one folder. `home` may be changed between them: each is a machine of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._patch = monkeypatch
        self._capsys = capsys
        monkeypatch.chdir(folder)
        monkeypatch.delenv("SAMARA_PASSPHRASE", raising=False)
        monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
        self.use("home")

    def use(self, home: str) -> None:
        """From now on, be the machine with this SAMARA_HOME."""
        self._patch.setenv("SAMARA_HOME", str(self.folder / home))

    def setenv(self, **environment: str) -> None:
        for name, value in environment.items():
            self._patch.setenv(name, value)

    @property
    def home(self) -> Home:
        return Home.find()

    def __call__(self, *arguments: str, code: ExitCode = ExitCode.OK) -> Done:
        """Run one command; it must end with `code`, and what it says must suit a terminal."""
        screen.json = screen.quiet = False
        status = run(list(arguments))
        out, err = self._capsys.readouterr()
        assert status == code, err
        assert_fit_for_a_terminal(out + err)
        return Done(out=out, err=err)

    def json(self, *arguments: str, code: ExitCode = ExitCode.OK) -> Any:
        """The same with --json: its result."""
        return self(*arguments, "--json", code=code).data

    def publisher(self, name: str = "acme") -> str:
        """Make a publisher; its identity."""
        return self("publisher", "init", name, "--kdf-rounds", "1").out.strip()


def assert_fit_for_a_terminal(text: str) -> None:
    """No control characters, nothing that hides or turns round what follows."""
    odd = {character for character in text if not character.isprintable() and character != "\n"}
    assert not odd, f"{odd!a} in {text!a}"


def make_samara(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Samara]:
    """The body of a `samara` fixture."""
    yield Samara(tmp_path, monkeypatch, capsys)
    screen.json = screen.quiet = False
