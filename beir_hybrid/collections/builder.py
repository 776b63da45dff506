"""Making a collection from what a reader finds in its files: parallel questions, or questions with judgements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from beir_hybrid.collections.collection import KINDS, CollectionInfo, Kind, MultilingualCollection
from beir_hybrid.collections.texts import Relevance, Texts
from beir_hybrid.errors import BeirHybridError


def check_question(identifier: str, text: str, where: str) -> None:
    """Refuse a question without text: an encoder would take it, and find something or other.

    Raises:
        BeirHybridError: it is empty or blank; begins with `where`.
    """
    if not text.strip():
        raise BeirHybridError(
            f"{where}: the question {identifier!r} has no text; write one, or leave it and its judgements out."
        )


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
        check_question(identifier, text, where)
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
            judgements=Relevance(start, passages, np.ones(len(passages), dtype=np.int16)),
            info=self.info,
        )

    @staticmethod
    def _texts(rows: tuple[list[str], list[str], list[int]]) -> Texts:
        ids, texts, languages = rows
        return Texts(tuple(ids), tuple(texts), np.array(languages, dtype=np.int16))


class Judgement(NamedTuple):
    """One line of qrels: how relevant a passage is to a question, both by id.

    Attributes:
        query: The question's row.
        passage: The passage's id.
        grade: 0 and below is not relevant; what is below -1 is kept as -1, as pytrec_eval, which BEIR and ir_measures
            evaluate with, breaks down on it.
        where: The place in the source, for errors.
    """

    query: int
    passage: str
    grade: int
    where: str


def judged_collection(
    name: str,
    languages: tuple[str, ...],
    queries: Texts,
    passages: Texts,
    judgements: Iterable[Judgement],
    info: CollectionInfo,
    *,
    items: Sequence[str] | None = None,
    kinds: tuple[Kind, ...] = KINDS,
    allow_missing: bool = False,
) -> MultilingualCollection:
    """A collection from questions, passages and qrels.

    Args:
        items: The parallel item of each question; by default each question is one of its own.
        kinds: The kinds of setting that the judgements allow. With `mono` alone, a passage id means the passage in the
            question's own language.
        allow_missing: Leave out judgements of passages that the corpus lacks; `info.missing` counts them.

    Raises:
        BeirHybridError: there is no question, no passage, or no judged passage in the corpus; a passage is judged twice
            for a question with different grades; a judged passage is not in the corpus and that is not allowed.
    """
    if not len(queries) or not len(passages):
        raise BeirHybridError(f"{name}: no questions or no passages in {info.origin}; nothing to search.")
    own = kinds == ("mono",)
    if not own and not passages.ids_differ:
        raise BeirHybridError(
            f"{name}: a passage id stands in two languages, so it cannot be told which one was judged. Ids must "
            "differ, or each language be searched on its own (kinds=('mono',))."
        )
    pairs: dict[tuple[int, int], int] = {}
    missing: list[Judgement] = []
    for judgement in judgements:
        row = passages.find(judgement.passage, int(queries.language[judgement.query]) if own else None)
        if row is None:
            missing.append(judgement)
        elif abs(judgement.grade) > np.iinfo(np.int16).max:
            raise BeirHybridError(f"{judgement.where}: the grade {judgement.grade} is out of all proportion.")
        elif pairs.setdefault((judgement.query, row), judgement.grade) != judgement.grade:
            raise BeirHybridError(
                f"{judgement.where}: passage {judgement.passage!r} is judged {judgement.grade} for question "
                f"{queries.ids[judgement.query]!r} and {pairs[judgement.query, row]} before; keep one of the two."
            )
    if missing and not pairs:
        raise BeirHybridError(
            f"{missing[0].where}: none of the {len(missing):,} judgements is of a passage in the corpus of {name}; "
            "corpus and judgements must be of one collection and version."
        )
    if missing and not allow_missing:
        raise BeirHybridError(
            f"{missing[0].where}: the judged passage {missing[0].passage!r} is not in the corpus of {name}; "
            f"{len(missing):,} of {len(missing) + len(pairs):,} judgements are of passages that it lacks. The corpus "
            "is incomplete or of another version: get the right one, or leave those judgements out "
            "(allow_missing=True, or NAME.partial as the name)."
        )
    number: dict[str, int] = {}
    item_ids = [f"{languages[queries.language[row]]}:{one}" for row, one in enumerate(queries.ids)]
    item_ids = item_ids if items is None else list(items)
    return MultilingualCollection(
        name=name,
        languages=languages,
        queries=queries,
        passages=passages,
        query_item=np.array([number.setdefault(item, len(number)) for item in item_ids], dtype=np.int64),
        items=tuple(number),
        judgements=_relevance(pairs, len(queries)),
        info=replace(info, missing=len(missing)),
        kinds=kinds,
    )


def first_questions(collection: MultilingualCollection, count: int) -> MultilingualCollection:
    """The collection with only the first `count` questions of each language, in file order, and every passage."""
    queries = collection.queries
    rows = np.sort(np.concatenate([queries.rows_of(number)[:count] for number in queries.languages_there]))
    kept, item = np.unique(collection.query_item[rows], return_inverse=True)
    return replace(
        collection,
        queries=queries.take(rows),
        query_item=item.astype(np.int64),
        items=tuple(collection.items[number] for number in kept.tolist()),
        judgements=collection.judgements.of_queries(rows),
    )


def _relevance(pairs: dict[tuple[int, int], int], queries: int) -> Relevance:
    table = np.array([(query, row, grade) for (query, row), grade in pairs.items()], dtype=np.int64).reshape(-1, 3)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    start = np.searchsorted(table[:, 0], np.arange(queries + 1))
    return Relevance(start.astype(np.int64), table[:, 1].copy(), np.maximum(table[:, 2], -1).astype(np.int16))
