"""One line for each request: JSON for programs, text for people, or none. A thread writes them.

What was refused, and why, stands in the request's own line (`note`). No query, no header fields, nothing a client could
forge a line with. When nobody reads what is written, lines are
dropped and counted: a full pipe must not stop the service.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Self, TextIO

MAX_PATH = 300  # characters shown of a path
MAX_NOTE = 600  # characters
MAX_NOTES = 4  # of one request
_WAITING = 10_000  # lines


class LogFormat(StrEnum):
    """How to write lines."""

    TEXT = "text"
    JSON = "json"
    OFF = "off"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """One request and its answer. `at`: UTC epoch seconds; `size`: bytes of the answer's body; `seconds`: until its
    end; `whole`: it came to its promised end; `notes`: what the operator is to know of it.
    """

    at: float
    number: str
    method: str
    path: str
    status: int
    size: int
    seconds: float
    address: str
    whole: bool = True
    notes: tuple[str, ...] = ()


_notes: ContextVar[list[str] | None] = ContextVar("samara_notes", default=None)


def taking_notes() -> list[str]:
    """The notes of the request that begins; threads that work for it add to the same list."""
    notes: list[str] = []
    _notes.set(notes)
    return notes


def note(text: str) -> None:
    """Say something in the line of the request that is being answered; nothing where none is."""
    notes = _notes.get()
    if notes is not None and len(notes) < MAX_NOTES:
        notes.append(text)


def line_of(answered: Answered, format_: LogFormat) -> str:
    """One line, without its end."""
    moment = datetime.fromtimestamp(answered.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    path = clean(answered.path)
    if format_ is LogFormat.JSON:
        value = {
            "time": moment,
            "request": answered.number,
            "method": clean(answered.method),
            "path": path,
            "status": answered.status,
            "bytes": answered.size,
            "seconds": round(answered.seconds, 4),
            "address": answered.address,
        }
        if answered.notes:
            value["notes"] = [_said(text) for text in answered.notes]
        return json.dumps(value if answered.whole else value | {"broken_off": True})
    end = "" if answered.whole else " broken off"
    end += "".join(f" [{_said(text)}]" for text in answered.notes)
    return (
        f"{moment} {answered.address} {clean(answered.method)} {path} {answered.status} {answered.size} B "
        f"{answered.seconds:.3f} s {answered.number}{end}"
    )


def clean(text: str) -> str:
    """Printable and of bounded length: what a terminal or a log's reader can't be led astray by."""
    shown = text[:MAX_PATH] + ("…" if len(text) > MAX_PATH else "")
    return "".join(c if c.isprintable() and c != " " else f"%{ord(c):02X}" for c in shown)


def _said(text: str) -> str:
    shown = text[:MAX_NOTE] + ("…" if len(text) > MAX_NOTE else "")
    return "".join(c if c.isprintable() and c not in "[]" else f"%{ord(c):02X}" for c in shown)


class RequestLog:
    """Writes lines to `stream` while it is entered. `add` never waits."""

    def __init__(self, format_: LogFormat, stream: TextIO | None = None) -> None:
        self._format = format_
        self._stream = stream or sys.stderr
        self._lines: queue.Queue[Answered | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def add(self, answered: Answered) -> None:
        """Note a request."""
        if self._thread is None:
            return
        try:
            self._lines.put_nowait(answered)
        except queue.Full:
            self.dropped += 1

    def __enter__(self) -> Self:
        if self._format is not LogFormat.OFF:
            self._thread = threading.Thread(target=self._write, name="samara-log", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        try:
            self._lines.put(None, timeout=1.0)
        except queue.Full:
            return
        thread.join(2.0)

    def _write(self) -> None:
        while (answered := self._lines.get()) is not None:
            try:
                self._stream.write(line_of(answered, self._format) + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more
                self.dropped += 1
