"""What a text is searched by: its words, brought to one form. Pure.

The same here for what is stored and for what people type, so that both databases find the same: letters and digits of
any script, without accents and capitals; everything else stands between words. So `Llama-3.2 Q4_0` is `llama 3 2 q4 0`.
Whatever comes in, what comes out means nothing to a query language.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice

MAX_WORDS = 2048  # of a listing; the first ones count
MAX_LETTERS = 64  # of one word


_ASCII = re.compile("[0-9a-z]+")
_MAX_KNOWN = 1 << 14  # letters


class Searchable(str):
    """A text that is its words already, with single spaces between."""

    __slots__ = ()


class _Letters(dict[int, str]):
    """What a letter becomes, by its number; of as many as texts usually have it is remembered."""

    def __missing__(self, number: int) -> str:
        letter = chr(number)
        found = letter if letter.isalnum() else "" if unicodedata.category(letter).startswith("M") else " "
        if len(self) < _MAX_KNOWN:
            self[number] = found
        return found


_LETTERS = _Letters()


def words_of(text: str, limit: int = MAX_WORDS) -> tuple[str, ...]:
    """The different words of a text in order, at most `limit`."""
    if text.isascii():  # has one form
        return tuple(islice(dict.fromkeys(word[:MAX_LETTERS] for word in _ASCII.findall(text.lower())), limit))
    # compatibility forms, so that ﬁ is fi and ½ has digits; folding may make new accents (İ), hence in between
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    words = plain.translate(_LETTERS).split()
    return tuple(islice(dict.fromkeys(unicodedata.normalize("NFC", word[:MAX_LETTERS]) for word in words), limit))


def searchable(text: str) -> Searchable:
    """A text as a database searches in it. Idempotent."""
    return text if isinstance(text, Searchable) else Searchable(" ".join(words_of(text)))
