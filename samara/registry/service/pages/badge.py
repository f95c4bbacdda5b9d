"""A small SVG for other people's READMEs: "samara | q4_0 · v3". Pure.

It says what this registry lists, nothing of what a reader's machine would find.
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from samara.registry.service.pages.words import shorten

_LEFT = "samara"
_GLYPH = 6.6  # units of a character in the badge's font, about
_GREEN, _RED, _GREY = "#1f6b4a", "#a4262c", "#5b6360"


def badge(*, tag: str | None, version: int | None, withdrawn: bool) -> str:
    """The badge of what a model's newest name means; of a model that isn't listed without tag and version."""
    if tag is None or version is None:
        right, colour = "not listed", _GREY
    elif withdrawn:
        right, colour = "withdrawn", _RED
    else:
        right, colour = f"{shorten(tag, 32)} · v{version}", _GREEN
    left_width, right_width = _width(_LEFT), _width(right)
    width = left_width + right_width
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img"'
        f" aria-label={quoteattr(f'{_LEFT}: {right}')}>"
        f"<title>{escape(f'{_LEFT}: {right}')}</title>"
        f'<clipPath id="r"><rect width="{width}" height="20" rx="4"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left_width}" height="20" fill="#2b312e"/>'
        f'<rect x="{left_width}" width="{right_width}" height="20" fill="{colour}"/></g>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{left_width / 2:g}" y="14">{escape(_LEFT)}</text>'
        f'<text x="{left_width + right_width / 2:g}" y="14">{escape(right)}</text></g></svg>'
    )


def _width(text: str) -> int:
    return round(len(text) * _GLYPH) + 14
