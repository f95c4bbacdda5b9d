"""docs/exit-codes.md, the commands' own help and the error tree say the same; help is complete and fits a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_kit import Samara, make_samara

from samara.cli.main import COMMANDS, cli
from samara.schemas.errors import ExitCode

DOCUMENT = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text(encoding="utf-8")
EVERY_COMMAND = {ExitCode.OK, ExitCode.USAGE, ExitCode.INTERRUPTED}


def context_of(command: click.Command, path: str) -> click.Context:
    return click.Context(command, info_name=path, **command.context_settings)


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by what one types."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = context_of(command, path)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from walk(found, f"{path} {name}")


LEAVES = dict(walk(cli, "samara"))
GROUPS = ["samara", "samara bundle", "samara publisher", "samara trust"]
each_command = pytest.mark.parametrize("path", LEAVES)


def help_of(path: str) -> str:
    """What --help prints."""
    command: click.Command = cli
    for name in path.split()[1:]:
        assert isinstance(command, click.Group)
        found = command.get_command(context_of(command, path), name)
        assert found is not None
        command = found
    return command.get_help(context_of(command, path))


def exit_codes(text: str) -> dict[int, str]:
    """The `Exit codes:` of a help text."""
    _, _, listed = text.partition("Exit codes:")
    return {int(code): name.strip() for code, name in re.findall(r"(\d+) ([a-z ]+)", " ".join(listed.split()))}


def table(heading: str) -> list[list[str]]:
    """The cells of the table whose head begins with `heading`, without the head."""
    lines = DOCUMENT.partition(f"| {heading} |")[2].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


class TestExitCodes:
    def test_the_document_lists_every_code_by_its_name(self) -> None:
        listed = [(int(code), name) for code, name, _, _ in table("code")]
        assert listed == [(int(code), code.name.lower().replace("_", " ")) for code in ExitCode]
        assert all(meaning and advice for _, _, meaning, advice in table("code"))

    def test_the_document_lists_what_each_command_says_of_itself(self) -> None:
        listed = {
            path.strip("`"): {ExitCode(int(code)) for code in codes.split(", ")} for path, codes in table("command")
        }
        declared = {path: {ExitCode(code) for code in exit_codes(help_of(path))} - EVERY_COMMAND for path in LEAVES}
        assert listed == declared

    @each_command
    def test_a_commands_help_lists_codes_by_their_names(self, path: str) -> None:
        found = exit_codes(help_of(path))
        assert {ExitCode(code).name.lower().replace("_", " ") for code in found} == set(found.values())
        assert set(found) >= EVERY_COMMAND

    def test_a_command_ends_as_its_error_says(self, samara: Samara) -> None:
        assert samara.json("show", "missing.samara", code=ExitCode.NOT_FOUND)["exit_code"] == 3


class TestHelp:
    @each_command
    def test_every_command_has_json_quiet_and_examples(self, path: str) -> None:
        text = help_of(path)
        assert "--json" in text
        assert "--quiet" in text
        _, _, examples = text.partition("Examples:\n")
        assert examples.lstrip().startswith(path)

    @pytest.mark.parametrize("path", [*LEAVES, *GROUPS])
    def test_help_fits_80_columns(self, path: str) -> None:
        assert [line for line in help_of(path).splitlines() if len(line) > 80] == []

    @each_command
    def test_every_option_and_command_says_what_it_does(self, path: str) -> None:
        command = LEAVES[path]
        assert command.help
        silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help and not p.show_default]
        assert silent == []

    def test_the_overview_names_every_command_and_the_environment(self) -> None:
        text = help_of("samara")
        assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in COMMANDS)
        assert "SAMARA_HOME" in text
        assert "NO_COLOR" in text
        assert {path.split()[1] for path in LEAVES} == set(COMMANDS)

    def test_the_overview_describes_commands_as_they_do_themselves(self) -> None:
        for name, (module, line) in COMMANDS.items():
            assert line.endswith(".")
            assert module == f"samara.cli.{name}"

    @pytest.mark.parametrize("option", ["--help", "-h"])
    def test_help_is_asked_for_in_two_ways(self, samara: Samara, option: str) -> None:
        assert samara("pull", option).out.startswith("Usage: samara pull")

    @pytest.mark.parametrize("arguments", [("--no-such-option",), ("no-such-command",), ("show",), ("show", "a", "b")])
    def test_what_help_does_not_list_is_a_usage_error(self, samara: Samara, arguments: tuple[str, ...]) -> None:
        assert "--help" in samara(*arguments, code=ExitCode.USAGE).err

    def test_without_a_command_help_is_shown_as_an_error(self, samara: Samara) -> None:
        done = samara(code=ExitCode.USAGE)
        assert done.out == ""
        assert "Commands:" in done.err


@pytest.fixture
def samara(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Samara]:
    yield from make_samara(tmp_path, monkeypatch, capsys)


if sys.platform != "win32":  # no pseudo-terminals there
    import pty

    class TestColours:
        """What reaches a terminal; colours are ESC [ … m."""

        def shown(self, folder: Path, **environment: str) -> str:
            master, slave = pty.openpty()
            kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
            process = subprocess.Popen(
                [sys.executable, "-m", "samara", "show", "missing.samara"],
                env={**kept, "SAMARA_HOME": str(folder), "TERM": "xterm", **environment},
                stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            )  # fmt: skip
            os.close(slave)
            seen = b""
            while b"\n" not in seen:
                seen += os.read(master, 4096)
            assert process.wait() == ExitCode.NOT_FOUND
            os.close(master)
            return seen.decode()

        def test_a_terminal_gets_colours(self, tmp_path: Path) -> None:
            assert re.search(r"\x1b\[[0-9;]*m", self.shown(tmp_path))

        def test_unless_no_color_is_set_to_anything(self, tmp_path: Path) -> None:
            assert "\x1b" not in self.shown(tmp_path, NO_COLOR="1")

        def test_an_empty_no_color_is_none(self, tmp_path: Path) -> None:
            assert "\x1b[" in self.shown(tmp_path, NO_COLOR="")


def test_no_colours_go_into_files_and_pipes(samara: Samara) -> None:
    assert "\x1b" not in samara("show", "missing.samara", code=ExitCode.NOT_FOUND).err


def test_quiet_leaves_results_warnings_and_errors(samara: Samara) -> None:
    made = samara("publisher", "init", "acme", "--kdf-rounds", "1", "--quiet")
    assert len(made.out.splitlines()) == 1
    assert all(line.startswith("warning:") for line in made.err.splitlines())


def test_with_json_stderr_is_json_too(samara: Samara) -> None:
    made = samara("publisher", "init", "acme", "--kdf-rounds", "1", "--json")
    assert made.data["name"] == "acme"
    assert {json.loads(line)["event"] for line in made.err.splitlines()} == {"note", "warned"}
