"""Parallel question-passage pairs: one item, a question and a passage in each language it exists in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.lazy import take
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError, unknown


@dataclass(frozen=True, eq=False)
class Negatives:
    """Explicit negatives: texts that do not answer a question, in the language of the passage they stand beside.

    Attributes:
        texts: The texts by row.
        start: Shape (items x languages + 1,): those of item i in language l are `start[i * languages + l]` and on.
        row: Their rows in `texts`.
        group: As long as `row`: the group of the items that the text answers after all; -1 where there are none.
    """

    texts: Sequence[str]
    start: IntArray
    row: IntArray
    group: IntArray

    def of(self, cell: int, most: int) -> tuple[list[str], list[int]]:
        """Texts and groups of the first `most` negatives of a cell (item x languages + language), or of all it has."""
        first = int(self.start[cell])
        part = slice(first, min(first + most, int(self.start[cell + 1])))
        return [self.texts[row] for row in self.row[part].tolist()], self.group[part].tolist()

    def take(self, mask: npt.NDArray[np.bool_], group: IntArray) -> Negatives:
        """Those of some items. `group` is shape (items,), what the items' groups are called now, -1 for none."""
        width = (len(self.start) - 1) // len(mask)
        counts = np.diff(self.start)
        kept = np.repeat(mask, width)
        rows = np.repeat(kept, counts)
        start = np.append(0, np.cumsum(counts[kept]))
        old = self.group[rows]
        return Negatives(self.texts, start, self.row[rows], np.where(old < 0, -1, group[old]))


@dataclass(frozen=True, eq=False)
class ParallelPairs:
    """Items x languages, as row numbers into texts that are referenced, never copied.

    Attributes:
        languages: Codes; column `l` of the arrays is `languages[l]`.
        query_texts, passage_texts: The texts by row.
        query_row, passage_row: Shape (items, languages), whole numbers of any size, in memory or mapped from disk: the
            row of the question, and of the passage that answers it, in each language; -1 where there is none.
        item_group: Shape (items,), from 0 without gaps. Two items share a group when the passage of one, or its
            translation, answers the other too: they must never be each other's negative.
        source, digest: Name and SHA-256 of the data they came from, for the record of a training.
        negatives: Explicit negatives, where there are any.
        same_language: Whether a question and a passage in one language make a row. Sentences and their translations are
            parallel pairs without: within a language they would be asked for themselves.
    """

    languages: tuple[str, ...]
    query_texts: Sequence[str]
    passage_texts: Sequence[str]
    query_row: IntArray
    passage_row: IntArray
    item_group: IntArray
    source: str
    digest: str
    negatives: Negatives | None = None
    same_language: bool = True

    def __post_init__(self) -> None:
        shape = (len(self.item_group), len(self.languages))
        if self.query_row.shape != shape or self.passage_row.shape != shape:
            raise BeirHybridError(
                f"pairs of {self.source}: query_row has shape {self.query_row.shape} and passage_row "
                f"{self.passage_row.shape}; expected {shape} (items, languages) for both."
            )
        twice = sorted({code for code in self.languages if self.languages.count(code) > 1})
        if twice:
            raise BeirHybridError(
                f"pairs of {self.source}: language {', '.join(twice)} is named twice; name every language once."
            )

    @classmethod
    def from_collection(
        cls, collection: MultilingualCollection, languages: Sequence[str] | None = None
    ) -> ParallelPairs:
        """The pairs of a collection: an item's passage in a language is the first there that answers it.

        Passages that were judged not to answer it, as in MIRACL, are its explicit negatives.

        Args:
            collection: The data.
            languages: The codes to keep, in this order; all of the collection's when not given.

        Raises:
            BeirHybridError: a language is unknown or named twice, or no item is left.
        """
        codes = tuple(collection.languages if languages is None else languages)
        for code in codes:
            if code not in collection.languages:
                raise unknown(f"language in {collection.name}:", code, collection.languages)
        items, width = len(collection.items), len(collection.languages)
        queries, relevant = collection.queries, collection.relevant

        item_of_link = collection.query_item[relevant.queries]
        shape = (items, width)
        query_row = _first_rows(shape, collection.query_item, queries.language, np.arange(len(queries)))
        spoken = collection.passages.language[relevant.passages]
        passage_row = _first_rows(shape, item_of_link, spoken, relevant.passages)

        group = _item_groups(collection, item_of_link)
        columns = [collection.languages.index(code) for code in codes]
        query_row, passage_row = query_row[:, columns], passage_row[:, columns]
        usable = np.flatnonzero((query_row >= 0).any(axis=1) & (passage_row >= 0).any(axis=1))
        if not len(usable):
            raise BeirHybridError(f"{collection.name}: no item has a question and a passage in {', '.join(codes)}.")
        mask = np.zeros(items, dtype=bool)
        mask[usable] = True
        return cls(
            languages=codes,
            query_texts=queries.texts,
            passage_texts=collection.passages.full_texts,
            query_row=query_row,
            passage_row=passage_row,
            item_group=group,
            source=collection.name,
            digest=collection.digest,
            negatives=_negatives(collection, columns, group),
        )._take(mask, collection.name)

    def __len__(self) -> int:
        return len(self.item_group)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r}, {len(self)} items, {len(self.languages)} languages)"

    def pair(self, item: int, query_language: int, passage_language: int) -> tuple[str, str]:
        """The question of `item` in one language and its passage in another, both given as language numbers.

        Raises:
            BeirHybridError: the item has no question or no passage there.
        """
        query, passage = int(self.query_row[item, query_language]), int(self.passage_row[item, passage_language])
        if query < 0 or passage < 0:
            what, number = ("question", query_language) if query < 0 else ("passage", passage_language)
            raise BeirHybridError(f"{self.source}: item {item} has no {what} in {self.languages[number]}.")
        return self.query_texts[query], self.passage_texts[passage]

    def split(self, held_out: int | float, seed: int = 0) -> tuple[ParallelPairs, ParallelPairs]:
        """Training pairs and held-out pairs. Groups are never cut: no held-out passage is trained on in any language.

        Args:
            held_out: How many items to hold out (a whole number), or what share of them (between 0 and 1). Where
                groups are larger than what is left to take, up to that many fewer are held out.
            seed: Which groups are held out.

        Raises:
            BeirHybridError: one of the two parts would be empty.
        """
        wanted = round(held_out * len(self)) if isinstance(held_out, float) else held_out
        sizes = np.bincount(self.item_group)
        taken, left = np.zeros(len(sizes), dtype=bool), wanted
        for group in np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).permutation(len(sizes)):
            if sizes[group] <= left:
                taken[group] = True
                left -= int(sizes[group])
        mask = taken[self.item_group]
        if mask.all() or not mask.any():
            raise BeirHybridError(
                f"{self.source}: holding out {held_out} of {len(self)} items in {len(sizes)} groups leaves one part "
                f"empty; hold out a share between 0 and 1, or at least {sizes.min()} items and less than all."
            )
        name = f"{int(mask.sum())} of {len(self)} items, seed {seed}"
        return self._take(~mask, f"{self.source} without held-out {name}"), self._take(mask, f"{self.source}, {name}")

    def _take(self, mask: npt.NDArray[np.bool_], source: str) -> ParallelPairs:
        known, numbers = np.unique(self.item_group[mask], return_inverse=True)
        names = np.full(int(self.item_group.max()) + 1, -1, dtype=np.int64)
        names[known] = np.arange(len(known))
        return replace(
            self,
            query_row=self.query_row[mask],
            passage_row=self.passage_row[mask],
            item_group=numbers.astype(np.int64),
            source=source,
            negatives=self.negatives and self.negatives.take(mask, names),
        )


