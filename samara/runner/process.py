"""The parent's side of the engine's child process: starting it, asking it over HTTP, and saying how it died.

Knows no prompts and no templates. Legal order: `start`, any number of `events`, `close`; `close` at any time, also
twice. The socket is a Unix one in a private folder where the system has them, else a loopback port; a random key
guards both. Nothing here sleeps or polls: a pipe or a socket tells of every event, the child's death included.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from samara.schemas.errors import EngineError

if TYPE_CHECKING:
    import http.client

LOAD = "load"
MORE_MEMORY = "try a smaller quantisation or a shorter context"
_OUT_OF_MEMORY = f"the system may be out of memory: {MORE_MEMORY}"
_NOT_RUNNING = "the engine is not running: use it inside its `with` block"

_CHILD = Path(__file__).with_name("engine_child.py")
_LONGEST_SOCKET_PATH = 100  # sockaddr_un holds 104 bytes on macOS, 108 on Linux
_LOG_TAIL = 16 * 1024
_LONGEST_EXCERPT = 300
_LOG_LINE = re.compile(r"^[\d.]+ (?P<level>[A-Z]) +(?P<text>.*)$")  # 0.00.006.909 E llama_model_load: error …
_SECONDS_TO_DIE = 10  # for a process whose pipe has closed already: a core dump takes a while


class Refused(Exception):  # noqa: N818  (never leaves this room)
    """The engine said no, and lives on unless the model was what it refused.

    `kind` is LOAD, or llama.cpp's name for what is wrong with a request; `details` is all that it said.
    """

    def __init__(self, message: str, *, kind: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.details = details or {}


def check_file(model: Path) -> str:
    """The next step when the file itself may be at fault."""
    return f'check the file: samara verify "{model}"'


class EngineProcess:
    """One child process with its two pipes, its log and its socket's folder."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._key = os.urandom(24).hex()
        self._resources = ExitStack()
        self._log: IO[bytes] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._connect: Callable[[], socket.socket] | None = None

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._running().pid

    def start(self, meanwhile: Callable[[], None], **config: object) -> None:
        """Start the child, do `meanwhile` while it boots, and return when it has loaded the model.

        `config` is what `engine_child` documents, less what this class knows. EngineError: the engine is missing or
        died over the model. Refused: it can't load it.
        """
        try:
            self._spawn(config)
            meanwhile()
            self._connect = _connector(self._await_report())
        except BaseException:
            self.close()
            raise

    def _spawn(self, config: dict[str, object]) -> None:
        try:
            unix_socket = self._socket_path()
            self._log = self._resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (the stack closes it)
            self._child = subprocess.Popen(
                [sys.executable, "-I" if sys.flags.isolated else "-P", str(_CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                **_detached(),
            )
        except OSError as error:
            raise EngineError(
                "the engine's process can't be started",
                actual=error.strerror or error,
                next_step="check memory, process limits and the temporary folder (TMPDIR)",
            ) from error
        line = json.dumps({**config, "key": self._key, "socket": unix_socket})
        assert self._child.stdin is not None
        with suppress(OSError):  # it died before reading: the report's absence will say so
            self._child.stdin.write(line.encode() + b"\n")
            self._child.stdin.flush()

    def _socket_path(self) -> str | None:
        """In a new folder that only this user may enter; None where a loopback port has to do."""
        if os.name != "posix":
            return None
        folder = tempfile.TemporaryDirectory(prefix="samara-engine-", ignore_cleanup_errors=True)
        path = Path(folder.name, "engine.sock")
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            folder.cleanup()
            return None
        self._resources.enter_context(folder)
        return str(path)

    def _await_report(self) -> str:
        stdout = self._running().stdout
        assert stdout is not None
        for line in stdout:
            try:
                report = json.loads(line)
            except ValueError:  # printed by the interpreter's own start-up files
                continue
            if not isinstance(report, dict):
                continue
            if "ready" in report:
                return str(report["ready"])
            if "missing" in report:
                raise EngineError(
                    "no working engine here",
                    expected="xllamacpp",
                    actual=_excerpt(report["missing"]),
                    next_step='pip install "samara[run]"',
                )
            self._end()  # llama.cpp logs from a thread of its own: only its end makes the log complete
            errors = [text for level, text in self._log_lines() if level == "E"]
            raise Refused(errors[0] if errors else _excerpt(str(report.get("refused"))), kind=LOAD)
        raise self._death(f"the engine died while loading {self._model.name}")

    def events(self, path: str, body: dict[str, object]) -> Iterator[dict[str, Any]]:
        """POST `body` and yield the server-sent events of the answer, up to its [DONE].

        Closing the iterator hangs up, which stops the engine's work on it. Refused: the engine said no.
        EngineError: it died.
        """
        with self._response("POST", path, {**body, "stream": True}) as response:
            yield from _server_sent(response)

    def facts(self, path: str) -> dict[str, Any]:
        """GET what the engine knows, as JSON. Errors as of `events`."""
        with self._response("GET", path, None) as response:
            answer: dict[str, Any] = json.loads(response.read())
            return answer

    @contextmanager
    def _response(self, method: str, path: str, body: dict[str, object] | None) -> Iterator[http.client.HTTPResponse]:
        import http.client

        if self._connect is None:
            raise RuntimeError(_NOT_RUNNING)
        connection = http.client.HTTPConnection("localhost")
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.sock = self._connect()
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            with connection.getresponse() as response:
                if response.status != http.client.OK:
                    raise _refusal(_parsed(response.read()))
                yield response
        except (OSError, EOFError, ValueError, http.client.HTTPException) as error:
            raise self._death("the engine died over its answer") from error
        finally:
            connection.close()

    def _death(self, what: str) -> EngineError:
        how = self._end()
        lines = self._log_lines()
        return EngineError(
            what,
            expected="a running process",
            actual=f"{how}; its last words: {lines[-1][1]}" if lines else how,
            next_step=_OUT_OF_MEMORY if how == "SIGKILL" else check_file(self._model),
        )

    def _end(self) -> str:
        """How the child ended, for which it has a moment's time."""
        try:
            status = self._running().wait(timeout=_SECONDS_TO_DIE)
        except subprocess.TimeoutExpired:
            return "a closed connection"
        return _signal_name(-status) if status < 0 else f"exit status {status}"

    def _log_lines(self) -> list[tuple[str, str]]:
        """(level, text) of the last lines of the log; the level is empty where native code wrote by itself.

        For when the child has ended: its writes share this file's position.
        """
        assert self._log is not None
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_TAIL))
        lines = []
        for line in self._log.read().decode(errors="replace").splitlines():
            if text := _excerpt(line):
                match = _LOG_LINE.match(text)
                lines.append((match["level"], match["text"]) if match else ("", text))
        return lines

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError(_NOT_RUNNING)
        return self._child

    def close(self) -> None:
        """Stop the child and remove what it used. It has nothing to save, so this is prompt and never fails."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        self._resources.close()
        self._connect = None


def _detached() -> dict[str, Any]:
    """Popen arguments that keep the terminal's Ctrl-C from the child: stopping it is ours to decide."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def _connector(address: str) -> Callable[[], socket.socket]:
    """From `unix://PATH` or `http://HOST:PORT` to a function that connects there."""
    scheme, _, place = address.partition("://")
    if scheme == "unix":
        return lambda: _connect_unix(place)
    host, _, port = place.rpartition(":")
    return lambda: socket.create_connection((host, int(port)))


def _connect_unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _server_sent(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON of each `data:` line up to `[DONE]` (WHATWG server-sent events); EOFError when there is no such end."""
    for line in iter(response.readline, b""):
        field, _, value = line.partition(b":")
        if value.strip() == b"[DONE]":
            return
        if field in (b"data", b"error"):
            event = json.loads(value)
            if field == b"error" or "error" in event:
                raise _refusal(event)
            yield event
    raise EOFError


def _parsed(body: bytes) -> dict[str, Any]:
    """An error's JSON object, or what came in its place as one."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"message": body.decode(errors="replace")}


def _refusal(answer: dict[str, Any]) -> Refused:
    error = answer.get("error", answer)
    if not isinstance(error, dict):
        error = {"message": error}
    return Refused(_excerpt(str(error.get("message"))), kind=str(error.get("type")), details=error)


def _excerpt(text: str) -> str:
    """One printable line: names inside a model file end up in the log, and may try to drive a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST_EXCERPT else line[:_LONGEST_EXCERPT] + "…"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
