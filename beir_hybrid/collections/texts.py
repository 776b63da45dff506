"""Texts by row number, and which of them answer which. Ids are strings at the rim only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
_V = TypeVar("_V")


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts by row: `ids[i]`, `texts[i]` and `language[i]`, a number into the collection's languages.

    The sequences may live on disk (`stored.py`), so that a corpus larger than memory is a `Texts` like any other.

    Attributes:
        titles: What stands before each text; None where no text has a title.
        index: Id -> row, either one mapping for all languages or one for each. Made from `ids` where it is None. An id
            may stand in several languages: MIRACL counts from 0 in each.
        digest: SHA-256 of the rows where it is known already, so that a large corpus is not read again for it.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    language: npt.NDArray[np.int16]
    titles: Sequence[str] | None = None
    index: Sequence[Mapping[str, int]] | None = None
    digest: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def title(self, row: int) -> str:
        """The title of a row; empty where there is none."""
        return "" if self.titles is None else self.titles[row]

    def full_text(self, row: int) -> str:
        """Title and text joined by a blank, which is what encoders and lexical indexes are given."""
        return self.texts[row] if self.titles is None else f"{self.titles[row]} {self.texts[row]}".strip()

    def find(self, identifier: str, language: int | None = None) -> int | None:
        """The row of an id, in one language or in any; None if there is none."""
        index = self._index
        if len(index) == 1:
            row = index[0].get(identifier)
            return row if row is None or language is None or self.language[row] == language else None
        for one in index if language is None else index[language : language + 1]:
            if (row := one.get(identifier)) is not None:
                return row
        return None

    @cached_property
    def rows(self) -> IntArray:
        """Every row."""
        return np.arange(len(self))

    @cached_property
    def rows_by_language(self) -> tuple[IntArray, ...]:
        """The rows of each language, ascending."""
        counts = np.bincount(self.language, minlength=1)
        if len(self) == counts[-1]:  # one language: no need to sort 33 million
            return (*(np.empty(0, dtype=np.int64) for _ in counts[:-1]), self.rows)
        order = np.argsort(self.language, kind="stable")
        return tuple(np.split(order, np.cumsum(counts)[:-1]))

    @cached_property
    def _index(self) -> Sequence[Mapping[str, int]]:
        if self.index is not None:
            return self.index
        together = {identifier: row for row, identifier in enumerate(self.ids)}
        if len(together) == len(self.ids):
            return (together,)
        apart: list[dict[str, int]] = [{} for _ in range(int(self.language.max()) + 1)]
        for row, identifier in enumerate(self.ids):
            apart[self.language[row]][identifier] = row
        return tuple(apart)


@dataclass(frozen=True, eq=False)
class Relevance:
    """Query row -> its judged passage rows, ascending: `passages[start[q] : start[q + 1]]`.

    Attributes:
        grades: Shape (pairs,): how relevant each is; 0 and below is judged and not relevant.
    """

    start: IntArray
    passages: IntArray
    grades: npt.NDArray[np.int16]

    def __getitem__(self, query: int) -> IntArray:
        return self.passages[self.start[query] : self.start[query + 1]]

    @cached_property
    def queries(self) -> IntArray:
        """The query row of each pair, aligned with `passages`."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    def where(self, kept: npt.NDArray[np.bool_]) -> Relevance:
        """Only the pairs that are `kept`, for the same queries."""
        counts = np.bincount(self.queries[kept], minlength=len(self.start) - 1)
        return Relevance(np.append(0, np.cumsum(counts)), self.passages[kept], self.grades[kept])

    def of_queries(self, rows: IntArray) -> Relevance:
        """The pairs of some queries, which are numbered anew in the order of `rows`."""
        counts = np.diff(self.start)[rows]
        start = np.append(0, np.cumsum(counts)).astype(np.int64)
        pairs = np.arange(start[-1]) - np.repeat(start[:-1] - self.start[rows], counts)
        return Relevance(start, self.passages[pairs], self.grades[pairs])


class RowMapping(Mapping[str, _V], Generic[_V]):
    """A read-only mapping from the ids of some rows to what `value(row)` makes of them, on demand and in row order."""

    def __init__(self, texts: Texts, rows: IntArray, value: Callable[[int], _V], language: int | None = None) -> None:
        self._texts, self._rows, self._value, self._language = texts, rows, value, language

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return (self._texts.ids[row] for row in self._rows)

    def __getitem__(self, key: str) -> _V:
        row = self._texts.find(key, self._language)
        if row is None:
            raise KeyError(key)
        place = int(np.searchsorted(self._rows, row))
        if place == len(self._rows) or self._rows[place] != row:
            raise KeyError(key)
        return self._value(row)


class Chain(Sequence[str]):
    """Sequences of strings one after the other, as one; copies nothing."""

    def __init__(self, parts: Sequence[Sequence[str]]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        if isinstance(row, slice):
            rows = range(len(self))[row]
            return self._run(rows.start, rows.stop) if rows.step == 1 else [self[number] for number in rows]
        number = int(row) + len(self) if row < 0 else int(row)
        if not 0 <= number < len(self):
            raise IndexError(row)
        part = int(np.searchsorted(self._ends, number, side="right"))
        return self._parts[part][number - (int(self._ends[part - 1]) if part else 0)]

    def __iter__(self) -> Iterator[str]:
        for part in self._parts:
            yield from part

    def _run(self, start: int, stop: int) -> list[str]:
        """A run of rows, a part at a time: a store is much faster at that than row by row."""
        found: list[str] = []
        for part, end in zip(self._parts, self._ends.tolist(), strict=True):
            begin = end - len(part)
            if begin < stop and start < end:
                found += part[max(start - begin, 0) : stop - begin]
        return found


class Offset(Mapping[str, int]):
    """An index whose rows begin at `by`: the index of one part of a chain. Copies nothing."""

    def __init__(self, index: Mapping[str, int], by: int) -> None:
        self._index, self._by = index, by

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __getitem__(self, identifier: str) -> int:
        return self._index[identifier] + self._by
