"""A registry with models of many shapes, on a socket, and clients of the Hub as processes of their own that can reach
nothing else. No test in here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service_kit import Author, author, tiny_files
from support.world import FIXTURES, random_file

from samara.registry.index import Index
from samara.registry.publications.own import list_own
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Settings
from samara.registry.trust.own_catalog import retraction, tagging, update_catalog
from samara.schemas.manifest import Release

LIMIT = 120.0  # seconds that a client may take on a busy machine
DRIVER = Path(__file__).with_name("hub_client_driver.py")
ODD_NAMES = ("größe/日本語 model+v1 100%#2.txt", "a b/c+d.md", "a b/c#d.json", "a b/100% & more=1;2.json")
ORIGIN = "https://models.example.org"  # not how the tests reach it

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request and how it was answered. `path` with its query, as it was sent."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    answered: Mapping[str, str]


class Recorder:
    """The application with a record of what was asked. `between`: called, in a thread, with each request whose answer
    is made, before it is sent.
    """

    def __init__(self, app: Any) -> None:
        self.between: Callable[[Asked], None] | None = None
        self._app = app
        self._lock = threading.Lock()
        self._asked: list[Asked] = []

    async def __call__(
        self, scope: Json, receive: Callable[[], Awaitable[Json]], send: Callable[[Json], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def note(message: Json) -> None:
            if message["type"] == "http.response.start":
                query = scope["query_string"].decode("latin-1")
                asked = Asked(
                    method=scope["method"],
                    path=scope["raw_path"].decode("latin-1") + (f"?{query}" if query else ""),
                    status=message["status"],
                    headers=_text(scope["headers"]),
                    answered=_text(message["headers"]),
                )
                with self._lock:
                    self._asked.append(asked)
                if self.between is not None:
                    await asyncio.to_thread(self.between, asked)
            await send(message)

        await self._app(scope, receive, note)

    def take(self) -> list[Asked]:
        """What was asked since the last time."""
        with self._lock:
            asked, self._asked = self._asked, []
        return asked


def _text(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


@dataclass(frozen=True, kw_only=True)
class Shop:
    """Where acme publishes: a home whose registry lists it, and what it published by `model:tag`."""

    acme: Author
    index: Index
    releases: dict[str, Release] = field(default_factory=dict)

    def publish(self, name: str, files: Sequence[Path]) -> Release:
        """Publish, and list it."""
        release = self.acme.publish(name, files)
        self.releases[name] = release
        self.list()
        return release

    def withdraw(self, name: str, reason: str) -> None:
        """As `samara retract`."""
        model, _, tag = name.partition(":")
        self._change(retraction(model, tag, reason))

    def tag(self, name: str, new: str) -> None:
        """As `samara tag`."""
        model, _, tag = name.partition(":")
        self._change(tagging(model, tag, new))

    def list(self) -> None:
        """As the service does every few seconds."""
        list_own(self.acme.home, self.index, now=datetime.now(UTC))

    def service(self) -> Service:
        """The registry over it."""
        return Service(home=self.acme.home, index=self.index, settings=Settings(origin=ORIGIN))

    def _change(self, change: Any) -> None:
        publisher = self.acme.publisher
        keys = publisher.online_keys(None)
        update_catalog(self.acme.home, publisher, change, signers=keys, now=datetime.now(UTC))
        self.list()


@contextlib.contextmanager
def shop(root: Path) -> Iterator[Shop]:
    """A publisher that has published nothing yet."""
    acme = author(root / "acme", "acme")
    with Index.open(acme.home) as index:
        yield Shop(acme=acme, index=index)


def stock(shop: Shop, folder: Path) -> None:
    """acme/tiny: two quantisations side by side, with a file of one name; acme/chat: a tokenizer; acme/odd: odd names
    in folders; acme/gone: withdrawn; acme/moved: two releases of one tag.
    """
    shop.publish("tiny:q8_0", tiny_files(folder / "q8"))
    weights = folder / "f16" / "tiny-f16.gguf"
    weights.parent.mkdir()
    weights.write_bytes((FIXTURES / "tiny.gguf").read_bytes())
    readme = folder / "f16" / "README.md"
    readme.write_text("# tiny, whole\n", encoding="utf-8")
    shop.publish("tiny:f16", [weights, readme])
    shop.publish("chat:latest", [tokenizer_files(folder / "chat")])
    shop.publish("odd:main", [odd_files(folder / "odd")])
    shop.publish("gone:v1", [random_file(folder / "gone.bin", 100_000, seed=3)])
    shop.withdraw("gone:v1", "it forgets its sums <b>")
    shop.publish("moved:v1", [random_file(folder / "old" / "moved.bin", 200_000, seed=4)])
    shop.releases["moved:old"] = shop.releases["moved:v1"]
    shop.publish("moved:v1", [random_file(folder / "new" / "moved.bin", 200_001, seed=5)])


def odd_files(folder: Path) -> Path:
    """Files whose names have to be escaped in URLs, small and large ones."""
    for number, name in enumerate(ODD_NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{number} ".encode() * (60_000 if number == 0 else 9))
    return folder


def tokenizer_files(folder: Path) -> Path:
    """A tokenizer that transformers.js loads, made by hand: whole words, looked up."""
    folder.mkdir(parents=True)
    words = {"[UNK]": 0, "the": 1, "seed": 2, "flies": 3}
    special = {"id": 0, "content": "[UNK]", "single_word": False, "lstrip": False, "rstrip": False}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{**special, "normalized": False, "special": True}],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
    }  # fmt: skip
    _write(folder / "tokenizer.json", tokenizer)
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"})
    _write(folder / "config.json", {"model_type": "llama", "hidden_size": 64, "vocab_size": len(words)})
    random_file(folder / "weights" / "model.safetensors", 150_000, seed=6)
    return folder


def _write(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A registry that answers."""

    url: str
    shop: Shop
    service: Service
    recorder: Recorder
    outside: Outside

    def bytes_of(self, name: str) -> dict[str, bytes]:
        """path → bytes of a release's files, as they lie at the publisher's."""
        found = {}
        for file in self.shop.releases[name].files:
            blob = self.shop.index.blob(file.b3)
            assert blob is not None
            data = file.inline if file.inline is not None else blob.locations[0].path.read_bytes()
            assert hashlib.sha256(data).hexdigest() == file.sha256[7:]
            found[file.path] = data
        return found

    def client(self, folder: Path) -> Client:
        """A client whose cache is below `folder`."""
        return Client(url=self.url, folder=folder, outside=self.outside)


