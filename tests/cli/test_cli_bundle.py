"""`samara bundle`: from a publisher's machine by a stick to one that has only its identity."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import Samara, make_samara

from samara.schemas.errors import ExitCode

MODEL = Path(__file__).parents[1] / "fixtures" / "tiny-q8_0.gguf"
STICK = "tiny.tar.zst"


@pytest.fixture
def samara(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Samara]:
    yield from make_samara(tmp_path, monkeypatch, capsys)


@pytest.fixture
def identity(samara: Samara) -> str:
    """A machine "home" that has published acme/tiny:q8_0; its publisher's identity."""
    identity = samara.publisher()
    samara("publish", str(MODEL), "--as", "acme/tiny:q8_0")
    return identity


def test_the_whole_way(samara: Samara, identity: str) -> None:
    assert samara("bundle", "export", "acme/tiny:q8_0", STICK).out.strip() == STICK
    samara.use("elsewhere")
    samara("trust", "add", "acme", "--identity", identity, "--yes")
    done = samara("bundle", "import", STICK)
    (shown,) = done.out.splitlines()
    assert Path(shown).read_bytes() == MODEL.read_bytes()
    assert f"acme is {identity[:8]}…; its catalog: signed just now" in done.err
    assert samara("path", "acme/tiny:q8_0").out.strip() == shown
    assert samara.json("audit")["findings"] == []


def test_results_for_programs(samara: Samara, identity: str) -> None:
    made = samara.json("bundle", "export", "acme/tiny:q8_0", STICK)
    assert made["size"] == Path(STICK).stat().st_size
    assert [release["pinned"] for release in made["releases"]] == [False]
    assert [member["name"].partition("/")[0] for member in made["members"]] == ["metadata", "releases", "blobs"]
    samara.use("elsewhere")
    samara("trust", "add", "acme", "--identity", identity, "--yes")
    done = samara.json("bundle", "import", STICK)
    (release,), (publisher,) = done["releases"], done["publishers"]
    assert (release["standing"], release["reference"]) == ("current", "acme/tiny:q8_0")
    assert release["manifest"] == made["releases"][0]["manifest"]
    assert (publisher["alias"], publisher["identity"]) == ("acme", identity)
    assert (publisher["catalog_outdated"], publisher["stale"]) == (False, [])
    assert publisher["catalog_signed"] < publisher["catalog_expires"]
    assert done["bytes_written"] == done["bytes_total"] == MODEL.stat().st_size


def test_an_unknown_publisher(samara: Samara, identity: str) -> None:
    samara("bundle", "export", "acme/tiny:q8_0", STICK)
    samara.use("elsewhere")
    failed = samara("bundle", "import", STICK, code=ExitCode.TRUST)
    assert f"samara trust add acme --identity {identity}" in failed.err


def test_a_file_cut_short(samara: Samara, identity: str) -> None:
    samara("bundle", "export", "acme/tiny:q8_0", STICK)
    Path(STICK).write_bytes(Path(STICK).read_bytes()[:-1])
    failed = samara.json("bundle", "import", STICK, code=ExitCode.INTEGRITY)
    assert failed["error"] == "MalformedError"
    assert "ends early" in failed["message"]


def test_what_isnt_here(samara: Samara, identity: str) -> None:
    samara("bundle", "export", "acme/tiny:f16", STICK, code=ExitCode.NOT_FOUND)
    samara("bundle", "import", "missing.tar.zst", code=ExitCode.NOT_FOUND)
    assert not Path(STICK).exists()


@pytest.mark.parametrize(
    "arguments",
    [("export", "acme/tiny:q8_0"), ("export", "acme/tiny:q8_0", "acme/tiny:q8_0"), ("import",), ("import", "a", "b")],
)
def test_arguments_that_cant_be_meant(samara: Samara, identity: str, arguments: tuple[str, ...]) -> None:
    samara("bundle", *arguments, code=ExitCode.USAGE)
    assert [path.name for path in Path().iterdir() if path.suffix == ".zst"] == []


def test_names_that_could_drive_a_terminal(samara: Samara, identity: str) -> None:
    """What the kit checks of every line."""
    name = "\x1b[31mred.tar.zst"
    Path(name).write_bytes(b"nothing")
    samara("bundle", "import", name, code=ExitCode.INTEGRITY)


def test_with_quiet_only_the_result(samara: Samara, identity: str) -> None:
    made = samara("bundle", "export", "acme/tiny:q8_0", STICK, "--quiet")
    assert (made.out.strip(), made.err) == (STICK, "")


def test_with_json_stderr_is_json(samara: Samara, identity: str) -> None:
    made = samara("bundle", "export", "acme/tiny:q8_0", STICK, "--json")
    assert {json.loads(line)["event"] for line in made.err.splitlines()} <= {"note", "check_progress", "warned"}
