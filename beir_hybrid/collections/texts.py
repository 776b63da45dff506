"""Texts by row number, and which of them answer which. Ids are strings at the rim only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.lazy import BLOCK, Joined, Some, take
from beir_hybrid.errors import BeirHybridError

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

    @property
    def full_texts(self) -> Sequence[str]:
        """Title and text joined by a blank, by row: what encoders and lexical indexes are given. Copies nothing."""
        return self.texts if self.titles is None else Joined(self.titles, self.texts)

    def take(self, rows: IntArray) -> Texts:
        """Some rows, ascending, as texts of their own, in memory."""
        titles = None if self.titles is None else take(self.titles, rows)
        return Texts(take(self.ids, rows), take(self.texts, rows), self.language[rows], titles)

    @property
    def ids_differ(self) -> bool:
        """Whether an id means one row whatever the language; else it does within its language."""
        return len(self._index) == 1

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

    def rows_of(self, language: int) -> IntArray:
        """The rows of a language, ascending."""
        parts = self._rows_by_language
        return parts[language] if language < len(parts) else self.rows[:0]

    @property
    def languages_there(self) -> list[int]:
        """The numbers of the languages that have rows."""
        return [number for number, rows in enumerate(self._rows_by_language) if len(rows)]

    def digest_of(self, languages: Sequence[str]) -> str:
        """SHA-256 over id, title, text and language of every row: the same however the rows are held."""
        if self.digest is not None:
            return self.digest
        state = hashlib.sha256()
        for row, (identifier, text) in enumerate(zip(self.ids, self.texts, strict=True)):
            for part in (identifier, self.title(row), text, languages[self.language[row]]):
                encoded = part.encode("utf-8", "surrogatepass")
                state.update(len(encoded).to_bytes(4, "little") + encoded)
        return state.hexdigest()

    @cached_property
    def _rows_by_language(self) -> tuple[IntArray, ...]:
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
            if apart[self.language[row]].setdefault(identifier, row) != row:
                raise BeirHybridError(f"the id {identifier!r} is used twice in one language; each text needs its own.")
        return tuple(apart)


def first_of_equal(texts: Sequence[str]) -> tuple[Sequence[str], IntArray | None]:
    """The different texts in order of appearance, and which of them each text is; None if all are different.

    Holds 16 bytes of a hash for each text, not the texts.
    """
    hashes = np.empty((len(texts), 2), dtype="<u8")
    row_bytes = hashes.view(np.uint8).reshape(len(texts), 16)
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        found = b"".join(
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in block
        )
        row_bytes[start : start + len(block)] = np.frombuffer(found, dtype=np.uint8).reshape(-1, 16)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: of equal ones the first text comes first
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = (hashes[order[1:]] != hashes[order[:-1]]).any(axis=1)
    if begins.all():
        return texts, None
    first = np.empty_like(order)
    first[order] = order[begins][np.cumsum(begins) - 1]
    rows, place = np.unique(first, return_inverse=True)
    return Some(texts, rows), place


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
    """A read-only mapping from the ids of some rows to what `values(rows)` makes of them, on demand and in row order.

    Going through `items()` or `values()` reads many rows at once; `mapping[id]` looks one up.
    """

    def __init__(
        self, texts: Texts, rows: IntArray, values: Callable[[IntArray], Iterable[_V]], language: int | None = None
    ) -> None:
        self._texts, self._rows, self._values, self._language = texts, rows, values, language

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._rows), BLOCK):
            yield from take(self._texts.ids, self._rows[start : start + BLOCK])

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._row(key) is not None

    def __getitem__(self, key: str) -> _V:
        row = self._row(key)
        if row is None:
            raise KeyError(key)
        (value,) = self._values(np.array([row]))
        return value

    def items(self) -> ItemsView[str, _V]:
        """Ids and values."""
        return _RowItems(self)

    def values(self) -> ValuesView[_V]:
        """Values."""
        return _RowValues(self)

    def blocks(self) -> Iterator[_V]:
        """The values, read many rows at once."""
        for start in range(0, len(self._rows), BLOCK):
            yield from self._values(self._rows[start : start + BLOCK])

    def _row(self, key: str) -> int | None:
        row = self._texts.find(key, self._language)
        if row is None:
            return None
        place = int(np.searchsorted(self._rows, row))
        return row if place < len(self._rows) and self._rows[place] == row else None


class _RowItems(ItemsView[str, _V]):
    _mapping: RowMapping[_V]

    def __iter__(self) -> Iterator[tuple[str, _V]]:
        return zip(self._mapping, self._mapping.blocks(), strict=True)


class _RowValues(ValuesView[_V]):
    _mapping: RowMapping[_V]

    def __iter__(self) -> Iterator[_V]:
        return self._mapping.blocks()
