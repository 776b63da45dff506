"""Sources of parallel pairs side by side: their items numbered through, their languages in one list."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.pairs import ParallelPairs

BoolArray = npt.NDArray[np.bool_]
_BLOCK = 1 << 20
"""Items of a table that are looked at together: it may lie on disk, and be larger than memory."""


class LanguageSets:
    """A set of languages for each item, a bit a language.

    Args:
        bits: Shape (items, bytes). Where every item has the same, one row, broadcast: nothing is then looked up.
    """

    def __init__(self, bits: npt.NDArray[np.uint8]) -> None:
        self.bits = bits
        self.alike = len(bits) > 1 and bits.strides[0] == 0

    @classmethod
    def of(cls, tables: Sequence[IntArray], columns: Sequence[Sequence[int]], width: int) -> LanguageSets:
        """Where the tables, one below the other, have rows; language l of a table is its column `columns[..][l]`."""
        blocks = [np.zeros((0, -(-width // 8)), dtype=np.uint8)]
        for table, places in zip(tables, columns, strict=True):
            here = [number for number, place in enumerate(places) if place >= 0]
            for start in range(0, len(table), _BLOCK):
                block = np.asarray(table[start : start + _BLOCK])
                whole = bool(here) and int(block.min()) >= 0
                there = np.zeros((1 if whole else len(block), width), dtype=bool)
                there[:, here] = True if whole else block[:, [places[number] for number in here]] >= 0
                bits = np.packbits(there, axis=1, bitorder="little")
                alike = whole or (bits == bits[0]).all()
                blocks.append(np.broadcast_to(bits[0], (len(block), bits.shape[1])) if alike else bits)
        first = blocks[1][0] if len(blocks) > 1 else None
        if all(len(bits) == 0 or (bits.strides[0] == 0 and (bits[0] == first).all()) for bits in blocks):
            items = sum(len(bits) for bits in blocks)
            return cls(np.broadcast_to(blocks[0][:0] if first is None else first, (items, blocks[0].shape[1])))
        return cls(np.concatenate(blocks))

    def has(self, language: int, items: slice | IntArray) -> BoolArray:
        """Whether each of these items has the language."""
        if self.alike:
            return np.full(self._count(items), bool((self.bits[0, language >> 3] >> (language & 7)) & 1))
        return np.asarray((self.bits[:, language >> 3][items] >> (language & 7)) & 1, dtype=bool)

    def some(self, items: slice | IntArray) -> BoolArray:
        """Whether each of these items has any."""
        if self.alike:
            return np.full(self._count(items), bool(self.bits[0].any()))
        return np.asarray(self.bits[items].any(axis=1))

    def table(self, items: slice | IntArray, width: int) -> BoolArray:
        """Shape (items, width): which of the languages each of these items has."""
        return np.unpackbits(self.bits[items], axis=1, count=width, bitorder="little").view(bool)

    def full(self, width: int) -> bool:
        """Whether every item is known to have all of so many languages."""
        return self.alike and bool(self.table(slice(0, 1), width).all())

    def _count(self, items: slice | IntArray) -> int:
        return len(range(*items.indices(len(self.bits)))) if isinstance(items, slice) else len(items)


class JoinedPairs:
    """One or several sources as one: item i of source s is item `start[s] + i`. Nothing is copied.

    Attributes:
        parts: The sources.
        languages: The codes of all sources, in the order in which they first appear.
        start: Shape (sources + 1,): the first item of each source, and at the end the number of items.
        asks, answers: The languages in which each item has a question, and a passage.

    Raises:
        BeirHybridError: there is no source, or two have one name.
    """

    def __init__(self, parts: Sequence[ParallelPairs]) -> None:
        self.parts = tuple(parts)
        if not self.parts:
            raise BeirHybridError("there are no pairs to train on; name at least one source.")
        names = [part.source for part in self.parts]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise BeirHybridError(f"two sources are called {twice[0]!r}; give one of them a name of its own.")
        self.languages = tuple(dict.fromkeys(code for part in self.parts for code in part.languages))
        self.start: IntArray = np.append(0, np.cumsum([len(part) for part in self.parts])).astype(np.int64)
        self._columns = [
            [part.languages.index(code) if code in part.languages else -1 for code in self.languages]
            for part in self.parts
        ]
        width = len(self.languages)
        self.asks = LanguageSets.of([part.query_row for part in self.parts], self._columns, width)
        self.answers = LanguageSets.of([part.passage_row for part in self.parts], self._columns, width)
        groups = [int(part.item_group.max()) + 1 if len(part) else 0 for part in self.parts]
        self._first_group = np.append(0, np.cumsum(groups)).astype(np.int64)

    @classmethod
    def of(cls, pairs: ParallelPairs | JoinedPairs | Sequence[ParallelPairs]) -> JoinedPairs:
        """Pairs as joined pairs."""
        if isinstance(pairs, JoinedPairs):
            return pairs
        return cls([pairs] if isinstance(pairs, ParallelPairs) else pairs)

    def __len__(self) -> int:
        return int(self.start[-1])

    @property
    def name(self) -> str:
        """The sources' names."""
        return " + ".join(part.source for part in self.parts)

    @cached_property
    def both(self) -> LanguageSets:
        """The languages in which each item makes a row of one language."""
        if self.asks.alike and self.answers.alike and all(part.same_language for part in self.parts):
            return LanguageSets(np.broadcast_to(self.asks.bits[0] & self.answers.bits[0], self.asks.bits.shape))
        bits = self.asks.bits & self.answers.bits
        for number, part in enumerate(self.parts):
            if not part.same_language:
                bits[self.items_of(number)] = 0
        return LanguageSets(bits)

    def items_of(self, source: int) -> slice:
        """The items of a source."""
        return slice(int(self.start[source]), int(self.start[source + 1]))

    def source_of(self, items: IntArray) -> IntArray:
        """The number of each item's source."""
        if len(self.parts) == 1:
            return np.zeros(len(items), dtype=np.int64)
        return np.asarray(np.searchsorted(self.start, items, side="right") - 1)

    def groups(self, items: slice | IntArray) -> IntArray:
        """The group of each of these items, numbered through; a slice is of one source."""
        if isinstance(items, slice):
            source = int(self.source_of(np.array([items.start]))[0])
            first = int(self.start[source])
            own = self.parts[source].item_group[items.start - first : items.stop - first]
            return np.asarray(own + self._first_group[source])
        if len(self.parts) == 1:
            return np.asarray(self.parts[0].item_group[items])
        found, source_of = np.empty(len(items), dtype=np.int64), self.source_of(items)
        for source, part in enumerate(self.parts):
            mine = source_of == source
            found[mine] = part.item_group[items[mine] - self.start[source]] + self._first_group[source]
        return found

    def row(
        self, item: int, query_language: int, passage_language: int, negatives: int = 0
    ) -> tuple[str, str, int, list[tuple[str, int]]]:
        """Question, passage, group, and up to so many explicit negatives with their groups (-1: of no item).

        Raises:
            BeirHybridError: the item has no question or no passage there.
        """
        source = int(np.searchsorted(self.start, item, side="right")) - 1
        part, places, own = self.parts[source], self._columns[source], item - int(self.start[source])
        query, passage = places[query_language], places[passage_language]
        if query < 0 or passage < 0:
            code = self.languages[query_language if query < 0 else passage_language]
            raise BeirHybridError(f"{part.source}: item {own} has nothing in {code}.")
        first = int(self._first_group[source])
        found: list[tuple[str, int]] = []
        if negatives and part.negatives is not None:
            texts, groups = part.negatives.of(own * len(part.languages) + passage, negatives)
            found = [(text, group if group < 0 else group + first) for text, group in zip(texts, groups, strict=True)]
        return *part.pair(own, query, passage), int(part.item_group[own]) + first, found

    def passage_rows(self, source: int, items: IntArray, language: int) -> IntArray:
        """The rows of the passages of some items of one source, in its texts; -1 where there is none."""
        place = self._columns[source][language]
        if place < 0:
            return np.full(len(items), -1, dtype=np.int64)
        return np.asarray(self.parts[source].passage_row[items - self.start[source], place])
