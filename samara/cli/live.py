"""A few lines at the bottom of a terminal that are drawn over and over. Pure text: the caller writes it.

Only what every terminal since the VT100 understands; click translates it for old Windows consoles. Text is cut to the
terminal's width, because a line that wraps can't be found again.
"""

from __future__ import annotations

import unicodedata

_UP = "\x1b[{}F"  # to the start of the n-th line above
_ERASE_BELOW = "\x1b[J"


class Live:
    """Remembers how many lines stand on the screen. `draw` and `over` give what to write."""

    def __init__(self) -> None:
        self._lines = 0

    def draw(self, text: str, *, width: int) -> str:
        """Put `text` where the last one was."""
        lines = [fit(line, width - 1) for line in text.splitlines()]
        again = self._back() + "".join(line + "\n" for line in lines)
        self._lines = len(lines)
        return again

    def over(self, message: str = "") -> str:
        """Take the drawn lines away; `message`, if any, stays in their place."""
        away = self._back()
        self._lines = 0
        return away + (message + "\n" if message else "")

    def forget(self) -> None:
        """Others have written below: what was drawn last stays where it is."""
        self._lines = 0

    def _back(self) -> str:
        return _UP.format(self._lines) + _ERASE_BELOW if self._lines else ""


def fit(line: str, width: int) -> str:
    """At most `width` columns of `line`; wide characters take two, marks that combine take none."""
    used = 0
    for at, character in enumerate(line):
        wide = unicodedata.east_asian_width(character) in "WF"
        used += 0 if unicodedata.combining(character) else 2 if wide else 1
        if used > width:
            return line[:at]
    return line
