"""`samara` as a process of its own: started, read line by line, signalled, and always reaped."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from samara.registry.home import ENV_HOME, Home
from samara.schemas.endpoints import parse_endpoint

LIMIT = 60.0  # seconds that any one wait may take
Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a process ended: exit status (negative: the signal), its result object, everything it wrote."""

    status: int
    result: Line
    events: tuple[Line, ...]
    stdout: str
    stderr: str

    def named(self, event: str) -> list[Line]:
        """Its events of one name."""
        return [line for line in self.events if line.get("event") == event]

    @property
    def message(self) -> str:
        """The one line for people that a failure ends with."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("samara:")]
        assert len(lines) == 1, f"expected one message, got {lines or self.stderr[-2000:]}"
        return lines[0]


class Process:
    """One running `samara --json …`. stderr lines become events as they come."""

    def __init__(self, home: Home, arguments: Sequence[object], *, wrap: Sequence[str] = ()) -> None:
        self._queue: queue.Queue[Line | None] = queue.Queue()
        self._events: list[Line] = []
        self._stderr: list[str] = []
        self._stdout: list[str] = []
        command = [*wrap, sys.executable, "-m", "samara", *map(str, arguments)]
        self._popen = subprocess.Popen(
            command, env=environment(home), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8",
        )  # fmt: skip
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._readers = [
            threading.Thread(target=self._read_stdout, args=(self._popen.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(self._popen.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def expect(self, event: str, where: Callable[[Line], bool] = lambda _line: True, *, limit: float = LIMIT) -> Line:
        """The next event of that name that `where` says yes to."""
        deadline = time.monotonic() + limit
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {event} within {limit} s; stderr: {self._tail()}") from None
            if line is None:
                raise AssertionError(f"the process ended without {event}; stderr: {self._tail()}")
            if line.get("event") == event and where(line):
                return line

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def end(self, limit: float = LIMIT) -> Outcome:
        """Wait for its end."""
        try:
            status = self._popen.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the process didn't end within {limit} s; stderr: {self._tail()}") from None
        for reader in self._readers:
            reader.join(limit)
            assert not reader.is_alive(), "somebody else holds the process's output open"
        stdout = "".join(self._stdout)
        return Outcome(
            status=status,
            result=json.loads(stdout) if stdout.startswith("{") else {},
            events=tuple(self._events),
            stdout=stdout,
            stderr="".join(self._stderr),
        )

    def close(self) -> None:
        """Make sure that it is gone."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait(LIMIT)
        for reader in self._readers:
            reader.join(LIMIT)
        for pipe in (self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()

    def _read_stdout(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._stdout.append(line)

    def _read_stderr(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._stderr.append(line)
            with contextlib.suppress(json.JSONDecodeError):
                event = json.loads(line)
                if isinstance(event, dict):
                    self._events.append(event)
                    self._queue.put(event)
        self._queue.put(None)

    def _tail(self) -> str:
        return "".join(self._stderr)[-3000:] or "(nothing)"


def environment(home: Home) -> Mapping[str, str]:
    """This process's environment with SAMARA_HOME set, no colours, and nothing that asks."""
    return {
        **os.environ,
        ENV_HOME: str(home.root),
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "SAMARA_PRIVATE_MIRRORS": "1",  # the mirrors that tests publish are on loopback
    }


@contextlib.contextmanager
def started(home: Home, *arguments: object, wrap: Sequence[str] = ()) -> Iterator[Process]:
    """A `samara` process; killed on leaving if it still runs."""
    process = Process(home, arguments, wrap=wrap)
    try:
        yield process
    finally:
        process.close()


def samara(home: Home, *arguments: object, limit: float = LIMIT) -> Outcome:
    """Run one command to its end."""
    with started(home, *arguments) as process:
        return process.end(limit)


@contextlib.contextmanager
def pulling(home: Home, source: object, *arguments: object) -> Iterator[Process]:
    """`samara pull --json` on loopback; the caller names the peers."""
    listen = ("--listen", "127.0.0.1:0", "--no-discovery", "--give-up-after", "30", "--json")
    with started(home, "pull", source, *listen, *arguments) as process:
        yield process


@dataclass(frozen=True, kw_only=True)
class Seeder:
    """A running `samara seed` and where it listens."""

    process: Process
    endpoint: tuple[str, int]

    @property
    def text(self) -> str:
        """HOST:PORT."""
        return f"{self.endpoint[0]}:{self.endpoint[1]}"

    def stop(self) -> Outcome:
        """SIGTERM, and wait."""
        self.process.send(signal.SIGTERM)
        return self.process.end()


@contextlib.contextmanager
def seed_process(home: Home, *arguments: object, listen: str = "127.0.0.1:0") -> Iterator[Seeder]:
    """`samara seed --json` that has begun to listen."""
    with started(home, "seed", *arguments, "--listen", listen, "--no-discovery", "--json") as process:
        endpoint = parse_endpoint(process.expect("listening")["endpoint"])
        yield Seeder(process=process, endpoint=endpoint)


def seeds(path: str) -> Callable[[Line], bool]:
    """Whether a seed_table has a row for a file of that name."""
    return lambda table: any(row["path"] == path for row in table["rows"])