def _first_rows(shape: tuple[int, int], item: IntArray, language: npt.NDArray[np.int16], row: IntArray) -> IntArray:
    """An array of `shape` (items, languages) with the first `row` of each item and language, -1 where there is none."""
    cells, first = np.unique(item * shape[1] + language, return_index=True)
    table = np.full(shape, -1, dtype=np.int64)
    table.ravel()[cells] = row[first]
    return table


def _item_groups(collection: MultilingualCollection, item_of_link: IntArray) -> IntArray:
    """Shape (items,): connected items, through a shared passage, its translations, or an equal passage text.

    An equal text counts whatever the language and the spaces around it: to the model it is the same passage.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    passages, items = collection.relevant.passages, len(collection.items)
    answering = np.unique(passages)
    number: dict[str, int] = {}
    texts = take(collection.passages.full_texts, answering)
    text = np.array([number.setdefault(one.strip(), len(number)) for one in texts])
    # The nodes: items, then groups of passages, then texts. An item is linked to the groups of its passages, and each
    # group to the texts of its passages.
    group = collection.passage_group
    groups = int(group.max()) + 1
    one = np.concatenate([item_of_link, items + group[answering]])
    other = np.concatenate([items + group[passages], items + groups + text])
    nodes = items + groups + len(number)
    links = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(nodes, nodes))
    components: IntArray = connected_components(links, directed=False)[1][:items].astype(np.int64)
    return components


def _negatives(collection: MultilingualCollection, columns: Sequence[int], group: IntArray) -> Negatives | None:
    """The passages that were judged not to answer an item; None where nobody judged so. `columns` are languages."""
    judged, relevant = collection.judgements, collection.relevant
    bad = np.flatnonzero(judged.grades <= 0)
    column = np.full(len(collection.languages), -1, dtype=np.int64)
    column[columns] = np.arange(len(columns))
    column_of = column[collection.passages.language[judged.passages[bad]]]
    bad, column_of = bad[column_of >= 0], column_of[column_of >= 0]
    if not len(bad):
        return None
    cell = collection.query_item[judged.queries[bad]] * len(columns) + column_of
    row = judged.passages[bad[np.argsort(cell, kind="stable")]]
    counts = np.bincount(cell, minlength=len(collection.items) * len(columns))
    answers = np.full(len(collection.passages), -1, dtype=np.int64)
    answers[relevant.passages] = group[collection.query_item[relevant.queries]]
    start = np.append(0, np.cumsum(counts)).astype(np.int64)
    return Negatives(collection.passages.full_texts, start, row, answers[row])
