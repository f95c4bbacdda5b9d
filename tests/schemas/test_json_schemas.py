"""The JSON Schemas beside the code are those the models give."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import samara.schemas
from samara.schemas.json_schemas import json_schemas

FOLDER = Path(samara.schemas.__file__).parent
SCHEMAS = json_schemas()


def test_the_committed_files_are_what_the_models_give_today() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.schema.json")}
    assert committed == SCHEMAS, "run: python scripts/make_json_schemas.py"


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_says_which_dialect_it_is_and_what_it_describes(name: str) -> None:
    schema = json.loads(SCHEMAS[name])
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"].startswith(("Samara", "Inside a .samara"))
    assert schema["type"] == "object"


@pytest.mark.parametrize("name", SCHEMAS)
def test_patterns_mean_the_same_in_every_dialect(name: str) -> None:
    """Classes such as \\d are ASCII in some dialects and all of Unicode in others; unanchored patterns match inside."""
    for pattern in patterns(json.loads(SCHEMAS[name])):
        assert pattern[0] == "^"
        assert pattern[-1] == "$"
        assert not re.search(r"\\[dDwWsSbB]", pattern)


@pytest.mark.parametrize("name", SCHEMAS)
def test_unknown_fields_are_allowed(name: str) -> None:
    assert "additionalProperties" not in SCHEMAS[name]


def patterns(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["pattern"]] if isinstance(value.get("pattern"), str) else []
        return own + [found for item in value.values() for found in patterns(item)]
    return [found for item in value for found in patterns(item)] if isinstance(value, list) else []
