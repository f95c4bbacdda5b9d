"""What is listed as columns in memory: filtered, counted and put in order without asking the database. Pure.

Each column has one element for each listing, the newest first. A selection is bytes, 1 where a listing fits, so that
the work on many listings is done by map, compress and set: 20,000 of them take milliseconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, repeat
from operator import floordiv
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A listing that isn't withdrawn. `model`, `publisher`: numbers of rows; `size`: bytes."""

    id: int
    model: int
    publisher: int
    name: str
    version: int
    listed_at: float
    size: int
    facets: tuple[str | None, ...]


class _Facet:
    """One column of names, with what is needed to count models by it."""

    def __init__(self, values: Sequence[str | None], models: Sequence[int], places: dict[int, int]) -> None:
        self.values = values
        self.lower = [None if value is None else value.lower() for value in values]
        numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
        self._names = list(numbers)
        self._each = max(1, len(places))
        # (value, model) as one number
        self._pairs = [numbers[value] * self._each + places[model] for value, model in zip(values, models, strict=True)]

    def count(self, chosen: bytes, most: int) -> list[tuple[str, int]]:
        """The most frequent values of the models chosen, with how many models have them."""
        pairs = set(compress(self._pairs, chosen))
        counts = Counter(map(floordiv, pairs, repeat(self._each)))
        named = ((name, count) for number, count in counts.items() if (name := self._names[number]) is not None)
        return sorted(named, key=lambda one: (-one[1], one[0]))[:most]


class Facts:
    """Everything that is listed and not withdrawn, as of one moment."""

    def __init__(self, rows: Iterable[Row]) -> None:
        ordered = sorted(rows, key=lambda row: (row.listed_at, row.model), reverse=True)
        self._ids = [row.id for row in ordered]
        self._models = [row.model for row in ordered]
        self._publishers = [row.publisher for row in ordered]
        self._versions = [row.version for row in ordered]
        self._sizes = [row.size for row in ordered]
        self._names = {row.model: row.name for row in ordered}
        self._spaced = {model: _spaced(name) for model, name in self._names.items()}
        self._of_model: dict[int, list[int]] = defaultdict(list)
        for place, model in enumerate(self._models):
            self._of_model[model].append(place)
        numbers = {model: number for number, model in enumerate(self._of_model)}
        columns: list[tuple[str | None, ...]] = list(zip(*(row.facets for row in ordered), strict=True))
        self._facets = [_Facet(column, self._models, numbers) for column in columns]
        self._by_size = sorted(range(len(ordered)), key=lambda place: (self._sizes[place], self._models[place]))
        self._by_name = sorted(
            range(len(ordered)), key=lambda place: (self._names[self._models[place]], self._models[place])
        )

    def __len__(self) -> int:
        return len(self._ids)

    def choose(
        self, *, ids: Collection[int] | None, publisher: int | None, facets: Sequence[str | None],
        exact: Sequence[bool], min_size: int | None, max_size: int | None,
    ) -> bytes:  # fmt: skip
        """The listings that fit. `ids`: those that have the words, None for all; `facets`: the value that each must
        have, None for any; `exact`: whether capitals count but for all capitals and none.
        """
        chosen = bytes([1]) * len(self)
        if ids is not None:
            chosen = _and(chosen, _where(self._ids, ids if isinstance(ids, (set, frozenset)) else set(ids)))
        if publisher is not None:
            chosen = _and(chosen, _where(self._publishers, {publisher}))
        for facet, value, is_exact in zip(self._facets, facets, exact, strict=False):
            if value is not None:
                wanted = {value, value.lower(), value.upper()} if is_exact else {value.lower()}
                chosen = _and(chosen, _where(facet.values if is_exact else facet.lower, wanted))
        if min_size is not None:
            chosen = _and(chosen, bytes(map(min_size.__le__, self._sizes)))
        if max_size is not None:
            chosen = _and(chosen, bytes(map(max_size.__ge__, self._sizes)))
        return chosen

    def count(self, facet: int, chosen: bytes, most: int) -> list[tuple[str, int]]:
        """A facet's most frequent values among the models chosen; how many models have each."""
        return self._facets[facet].count(chosen, most) if self._facets else []

    def newest(self, chosen: bytes) -> list[int]:
        """The models chosen, those with the newest listing first."""
        return list(dict.fromkeys(compress(self._models, chosen)))

    def by_name(self, chosen: bytes) -> list[int]:
        """The models chosen, by name, as bytes are compared."""
        return self._in(self._by_name, chosen)

    def by_size(self, chosen: bytes) -> list[int]:
        """The models chosen, those with the smallest listing first."""
        return self._in(self._by_size, chosen)

    def by_relevance(self, chosen: bytes, words: Sequence[str]) -> list[int]:
        """The models chosen: called so, with names that begin so, that have all the words, then the rest."""
        whole, spaced, newest = " ".join(words), self._spaced, self.newest(chosen)
        groups: tuple[list[int], ...] = ([], [], [], [])
        for model in newest:
            name = spaced[model]
            if words[0] not in name:
                groups[3].append(model)
            elif name.startswith(whole):
                groups[0 if name == whole else 1].append(model)
            else:
                groups[2 if all(word in name for word in words) else 3].append(model)
        return [model for group in groups for model in group]

    def listings(self, model: int, chosen: bytes) -> list[int]:
        """The listings chosen of one model (numbers of rows), the highest version first."""
        places = [place for place in self._of_model.get(model, ()) if chosen[place]]
        return [self._ids[at] for at in sorted(places, key=lambda at: (-self._versions[at], -self._ids[at]))]

    def _in(self, order: Sequence[int], chosen: bytes) -> list[int]:
        models = self._models
        return list(dict.fromkeys(models[place] for place in order if chosen[place]))


def _where(column: Sequence[Any], wanted: Container[Any]) -> bytes:
    return bytes(map(wanted.__contains__, column))


def _and(one: bytes, other: bytes) -> bytes:
    number = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return number.to_bytes(len(one), "little")


def _spaced(name: str) -> str:
    return name.replace("-", " ").replace("_", " ").replace(".", " ")