class Outside:
    """A proxy that lets nothing through and counts who tried: no test may ask the real Hub anything."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.asked: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                self.asked.append(connection.recv(300))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def close(self) -> None:
        """Take no more."""
        self._socket.close()


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a client ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Its last line."""
        return json.loads(self.stdout.splitlines()[-1])


@dataclass(frozen=True, kw_only=True)
class Client:
    """Processes with one cache, for which `url` is the Hub."""

    url: str
    folder: Path
    outside: Outside

    @property
    def cache(self) -> Path:
        """Where huggingface_hub keeps what it got."""
        return self.folder / "hf" / "hub"

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of ours but the path; everything outside goes to a proxy that refuses."""
        proxy = f"http://127.0.0.1:{self.outside.port}"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "HF_HOME": str(self.folder / "hf"),
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy, "NO_PROXY": "127.0.0.1",
            "http_proxy": proxy, "https_proxy": proxy, "all_proxy": proxy, "no_proxy": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
            **more,
        }  # fmt: skip

    def run(self, *command: str | Path, **environment: str) -> Ended:
        """Run a program to its end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [str(part) for part in command], env=self.environment(**environment), cwd=self.folder, capture_output=True,
            text=True, encoding="utf-8", timeout=LIMIT, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Ended(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def hf(self, *arguments: str, **environment: str) -> Ended:
        """huggingface_hub's command line."""
        return self.run(Path(sys.executable).with_name("hf"), *arguments, **environment)

    def call(self, function: str, *arguments: Any, **named: Any) -> Any:
        """A function of huggingface_hub in a process of its own; {"error": class, "message": …} if it raised."""
        (result,) = self.calls((function, arguments, named))
        return result

    def calls(self, *calls: tuple[str, Sequence[Any], Mapping[str, Any]]) -> list[Any]:
        """Several, in one process: (function, arguments, named arguments) each."""
        ended = self.run(sys.executable, DRIVER, json.dumps(calls))
        assert ended.status == 0, ended.stderr[-3000:]
        return list(ended.json)


@contextlib.contextmanager
def hub(root: Path, *, fill: Callable[[Shop, Path], None] = stock) -> Iterator[Hub]:
    """A registry with `stock`, answering on loopback."""
    with shop(root) as made:
        (root / "files").mkdir()
        fill(made, root / "files")
        service = made.service()
        with answering(service) as (url, recorder), outside() as elsewhere:
            yield Hub(url=url, shop=made, service=service, recorder=recorder, outside=elsewhere)


@contextlib.contextmanager
def answering(service: Service) -> Iterator[tuple[str, Recorder]]:
    """A service on loopback."""
    recorder = Recorder(create_app(service))
    with RunningServer(recorder) as server:
        yield server.url, recorder


@contextlib.contextmanager
def outside() -> Iterator[Outside]:
    """What clients think is the rest of the world; fails if any asked there."""
    made = Outside()
    try:
        yield made
        assert made.asked == []
    finally:
        made.close()
