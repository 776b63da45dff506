"""A multilingual collection: questions and passages in many languages, and which answers which.

Inside, a text is a row number; ids are strings at the rim only. A setting names rows, it copies no text.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.lazy import take
from beir_hybrid.collections.texts import IntArray, Relevance, RowMapping, Texts
from beir_hybrid.errors import unknown

Kind = Literal["mono", "cross", "multi", "blend"]
KINDS: tuple[Kind, ...] = ("mono", "cross", "multi", "blend")


@dataclass(frozen=True, order=True)
class Setting:
    """Who asks in which language, and where the answer is looked for.

    `mono`: passages of the question's own language. `cross`: passages of one other language. `multi`: the passages of
    all languages in one pool. `blend`: the question mixes two languages (`de+en`); passages of one language, or of all
    where `passage_language` is None. Prints as `xquad-r/mono/en`, `xquad-r/cross/en-de` (question language first),
    `xquad-r/multi/en`, `xquad-r/blend/de+en/de` and `xquad-r/blend/de+en/multi`; every folder, id, run, report and
    command uses that string.
    """

    collection: str
    kind: Kind
    query_language: str
    passage_language: str | None = None

    def __str__(self) -> str:
        return f"{self.collection}/{self.path}"

    @property
    def path(self) -> str:
        """The setting without its collection: `cross/en-de`."""
        languages = self.query_language
        if self.kind == "cross":
            languages += f"-{self.passage_language}"
        if self.kind == "blend":
            languages += f"/{self.passage_language or 'multi'}"
        return f"{self.kind}/{languages}"

    @property
    def searched(self) -> str | None:
        """The language of the passages that are searched; None for all languages in one pool."""
        return self.query_language if self.kind == "mono" else self.passage_language


@dataclass(frozen=True)
class CollectionInfo:
    """What a result must carry about its data.

    Attributes:
        missing: How many judged passages the corpus lacks; they were left out where the user allowed it.
    """

    licence: str
    citation: str
    origin: str
    text_mode: str = "sentence"
    missing: int = 0


@dataclass(frozen=True, eq=False)
class MultilingualCollection:
    """Questions and passages in several languages, parallel or not.

    Attributes:
        name: The name in every setting, result and file.
        languages: Codes, in the order of the numbers in `Texts.language`.
        queries, passages: The texts.
        items: The ids of the parallel questions; `query_item[q]` is the item of query row `q`. Two queries of one item
            are translations of each other.
        judgements: Which passages were judged for a query, in every language, and how.
        kinds: The kinds of setting that the judgements allow: `mono` alone where nobody judged across languages.
        same_ids: Whether a question and a passage with one id are one text, as in BEIR's ArguAna: no question then
            finds itself. Elsewhere, as in MIRACL, such ids have nothing to do with each other.
        whole: False where only some of the settings that the name promises were read: no average is taken over them.
    """

    name: str
    languages: tuple[str, ...]
    queries: Texts
    passages: Texts
    items: Sequence[str]
    query_item: IntArray
    judgements: Relevance
    info: CollectionInfo
    kinds: tuple[Kind, ...] = KINDS
    same_ids: bool = False
    whole: bool = True

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, {len(self.languages)} languages, {len(self.queries)} queries, "
            f"{len(self.passages)} passages)"
        )

    @cached_property
    def relevant(self) -> Relevance:
        """The judgements with a grade above 0: which passages answer a query."""
        good = self.judgements.grades > 0
        return self.judgements if good.all() else self.judgements.where(good)

    @cached_property
    def own_passages(self) -> IntArray | None:
        """Shape (queries,): the passage that each query is itself, -1 for none; None where queries are no passages."""
        if not self.same_ids:
            return None
        rows = [self.passages.find(identifier) for identifier in self.queries.ids]
        return np.array([-1 if row is None else row for row in rows], dtype=np.int64)

    @property
    def judged(self) -> bool:
        """Whether there are judgements; a test set may keep them back."""
        return len(self.judgements.passages) > 0

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting in which at least one question has a relevant passage: mono, cross, multi, then blends.

        Without any judgements: each language on its own.
        """
        codes, pairs = self.languages, self._language_pairs
        if not self.judged:
            both = sorted({*self.queries.languages_there} & {*self.passages.languages_there})
            return tuple(Setting(self.name, "mono", codes[number]) for number in both)
        plain = [i for i, code in enumerate(codes) if "+" not in code]
        found = [Setting(self.name, "mono", codes[i]) for i in plain if (i, i) in pairs]
        found += [
            Setting(self.name, "cross", codes[i], codes[j]) for i in plain for j in plain if i != j and (i, j) in pairs
        ]
        asking = {query for query, _ in pairs}
        if len(plain) > 1:
            found += [Setting(self.name, "multi", codes[i]) for i in plain if i in asking]
        for i in range(len(codes)):
            if i not in plain:
                found += [Setting(self.name, "blend", codes[i], codes[j]) for j in plain if (i, j) in pairs]
                found += [Setting(self.name, "blend", codes[i])] if i in asking else []
        return tuple(setting for setting in found if setting.kind in self.kinds)

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
        """SHA-256 over every id, title, text and language, what is parallel, and how what was judged.

        Two collections with one digest are the same data, however they were read.
        """
        state = hashlib.sha256()
        for texts in (self.queries, self.passages):
            state.update(bytes.fromhex(texts.digest_of(self.languages)))
        judgements = self.judgements
        for array in (self.query_item, judgements.start, judgements.passages, judgements.grades):
            state.update(array.astype("<i8").tobytes())
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
    def name(self) -> str:
        """The setting's name."""
        return str(self.setting)

    @property
    def passage_rows(self) -> IntArray:
        """The rows of the passages that are searched, ascending."""
        passages = self.collection.passages
        language = self._searched
        return passages.rows if language is None else passages.rows_of(language)

    @cached_property
    def query_rows(self) -> IntArray:
        """The rows of the questions that have a relevant passage in this setting, ascending.

        All of the language's questions where the collection has no judgements.
        """
        rows = self.collection.queries.rows_of(self._asked)
        if not self.collection.judged:
            return rows
        relevant = self.collection.relevant
        before = np.append(0, np.cumsum(self._in_setting(relevant.passages)))
        kept = before[relevant.start[rows + 1]] > before[relevant.start[rows]]
        return rows if kept.all() else rows[kept]  # views that ask all of a language's questions share one array

    @property
    def corpus(self) -> Mapping[str, dict[str, Any]]:
        """Passage id -> a dict with `title`, `text` and `metadata` (its `language`), made when it is asked for."""
        return RowMapping(self.collection.passages, self.passage_rows, self._documents, self._searched)

    @property
    def queries(self) -> Mapping[str, str]:
        """Query id -> text."""
        queries = self.collection.queries
        return RowMapping(queries, self.query_rows, lambda rows: take(queries.texts, rows), self._asked)

    @property
    def qrels(self) -> Mapping[str, dict[str, int]]:
        """Query id -> passage id -> grade, of the passages that are searched in this setting."""
        if not self.collection.judged:
            return {}
        return RowMapping(self.collection.queries, self.query_rows, self._judged, self._asked)

    @cached_property
    def judgements(self) -> Relevance:
        """The judgements of `query_rows`, which are numbered from 0 here, and of the passages that are searched."""
        found = self.collection.judgements.of_queries(self.query_rows)
        return found.where(self._in_setting(found.passages))

    def _documents(self, rows: IntArray) -> Iterator[dict[str, Any]]:
        passages, codes = self.collection.passages, self.collection.languages
        titles = itertools.repeat("") if passages.titles is None else take(passages.titles, rows)
        spoken = passages.language[rows].tolist()
        for title, text, number in zip(titles, take(passages.texts, rows), spoken, strict=False):
            yield {"title": title, "text": text, "metadata": {"language": codes[number]}}

    def _judged(self, rows: IntArray) -> Iterator[dict[str, int]]:
        judgements, ids = self.collection.judgements, self.collection.passages.ids
        for row in rows.tolist():
            passages, pairs = judgements[row], slice(judgements.start[row], judgements.start[row + 1])
            kept = self._in_setting(passages)
            grades = judgements.grades[pairs][kept].tolist()
            yield {ids[passage]: grade for passage, grade in zip(passages[kept].tolist(), grades, strict=True)}

    def _in_setting(self, passages: IntArray) -> npt.NDArray[np.bool_]:
        """Which of some passage rows are searched."""
        language = self._searched
        if language is None:
            return np.ones(len(passages), dtype=np.bool_)
        return np.equal(self.collection.passages.language[passages], language)

    @property
    def _asked(self) -> int:
        return self.collection.language_number(self.setting.query_language)

    @property
    def _searched(self) -> int | None:
        """The number of the language that is searched; None for all."""
        language = self.setting.searched
        return None if language is None else self.collection.language_number(language)
