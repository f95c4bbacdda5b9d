"""What is listed as columns in memory: filtered, counted and put in order without asking the database. Pure.

Each listing has a place, the listings of one model lie side by side, and a place that is always free ends each model. A
selection of listings is one number with a bit for each place: 20,000 of them are filtered in microseconds. Adding to a
selection the bits of all places carries into the free place of exactly the models that have a bit: so models are
counted, not listings.

`Facts` never change. Those of the next moment (`Facts.after`) share the columns, which only grow: a model of which
something changed gets new places at the end, and its old ones are nobody's any more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import compress, groupby
from operator import attrgetter, itemgetter
from typing import Any

_TO_DIGITS = bytes.maketrans(b"\0\1", b"01")
_TO_NUMBERS = bytes.maketrans(b"01", b"\0\1")
_COMMON = 64  # a value that one of so many listings has is common


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


_END = Row(id=0, model=-1, publisher=-1, name="", version=0, listed_at=0.0, size=0, facets=())  # of a model


class _Facet:
    """One column of names, with what is needed to find and count by it."""

    def __init__(self) -> None:
        self.values: list[str | None] = []
        self._places: dict[str, list[int]] = defaultdict(list)
        self._spellings: dict[str, list[str]] = defaultdict(list)  # by the value in small letters
        # what many have is kept as a selection, the rest is enumerated
        self.common: dict[str, int] = {}
        self.all_common = 0

    def extend(self, values: Sequence[str | None]) -> None:
        """The column goes on."""
        start = len(self.values)
        more: dict[str, list[int]] = defaultdict(list)
        for place, value in enumerate(values, start):
            if value is None:
                continue
            if value not in self._places:
                self._spellings[value.lower()].append(value)
            self._places[value].append(place)
            if value in self.common:
                more[value].append(place - start)
        for value, places in more.items():
            bits = _bits_of_places(places) << start
            self.common[value] |= bits
            self.all_common |= bits
        self.values += values

    def find_common(self) -> None:
        """Which values many have. Asked once: who comes later isn't among them."""
        least = max(1, len(self.values) // _COMMON)
        for value, places in self._places.items():
            if len(places) >= least:
                self.common[value] = _bits_of_places(places)
                self.all_common |= self.common[value]

    def having(self, value: str, *, is_exact: bool) -> int:
        """The places of a value; with `is_exact` capitals count, but for all capitals and none."""
        found = 0
        rare: list[int] = []
        for one in {value, value.lower(), value.upper()} if is_exact else self._spellings.get(value.lower(), ()):
            if one in self.common:
                found |= self.common[one]
            else:
                rare += self._places.get(one, ())
        return found | _bits_of_places(rare)


class _Columns:
    """One element for each place, of all moments since they were made. They only grow."""

    def __init__(self, facets: int) -> None:
        self.ids: list[int] = []
        self.models: list[int] = []
        self.publishers: list[int] = []
        self.versions: list[int] = []
        self.sizes: list[int] = []
        self.times: list[float] = []
        self.facets = [_Facet() for _ in range(facets)]
        self.names: dict[int, str] = {}
        self.spaced: dict[int, str] = {}
        self.places_of: dict[int, list[int]] = defaultdict(list)  # by model, of all moments
        self.place_of: dict[int, int] = {}  # by id; of the latest moment alone
        self.moment = 0  # how often they were changed
        self.at_first = 0  # how many places there were then
        self.taken = 0  # a bit for each place that may hold a listing
        self.ends = 0  # and for each that ends a model

    def extend(self, models: Iterable[Sequence[Row]]) -> int:
        """Give models places at the end, each with all its listings; the listings' places."""
        start = place = len(self.ids)
        rows: list[Row] = []
        for some in models:
            for place, row in enumerate(some, start + len(rows)):
                self.places_of[row.model].append(place)
                self.place_of[row.id] = place
            self.names[some[0].model] = some[0].name
            self.spaced[some[0].model] = _spaced(some[0].name)
            rows += [*some, _END]
        for number, facet in enumerate(self.facets):
            facet.extend([row.facets[number] if row.facets else None for row in rows])
        self.models += [row.model for row in rows]
        self.publishers += [row.publisher for row in rows]
        self.versions += [row.version for row in rows]
        self.sizes += [row.size for row in rows]
        self.times += [row.listed_at for row in rows]
        self.ids += [row.id for row in rows]
        new = _bits(row is not _END for row in rows) << start
        self.taken |= new
        self.ends |= _bits(row is _END for row in rows) << start
        return new

    def row(self, place: int) -> Row:
        """What lies at a place."""
        model = self.models[place]
        return Row(
            id=self.ids[place], model=model, publisher=self.publishers[place], name=self.names[model],
            version=self.versions[place], listed_at=self.times[place], size=self.sizes[place],
            facets=tuple(facet.values[place] for facet in self.facets),
        )  # fmt: skip

    def by_age(self, place: int) -> tuple[float, int]:
        return -self.times[place], -self.models[place]

    def by_size(self, place: int) -> tuple[int, int]:
        return self.sizes[place], self.models[place]

    def by_name(self, place: int) -> tuple[str, int]:
        return self.names[self.models[place]], self.models[place]


class _Order:
    """Places by a key, some of them nobody's any more."""

    def __init__(self, columns: _Columns, key: Callable[[int], Any], places: list[int], models: list[int]) -> None:
        self._columns = columns
        self._key = key
        self._places = places
        self._models = models
        self._pick = itemgetter(*places) if len(places) > 1 else None

    @classmethod
    def of(cls, columns: _Columns, key: Callable[[int], Any], places: Iterable[int]) -> _Order:
        ordered = sorted(places, key=key)
        return cls(columns, key, ordered, [columns.models[place] for place in ordered])

    def after(self, new: Iterable[int]) -> _Order:
        """With more places."""
        places, models = self._places.copy(), self._models.copy()
        for place in new:
            at = bisect_left(places, self._key(place), key=self._key)
            places.insert(at, place)
            models.insert(at, self._columns.models[place])
        return _Order(self._columns, self._key, places, models)

    def models(self, chosen: bytes) -> list[int]:
        """The models of the places chosen, each once, in order."""
        picked = self._pick(chosen) if self._pick is not None else [chosen[place] for place in self._places]
        return list(dict.fromkeys(compress(self._models, picked)))


class Facts:
    """Everything that is listed and not withdrawn, as of one moment. Made by `of` and `after`."""

    def __init__(self, columns: _Columns, alive: int, newest: _Order, by_size: _Order, by_name: _Order) -> None:
        self._columns = columns
        self._moment = columns.moment
        self._length = len(columns.ids)
        self._alive = alive
        self._count = alive.bit_count()
        self._newest = newest
        self._by_size = by_size
        self._by_name = by_name

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Facts:
        """All anew."""
        ordered = list(rows)
        columns = _Columns(len(ordered[0].facets) if ordered else 0)
        alive = columns.extend(_by_model(ordered))
        for facet in columns.facets:
            facet.find_common()
        places = list(columns.place_of.values())
        orders = (_Order.of(columns, key, places) for key in (columns.by_age, columns.by_size, columns.by_name))
        columns.at_first = len(columns.ids)
        return cls(columns, alive, *orders)

    def __len__(self) -> int:
        return self._count

    def after(self, changed: Collection[Row], gone: Collection[int]) -> Facts:
        """As of the next moment: `changed`: listings that are new or say something else; `gone`: ids of those that are
        none any more, known here or not. Takes time for what changed, unless that is much of it all.
        """
        columns = self._columns
        replaced = {*gone, *(row.id for row in changed)}
        models = {row.model for row in changed}
        moved = [place for model in models for place in columns.places_of.get(model, ()) if self._alive >> place & 1]
        rows = [*changed, *(columns.row(place) for place in moved if columns.ids[place] not in replaced)]
        if self._must_begin_anew(rows):
            others = (place for place in _places(self._mask(self._alive)) if columns.models[place] not in models)
            return Facts.of([*rows, *(columns.row(at) for at in others if columns.ids[at] not in replaced)])
        columns.moment += 1
        dead = [place for place in map(columns.place_of.get, replaced) if place is not None]
        for number in replaced:
            columns.place_of.pop(number, None)
        start = len(columns.ids)
        new = columns.extend(_by_model(rows))
        places = [place for place in range(start, len(columns.ids)) if columns.models[place] != _END.model]
        orders = (order.after(places) for order in (self._newest, self._by_size, self._by_name))
        return Facts(columns, self._alive & ~_bits_of_places([*moved, *dead]) | new, *orders)

    def choose(
        self, *, ids: Collection[int] | None, publisher: int | None, facets: Sequence[str | None],
        exact: Sequence[bool], min_size: int | None, max_size: int | None,
    ) -> int:  # fmt: skip
        """The listings that fit. `ids`: those that have the words, None for all; `facets`: the value that each must
        have, None for any; `exact`: whether capitals count but for all capitals and none.
        """
        columns, chosen = self._columns, self._alive
        for facet, value, is_exact in zip(columns.facets, facets, exact, strict=False):
            if value is not None:
                chosen &= facet.having(value, is_exact=is_exact)
        if ids is not None:
            chosen &= _where(columns.ids, ids if isinstance(ids, (set, frozenset)) else set(ids))
        if publisher is not None:
            chosen &= _where(columns.publishers, {publisher})
        if min_size is not None:
            chosen &= _bits(map(min_size.__le__, columns.sizes))
        if max_size is not None:
            chosen &= _bits(map(max_size.__ge__, columns.sizes))
        return chosen

    def models(self, chosen: int) -> int:
        """How many models have a listing that is chosen."""
        return ((chosen + self._columns.taken) & self._columns.ends).bit_count()

    def count(self, facet: int, chosen: int, most: int) -> list[tuple[str, int]]:
        """A facet's most frequent values among the models chosen; how many models have each."""
        if not chosen:
            return []
        column = self._columns.facets[facet]
        counts = Counter({value: self.models(chosen & bits) for value, bits in column.common.items()})
        rest = chosen & ~column.all_common
        if rest:
            rare = self._mask(rest)
            pairs = set(zip(compress(column.values, rare), compress(self._columns.models, rare), strict=True))
            counts.update(map(itemgetter(0), pairs))
        named = ((value, count) for value, count in counts.items() if value is not None and count)
        return nsmallest(most, named, key=lambda one: (-one[1], one[0]))

    def newest(self, chosen: int) -> list[int]:
        """The models chosen, those with the newest listing first."""
        return self._newest.models(self._mask(chosen))

    def by_name(self, chosen: int) -> list[int]:
        """The models chosen, by name, as bytes are compared."""
        return self._by_name.models(self._mask(chosen))

    def by_size(self, chosen: int) -> list[int]:
        """The models chosen, those with the smallest listing first."""
        return self._by_size.models(self._mask(chosen))

    def by_relevance(self, chosen: int, words: Sequence[str]) -> list[int]:
        """The models chosen: called so, with names that begin so, that have all the words, then the rest."""
        whole, spaced, newest = " ".join(words), self._columns.spaced, self.newest(chosen)
        first = words[0]
        groups: tuple[list[int], ...] = ([], [], [], [])
        for model in newest:
            name = spaced[model]
            if first not in name:
                groups[3].append(model)
            elif name.startswith(whole):
                groups[0 if name == whole else 1].append(model)
            else:
                groups[2 if all(word in name for word in words) else 3].append(model)
        return [model for group in groups for model in group]

    def listings(self, model: int, chosen: int) -> list[int]:
        """The listings chosen of one model (numbers of rows), the highest version first."""
        columns = self._columns
        places = [place for place in columns.places_of.get(model, ()) if chosen >> place & 1]
        return [columns.ids[at] for at in sorted(places, key=lambda at: (-columns.versions[at], -columns.ids[at]))]

    def _must_begin_anew(self, rows: Sequence[Row]) -> bool:
        """Whether these are too many to be given new places, or can't be."""
        columns = self._columns
        return (
            columns.moment != self._moment  # others went on from here, or broke off
            or not columns.facets
            or len(rows) > max(64, len(self) // 8)
            or self._length + 2 * len(rows) > 2 * columns.at_first + 1024  # too many are nobody's, or not looked at yet
            or any(columns.names.get(row.model, row.name) != row.name for row in rows)
        )

    def _mask(self, chosen: int) -> bytes:
        """A byte for each place: 1 where it is chosen."""
        return format(chosen, f"0{self._length}b").encode().translate(_TO_NUMBERS)[::-1]


def _spaced(name: str) -> str:
    return name.replace("-", " ").replace("_", " ").replace(".", " ")


def _where(column: Sequence[Any], wanted: Container[Any]) -> int:
    return _bits(map(wanted.__contains__, column))


def _bits(values: Iterable[int]) -> int:
    """A number with a bit for each value (0 or 1), the first one lowest."""
    return int(bytes(values)[::-1].translate(_TO_DIGITS) or b"0", 2)


def _bits_of_places(places: Collection[int]) -> int:
    mask = bytearray(max(places, default=-1) + 1)
    for place in places:
        mask[place] = 1
    return _bits(mask)


def _places(mask: bytes) -> Iterator[int]:
    return compress(range(len(mask)), mask)


def _by_model(rows: Iterable[Row]) -> Iterator[list[Row]]:
    model = attrgetter("model")
    return (list(some) for _, some in groupby(sorted(rows, key=model), key=model))
