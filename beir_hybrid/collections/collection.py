"""A parallel collection: questions and passages in many languages, and which answers which.

Inside, a text is a row number; ids are strings at the rim only. A setting is a view: it names rows, it copies no text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from beir_hybrid.errors import unknown

IntArray = npt.NDArray[np.int64]
Kind = Literal["mono", "cross", "multi"]
KINDS: tuple[Kind, ...] = ("mono", "cross", "multi")
_V = TypeVar("_V")


@dataclass(frozen=True, order=True)
class Setting:
    """Who asks in which language, and where the answer is looked for.

    `mono`: passages of the question's own language. `cross`: passages of one other language. `multi`: the passages of
    all languages in one pool. Prints as `xquad-r/mono/en`, `xquad-r/cross/en-de` (question language first) and
    `xquad-r/multi/en`; every folder, id, run, report and command uses that string.
    """

    collection: str
    kind: Kind
    query_language: str
    passage_language: str | None = None

    def __str__(self) -> str:
        languages = self.query_language
        if self.kind == "cross":
            languages += f"-{self.passage_language}"
        return f"{self.collection}/{self.kind}/{languages}"


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts by row: `ids[i]`, `texts[i]` and `language[i]`, a number into the collection's languages."""

    ids: Sequence[str]
    texts: Sequence[str]
    language: npt.NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        """Id -> row; made once, for every view."""
        return {identifier: row for row, identifier in enumerate(self.ids)}

    @cached_property
    def rows_by_language(self) -> tuple[IntArray, ...]:
        """The rows of each language, ascending."""
        order = np.argsort(self.language, kind="stable")
        counts = np.bincount(self.language, minlength=1)
        return tuple(np.split(order, np.cumsum(counts)[:-1]))


@dataclass(frozen=True, eq=False)
class Relevance:
    """Query row -> its relevant passage rows, ascending: `passages[start[q] : start[q + 1]]`."""

    start: IntArray
    passages: IntArray

    def __getitem__(self, query: int) -> IntArray:
        return self.passages[self.start[query] : self.start[query + 1]]

    @cached_property
    def queries(self) -> IntArray:
        """The query row of each pair, aligned with `passages`."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))


@dataclass(frozen=True)
class CollectionInfo:
    """What a result must carry about its data."""

    licence: str
    citation: str
    origin: str
    text_mode: str = "sentence"


@dataclass(frozen=True, eq=False)
class MultilingualCollection:
    """Parallel questions and passages in several languages.

    Attributes:
        name: The name in every setting, result and file.
        languages: Codes, in the order of the numbers in `Texts.language`.
        queries, passages: The texts.
        items: The ids of the parallel questions; `query_item[q]` is the item of query row `q`. Two queries of one item
            are translations of each other.
        relevant: Which passages answer a query, in every language.
    """

    name: str
    languages: tuple[str, ...]
    queries: Texts
    passages: Texts
    items: Sequence[str]
    query_item: IntArray
    relevant: Relevance
    info: CollectionInfo

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, {len(self.languages)} languages, {len(self.queries)} queries, "
            f"{len(self.passages)} passages)"
        )

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting in which at least one question has a relevant passage: mono, then cross, then multi."""
        pairs = self._language_pairs
        codes = self.languages
        found = [Setting(self.name, "mono", a) for i, a in enumerate(codes) if (i, i) in pairs]
        found += [
            Setting(self.name, "cross", a, b)
            for i, a in enumerate(codes)
            for j, b in enumerate(codes)
            if i != j and (i, j) in pairs
        ]
        if len(codes) > 1:
            asking = {query for query, _ in pairs}
            found += [Setting(self.name, "multi", a) for i, a in enumerate(codes) if i in asking]
        return tuple(found)

    def setting(self, name: str) -> Setting:
        """The setting called `name`, with or without the collection before it: `cross/en-de`.

        Raises:
            BeirHybridError: there is none of that name.
        """
        by_name = {str(setting): setting for setting in self.settings}
        wanted = name if name.startswith(f"{self.name}/") else f"{self.name}/{name}"
        if wanted not in by_name:
            raise unknown("setting", wanted, by_name)
        return by_name[wanted]

    def view(self, setting: Setting | str) -> SettingView:
        """The queries, the passages and the relevance of one setting."""
        return SettingView(self, self.setting(str(setting)))

    def language_number(self, code: str) -> int:
        """The number of the language `code`.

        Raises:
            BeirHybridError: the collection has no such language.
        """
        if code not in self.languages:
            raise unknown(f"language in {self.name}:", code, self.languages)
        return self.languages.index(code)

    @cached_property
    def passage_group(self) -> IntArray:
        """Shape (passages,): a number that passages share when they answer the same question, that is, translations.

        Passages that answer nothing have a group each. Groups are closed: where one language splits what another says
        in one sentence, all the parts are one group.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        first = self.relevant.passages[self.relevant.start[:-1][self.relevant.queries]]
        links = coo_array(
            (np.ones(len(first), dtype=np.int8), (first, self.relevant.passages)), [len(self.passages)] * 2
        )
        groups: IntArray = connected_components(links, directed=False)[1].astype(np.int64)
        return groups

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every id, text, language and relevance: two collections with one digest are the same data."""
        state = hashlib.sha256()
        for texts in (self.queries, self.passages):
            for identifier, text, language in zip(texts.ids, texts.texts, texts.language, strict=True):
                for part in (identifier, text, self.languages[language]):
                    encoded = part.encode("utf-8", "surrogatepass")
                    state.update(len(encoded).to_bytes(4, "little") + encoded)
        state.update(self.relevant.start.tobytes() + self.relevant.passages.tobytes())
        return state.hexdigest()

    @cached_property
    def _language_pairs(self) -> frozenset[tuple[int, int]]:
        asked = self.queries.language[self.relevant.queries]
        found = self.passages.language[self.relevant.passages]
        pairs = np.unique(np.stack([asked, found], axis=1), axis=0)
        return frozenset((int(a), int(b)) for a, b in pairs)


