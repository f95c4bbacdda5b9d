"""Reads tests/vectors/, and applies the changes that make a good manifest bad. No test in here."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors"
FIXTURES = Path(__file__).parents[1] / "fixtures"


def vector(name: str) -> Any:
    """One of the JSON files."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def changed(good: Any, change: dict[str, Any]) -> Any:
    """A manifest with one change of manifests.json."""
    value = copy.deepcopy(good)
    *way, last = change["pointer"].lstrip("/").split("/")
    at = value
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    place: Any = int(last) if isinstance(at, list) else last
    if "value" not in change:
        del at[place]
        return value
    new = change["value"]
    if "then" in change:
        more, times = change["then"]
        new += more * times
    if "times" in change:
        new = new * change["times"]
    if isinstance(at, list) and place == len(at):
        at.append(new)
    else:
        at[place] = new
    return value


def names(change: dict[str, Any]) -> str:
    """A test's id for a change."""
    return f"{change['pointer']} {str(change.get('value', 'gone'))[:30]!a}"
