"""Whose description of a blob is tried first."""

from __future__ import annotations

from samara.fetcher.description_turns import Claim, turns


def claims(*told: tuple[str, str, str | None]) -> list[Claim]:
    """(identity, manifest, v2) of each."""
    return [Claim(identity=identity, manifest=manifest, v2=v2) for identity, manifest, v2 in told]


def order(*told: tuple[str, str, str | None], **facts: object) -> list[str]:
    """Manifests in their turn."""
    known = {"true": None, "false": set(), "failures": {}, "lies": {}, **facts}
    return [claim.manifest for claim in turns(claims(*told), **known)]  # type: ignore[arg-type]


FLOOD = [("evil", f"e{number}", f"v{number}") for number in range(1000)]


def test_a_thousand_releases_of_one_stranger_have_one_turn_before_the_next_publishers() -> None:
    assert order(*FLOOD, ("acme", "a", "right"))[:3] == ["e0", "a", "e1"]


def test_who_was_caught_lying_comes_after_everybody_else() -> None:
    assert order(*FLOOD, ("acme", "a", "right"), lies={"evil": 1})[0] == "a"


def test_what_failed_comes_after_what_has_not_and_what_is_false_not_at_all() -> None:
    told = (("one", "m1", "v1"), ("two", "m2", "v2"), ("three", "m3", "v2"), ("four", "m4", "v4"))
    assert order(*told, failures={"m1": 2, "m2": 1}) == ["m3", "m4", "m2", "m1"]
    assert order(*told, false={"v2", "m1"}) == ["m4"]


def test_what_is_known_to_be_right_leaves_out_all_else() -> None:
    told = (*FLOOD, ("acme", "a", "right"), ("umbra", "u", "right"), ("small", "s", None))
    assert order(*told, true="right", failures={"a": 1}) == ["u", "s", "a"]
