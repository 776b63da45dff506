"""Making a collection, row by row, from whatever a reader finds in its files."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection, Relevance, Texts
from beir_hybrid.errors import BeirHybridError


@dataclass
class CollectionBuilder:
    """Collects rows while a reader goes through its files, and checks them when the collection is built.

    `where` in the methods names the place in the source for errors.
    """

    name: str
    languages: tuple[str, ...]
    info: CollectionInfo
    _queries: tuple[list[str], list[str], list[int]] = field(default_factory=lambda: ([], [], []))
    _passages: tuple[list[str], list[str], list[int]] = field(default_factory=lambda: ([], [], []))
    _query_item: list[int] = field(default_factory=list)
    _items: dict[str, int] = field(default_factory=dict)
    _answers: list[tuple[int, int]] = field(default_factory=list)
    _seen: dict[str, str] = field(default_factory=dict)

    def add_passage(self, identifier: str, text: str, language: int, where: str) -> int:
        """Add a passage and return its row."""
        return self._add(self._passages, identifier, text, language, where)

    def add_query(self, identifier: str, text: str, language: int, item: str, answer: int, where: str) -> int:
        """Add a question of the parallel `item`, answered by the passage row `answer`; return its row."""
        row = self._add(self._queries, identifier, text, language, where)
        number = self._items.setdefault(item, len(self._items))
        self._query_item.append(number)
        self._answers.append((number, answer))
        return row

    def _add(
        self, rows: tuple[list[str], list[str], list[int]], identifier: str, text: str, language: int, where: str
    ) -> int:
        if identifier in self._seen:
            raise BeirHybridError(
                f"{where}: the id {identifier!r} is used twice (first at {self._seen[identifier]}). "
                "Every question and passage needs an id of its own within its language."
            )
        self._seen[identifier] = where
        ids, texts, languages = rows
        ids.append(identifier)
        texts.append(text)
        languages.append(language)
        return len(ids) - 1

    def build(self) -> MultilingualCollection:
        """The collection: a passage that answers an item answers it in whatever language it is asked.

        Raises:
            BeirHybridError: there is no question or no passage.
        """
        if not self._queries[0] or not self._passages[0]:
            raise BeirHybridError(f"{self.name}: no question with a passage in {self.info.origin}; nothing to search.")
        # Answers are unique (item, passage) pairs in order, so that an item's answers are one slice.
        answers = np.unique(np.array(self._answers, dtype=np.int64), axis=0)
        starts = np.searchsorted(answers[:, 0], np.arange(len(self._items) + 1))
        item = np.array(self._query_item, dtype=np.int64)
        counts = np.diff(starts)[item]
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        offset = np.arange(start[-1]) - np.repeat(start[:-1], counts)
        passages = answers[np.repeat(starts[item], counts) + offset, 1]
        return MultilingualCollection(
            name=self.name,
            languages=self.languages,
            queries=self._texts(self._queries),
            passages=self._texts(self._passages),
            items=tuple(self._items),
            query_item=item,
            relevant=Relevance(start, passages),
            info=self.info,
        )

    @staticmethod
    def _texts(rows: tuple[list[str], list[str], list[int]]) -> Texts:
        ids, texts, languages = rows
        return Texts(tuple(ids), tuple(texts), np.array(languages, dtype=np.int16))
