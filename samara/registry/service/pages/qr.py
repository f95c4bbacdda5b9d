"""QR codes as SVG path data, black on white with the quiet zone that readers want (ISO/IEC 18004: four modules)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import segno

QUIET = 4
MAX_TEXT = 1200  # characters: beyond it the squares are too small for a telephone's camera


@dataclass(frozen=True, kw_only=True, slots=True)
class QrCode:
    """`side`: modules of a side, quiet zone included; `path`: every dark run as one rectangle."""

    side: int
    path: str


def qr_code(text: str) -> QrCode | None:
    """`text` as a QR code with error correction M or better; None if it is too long to be read from a screen."""
    if len(text) > MAX_TEXT:
        return None
    rows = segno.make(text, error="m", micro=False).matrix
    parts = []
    for y, row in enumerate(rows):
        x = 0
        for dark, run in groupby(row):
            length = len(list(run))
            if dark:
                parts.append(f"M{x + QUIET} {y + QUIET}h{length}v1h-{length}z")
            x += length
    return QrCode(side=len(rows) + 2 * QUIET, path="".join(parts))
