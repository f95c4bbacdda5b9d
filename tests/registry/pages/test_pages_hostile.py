"""A publisher who writes whatever it may: nothing runs, nothing leads astray, the page stays a page."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from page_kit import BIDI, EVIL, HOSTILE_FILE, REASON, Shown, watched
from playwright.sync_api import Browser

from samara.registry.service.pages.commands import commands
from samara.registry.service.pages.release_facts import main_file


@pytest.fixture
def paths(shown: Shown) -> tuple[str, ...]:
    """Every page that shows its words."""
    whose = shown.hostile
    return (
        "/", "/?q=script", f"/{whose}", f"/{whose}/model", f"/{whose}/model/releases/latest", f"/{whose}/withdrawn",
        "/acme/llama/releases/q4_0?version=2",
    )  # fmt: skip


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_nothing_runs_and_nothing_is_asked_of_anybody(
    paths: tuple[str, ...], chromium: Browser, url: str, *, scripts: bool
) -> None:
    with watched(chromium, url=url, scripts=scripts) as looked:
        for path in paths:
            looked.page.goto(url + path)  # until its load event: after every script and every image that failed
            assert looked.trouble == [], path


def test_even_without_the_policy_nothing_would_run(
    paths: tuple[str, ...], chromium: Browser, url: str
) -> None:  # fmt: skip
    """Escaping alone must do: the policy is the second wall, taken away here."""
    with watched(chromium, url=url) as looked:

        def bare(route: object) -> None:
            answer = route.fetch()  # type: ignore[attr-defined]
            headers = {name: value for name, value in answer.headers.items() if name != "content-security-policy"}
            route.fulfill(response=answer, headers=headers)  # type: ignore[attr-defined]

        looked.page.route("**/*", bare)
        for path in paths:
            answer = looked.page.goto(url + path)
            assert answer is not None
            assert "content-security-policy" not in answer.headers
            assert looked.trouble == [], path


def test_words_are_shown_as_they_were_written(shown: Shown, chromium: Browser, url: str) -> None:
    with watched(chromium, url=url) as looked:
        looked.page.goto(f"{url}/{shown.hostile}/model")
        words = looked.page.locator(".words").inner_text()
        assert EVIL in words
        assert "javascript:alert(4)" in words
        assert looked.page.locator("main script, main img:not([src$='badge.svg']), main b").count() == 0
        assert looked.page.locator("a[href^='javascript' i]").count() == 0
        assert looked.page.get_by_text("javascript:alert(document.domain)").is_visible()
        assert looked.page.get_by_text("<svg/onload=alert(5)>").first.is_visible()
        looked.page.goto(f"{url}/{shown.hostile}/withdrawn")
        assert looked.page.get_by_text(REASON).first.is_visible()


def test_characters_that_reorder_or_hide_are_made_visible(
    shown: Shown, chromium: Browser, url: str
) -> None:  # fmt: skip
    assert any(c in BIDI for c in "\u202e\u2066\u202d\u200b\x07\x1b")
    with watched(chromium, url=url) as looked:
        for path in ("/", f"/{shown.hostile}", f"/{shown.hostile}/model"):
            looked.page.goto(url + path)
            assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x07\x1b]", looked.page.content()), path


def test_what_a_publisher_calls_itself_is_never_shown_as_its_name(
    shown: Shown, chromium: Browser, url: str
) -> None:  # fmt: skip
    """It calls itself totally-acme, and could as well say acme: always said to be its own word."""
    with watched(chromium, url=url) as looked:
        for path in ("/", f"/{shown.hostile}", f"/{shown.hostile}/model"):
            looked.page.goto(url + path)
            assert "totally-acme" not in looked.page.title()
            texts = looked.page.locator(":text('totally-acme')").all_inner_texts()
            assert texts, path
            for text in texts:
                before = text.partition("totally-acme")[0]
                assert re.search(r"[Cc]alls itself\W*$", before) or text.startswith(
                    "totally-acme (proven by nothing)"
                ), path
        looked.page.goto(f"{url}/{shown.hostile}")
        assert looked.page.get_by_text("It has claimed no name here").is_visible()
        assert looked.page.get_by_role("heading", level=1).inner_text() == shown.hostile[:12] + "…"
        assert looked.page.get_by_text(f"samara trust add {shown.hostile[:12]} --identity").is_visible()
        assert looked.page.goto(f"{url}/totally-acme").status == 404  # type: ignore[union-attr]


def test_its_file_names_are_quoted_for_the_shell(shown: Shown, tmp_path: Path) -> None:
    listings = shown.service.listings
    owner = listings.owner(shown.hostile)
    assert owner is not None
    release = shown.service.manifests.release(listings.model(owner, "model")[0].manifest)
    assert release is not None
    file = next(file for file in release.files if file.path == HOSTILE_FILE)
    (tmp_path / "curl").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > asked\nexec cp "$EVIL" "$3"\n')
    (tmp_path / "b3sum").write_text("#!/bin/sh\ncat > checked\n")
    for name in ("curl", "b3sum"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "evil").write_bytes(b"evil")
    for one in commands(
        owner, release, file, origin="https://x.example/$(touch pwned)", is_current=True, is_given=True
    ):
        assert shlex.split(one.text)
        if one.name.startswith("With curl"):
            subprocess.run(
                ["/bin/sh", "-c", one.text], cwd=tmp_path, check=True, timeout=30,
                env={"PATH": f"{tmp_path}:/usr/bin:/bin", "EVIL": str(tmp_path / "evil")},
            )  # fmt: skip
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert asked[:3] == ["-fL", "-o", f"./{HOSTILE_FILE}"]
    assert (tmp_path / "checked").read_text(encoding="utf-8") == f"{file.b3_hex}  ./{HOSTILE_FILE}\n"
    assert (tmp_path / HOSTILE_FILE).read_bytes() == b"evil"
    assert not (tmp_path / "pwned").exists()
    assert main_file(release).path == "e.gguf"
