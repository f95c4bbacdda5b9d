#!/usr/bin/env python3
"""Write samara/schemas/*.schema.json from the models. Run it after changing a wire format."""

from pathlib import Path

from samara.schemas import json_schemas

folder = Path(json_schemas.__file__).parent
for name, text in json_schemas.json_schemas().items():
    (folder / name).write_text(text, encoding="utf-8")
    print(f"wrote schemas/{name}")
