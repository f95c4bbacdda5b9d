"""Names that people take for one another. Pure, but for saying the same in SQL.

The rule is PyPI's `ultranormalize_name` (separators count for nothing; l, i and 1 are one letter, so are o and 0), and
two pairs of letters that look like one (Unicode's UTS 39). Where the first comer has a name, it keeps others from
standing beside it: `meta_1lama` can't be claimed once `meta-llama` is somebody's.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute

_REPLACED = (
    (".", ""), ("_", ""), ("-", ""), ("l", "1"), ("i", "1"), ("o", "0"), ("rn", "m"), ("vv", "w"),
)  # fmt: skip


def skeleton(name: str) -> str:
    """The same for names that look alike."""
    for seen, told in _REPLACED:
        name = name.replace(seen, told)
    return name


def skeleton_of(column: InstrumentedAttribute[str]) -> sa.ColumnElement[str]:
    """`skeleton` of a column."""
    found: sa.ColumnElement[str] = sa.cast(column, sa.String)
    for seen, told in _REPLACED:
        found = sa.func.replace(found, seen, told)
    return found


def is_encoded(name: str) -> bool:
    """Whether a part of it has the form of an internationalised domain's encoding (`xn--…`, RFC 5890 §2.3.1): programs
    show such a name in other letters.
    """
    return any(part[2:4] == "--" for part in name.split("."))
