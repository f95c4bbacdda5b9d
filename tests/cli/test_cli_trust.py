"""`samara publisher` and `samara trust` as a person and as a script meet them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from samara.schemas.errors import ExitCode
from samara.schemas.references import is_identity

KEY = "3vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"
QUICK = ("--kdf-rounds", "1")
Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(home: Path, passphrase: str | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SAMARA_")}
    secret = {} if passphrase is None else {"SAMARA_PASSPHRASE": passphrase}
    return {**kept, **secret, "SAMARA_HOME": str(home), "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}


@pytest.fixture
def samara(tmp_path: Path) -> Run:
    def run(
        *arguments: str, code: ExitCode = ExitCode.OK, passphrase: str | None = None, home: str = "home"
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "samara", *arguments],
            env=environment(tmp_path / home, passphrase),
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8", check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def test_a_publisher_is_made_with_its_identity_alone_on_stdout(samara: Run) -> None:
    done = samara("publisher", "init", "acme")
    identity = done.stdout.strip()
    assert is_identity(identity)
    assert done.stdout == identity + "\n"
    assert "no passphrase" in done.stderr
    assert "no recovery file" in done.stderr

    shown = json.loads(samara("publisher", "show", "acme", "--json").stdout)
    assert (shown["name"], shown["identity"], shown["uri"]) == ("acme", identity, f"samara:{identity}")
    assert shown["root_version"] == 1
    assert shown["expires"].endswith("Z")
    assert [key["roles"] for key in shown["keys"]] == [["root"], ["targets", "snapshot", "timestamp"], ["beacon"]]

    page = samara("publisher", "show").stdout
    assert f"samara trust add acme --identity {identity}" in page

    again = samara("publisher", "init", "acme", code=ExitCode.USAGE)
    assert identity in again.stderr
    assert again.stdout == ""


def test_a_publisher_moves_house_by_its_recovery_file(samara: Run, tmp_path: Path) -> None:
    made = samara("publisher", "init", "acme", *QUICK, "--recovery", "acme.recovery", "--json", passphrase="right")
    facts = json.loads(made.stdout)
    assert facts["recovery"] == "acme.recovery"
    assert all(key["encrypted"] for key in facts["keys"])
    assert "warning" not in made.stderr
    assert (tmp_path / "acme.recovery").is_file()

    wrong = samara("publisher", "import", "acme.recovery", passphrase="wrong", home="new", code=ExitCode.TRUST)
    assert "wrong passphrase" in wrong.stderr
    nobody = samara("publisher", "import", "acme.recovery", home="new", code=ExitCode.TRUST)
    assert "SAMARA_PASSPHRASE" in nobody.stderr
    moved = samara("publisher", "import", "acme.recovery", passphrase="right", home="new")
    assert moved.stdout.strip() == facts["identity"]


def test_a_recovery_file_without_passphrase_is_refused(samara: Run, tmp_path: Path) -> None:
    done = samara("publisher", "init", "acme", "--recovery", "acme.recovery", code=ExitCode.USAGE)
    assert "needs a passphrase" in done.stderr
    assert not (tmp_path / "acme.recovery").exists()


def test_trust_is_given_listed_and_taken_back(samara: Run) -> None:
    first = json.loads(samara("trust", "add", "acme", "--identity", KEY, "--yes", "--json").stdout)
    assert (first["alias"], first["identity"], first["new"]) == ("acme", KEY, True)
    again = json.loads(samara("trust", "add", "acme", "--identity", f"samara:{KEY.upper()}", "--json").stdout)
    assert again == {**first, "new": False}
    assert json.loads(samara("trust", "list", "--json").stdout)["pins"][0]["identity"] == KEY
    assert samara("trust", "remove", "acme").stdout == KEY + "\n"
    assert "no publisher is pinned" in samara("trust", "remove", "acme", code=ExitCode.NOT_FOUND).stderr


def test_without_a_terminal_trust_is_given_and_said_but_a_name_only_once(samara: Run) -> None:
    first = samara("trust", "add", "acme", "--identity", KEY)
    assert "without asking" in first.stderr
    assert "3vla mkvw 7cst" in first.stderr
    other = KEY.replace("3", "4")
    done = samara("trust", "add", "acme", "--identity", other, "--yes", "--json", code=ExitCode.TRUST)
    error = json.loads(done.stdout)
    assert (error["expected"], error["actual"]) == (KEY, other)
    assert "samara trust remove acme" in error["next_step"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("trust", "add", "acme", "--identity", "acme"),
        ("trust",),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(samara: Run, arguments: tuple[str, ...]) -> None:
    assert samara(*arguments, code=ExitCode.USAGE).stderr


def test_help_shows_examples_and_exit_codes(samara: Run) -> None:
    text = samara("trust", "add", "--help").stdout
    assert "Examples:" in text
    assert "Exit codes: 0 ok, 2 usage" in text


if sys.platform != "win32":  # no pseudo-terminals there
    import pty

    class Terminal:
        """A person at a terminal: waits for what is shown, then types."""

        def __init__(self, folder: Path, *arguments: str) -> None:
            self.master, slave = pty.openpty()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "samara", *arguments],
                env=environment(folder / "home", None),
                cwd=folder, stdin=slave, stderr=slave, stdout=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip
            os.close(slave)
            self.seen = ""

        def answer(self, prompt: str, reply: str) -> None:
            while prompt not in self.seen:
                self.seen += os.read(self.master, 4096).decode()
            self.seen = self.seen.partition(prompt)[2]
            os.write(self.master, reply.encode() + b"\n")

        def end(self) -> tuple[int, str]:
            assert self.process.stdout is not None
            with self.process.stdout as stdout:
                out = stdout.read()
            code = self.process.wait()
            os.close(self.master)
            return code, out

    def test_at_a_terminal_trust_is_asked_for(tmp_path: Path) -> None:
        refusing = Terminal(tmp_path, "trust", "add", "acme", "--identity", KEY)
        refusing.answer("[y/N]", "n")
        assert refusing.end() == (ExitCode.USAGE, "")
        assert not (tmp_path / "home").exists()
        agreeing = Terminal(tmp_path, "trust", "add", "acme", "--identity", KEY)
        agreeing.answer("3vla mkvw", "y")
        assert agreeing.end() == (ExitCode.OK, f"acme is {KEY}\n")

    def test_at_a_terminal_passphrase_and_recovery_place_are_asked_for(tmp_path: Path, samara: Run) -> None:
        person = Terminal(tmp_path, "publisher", "init", "acme", *QUICK)
        person.answer("Passphrase for the keys of acme", "open sesame")
        person.answer("Repeat for confirmation", "open sesame")
        person.answer("recovery file to", "acme.recovery")
        code, out = person.end()
        assert code == ExitCode.OK
        moved = samara("publisher", "import", "acme.recovery", passphrase="open sesame", home="new")
        assert moved.stdout == out
