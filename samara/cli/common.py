"""What every command shares: the `command` decorator (--json, examples and exit codes in --help) and the Screen that
results, messages and progress go through.

Commands parse, call one function of a lower room, and print. They raise SamaraError and never exit by themselves.
"""

from __future__ import annotations

import errno
import os
import sys
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

import click

from samara.cli.text import clean, json_line
from samara.schemas.errors import DiskFullError, ExitCode, SamaraError, StoreError
from samara.schemas.events import Event, Note, Warned

F = TypeVar("F", bound=Callable[..., Any])


class Screen:
    """stdout carries the result alone (text or one JSON object); everything else goes to stderr."""

    def __init__(self) -> None:
        self.json = False
        self.quiet = False

    def result(self, data: dict[str, object], text: str) -> None:
        """The result: `data` as one JSON line with --json, else `text`. Raises DiskFullError or StoreError."""
        try:
            if self.json:
                sys.stdout.write(json_line(data) + "\n")
            elif text:
                sys.stdout.write(text.rstrip("\n") + "\n")
            sys.stdout.flush()
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise (DiskFullError if full else StoreError)(
                f"the result can't be written ({error.strerror})", next_step="everything else is done; run it again"
            ) from None

    def note(self, message: str) -> None:
        """A line for people on stderr."""
        if self.quiet:
            return
        if self.json:
            sys.stderr.write(json_line(Note(message=message).as_dict()) + "\n")
        else:
            sys.stderr.write(clean(message) + "\n")
        sys.stderr.flush()

    def warn(self, message: str) -> None:
        """A line that must be seen, also in quiet mode."""
        if self.json:
            sys.stderr.write(json_line(Warned(message=message).as_dict()) + "\n")
        else:
            sys.stderr.write(f"{self.style('warning:', fg='yellow')} {clean(message)}\n")
        sys.stderr.flush()

    def hear(self, event: Event) -> None:
        """Notes and warnings of work that is too short for progress."""
        if isinstance(event, Warned):
            self.warn(event.message)
        elif isinstance(event, Note):
            self.note(event.message)

    def failure(self, error: SamaraError) -> None:
        """One clear message on stderr; with --json also the result object."""
        if self.json:
            sys.stdout.write(json_line(error.as_dict()) + "\n")
            sys.stdout.flush()
        sys.stderr.write(f"{self.style('samara:', fg='red')} {clean(str(error))}\n")
        sys.stderr.flush()

    def style(self, text: str, **styles: Any) -> str:
        """Colour for a terminal's stderr, unless NO_COLOR is set (no-color.org: to anything but nothing)."""
        if os.environ.get("NO_COLOR") or not sys.stderr.isatty():
            return text
        return click.style(text, **styles)

    def can_ask(self) -> bool:
        """Whether a person is there to answer."""
        return not self.json and sys.stdin.isatty() and sys.stderr.isatty()


screen = Screen()


def _set_json(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001  (click's callback shape)
    screen.json = screen.json or value


def _set_quiet(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001
    screen.quiet = screen.quiet or value


def _exit_codes(exits: tuple[ExitCode, ...]) -> str:
    codes = sorted({ExitCode.OK, ExitCode.USAGE, ExitCode.INTERRUPTED, *exits})
    text = ", ".join(f"{int(code)} {code.name.lower().replace('_', ' ')}" for code in codes)
    return textwrap.fill(f"Exit codes: {text}", width=76, subsequent_indent="  ")


def command(name: str, *, examples: str, exits: tuple[ExitCode, ...] = ()) -> Callable[[F], click.Command]:
    """A click command with --json, --quiet, an Examples section and its exit codes in --help.

    `exits`: beside ok, usage and interrupted, which every command may end with.
    """

    def wrap(function: F) -> click.Command:
        function = click.option(
            "--quiet", "-q", is_flag=True, expose_value=False, is_eager=True, callback=_set_quiet,
            help="No notes or progress; results, warnings and errors only.",
        )(function)  # fmt: skip
        function = click.option(
            "--json", is_flag=True, expose_value=False, is_eager=True, callback=_set_json,
            help="Result as one JSON object on stdout, progress as JSON lines on stderr.",
        )(function)  # fmt: skip
        lines = "\n".join("  " + line for line in examples.strip().splitlines())
        epilog = f"\b\nExamples:\n{lines}\n\n\b\n{_exit_codes(exits)}"
        return click.command(name, epilog=epilog, context_settings={"help_option_names": ["-h", "--help"]})(function)

    return wrap
