"""`samara serve`: what it lists by itself, whom it lets in, how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from blake3 import blake3
from support.processes import Process, samara, seed_process, started
from support.world import MIB, one_blob, random_file, shelf

from samara.cli.main import run
from samara.cli.serve import origin_of
from samara.registry.home import Home
from samara.schemas.endpoints import parse_endpoint
from samara.schemas.errors import UsageError
from samara.schemas.sizes import parse_size

ORIGIN = "http://registry.test:8642"


@contextmanager
def serving(home: Home, *arguments: str) -> Iterator[tuple[Process, str]]:
    """A registry on a free port, and its URL."""
    with started(
        home, "serve", "--json", "--listen", "127.0.0.1:0", "--origin", ORIGIN, "--log", "off", *arguments
    ) as process:  # fmt: skip
        yield process, process.expect("serving")["url"]


def get(url: str) -> bytes:
    with closing(urllib.request.urlopen(url, timeout=30)) as answer:
        data: bytes = answer.read()
        return data


def test_what_is_published_here_is_listed_and_served_by_itself(tmp_path: Path) -> None:
    first = one_blob(tmp_path, 2 * MIB)
    with serving(first.home) as (process, url):
        assert get(f"{url}/readyz") == b"ready\n"
        listed = json.loads(get(f"{url}/v1/publishers"))
        assert [row["identity"] for row in listed["publishers"]] == [first.publisher.identity]
        digest = first.release.files[0].b3_hex
        assert blake3(get(f"{url}/v1/blobs/{digest}")).hexdigest() == digest
        later = shelf(
            tmp_path, [random_file(tmp_path / "files" / "later.bin", MIB, seed=2)], reference="acme/later:v1",
            publisher=first.publisher,
        ).release.files[0].b3_hex  # fmt: skip
        until = time.monotonic() + 60
        while True:
            try:
                data = get(f"{url}/v1/blobs/{later}")
            except urllib.error.HTTPError as error:
                assert error.code == 404
                error.close()
                assert time.monotonic() < until, "what was published meanwhile isn't listed"
            else:
                break
        assert blake3(data).hexdigest() == later
        process.send(signal.SIGTERM)
        ended = process.end()
    assert ended.status == 0, ended.stderr
    assert "Traceback" not in ended.stderr


def test_sigterm_lets_an_answer_under_way_be_finished(tmp_path: Path) -> None:
    first = one_blob(tmp_path, 32 * MIB)  # more than the kernel takes of an answer that nobody reads
    file = first.release.files[0]
    with serving(first.home) as (process, url), socket.socket() as sock:
        sock.settimeout(30)
        sock.connect(parse_endpoint(url.removeprefix("http://")))
        sock.sendall(f"GET /v1/blobs/{file.b3_hex} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        data = sock.recv(1 << 16)
        process.send(signal.SIGTERM)
        process.expect("note", lambda line: "stopping" in line["message"])
        while piece := sock.recv(1 << 20):
            data += piece
        assert blake3(data.partition(b"\r\n\r\n")[2]).hexdigest() == file.b3_hex
        assert process.end().status == 0


def test_what_is_asked_for_is_brought_from_its_swarm_while_it_is_given(tmp_path: Path) -> None:
    """publish → push → seed elsewhere; the registry, which has no byte of it, is asked by plain HTTP."""
    first = one_blob(tmp_path, 8 * MIB)
    file = first.release.files[0]
    alone = ("--no-discovery", "--swarm-listen", "127.0.0.1:0", "--pull-through", "--private-mirrors")
    with serving(Home(tmp_path / "registry"), *alone) as (process, url):
        pushed = samara(first.home, "push", first.publisher.name, "--registry", url)
        assert pushed.status == 0, pushed.stderr
        with seed_process(first.home, "--tracker", f"{url}/announce"):
            data = get(f"{url}/v1/blobs/{file.b3_hex}")
            assert blake3(data).hexdigest() == file.b3_hex
            told = get(f"{url}/metrics").decode()
            arrived = re.search(r'samara_blob_bytes_total\{source="arriving"\} (\S+)', told)
            assert arrived is not None and float(arrived[1]) == file.size
            assert 'samara_publishes_total{outcome="verified"} 1.0' in told
        process.send(signal.SIGTERM)
        assert process.end().status == 0


def test_two_registries_cannot_listen_at_one_place(tmp_path: Path) -> None:
    with serving(Home(tmp_path / "home")) as (_, url):
        ended = samara(Home(tmp_path / "other"), "serve", "--listen", url.removeprefix("http://"))
    assert ended.status == 4
    assert "another program listens" in ended.message


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--listen", "0.0.0.0:0"], "--public"),
        (["--listen", "192.0.2.1:8642"], "--public"),
        (["--listen", "0.0.0.0:0", "--public"], "--origin"),
        (["--listen", "rubbish"], "HOST:PORT"),
        (["--origin", "https://x/path"], "no path"),
        (["--origin", "ftp://x"], "http"),
        (["--namespace", "acme"], "NAME=IDENTITY"),
        (["--namespace", "acme=short"], "NAME=IDENTITY"),
        (["--behind", "rubbish"], "networks"),
        (["--accel", "/files/"], "--behind"),
        (["--accel", "files", "--behind", "127.0.0.1"], "location"),
        (["--quota", "5G"], "--mirror"),
        (["--mirror", "--quota", "plenty"], "size"),
        (["--connections", "100000000"], "open files"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    monkeypatch.setenv("SAMARA_HOME", str(tmp_path / "home"))
    assert run(["serve", *arguments]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "home" / "index.sqlite3").exists(), "nothing was begun"


def test_options_come_from_the_environment_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMARA_SERVE_TITLE", "Models of the house")
    monkeypatch.setenv("SAMARA_SERVE_READ_ONLY", "1")
    with serving(Home(tmp_path / "home")) as (_, url):
        assert json.loads(get(f"{url}/v1/openapi.json"))["info"]["title"] == "Models of the house"


def test_the_origin_is_where_it_listens_unless_told() -> None:
    assert origin_of(None, ("127.0.0.1", 8642)) == "http://127.0.0.1:8642"
    assert origin_of(None, ("::1", 80)) == "http://[::1]"
    assert origin_of("https://Models.Example/", ("0.0.0.0", 0)) == "https://models.example"
    with pytest.raises(UsageError):
        origin_of(None, ("::", 8642))


@pytest.mark.parametrize(
    ("text", "size"), [("500G", 500 * 10**9), ("1.5TB", 1_500 * 10**9), ("512MiB", 512 << 20), ("7", 7), ("1 k", 1000)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1e9", "G", "1.2.3", "9" * 40, "1X", "१"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


def test_every_option_can_stand_in_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--help"]) == 0
    shown = capsys.readouterr().out
    for option in set(re.findall(r"^  (--[a-z-]+)", shown, re.MULTILINE)) - {"--json", "--quiet", "--help"}:
        assert f"SAMARA_SERVE_{option[2:].replace('-', '_').upper()}" in re.sub(r"\s+", "", shown), option
