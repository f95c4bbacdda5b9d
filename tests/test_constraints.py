"""constraints.txt: every direct requirement is pinned, inside its bounds, one per line, in order."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINES = [
    line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
]
PINS = dict(line.split("==") for line in LINES)
DIRECT = [
    *SETTINGS["build-system"]["requires"],
    *SETTINGS["project"]["dependencies"],
    *SETTINGS["project"]["optional-dependencies"]["run"],
    *SETTINGS["project"]["optional-dependencies"]["serve"],
    *SETTINGS["dependency-groups"]["dev"],
]


@pytest.mark.parametrize("text", DIRECT)
def test_a_requirement_is_pinned_inside_its_bounds(text: str) -> None:
    requirement = Requirement(text)
    pinned = PINS.get(canonicalize_name(requirement.name))
    assert pinned is not None, "not pinned: python3.11 scripts/renew_constraints.py"
    assert requirement.specifier.contains(pinned), pinned


def test_pins_are_in_order_and_canonical() -> None:
    assert list(PINS) == sorted(map(canonicalize_name, PINS))
