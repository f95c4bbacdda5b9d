"""Progress of several files at once, and of a process that was stopped in between."""

from __future__ import annotations

import contextlib
import io

import pytest

from samara.cli.common import Screen
from samara.cli.progress import ROWS, Progress
from samara.schemas.events import Event, FileReady, OverallProgress, PullProgress


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def at(name: str, done: int) -> PullProgress:
    return PullProgress(
        path=f"{name}.gguf", blob=f"b3:{name}", total=100, done=done, verified=0, rate=1.0, eta=9.0, peers=1,
        from_peers=done, from_mirrors=0,
    )  # fmt: skip


def all_of_them(done: int, files: int = 2) -> OverallProgress:
    return OverallProgress(files=files, files_done=0, total=100 * files, done=done, rate=1.0, eta=9.0)


@pytest.fixture(autouse=True)
def a_terminal_s_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


def drawn(*events: Event) -> Terminal:
    """What a terminal gets of these."""
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal):
        progress = Progress(Screen())
        for event in events:
            progress(event)
    return terminal


def last_drawing(terminal: Terminal) -> list[str]:
    return terminal.getvalue().rpartition("\x1b[J")[2].splitlines()


def test_each_file_has_a_line_and_all_together_the_last() -> None:
    lines = last_drawing(drawn(at("a", 10), at("b", 20), all_of_them(30), at("a", 40)))
    assert [line.split()[0] for line in lines] == ["a.gguf", "b.gguf", "0/2"]
    assert "40%" in lines[0]
    assert "15%" in lines[2]


def test_a_file_that_is_whole_has_none() -> None:
    ready = FileReady(path="a.gguf", blob="b3:a", location="/m/a.gguf")
    message, *lines = last_drawing(drawn(at("a", 10), at("b", 20), ready, at("b", 30)))
    assert "whole and verified" in message
    assert [line.split()[0] for line in lines] == ["b.gguf"]


def test_many_files_do_not_fill_the_screen() -> None:
    lines = last_drawing(drawn(*(at(f"f{number}", 1) for number in range(ROWS + 5))))
    assert len(lines) == ROWS + 1
    assert "5 more" in lines[-1]


def test_after_a_stop_the_shell_s_lines_stay() -> None:
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal):
        progress = Progress(Screen())
        progress(at("a", 10))
        terminal.write("[1]+  Stopped\n")
        before = terminal.getvalue()
        assert before.startswith("a.gguf")
        progress.stopped()
        progress(at("a", 20))
        assert "\x1b[" not in terminal.getvalue()[len(before) :]
        progress(at("a", 30))
        assert "\x1b[" in terminal.getvalue()[len(before) :]
