"""`samara publish` and `samara show`: what is made, what is refused, and what other people's words may do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Samara, make_samara

from samara.registry.index import Index
from samara.registry.store import stamp_at
from samara.registry.trust.publishers import load_publisher
from samara.schemas.envelope import Envelope, canonical_json
from samara.schemas.errors import ExitCode
from samara.schemas.manifest import INLINE_LIMIT
from samara.schemas.release_file import pack_release, unpack_release

FIXTURES = Path(__file__).parents[1] / "fixtures"
TINY = FIXTURES / "tiny-q8_0.gguf"
LICENCE = "Do as you please.\n"
EPOCH = "1767323045"  # 2026-01-02T03:04:05Z


@pytest.fixture
def samara(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Samara]:
    yield from make_samara(tmp_path, monkeypatch, capsys)


@pytest.fixture
def acme(samara: Samara) -> Samara:
    """A machine that publishes as acme, with a model and its licence in the current folder."""
    samara.publisher()
    shutil.copy(TINY, samara.folder / "tiny.gguf")
    (samara.folder / "LICENSE").write_text(LICENCE)
    (samara.folder / "notes.bin").write_bytes(bytes(range(256)) * 2000)
    return samara


def blobs(done: dict[str, Any]) -> list[str]:
    """The blobs of what a command printed."""
    return [file["blob"] for file in done["files"]]


def signed(samara: Samara, payload: bytes) -> Envelope:
    """A payload that acme signs."""
    publisher = load_publisher(samara.home, "acme")
    return publisher.sign(payload, publisher.online_keys())


def resigned(samara: Samara, release_file: str, changes: dict[str, Any]) -> None:
    """Let acme sign the manifest in a .samara file again, with some fields of the predicate changed."""
    path = samara.folder / release_file
    bundle = unpack_release(path.read_bytes())
    value = json.loads(bundle.envelope.payload)
    value["predicate"].update(changes)
    envelope = signed(samara, canonical_json(value))
    path.write_bytes(pack_release(replace(bundle, envelope=envelope)))


def tampered(samara: Samara, release_file: str, old: bytes, new: bytes) -> None:
    """Change the manifest in a .samara file without signing it again."""
    path = samara.folder / release_file
    bundle = unpack_release(path.read_bytes())
    payload = bundle.envelope.payload.replace(old, new)
    assert payload != bundle.envelope.payload
    envelope = Envelope(payload=payload, signatures=bundle.envelope.signatures)
    path.write_bytes(pack_release(replace(bundle, envelope=envelope)))


def assert_nothing_was_published(samara: Samara) -> None:
    assert list(samara.folder.glob("*.samara")) == []
    assert [path.name for path in samara.folder.rglob(".samara-tmp-*")] == []
    index = Index.open_existing(samara.home)
    if index is not None:
        with index:
            assert index.counts().releases == index.counts().locations == 0


class TestPublishing:
    def test_a_model_is_published_in_place(self, acme: Samara) -> None:
        before = stamp_at(acme.folder / "tiny.gguf")
        done = acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0")
        first, second, third = done.out.splitlines()
        assert first == "acme/tiny:q8_0 version 1"
        assert second.startswith("manifest b3:")
        assert third == str(acme.folder / "tiny-q8_0.samara")
        assert "samara pull tiny-q8_0.samara" in done.err
        assert stamp_at(acme.folder / "tiny.gguf") == before
        assert not acme.home.blobs.exists()
        with Index.open(acme.home) as index:
            assert index.location_at(acme.folder / "tiny.gguf") is not None

    def test_programs_get_everything_in_one_object(self, acme: Samara) -> None:
        published = acme.json("publish", "tiny.gguf", "--as", "acme/tiny:q8_0", "-o", "other.samara")
        shown = acme.json("show", "other.samara")
        assert (published["new"], published["version"], published["bytes"]) == (True, 1, TINY.stat().st_size)
        assert published["release_file"] == "other.samara"
        assert shown["uri"] == published["uri"] == f"samara:{published['identity']}/tiny:q8_0"
        assert (shown["manifest"], shown["trusted"], shown["problem"]) == (published["manifest"], True, None)
        (file,) = published["files"]
        assert file.items() <= shown["files"][0].items()
        assert (file["layout"], file["blocks"]) == ("gguf-4MiB-v1", 20)
        assert shown["files"][0]["gguf"]["quantisation"] == "Q8_0"

    def test_a_reference_shows_what_its_file_shows(self, acme: Samara) -> None:
        acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0", "--license", "CC0-1.0", "--description", "Small.")
        by_reference = acme.json("show", "acme/tiny:q8_0")
        by_file = acme.json("show", "tiny-q8_0.samara")
        assert {**by_reference, "signature": ""} == {**by_file, "signature": ""}
        assert "freshness not checked" in by_file["signature"]
        page = acme("show", "acme/tiny:q8_0").out
        for expected in (
            "acme/tiny:q8_0  version 1",
            "good, by acme",
            "CC0-1.0",
            "Small.",
            "llama, 861,312 parameters",
        ):
            assert expected in page

    def test_several_files_travel_as_one_release_small_ones_inline(self, acme: Samara) -> None:
        published = acme.json("publish", "tiny.gguf", "LICENSE", "notes.bin", "--as", "acme/tiny:q8_0")
        weights, licence, notes = acme.json("show", "tiny-q8_0.samara")["files"]
        assert [weights["role"], licence["role"], notes["role"]] == ["weights", "licence", "weights"]
        assert [file["inline"] for file in (weights, licence, notes)] == [False, True, False]
        assert (licence["infohash_v1"], licence["magnet"]) == (None, None)
        assert published["files"][1]["size"] == len(LICENCE)
        bundle = unpack_release((acme.folder / "tiny-q8_0.samara").read_bytes())
        assert len(bundle.torrents) == 2

    @pytest.mark.parametrize(("size", "inline"), [(1, True), (INLINE_LIMIT, True), (INLINE_LIMIT + 1, False)])
    def test_files_up_to_64_kib_are_inline(self, acme: Samara, size: int, inline: bool) -> None:
        (acme.folder / "some.bin").write_bytes(bytes(size))
        acme("publish", "some.bin", "--as", "acme/some:v1")
        (file,) = acme.json("show", "acme/some:v1")["files"]
        assert (file["inline"], file["magnet"] is None) == (inline, inline)

    def test_a_mirror_is_a_folder_or_the_file_itself(self, acme: Samara) -> None:
        (acme.folder / "the notes.bin").write_bytes(b"x" * 100_000)
        acme("publish", "tiny.gguf", "the notes.bin", "--as", "acme/a:v1", "--mirror", "https://example.org/m/")
        acme(
            "publish",
            "tiny.gguf",
            "--as",
            "acme/b:v1",
            "--mirror",
            "http://example.org/x?y=1",
            "--mirror",
            "https://b/",
        )
        mirrors = [file["mirrors"] for name in "ab" for file in acme.json("show", f"acme/{name}:v1")["files"]]
        assert mirrors == [
            ["https://example.org/m/tiny.gguf"],
            ["https://example.org/m/the%20notes.bin"],
            ["http://example.org/x?y=1", "https://b/tiny.gguf"],
        ]

    def test_what_claims_to_be_gguf_and_is_not_is_cut_evenly_with_a_warning(self, acme: Samara) -> None:
        (acme.folder / "odd.gguf").write_bytes(b"GGUF" + b"\xff" * 5_000_000)
        done = acme("publish", "odd.gguf", "--as", "acme/odd:v1")
        assert "warning: odd.gguf: starts like a GGUF" in done.err
        (file,) = acme.json("show", "acme/odd:v1")["files"]
        assert (file["layout"], file["blocks"], file["gguf"]) == ("fixed-4MiB-v1", 2, None)

    def test_a_truncated_gguf_is_too(self, acme: Samara) -> None:
        (acme.folder / "cut.gguf").write_bytes(TINY.read_bytes()[:500_000])
        done = acme("publish", "cut.gguf", "--as", "acme/cut:v1")
        assert "runs past the end of the file" in done.err
        assert acme.json("show", "acme/cut:v1")["files"][0]["layout"] == "fixed-4MiB-v1"


class TestAgain:
    def test_publishing_the_same_again_changes_nothing(self, acme: Samara) -> None:
        first = acme.json("publish", "tiny.gguf", "LICENSE", "--as", "acme/tiny:q8_0")
        written = (acme.folder / "tiny-q8_0.samara").read_bytes()
        again = acme("publish", "tiny.gguf", "LICENSE", "--as", "acme/tiny:q8_0", "--json")
        assert {**again.data, "seconds": 0} == {**first, "seconds": 0, "new": False}
        assert "unchanged" in again.err
        assert (acme.folder / "tiny-q8_0.samara").read_bytes() == written
        with Index.open(acme.home) as index:
            assert index.counts().releases == 1

    def test_another_description_or_other_bytes_are_the_next_version(self, acme: Samara) -> None:
        command = ("publish", "tiny.gguf", "--as", "acme/tiny:q8_0")
        first = acme.json(*command)
        second = acme.json(*command, "--description", "Better.")
        with (acme.folder / "tiny.gguf").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"?")
        third = acme.json(*command, "--description", "Better.")
        assert [done["version"] for done in (first, second, third)] == [1, 2, 3]
        assert len({done["manifest"] for done in (first, second, third)}) == 3
        assert blobs(first) == blobs(second) != blobs(third)
        assert acme.json("show", "acme/tiny:q8_0")["manifest"] == third["manifest"]
        old = acme.json("show", f"acme/tiny@{first['manifest']}")
        assert old["version"] == 1

    def test_going_back_to_what_was_is_a_new_version_too(self, acme: Samara) -> None:
        command = ("publish", "tiny.gguf", "--as", "acme/tiny:q8_0")
        versions = [acme.json(*command, *more)["version"] for more in ((), ("--license", "MIT"), ())]
        assert versions == [1, 2, 3]


class TestSameEverywhere:
    def test_source_date_epoch_says_when(self, acme: Samara) -> None:
        acme.setenv(SOURCE_DATE_EPOCH=EPOCH)
        acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0")
        assert acme.json("show", "acme/tiny:q8_0")["created"] == "2026-01-02T03:04:05Z"

    @pytest.mark.parametrize("moment", ["yesterday", "-1", "1.5", "", "²", "9" * 20])
    def test_a_source_date_epoch_that_is_no_moment_is_refused(self, acme: Samara, moment: str) -> None:
        acme.setenv(SOURCE_DATE_EPOCH=moment)
        done = acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0", code=ExitCode.USAGE)
        assert "SOURCE_DATE_EPOCH" in done.err
        assert_nothing_was_published(acme)

    def test_two_publishers_on_two_machines_give_one_blob_and_one_swarm(self, acme: Samara) -> None:
        ours = acme.json("publish", "tiny.gguf", "notes.bin", "--as", "acme/tiny:q8_0")
        shutil.copy("tiny.gguf", "renamed.gguf")
        shutil.copy("notes.bin", "other.dat")
        acme.use("another machine")
        acme.publisher("zenith")
        theirs = acme.json("publish", "renamed.gguf", "other.dat", "--as", "zenith/small:latest")
        assert ours["identity"] != theirs["identity"]
        for mine, yours in zip(ours["files"], theirs["files"], strict=True):
            for field in ("size", "blob", "sha256", "layout", "blocks", "infohash_v1", "infohash_v2"):
                assert mine[field] == yours[field]
        files = ("tiny-q8_0.samara", "small-latest.samara")
        first, second = (unpack_release(Path(name).read_bytes()).torrents for name in files)
        assert first == second
        assert len({tuple(file.blocks for file in release_at(name).files) for name in files}) == 1

    def test_one_publisher_at_one_moment_writes_one_file_on_two_machines(self, samara: Samara) -> None:
        samara.setenv(SOURCE_DATE_EPOCH=EPOCH, SAMARA_PASSPHRASE="open sesame")
        samara("publisher", "init", "acme", "--kdf-rounds", "1", "--recovery", "acme.recovery")
        samara("publish", str(TINY), "--as", "acme/tiny:q8_0", "-o", "a.samara")
        samara.use("another machine")
        samara("publisher", "import", "acme.recovery")
        samara("publish", str(TINY), "--as", "acme/tiny:q8_0", "-o", "b.samara")
        assert Path("a.samara").read_bytes() == Path("b.samara").read_bytes()


def release_at(name: str) -> Any:
    from samara.schemas.manifest import parse_manifest

    return parse_manifest(unpack_release(Path(name).read_bytes()).envelope.payload)


class TestKeys:
    def test_an_encrypted_key_signs_with_its_passphrase_only(self, samara: Samara) -> None:
        samara.setenv(SAMARA_PASSPHRASE="open sesame")
        samara.publisher()
        command = ("publish", str(TINY), "--as", "acme/tiny:q8_0")
        samara.setenv(SAMARA_PASSPHRASE="open barley")
        assert "wrong passphrase for online.key of acme" in samara(*command, code=ExitCode.TRUST).err
        samara.setenv(SAMARA_PASSPHRASE="")
        assert "set SAMARA_PASSPHRASE" in samara(*command, code=ExitCode.TRUST).err
        assert_nothing_was_published(samara)
        samara.setenv(SAMARA_PASSPHRASE="open sesame")
        assert samara.json(*command)["version"] == 1

    def test_without_the_online_key_nothing_is_signed(self, acme: Samara) -> None:
        (acme.home.keys / "acme" / "online.key").unlink()
        done = acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0", code=ExitCode.TRUST)
        assert "put the online key back" in done.err
        assert_nothing_was_published(acme)

    def test_a_key_that_others_can_read_is_not_used(self, acme: Samara) -> None:
        (acme.home.keys / "acme" / "online.key").chmod(0o644)
        done = acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0", code=ExitCode.TRUST)
        assert "expected mode 0600, got mode 0644" in done.err
        assert "chmod 600" in done.err


def made(name: str, content: bytes = b"x") -> Callable[[Path], str]:
    """A file of this name, and the name."""

    def make(root: Path) -> str:
        (root / name).write_bytes(content)
        return name

    return make


def folder(root: Path) -> str:
    (root / "folder.gguf").mkdir()
    return "folder.gguf"


BAD_FILES: dict[str, tuple[Callable[[Path], str], ExitCode, str]] = {
    "a file that isn't there": (lambda _: "missing.gguf", ExitCode.NOT_FOUND, "missing.gguf doesn't exist"),
    "a file below a file": (lambda _: "LICENSE/x.gguf", ExitCode.NOT_FOUND, "doesn't exist"),
    "a folder": (folder, ExitCode.USAGE, "is a folder"),
    "an empty file": (made("empty.gguf", b""), ExitCode.USAGE, "empty.gguf is empty"),
    "a hidden file": (made(".hidden"), ExitCode.USAGE, "can't publish a file named '.hidden'"),
    "a name that reads backwards": (made("a\u202efugg.exe"), ExitCode.USAGE, "rename it"),
}
if sys.platform != "win32":  # it has no files of such names

    def pipe(root: Path) -> str:
        os.mkfifo(root / "pipe.gguf")
        return "pipe.gguf"

    BAD_FILES |= {
        "a pipe": (pipe, ExitCode.USAGE, "not a regular file"),
        "a Windows device": (made("aux.gguf"), ExitCode.USAGE, "rename it"),
        "a name that drives terminals": (made("a\x1b[2J.gguf"), ExitCode.USAGE, "rename it"),
    }
if sys.platform == "linux":  # elsewhere names are text
    BAD_FILES["a name that isn't UTF-8"] = (made(os.fsdecode(b"caf\xe9.gguf")), ExitCode.USAGE, "rename it")


class TestRefusals:
    @pytest.mark.parametrize(("make", "code", "says"), BAD_FILES.values(), ids=BAD_FILES)
    def test_what_cannot_be_published_is_refused_and_leaves_nothing(
        self, acme: Samara, make: Callable[[Path], str], code: ExitCode, says: str
    ) -> None:
        name = make(acme.folder)
        done = acme("publish", "tiny.gguf", name, "--as", "acme/tiny:q8_0", code=code)
        assert says in done.err
        assert "Traceback" not in done.err
        assert done.out == ""
        assert_nothing_was_published(acme)

    @pytest.mark.parametrize(
        ("arguments", "code", "says"),
        [
            (("--as", "acme"), ExitCode.USAGE, "publisher/model:tag"),
            (("--as", "Acme/Tiny:Q8"), ExitCode.USAGE, "lower case"),
            (("--as", "acme/tiny@b3:" + "ab" * 32), ExitCode.USAGE, "under a tag"),
            (("--as", "zenith/tiny:q8_0"), ExitCode.NOT_FOUND, "samara publisher init zenith"),
            ((), ExitCode.USAGE, "--as"),
            (("--as", "acme/tiny:q8_0", "--mirror", "ftp://example.org/"), ExitCode.USAGE, "mirror"),
            (("--as", "acme/tiny:q8_0", "--mirror", "example.org/"), ExitCode.USAGE, "mirror"),
            (("--as", "acme/tiny:q8_0", "--mirror", "https://example.org/a b"), ExitCode.USAGE, "mirror"),
            (("--as", "acme/tiny:q8_0", "--mirror", "https://example.org/\x1b[2J"), ExitCode.USAGE, "mirror"),
            (("--as", "acme/tiny:q8_0", "--license", "x" * 257), ExitCode.USAGE, "license"),
            (("--as", "acme/tiny:q8_0", "--description", "x" * 8193), ExitCode.USAGE, "description"),
            (("--as", "acme/tiny:q8_0", "--upstream", "x" * 513), ExitCode.USAGE, "upstream"),
            (("--as", "acme/tiny:q8_0", "--base-model", "x" * 513), ExitCode.USAGE, "base model: "),
            (("--as", "acme/tiny:q8_0", "-o", "missing/tiny.samara"), ExitCode.NOT_FOUND, "doesn't exist"),
        ],
    )
    def test_what_cannot_be_said_is_refused_and_leaves_nothing(
        self, acme: Samara, arguments: tuple[str, ...], code: ExitCode, says: str
    ) -> None:
        done = acme("publish", "tiny.gguf", *arguments, code=code)
        assert says in done.err
        assert "Traceback" not in done.err
        assert_nothing_was_published(acme)

    def test_two_files_of_one_name_are_refused(self, acme: Samara) -> None:
        (acme.folder / "sub").mkdir()
        shutil.copy("tiny.gguf", "sub/tiny.gguf")
        shutil.copy("tiny.gguf", "sub/TINY.gguf")
        for other in ("sub/tiny.gguf", "sub/TINY.gguf", "tiny.gguf"):
            done = acme("publish", "tiny.gguf", other, "--as", "acme/tiny:q8_0", code=ExitCode.USAGE)
            assert "two files are named" in done.err
        assert_nothing_was_published(acme)

    def test_a_mirror_of_one_file_does_for_one_file_only(self, acme: Samara) -> None:
        command = (
            "publish",
            "tiny.gguf",
            "LICENSE",
            "--as",
            "acme/tiny:q8_0",
            "--mirror",
            "https://example.org/tiny.gguf",
        )
        assert "end it with /" in acme(*command, code=ExitCode.USAGE).err
        assert_nothing_was_published(acme)

    def test_nothing_to_publish_is_refused(self, acme: Samara) -> None:
        assert "FILE" in acme("publish", "--as", "acme/tiny:q8_0", code=ExitCode.USAGE).err

    def test_errors_are_an_object_for_programs_and_a_line_for_people(self, acme: Samara) -> None:
        done = acme("publish", "missing.gguf", "--as", "acme/tiny:q8_0", "--json", code=ExitCode.NOT_FOUND)
        assert done.data.keys() == {"error", "exit_code", "message", "expected", "actual", "next_step"}
        assert (done.data["error"], done.data["exit_code"]) == ("NotFoundError", 3)
        assert done.err.startswith("samara: missing.gguf doesn't exist")

    if sys.platform != "win32":  # it has other permissions

        def test_a_file_that_may_not_be_read_is_refused(self, acme: Samara) -> None:
            acme("publish", "LICENSE", "--as", "acme/warm:v1")  # everything imported before we become nobody
            with tempfile.TemporaryDirectory() as name:
                Path(name).chmod(0o755)
                closed = Path(name, "closed.gguf")
                shutil.copy(TINY, closed)
                closed.chmod(0o000)
                os.chdir("/")
                with unprivileged(acme):
                    done = acme("publish", str(closed), "--as", "acme/tiny:q8_0", code=ExitCode.USAGE)
                assert "can't be read by this user" in done.err


@contextlib.contextmanager
def unprivileged(samara: Samara) -> Iterator[None]:
    """Without root's right to read everything: as the owner of SAMARA_HOME who isn't root, else as we are."""
    if sys.platform == "win32" or os.geteuid() != 0:
        yield
        return
    with tempfile.TemporaryDirectory() as home:
        shutil.copytree(samara.home.root, home, dirs_exist_ok=True)
        for path in (Path(home), *Path(home).rglob("*")):
            os.chown(path, 65534, 65534)
        samara.setenv(SAMARA_HOME=home)
        os.setresuid(65534, 65534, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)


class TestShowing:
    @pytest.fixture
    def published(self, acme: Samara) -> Samara:
        acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0", "--description", "Small.")
        return acme

    def test_a_publisher_nobody_pinned_is_shown_as_such(self, published: Samara) -> None:
        published.use("another machine")
        shown = published.json("show", "tiny-q8_0.samara")
        assert (shown["trusted"], shown["problem"]) == (False, None)
        assert "somebody you have not pinned who calls themselves acme" in shown["signature"]
        assert not (published.folder / "another machine").exists()

    def test_a_changed_manifest_is_shown_as_such_and_ends_with_trust(self, published: Samara) -> None:
        tampered(published, "tiny-q8_0.samara", b'"Small."', b'"Large."')
        done = published("show", "tiny-q8_0.samara", code=ExitCode.TRUST)
        assert "does not hold" in done.out
        assert "warning: the manifest's signature is wrong" in done.err
        shown = published.json("show", "tiny-q8_0.samara", code=ExitCode.TRUST)
        assert (shown["trusted"], shown["description"]) == (False, "Large.")
        assert shown["problem"]["exit_code"] == ExitCode.TRUST
        published.use("another machine")
        assert published.json("show", "tiny-q8_0.samara", code=ExitCode.TRUST)["trusted"] is False

    def test_a_torrent_of_other_bytes_ends_with_integrity(self, published: Samara) -> None:
        path = published.folder / "tiny-q8_0.samara"
        bundle = unpack_release(path.read_bytes())
        path.write_bytes(pack_release(replace(bundle, torrents=())))
        assert "lacks the torrent" in published("show", "tiny-q8_0.samara", code=ExitCode.INTEGRITY).err

    def test_somebody_who_uses_a_trusted_name_is_called_out(self, published: Samara) -> None:
        published.use("another machine")
        published.publisher("acme")
        published("trust", "list")
        shown = published.json("show", "tiny-q8_0.samara")
        assert shown["trusted"] is False
        assert "not pinned" in shown["signature"]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "not a .samara file"),
            (b"garbage", "not a .samara file"),
            (b"\x28\xb5\x2f\xfdgarbage", "damaged"),
        ],
    )
    def test_garbage_is_refused(self, samara: Samara, content: bytes, says: str) -> None:
        (samara.folder / "x.samara").write_bytes(content)
        assert says in samara("show", "x.samara", code=ExitCode.INTEGRITY).err

    def test_a_release_file_of_the_future_says_so(self, published: Samara) -> None:
        resigned(published, "tiny-q8_0.samara", {})
        path = published.folder / "tiny-q8_0.samara"
        bundle = unpack_release(path.read_bytes())
        payload = bundle.envelope.payload.replace(b"urn:x-samara:release:v1", b"urn:x-samara:release:v2")
        envelope = signed(published, payload)
        path.write_bytes(pack_release(replace(bundle, envelope=envelope)))
        assert "a newer samara may be able to read it" in published("show", path.name, code=ExitCode.INTEGRITY).err

    @pytest.mark.parametrize(
        ("source", "code"),
        [
            ("missing.samara", ExitCode.NOT_FOUND),
            (".", ExitCode.USAGE),
            ("acme/unknown:tag", ExitCode.NOT_FOUND),
            ("nobody/tiny:q8_0", ExitCode.TRUST),
            ("What?", ExitCode.USAGE),
            ("acme/tiny@b3:" + "00" * 32, ExitCode.NOT_FOUND),
        ],
    )
    def test_what_is_not_there_is_said(self, published: Samara, source: str, code: ExitCode) -> None:
        assert published("show", source, code=code).err

    def test_a_machine_with_nothing_says_what_to_do(self, samara: Samara) -> None:
        assert "samara pull FILE.samara" in samara("show", "acme/tiny:q8_0", code=ExitCode.NOT_FOUND).err
        assert not samara.home.root.exists()


NASTY = (
    "red \x1b[31m title \x1b]0;pwned\x07 bell \x07 back \x08\r C1 \x9b2J turned \u202egpj.exe hidden \u200b del \x7f"
)


class TestOtherPeoplesWords:
    """Every call of `samara` checks that nothing it prints could drive a terminal."""

    @pytest.fixture
    def nasty(self, acme: Samara) -> Samara:
        acme("publish", "tiny.gguf", "--as", "acme/tiny:q8_0")
        facts = release_at("tiny-q8_0.samara").files[0].gguf
        value = json.loads(unpack_release(Path("tiny-q8_0.samara").read_bytes()).envelope.payload)["predicate"]
        value["files"][0].update(role="\x1b[31mr", layout="\x1b[31ml")
        value["files"][0]["gguf"].update(architecture="\x1b[31ma", quantisation="\x9b31mq")
        assert facts is not None
        texts = dict.fromkeys(("license", "description", "base_model"), NASTY)
        resigned(acme, "tiny-q8_0.samara", {**value, **texts, "upstream": {"repo": NASTY, "commit": "\x1b[31mc"}})
        return acme

    @pytest.mark.parametrize("options", [(), ("--json",)])
    @pytest.mark.parametrize("machine", ["home", "another machine"])
    def test_control_characters_never_reach_the_terminal(
        self, nasty: Samara, options: tuple[str, ...], machine: str
    ) -> None:
        nasty.use(machine)
        done = nasty("show", "tiny-q8_0.samara", *options)
        assert "gpj.exe" in done.out
        assert "[31m title" in done.out

    def test_programs_still_get_the_very_words(self, nasty: Samara) -> None:
        assert nasty.json("show", "tiny-q8_0.samara")["description"] == NASTY

    def test_errors_and_warnings_are_clean_too(self, nasty: Samara) -> None:
        nasty("show", "\x1b[2J.samara", code=ExitCode.NOT_FOUND)
        nasty("publish", "\x1b[2J.gguf", "--as", "acme/tiny:q8_0", code=ExitCode.USAGE)
        nasty("publish", "tiny.gguf", "--as", "acme/\x9b2J", code=ExitCode.USAGE)
        nasty("publish", "tiny.gguf", "--as", "acme/tiny:v2", "-o", "\x1b[2J/x.samara", code=ExitCode.NOT_FOUND)
        nasty("show", "x", "--\x1b[2J", code=ExitCode.USAGE)
