"""What a text is searched by: its words, brought to one form. Pure.

The same here for what is stored and for what people type, so that both databases find the same: letters and digits of
any script, without accents and capitals; everything else stands between words. So `Llama-3.2 Q4_0` is `llama 3 2 q4 0`.
Whatever comes in, what comes out means nothing to a query language.
"""

from __future__ import annotations

import unicodedata

MAX_WORDS = 2048  # of a listing; the first ones count
MAX_LETTERS = 64  # of one word


def words_of(text: str, limit: int = MAX_WORDS) -> tuple[str, ...]:
    """The different words of a text in order, at most `limit`."""
    # compatibility forms, so that ﬁ is fi and ½ has digits; folding may make new accents (İ), hence in between
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    letters = (c if c.isalnum() else "" if unicodedata.category(c).startswith("M") else " " for c in plain)
    found: dict[str, None] = {}
    for word in "".join(letters).split():
        if len(found) == limit:
            break
        found[unicodedata.normalize("NFC", word[:MAX_LETTERS])] = None
    return tuple(found)


def searchable(text: str) -> str:
    """A text as a database searches in it: its words with single spaces between. Idempotent."""
    return " ".join(words_of(text))
