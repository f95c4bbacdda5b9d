"""What routes keep in memory is bounded by its weight, and made once however many ask for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from samara.registry.service.kept import Kept


def weight(text: str) -> int:
    return len(text) + 1


def test_what_was_asked_for_last_is_kept_and_made_once() -> None:
    made: list[str] = []
    kept = Kept[str, str](9, weight)

    def ask(key: str) -> str:
        def make() -> str:
            made.append(key)
            return key

        return kept.get(key, make)

    for key in ("aa", "bb", "aa", "cc", "aa"):  # each weighs three
        assert ask(key) == key
    assert made == ["aa", "bb", "cc"]
    ask("dd")  # the fourth: "bb" was asked for longest ago
    assert kept.weight <= 9
    ask("aa")
    ask("cc")
    assert made == ["aa", "bb", "cc", "dd"]
    ask("bb")
    assert made[-1] == "bb"


def test_what_is_too_heavy_is_given_and_pushes_nothing_out() -> None:
    kept = Kept[str, str](9, weight)
    small = kept.get("small", lambda: "s")
    assert kept.get("heavy", lambda: "h" * 9) == "h" * 9
    assert kept.get("heavy", lambda: "again") == "again"
    assert kept.get("small", lambda: "other") is small


def test_a_crowd_that_asks_for_the_same_makes_it_once() -> None:
    kept = Kept[str, str](9, weight)
    crowd = threading.Barrier(8)
    made: list[str] = []

    def ask() -> str:
        crowd.wait(30)
        return kept.get("aa", lambda: made.append("aa") or "".join(made))  # type: ignore[func-returns-value]

    with ThreadPoolExecutor(8) as pool:
        answers = [one.result() for one in [pool.submit(ask) for _ in range(8)]]
    assert made == ["aa"]
    assert set(answers) == {"aa"}


def test_what_cant_be_made_is_tried_again() -> None:
    kept = Kept[str, str](9, weight)
    nothing: dict[str, str] = {}
    with pytest.raises(KeyError):
        kept.get("aa", lambda: nothing["aa"])
    assert kept.get("aa", lambda: "aa") == "aa"
