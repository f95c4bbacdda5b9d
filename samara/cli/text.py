"""Numbers and other people's words as a terminal should get them. Pure."""

from __future__ import annotations

import json


def clean(text: str) -> str:
    """Words of unknown origin without what could drive a terminal; line feeds and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def json_line(data: object) -> str:
    """`data` as JSON in one line; what isn't printable is escaped, so that a terminal may get it too."""
    text = json.dumps(data, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def size(count: float) -> str:
    """Bytes in decimal units, as disks and links are sold: 773.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float | None) -> str:
    """Seconds as 4 s, 3:07 or 2:03:09; a dash when unknown."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
