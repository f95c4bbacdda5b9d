"""What the Hub's routes keep in memory is bounded by its weight."""

from __future__ import annotations

from samara.registry.service.hub.kept import Kept


def test_what_was_asked_for_last_is_kept_and_made_once() -> None:
    made: list[str] = []
    kept = Kept[str, str](9, len)

    def ask(key: str) -> str:
        def make() -> str:
            made.append(key)
            return key

        return kept.get(key, make)

    for key in ("aa", "bb", "aa", "cc", "aa"):  # each weighs two and one
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
    kept = Kept[str, str](9, len)
    small = kept.get("small", lambda: "s")
    assert kept.get("heavy", lambda: "h" * 9) == "h" * 9
    assert kept.get("heavy", lambda: "again") == "again"
    assert kept.get("small", lambda: "other") is small
