"""Registries as processes of their own, to be attacked: `samara serve` at one address over kills and restarts, what it
answers, and a reader who goes on asking. No test in here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.processes import Process, started

from samara.registry.home import ENV_DATABASE, Home
from samara.schemas.publication import MEDIA_TYPE

LIMIT = 60.0  # seconds that an answer may take


@dataclass(frozen=True, kw_only=True)
class Told:
    """An answer. `body`: its JSON, or its text; `seconds`: until it was there."""

    status: int
    headers: dict[str, str]
    body: Any
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a registry answers, whichever process it is."""

    home: Home
    port: int
    arguments: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def serving(self, *more: object, wrap: tuple[str, ...] = ()) -> Iterator[Process]:
        """`samara serve` that answers."""
        told = () if self.home.database is None else ("env", f"{ENV_DATABASE}={self.home.database}")
        listen = ("--listen", f"127.0.0.1:{self.port}", "--log", "off")
        with started(self.home, "serve", "--json", *listen, *self.arguments, *more, wrap=(*told, *wrap)) as process:
            process.expect("serving")
            yield process

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        *,
        method: str | None = None,
        limit: float = LIMIT,
        headers: dict[str, str] | None = None,
    ) -> Told:
        """One request on a connection of its own. Raises OSError or HTTPException if nobody answers."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=limit)
        with contextlib.closing(connection):
            said = {} if body is None else {"Content-Type": MEDIA_TYPE}
            connection.request(method or ("GET" if body is None else "POST"), path, body, {**said, **(headers or {})})
            answer = connection.getresponse()
            data = answer.read()
            found = {name.lower(): value for name, value in answer.getheaders()}
            is_json = "json" in found.get("content-type", "")
            return Told(
                status=answer.status,
                headers=found,
                body=json.loads(data) if is_json else data.decode(errors="replace"),
                seconds=time.monotonic() - began,
            )

    def publish(self, body: bytes, *, address: str | None = None, limit: float = LIMIT) -> Told:
        """POST /v1/publish, by way of a web server for somebody at `address` if that is told."""
        headers = {} if address is None else {"X-Forwarded-For": address}
        return self.ask("/v1/publish", body, limit=limit, headers=headers)


def site(home: Home, *arguments: str) -> Site:
    """A registry at a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return Site(home=home, port=int(free.getsockname()[1]), arguments=arguments)


@dataclass
class Reader:
    """Somebody who goes on reading while others attack; `told`: every (status, seconds) they had; 0: no answer."""

    told: list[tuple[int, float]] = field(default_factory=list)

    @property
    def slowest(self) -> float:
        """The longest they waited, seconds."""
        return max(seconds for _, seconds in self.told)

    @property
    def statuses(self) -> set[int]:
        """Everything they were answered."""
        return {status for status, _ in self.told}


@contextlib.contextmanager
def reading(place: Site, path: str = "/v1/search", *, every: float = 0.02) -> Iterator[Reader]:
    """Reads `path` again and again while the block lasts; had at least one answer when it begins, and one after it."""
    reader, stop, had = Reader(), threading.Event(), threading.Event()

    def read() -> None:
        while True:
            is_last = stop.is_set()
            began = time.monotonic()
            try:
                status = place.ask(path).status
            except (OSError, http.client.HTTPException):
                status = 0
            reader.told.append((status, time.monotonic() - began))
            had.set()
            if is_last:
                return
            stop.wait(every)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert had.wait(LIMIT)
    try:
        yield reader
    finally:
        stop.set()
        thread.join(LIMIT)


def memory_of(pid: int) -> int:
    """Bytes of a process that lie in memory now. Linux."""
    return _status(pid, "VmRSS") << 10


def threads_of(pid: int) -> int:
    """How many threads it has. Linux."""
    return _status(pid, "Threads")


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
