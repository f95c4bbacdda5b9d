"""Ordinary mistakes get one message and an exit code that fits, never a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import Samara, make_samara

from samara.cli.network import parse_rate
from samara.cli.run import choose_model
from samara.fetcher.resolve import is_release_file, resolve
from samara.schemas.errors import ExitCode, SamaraError, UsageError
from samara.seeder import source_file
from samara.seeder.swarm_options import SwarmOptions

TINY = Path(__file__).parents[1] / "fixtures" / "tiny-q8_0.gguf"


@pytest.fixture
def samara(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Samara]:
    yield from make_samara(tmp_path, monkeypatch, capsys)


@pytest.fixture
def acme(samara: Samara) -> Samara:
    samara.publisher()
    shutil.copy(TINY, samara.folder / "tiny.gguf")
    return samara


class TestUrls:
    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1:abc/x", "http://127.0.0.1/a b", "http://", "http://[/x", "http://127.0.0.1/é"]
    )
    def test_what_is_no_url(self, samara: Samara, url: str) -> None:
        assert "not a URL" in samara("pull", url, code=ExitCode.USAGE).err

    @pytest.mark.parametrize(
        "answer", [b"what?\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nx"]
    )
    def test_a_server_that_does_not_speak_http(self, samara: Samara, answer: bytes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def once() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

            thread = threading.Thread(target=once)
            thread.start()
            port = server.getsockname()[1]
            assert "can't get" in samara("pull", f"http://127.0.0.1:{port}/x", code=ExitCode.NETWORK).err
            thread.join()


class TestNames:
    @pytest.mark.parametrize("source", ["x" * 300, "x" * 5000])
    @pytest.mark.parametrize("command", ["pull", "show"])
    def test_a_long_argument(self, samara: Samara, command: str, source: str) -> None:
        assert "not a reference" in samara(command, source, code=ExitCode.USAGE).err

    def test_a_name_with_a_nul(self, samara: Samara) -> None:
        assert is_release_file("a\0b.samara")
        with pytest.raises(SamaraError):
            resolve(samara.home, "a\0b.samara")


@pytest.mark.parametrize("epoch", ["99999999999999", "²", "", "-1", "9" * 5000])
def test_a_source_date_epoch_that_is_no_time(acme: Samara, epoch: str) -> None:
    acme.setenv(SOURCE_DATE_EPOCH=epoch)
    done = acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0", code=ExitCode.USAGE)
    assert "SOURCE_DATE_EPOCH is not a number of seconds" in done.err


class TestRates:
    @pytest.mark.parametrize("rate", [-1, 2**31, 2**32, 2**40])
    def test_what_libtorrent_cannot_hold(self, rate: int) -> None:
        with pytest.raises(UsageError, match="not a rate"):
            SwarmOptions(upload_limit=rate)
        with pytest.raises(UsageError, match="not a rate"):
            SwarmOptions(download_limit=rate)

    def test_the_largest(self) -> None:
        assert SwarmOptions(upload_limit=2**31 - 1).upload_limit == parse_rate(str(2**31 - 1))

    @pytest.mark.parametrize("text", ["3G", "2147483648", "9" * 400])
    def test_as_people_write_them(self, text: str) -> None:
        with pytest.raises(UsageError, match="not a rate"):
            parse_rate(text)


class TestFilesThatCannotBeRead:
    @pytest.mark.parametrize("command", ["seed", "verify"])
    def test_missing(self, acme: Samara, command: str) -> None:
        assert "nowhere.gguf doesn't exist" in acme(command, "./nowhere.gguf", code=ExitCode.NOT_FOUND).err

    @pytest.mark.parametrize("command", ["pull", "show", "verify"])
    def test_missing_release_file(self, acme: Samara, command: str) -> None:
        assert "nowhere.samara doesn't exist" in acme(command, "nowhere.samara", code=ExitCode.NOT_FOUND).err

    @pytest.mark.parametrize("command", ["pull", "show", "verify"])
    def test_a_folder(self, acme: Samara, command: str) -> None:
        assert "is a folder" in acme(command, str(acme.folder), code=ExitCode.USAGE).err

    @pytest.mark.parametrize("command", ["pull", "show", "verify", "seed"])
    def test_not_readable(self, acme: Samara, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
        """The system's answer is played: root may read everything."""
        acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0")
        path = "tiny-q8_0.samara" if command in {"pull", "show"} else "tiny.gguf"
        os.utime("tiny.gguf")  # else seed believes the record and doesn't open it

        def refuse(*_: object) -> int:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        with monkeypatch.context() as patch:
            patch.setattr(source_file, "_open_without_waiting", refuse)
            patch.setattr(Path, "open", refuse)
            done = acme(command, path, code=ExitCode.USAGE)
        assert "can't be read by this user" in done.err
        assert "written" not in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mirror", "http://example.org/é/"), "mirror: must be an http(s) URL in printable ASCII"),
        (("--license", "x" * 300), "license: should have at most 256 characters"),
        (("--upstream", "x" * 600), "upstream: should have at most 512 characters"),
        (("--base-model", "x" * 600), "base model: should have at most 512 characters"),
    ],
)
def test_words_that_cannot_be_published(acme: Samara, words: tuple[str, ...], message: str) -> None:
    done = acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0", *words, code=ExitCode.USAGE)
    assert message in done.err
    assert "Value error" not in done.err


class TestChoosingTheModel:
    PARTS = ("m-00002-of-00002.gguf", "m-00001-of-00002.gguf")

    def test_the_only_one(self) -> None:
        assert choose_model(("a.gguf",), None, "acme/m:v") == "a.gguf"

    def test_a_split_one_by_its_first_part(self) -> None:
        assert choose_model(self.PARTS, None, "acme/m:v") == "m-00001-of-00002.gguf"

    @pytest.mark.parametrize(
        "names", [("a.gguf", "b.gguf"), (*PARTS, "a.gguf"), ("a-00001-of-00002.gguf", "b-00001-of-00002.gguf")]
    )
    def test_several_are_listed(self, names: tuple[str, ...]) -> None:
        with pytest.raises(UsageError) as caught:
            choose_model(names, None, "acme/m:v")
        assert all(name in str(caught.value) for name in names)
        assert "--file" in str(caught.value)

    def test_one_is_chosen(self) -> None:
        assert choose_model(("a.gguf", "b.gguf"), "b.gguf", "acme/m:v") == "b.gguf"
        with pytest.raises(UsageError, match=r"a\.gguf, b\.gguf"):
            choose_model(("a.gguf", "b.gguf"), "c.gguf", "acme/m:v")

    def test_on_the_command_line(self, acme: Samara) -> None:
        shutil.copy(TINY, acme.folder / "two.gguf")
        with (acme.folder / "two.gguf").open("ab") as file:
            file.write(b"\0")
        acme("publish", "tiny.gguf", "two.gguf", "--as", "acme/pair:v1")
        assert "tiny.gguf, two.gguf" in acme("run", "acme/pair:v1", "hi", code=ExitCode.USAGE).err
        assert "tiny.gguf" in acme("run", "acme/pair:v1", "hi", "--file", "x.gguf", code=ExitCode.USAGE).err
