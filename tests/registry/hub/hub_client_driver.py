"""Calls functions of huggingface_hub, as its user would, and prints what they gave as JSON. Run by `hub_kit`.

hub_client_driver.py '[["snapshot_download", ["acme/tiny"], {}], …]'
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import huggingface_hub
from huggingface_hub import HfApi, HfFileSystem


def plain(value: Any) -> Any:
    """As JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(one) for name, one in vars(value).items()}
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    return plain(list(value)) if hasattr(value, "__next__") else str(value)


def function_of(name: str) -> Any:
    """`hf_hub_download`, `api.model_info`, `fs.ls`."""
    owner, _, method = name.rpartition(".")
    return getattr({"": huggingface_hub, "api": HfApi(), "fs": HfFileSystem()}[owner], method)


def outcome(name: str, arguments: list[Any], named: dict[str, Any]) -> Any:
    """What one gave, or the error."""
    try:
        return plain(function_of(name)(*arguments, **named))
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).mro()]
        return {"error": type(error).__name__, "message": str(error), "kinds": kinds}


if __name__ == "__main__":
    print(json.dumps([outcome(*call) for call in json.loads(sys.argv[1])]))
