"""Trees of releases as git would name them: checked against git itself; releases side by side; pages of folders."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_kit import signed

from samara.registry.service.hub.problems import HubError, answer, no_entry
from samara.registry.service.hub.requests import MAX_BODY, MAX_PATHS, base_url, paths_asked
from samara.registry.service.hub.revisions import commit_of, split_revision
from samara.registry.service.hub.trees import (
    Source,
    TreeFile,
    files_of,
    git_object,
    grow,
    lfs_pointer,
    side_by_side,
)
from samara.schemas.digests import b3

SOURCES = [
    Source(manifest=f"b3:{number:02x}{number:062x}", tag=tag, version=number, created="2026-01-02T03:04:05Z")
    for number, tag in ((3, "q8_0"), (2, "q4_0"), (1, "f16"))
]


def file_at(path: str, data: bytes = b"x", *, source: Source = SOURCES[0], lfs: bool = False) -> TreeFile:
    sha256 = hashlib.sha256(data).hexdigest()
    kept = lfs_pointer(sha256, len(data)) if lfs else data
    return TreeFile(
        path=path, path_in_release=path, size=len(data), b3=b3(data), sha256=sha256,
        oid=git_object("blob", kept), pointer=len(kept) if lfs else 0, source=source,
    )  # fmt: skip


def test_objects_are_named_as_git_names_them(tmp_path: Path) -> None:
    """`git` itself makes a commit of the same files, large ones as LFS pointers."""
    contents: dict[str, tuple[bytes, bool]] = {
        "README.md": (b"# hello\n", False),
        "a/b/c.txt": (b"deep\n", False),
        "a/b.txt": (b"between\n", False),
        "a.b/x": (b"order of folders\n", False),
        "a0": (b"after a/\n", False),
        "größe/日本.gguf": (b"weights" * 100, True),
    }
    for path, (data, lfs) in contents.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(lfs_pointer(hashlib.sha256(data).hexdigest(), len(data)) if lfs else data)

    def git(*arguments: str) -> str:
        command = ["git", "-c", "core.quotepath=off", "-c", "core.autocrlf=off", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q", ".")
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "all")
    theirs = {}
    for line in git("ls-tree", "-r", "-t", "HEAD").splitlines():
        about, _, path = line.partition("\t")
        theirs[path] = about.split()[2]
    tree = grow([file_at(path, data, lfs=lfs) for path, (data, lfs) in contents.items()])
    assert {**tree.folders, **{path: file.oid for path, file in tree.files.items()}} == theirs


def test_only_what_travels_inline_is_a_git_blob() -> None:
    release = signed({"model.gguf": b"weights", "licence.txt": b"Do as you please.\n"}).release
    inlined = replace(
        release,
        files=tuple(replace(f, inline=b"Do as you please.\n") if f.path != "model.gguf" else f for f in release.files),
    )
    found = {file.path: file for file in files_of(inlined)}
    assert found["licence.txt"].oid == git_object("blob", b"Do as you please.\n") == found["licence.txt"].etag
    assert found["model.gguf"].etag == hashlib.sha256(b"weights").hexdigest()
    assert found["model.gguf"].pointer == len(lfs_pointer("0" * 64, 7))


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [
        ({"a": b"1"}, {"b": b"2"}, {"a": b"1", "b": b"2"}),
        ({"a": b"1"}, {"a": b"1"}, {"a": b"1"}),  # the same bytes under the same name are one file
        ({"a": b"1"}, {"a": b"2"}, {"a": b"1", "q4_0/a": b"2"}),
        ({"A": b"1"}, {"a": b"2"}, {"A": b"1", "q4_0/a": b"2"}),  # disks that take them for one
        ({"A": b"1"}, {"a": b"1"}, {"A": b"1", "q4_0/a": b"1"}),
        ({"a": b"1"}, {"a/b": b"2"}, {"a": b"1", "q4_0/a/b": b"2"}),  # a file where the other has a folder
        ({"a/b": b"1"}, {"a": b"2"}, {"a/b": b"1", "q4_0/a": b"2"}),
        ({"a": b"1", "q4_0": b"3"}, {"a": b"2"}, {"a": b"1", "q4_0": b"3", f"{SOURCES[1].commit}/a": b"2"}),
        ({"a": b"1", "q4_0/a": b"3"}, {"a": b"2"}, {"a": b"1", "q4_0/a": b"3", f"{SOURCES[1].commit}/a": b"2"}),
    ],
)
def test_of_two_files_with_one_name_the_newer_keeps_it(
    newer: Mapping[str, bytes], older: Mapping[str, bytes], expected: Mapping[str, bytes]
) -> None:
    releases = [
        [file_at(path, data, source=source) for path, data in files.items()]
        for source, files in zip(SOURCES, (newer, older), strict=False)
    ]
    found = side_by_side(releases)
    assert {file.path: file.b3 for file in found} == {path: b3(data) for path, data in expected.items()}
    assert {file.path_in_release for file in found} <= {*newer, *older}


NAMES = st.lists(st.sampled_from(["a", "A", "b", "q4_0", "f16", "a-b", "a0"]), min_size=1, max_size=3).map("/".join)


@given(st.lists(st.dictionaries(NAMES, st.sampled_from([b"1", b"2", b"3"]), max_size=6), min_size=1, max_size=3))
def test_side_by_side_no_file_is_lost_nor_in_anothers_way(releases: list[dict[str, bytes]]) -> None:
    valid = []
    for source, files in zip(SOURCES, releases, strict=False):
        folded = {path.casefold() for path in files}
        folders = {"/".join(p.split("/")[:depth]) for p in folded for depth in range(1, p.count("/") + 1)}
        if len(folded) == len(files) and not folders & folded:  # what a manifest may have
            valid.append([file_at(path, data, source=source) for path, data in files.items()])
    found = side_by_side(valid)
    tree = grow(found)
    names = [path.casefold() for path in tree.files]
    assert len(set(names)) == len(names)
    assert not {folder.casefold() for folder in tree.folders} & set(names)
    assert {file.b3 for file in found} == {file.b3 for files in valid for file in files}
    if valid:
        assert {file.path for file in valid[0]} <= set(tree.files)  # the newest as it was published


@given(st.sets(NAMES, max_size=12))
def test_folders_hold_exactly_what_is_below_them(paths: set[str]) -> None:
    files = {path for path in paths if not any(other.startswith(path + "/") for other in paths)}
    tree = grow([file_at(path) for path in files])
    everything = {*tree.files, *tree.folders}
    for folder in ("", *tree.folders):
        prefix = folder + "/" if folder else ""
        below = {path for path in everything if path.startswith(prefix) and path != folder}
        assert set(tree.below(folder, recursive=True) or ()) == below
        assert set(tree.below(folder, recursive=False) or ()) == {p for p in below if "/" not in p[len(prefix) :]}
    assert tree.below("nothing", recursive=True) is None
    assert all(tree.below(file, recursive=True) is None for file in tree.files)


def test_a_commit_is_of_what_is_in_it_in_any_order() -> None:
    one, two = SOURCES[0].manifest, SOURCES[1].manifest
    assert commit_of([one]) == one[3:43]
    assert commit_of([one, two]) == commit_of([two, one])
    assert len({commit_of([one, two]), commit_of([one]), commit_of([two])}) == 3


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("main/a/b.txt", ("main", "a/b.txt")),
        ("main", ("main", "")),
        ("refs/heads/main/a", ("refs/heads/main", "a")),
        ("refs/tags/q8_0/a/b", ("refs/tags/q8_0", "a/b")),
        ("refs/pr/1/a", ("refs", "pr/1/a")),
        ("/a", ("", "a")),
        ("", ("", "")),
    ],
)
def test_a_revision_ends_at_the_first_slash(rest: str, expected: tuple[str, str]) -> None:
    assert split_revision(rest) == expected


@pytest.mark.parametrize(
    ("host", "scheme", "expected"),
    [
        ("models.example.org", "http", "https://models.example.org"),  # behind a web server that speaks TLS
        ("MODELS.example.org", "http", "https://models.example.org"),
        ("127.0.0.1:8642", "http", "http://127.0.0.1:8642"),
        ("[::1]:8642", "https", "https://[::1]:8642"),
        ("", "http", "https://models.example.org"),
        ("evil>; rel=x", "http", "https://models.example.org"),
        ("a/b", "http", "https://models.example.org"),
        ("a" * 300, "http", "https://models.example.org"),
        ("nice.example", "javascript", "http://nice.example"),
    ],
)
def test_links_begin_with_where_the_client_came_to(host: str, scheme: str, expected: str) -> None:
    assert base_url("https://models.example.org", {"host": host}, scheme) == expected


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b'{"paths": ["a", "b/"], "expand": true}', "application/json; charset=utf-8", (("a", "b"), True)),
        (b'{"paths": "a"}', "application/json", (("a",), False)),
        (b"paths=a%2Fb&paths=c+d%2B&expand=True", "application/x-www-form-urlencoded", (("a/b", "c d+"), True)),
        (b"paths=a&paths=a&expand=False", "", (("a",), False)),
        (b"", "", ((), False)),
    ],
)
def test_paths_are_asked_about_in_json_or_a_form(
    body: bytes, kind: str, expected: tuple[tuple[str, ...], bool]
) -> None:
    assert paths_asked(body, kind) == expected


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b" " * (MAX_BODY + 1), "application/json", 413),
        (b'{"paths": [' + b'"a",' * MAX_PATHS + b'"b"]}', "application/json", 413),
        (b"paths=a&" * (MAX_PATHS + 1), "", 413),
        (b"x=1&" * (MAX_PATHS + 100), "", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[" * 100_000 + b"]" * 100_000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"paths": [1]}', "application/json", 400),
        (b'{"paths": null}', "application/json", 400),
        (b'{"paths": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"paths=\xff", "", 400),
        (b"paths=a", "text/plain", 415),
    ],
)
def test_other_questions_are_refused(body: bytes, kind: str, status: int) -> None:
    with pytest.raises(HubError) as caught:
        paths_asked(body, kind)
    assert caught.value.status == status


@given(st.text(st.characters(exclude_categories=[]), max_size=600))
def test_whatever_was_asked_for_can_be_said_in_a_refusal(path: str) -> None:
    response = answer(no_entry(path, "0" * 40))
    said = response.headers["X-Error-Message"]
    assert said.isascii()
    assert said.isprintable()
    assert len(said) <= 300
    assert response.status_code == 404
