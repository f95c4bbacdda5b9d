"""Draws events: a live line or table on a terminal, plain lines elsewhere, JSON lines with --json."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Self

import click

from samara.cli.common import Screen
from samara.cli.live import Live
from samara.cli.text import clean, duration, json_line, size
from samara.schemas.events import (
    CheckProgress,
    Event,
    FileReady,
    HashProgress,
    Listening,
    Note,
    OverallProgress,
    PullPlanned,
    PullProgress,
    Reached,
    ReuseProgress,
    SeedTable,
    SourceRejected,
    WaitingForOther,
    Warned,
)

ROWS = 8  # files shown at once
PLAIN_EVERY = 5.0  # seconds between progress lines where nobody sees them move


class Progress:
    """A context manager that is also the `on_event` for long work. May be called from several threads."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lock = threading.Lock()
        self._live = Live()
        self._last_plain = time.monotonic() - PLAIN_EVERY + 1.0
        self._was_stopped = False
        self._rows: dict[str, str] = {}
        self._overall = ""
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not screen.json

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:  # fmt: skip
        with self._lock:
            self._write(self._live.over())

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Reached):
            return
        with self._lock:
            if self._screen.json:
                if not self._screen.quiet or isinstance(event, (Warned, SourceRejected)):
                    sys.stderr.write(json_line(event.as_dict()) + "\n")
                    sys.stderr.flush()
                return
            moving = self._together(event)
            if moving is not None:
                self._move(moving)
                return
            message = _message(event)
            if message is not None:
                self._say(event, message)

    def stopped(self) -> None:
        """The process was stopped and goes on: what the shell has written meanwhile stays. From a signal handler."""
        self._was_stopped = True

    def _together(self, event: Event) -> str | None:
        """What moves: of several files on their way the latest of each, and all together."""
        text = _moving_text(event)
        if isinstance(event, OverallProgress):
            self._overall = text or ""
        elif isinstance(event, PullProgress):
            self._rows[event.blob] = text or ""
        else:
            if isinstance(event, FileReady):
                self._rows.pop(event.blob, None)
            return text
        rows = list(self._rows.values())
        more = [f"… and {len(rows) - ROWS} more"] if len(rows) > ROWS else []
        return "\n".join([*rows[:ROWS], *more, *([self._overall] if self._overall else [])])

    def _say(self, event: Event, message: str) -> None:
        self._write(self._live.over())
        if isinstance(event, (Warned, SourceRejected)):
            self._screen.warn(message)
        else:
            self._screen.note(message)

    def _move(self, text: str) -> None:
        if self._screen.quiet:
            return
        if self._was_stopped:
            self._was_stopped = False
            self._live.forget()
        if self._terminal:
            shown = "\n".join(map(clean, text.splitlines()))
            self._write(self._live.draw(shown, width=shutil.get_terminal_size().columns))
            return
        now = time.monotonic()
        if now - self._last_plain >= PLAIN_EVERY:
            self._last_plain = now
            self._screen.note(text)

    def _write(self, text: str) -> None:
        if text:
            click.echo(text, nl=False, err=True)


def _moving_text(event: Event) -> str | None:
    """One line (or a table of lines) for events that replace each other."""
    if isinstance(event, PullProgress):
        share = 100 * event.done // event.total
        proven = 100 * event.verified // event.total
        sources = f"{event.peers} peer{'' if event.peers == 1 else 's'}"
        if event.from_mirrors:
            sources += f" · mirrors {size(event.from_mirrors)}"
        return (
            f"{event.path}  {share:3d}% {_bar(event.done, event.total)} {size(event.done)}/{size(event.total)}"
            f"  {size(event.rate)}/s  ETA {duration(event.eta)}  {sources}  verified {proven}%"
        )
    if isinstance(event, OverallProgress):
        share = 100 * event.done // max(1, event.total)
        return (
            f"{event.files_done}/{event.files} files  {share:3d}% {_bar(event.done, event.total)}"
            f" {size(event.done)}/{size(event.total)}  {size(event.rate)}/s  ETA {duration(event.eta)}"
        )
    if isinstance(event, (HashProgress, CheckProgress, ReuseProgress)):
        verb = {HashProgress: "hashing", CheckProgress: "checking", ReuseProgress: "reusing"}[type(event)]
        share = 100 * event.done // max(1, event.total)
        return (
            f"{verb} {event.path}  {share:3d}% {_bar(event.done, event.total)} {size(event.done)}/{size(event.total)}"
            f"  {size(event.rate)}/s  ETA {duration(event.eta)}"
        )
    if isinstance(event, SeedTable):
        lines = [f"{'blob':14}  {'size':>9}  {'peers':>5}  {'up':>11}  {'given':>9}  {'ratio':>6}  file"]
        lines += [
            f"{row.blob[:14]}  {size(row.size):>9}  {row.peers:>5}  {size(row.up_rate) + '/s':>11}"
            f"  {size(row.uploaded):>9}  {row.uploaded / row.size:>6.2f}  {row.path}"
            for row in event.rows
        ]
        return "\n".join(lines)
    return None


def _message(event: Event) -> str | None:
    """A lasting line for events that stand for themselves."""
    match event:
        case Note(message=message) | Warned(message=message):
            return message
        case PullPlanned():
            here, fetch = size(event.bytes_here), size(event.bytes_to_fetch)
            pieces = f" in {event.pieces_to_fetch} piece{'' if event.pieces_to_fetch == 1 else 's'}"
            return (
                f"{event.reference}: {size(event.bytes_total)} · here {here} · to fetch {fetch}"
                f"{pieces if event.pieces_to_fetch else ''}"
            )
        case SourceRejected():
            return f"rejected {event.kind} {event.source}: {event.reason}"
        case WaitingForOther():
            return f"{event.path}: another samara process is pulling it; waiting for that one"
        case FileReady():
            return f"{event.path} is whole and verified: {event.location}"
        case Listening():
            return f"listening on {event.endpoint}"
        case _:
            return None


def _bar(done: int, total: int, width: int = 20) -> str:
    filled = width * done // max(1, total)
    return "█" * filled + "░" * (width - filled)