@dataclass(frozen=True, eq=False)
class SettingView:
    """One setting of a collection, as rows and as the three mappings that BEIR takes. Copies no text."""

    collection: MultilingualCollection
    setting: Setting

    @property
    def passage_rows(self) -> IntArray:
        """The rows of the passages that are searched, ascending."""
        passages = self.collection.passages
        language = self._passage_language
        return np.arange(len(passages)) if language is None else passages.rows_by_language[language]

    @cached_property
    def query_rows(self) -> IntArray:
        """The rows of the questions that have a relevant passage in this setting, ascending."""
        collection, relevant = self.collection, self.collection.relevant
        rows = collection.queries.rows_by_language[collection.language_number(self.setting.query_language)]
        language = self._passage_language
        found = (
            relevant.passages >= 0 if language is None else collection.passages.language[relevant.passages] == language
        )
        before = np.concatenate([[0], np.cumsum(found)])
        return rows[before[relevant.start[rows + 1]] > before[relevant.start[rows]]]

    @property
    def corpus(self) -> Mapping[str, dict[str, Any]]:
        """`{passage id: {"title": "", "text": ..., "metadata": {"language": ...}}}`, read from the collection."""
        passages, codes = self.collection.passages, self.collection.languages

        def document(row: int) -> dict[str, Any]:
            return {
                "title": "",
                "text": passages.texts[row],
                "metadata": {"language": codes[passages.language[row]]},
            }

        return RowMapping(passages, self.passage_rows, document)

    @property
    def queries(self) -> Mapping[str, str]:
        """`{query id: text}`, read from the collection."""
        return RowMapping(self.collection.queries, self.query_rows, self.collection.queries.texts.__getitem__)

    @property
    def qrels(self) -> Mapping[str, dict[str, int]]:
        """`{query id: {passage id: 1}}`, relevant passages of this setting only."""
        relevant, passages, language = self.collection.relevant, self.collection.passages, self._passage_language

        def judged(row: int) -> dict[str, int]:
            rows = relevant[row]
            kept = rows if language is None else rows[passages.language[rows] == language]
            return {passages.ids[passage]: 1 for passage in kept}

        return RowMapping(self.collection.queries, self.query_rows, judged)

    @property
    def _passage_language(self) -> int | None:
        """The number of the language that is searched; None for all."""
        if self.setting.kind == "multi":
            return None
        return self.collection.language_number(self.setting.passage_language or self.setting.query_language)


class RowMapping(Mapping[str, _V], Generic[_V]):
    """A read-only mapping from the ids of some rows to what `value(row)` makes of them, on demand and in row order."""

    def __init__(self, texts: Texts, rows: IntArray, value: Callable[[int], _V]) -> None:
        self._texts, self._rows, self._value = texts, rows, value

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return (self._texts.ids[row] for row in self._rows)

    def __getitem__(self, key: str) -> _V:
        row = self._texts.row_of[key]
        place = int(np.searchsorted(self._rows, row))
        if place == len(self._rows) or self._rows[place] != row:
            raise KeyError(key)
        return self._value(row)
