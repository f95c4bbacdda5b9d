"""Numbers that people give with a fraction: seconds, days, minutes. Pure."""

from __future__ import annotations

from math import isfinite
from typing import Any

import click


class Amount(click.FloatRange):
    """A range that holds no `nan`, which compares with no bound, and no `inf`, which nobody can wait for."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not isfinite(found):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found
