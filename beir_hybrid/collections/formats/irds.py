"""The collections in ir_datasets: after `register()`, `ir_datasets.load("beir-hybrid/xquad-r/multi/en")`.

A name is checked against the declarations alone; files are read when documents, queries or judgements are used.
"""

# No `from __future__ import annotations`: ir_datasets and PyTerrier ask whether the type of a record's field is str.

import html
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from threading import RLock
from typing import Any, NamedTuple

import ir_datasets
import numpy as np
from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries, TrecQrel
from ir_datasets.indices import Docstore
from ir_datasets.util import MetadataComponent

from beir_hybrid.collections.blend import blended
from beir_hybrid.collections.collection import MultilingualCollection, Setting, SettingView
from beir_hybrid.collections.names import Part, parse_name
from beir_hybrid.collections.registry import available, load_collection, load_setting, resolve
from beir_hybrid.collections.texts import IntArray, RowMapping
from beir_hybrid.errors import BeirHybridError

PREFIX = "beir-hybrid/"
_LOADING = RLock()


class UnknownDataset(BeirHybridError, KeyError):
    """A name that is not there; for ir_datasets that is a KeyError."""

    __str__ = BaseException.__str__  # a KeyError's message is in quotes


class Passage(NamedTuple):
    """A document: a passage in its language."""

    doc_id: str
    title: str
    text: str
    language: str

    def default_text(self) -> str:
        """Title and text."""
        return f"{self.title} {self.text}".strip()


class Question(NamedTuple):
    """A query; `item` is the id of the parallel question, which its translations share."""

    query_id: str
    text: str
    language: str
    item: str

    def default_text(self) -> str:
        """The text."""
        return self.text


def register() -> None:
    """Let ir_datasets know of `beir-hybrid/...`; doing so again changes nothing."""
    patterns = getattr(ir_datasets.registry, "_patterns", ())
    if not any(pattern.pattern == PREFIX for pattern, _ in patterns):
        ir_datasets.registry.register_pattern(PREFIX, _dataset)


def _dataset(identifier: str, _groups: tuple[str, ...] = ()) -> Any:
    """The dataset of a name, with nothing read yet."""
    try:
        spec, part, setting = resolve(identifier.removeprefix(PREFIX))
    except BeirHybridError as error:
        raise UnknownDataset(str(error)) from None
    about = _About(identifier, part)
    codes = part.languages or spec.languages
    apart = "multi" not in spec.kinds and len(codes) > 1
    if apart and not setting:  # there is no pool, and an id may stand in several languages
        return ir_datasets.Dataset(MetadataComponent(identifier, ir_datasets.Dataset(), about), about)
    searched = codes if setting is None or setting.searched is None else (setting.searched,)
    asked = setting.query_language if setting and setting.kind != "blend" else codes[0] if len(codes) == 1 else None
    alone = setting is not None and (apart or setting.kind == "blend")  # else all settings share what is loaded
    source = _Source(str(setting if alone else part), setting.path if setting else "")
    namespace = (
        PREFIX + str(Part(part.base, text_mode=part.text_mode)) + ("" if "multi" in spec.kinds else f"/{searched[0]}")
    )
    docs, queries = _Docs((namespace, part.text_mode, searched), source), _Queries(source, asked)
    data = (docs, queries, _Qrels(source) if spec.judged else None)
    return ir_datasets.Dataset(MetadataComponent(identifier, ir_datasets.Dataset(*data), about), about, *data)


@dataclass(frozen=True)
class _Source:
    """Where the rows of a setting are, or all rows: names alone, so that handlers can be compared and pickled."""

    loaded: str
    setting: str

    def view(self) -> SettingView:
        """The rows, of a collection that is loaded now unless it was lately."""
        with _LOADING:
            data = _load(self.loaded, *(os.environ.get(f"BEIR_HYBRID_{name}") for name in ("DATA", "CACHE")))
        return data.view(self.setting) if self.setting else _Whole(data, Setting(data.name, "multi", ""))


@lru_cache(maxsize=4)
def _load(name: str, *environment: str | None) -> MultilingualCollection:
    part, setting = parse_name(name)
    if setting.startswith("blend/"):
        return blended(_load(str(part), *environment), [setting.split("/")[1]])
    return load_setting(name).collection if setting else load_collection(name)


class _Whole(SettingView):
    """A whole collection as if it were a setting: all questions, in all passages."""

    @cached_property
    def query_rows(self) -> IntArray:
        return np.arange(len(self.collection.queries))


def _passage(view: SettingView, row: int) -> Passage:
    texts, languages = view.collection.passages, view.collection.languages
    return Passage(texts.ids[row], texts.title(row), texts.texts[row], languages[texts.language[row]])


def _question(view: SettingView, row: int) -> Question:
    data, texts = view.collection, view.collection.queries
    language, item = data.languages[texts.language[row]], data.items[data.query_item[row]]
    return Question(texts.ids[row], texts.texts[row], language, item)


class _Records(Iterator[Any]):
    """Records made one at a time; a slice, which may be of fractions, is such an iterator over what is left."""

    def __init__(self, record: Callable[[int], Any], rows: IntArray) -> None:
        self._record, self._left = record, rows

    def __next__(self) -> Any:
        if not len(self._left):
            raise StopIteration
        row, self._left = int(self._left[0]), self._left[1:]
        return self._record(row)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return self._record(int(self._left[operator.index(key)]))
        start, stop = (int(end * len(self._left)) if isinstance(end, float) else end for end in (key.start, key.stop))
        return _Records(self._record, self._left[start : stop : key.step])


class _Store(Docstore):  # type: ignore[misc]
    """Records by id."""

    def __init__(self, cls: type, id_field: str, records: Mapping[str, Any]) -> None:
        super().__init__(cls, id_field)
        self._records = records

    def get_many_iter(self, doc_ids: Iterable[str]) -> Iterator[Any]:
        """The records that are there, in the order of their ids."""
        return (self._records[identifier] for identifier in doc_ids if identifier in self._records)


@dataclass(frozen=True, eq=False)
class _Docs(BaseDocs):  # type: ignore[misc]
    """The passages; equal to others where they are the same ones, for by that ir_datasets finds what is shared."""

    pool: tuple[str, str, tuple[str, ...]]  # namespace, text mode, languages
    source: _Source

    def __eq__(self, other: object) -> bool:  # not by class: after a reload there are two of it
        return self.pool == getattr(other, "pool", None)

    def __hash__(self) -> int:
        return hash(self.pool)

    def docs_iter(self) -> _Records:
        view = self.source.view()
        return _Records(partial(_passage, view), view.passage_rows)

    def docs_store(self, field: str = "doc_id", options: Any = None) -> _Store:
        view, code = self.source.view(), self.docs_lang()
        number = None if code is None else view.collection.language_number(code)
        rows = RowMapping(
            view.collection.passages, view.passage_rows, lambda some: (_passage(view, row) for row in some), number
        )
        return _Store(Passage, field, rows)

    def docs_count(self) -> int:
        return len(self.source.view().passage_rows)

    def docs_cls(self) -> type:
        return Passage

    def docs_lang(self) -> str | None:
        return self.pool[2][0] if len(self.pool[2]) == 1 else None

    def docs_namespace(self) -> str:
        return self.pool[0]


@dataclass(frozen=True)
class _Queries(BaseQueries):  # type: ignore[misc]
    """The questions."""

    source: _Source
    language: str | None

    def queries_iter(self) -> _Records:
        view = self.source.view()
        return _Records(partial(_question, view), view.query_rows)

    def queries_store(self) -> _Store:
        return _Store(Question, "query_id", {question.query_id: question for question in self.queries_iter()})

    def queries_count(self) -> int:
        return len(self.source.view().query_rows)

    def queries_cls(self) -> type:
        return Question

    def queries_lang(self) -> str | None:
        return self.language


@dataclass(frozen=True)
class _Qrels(BaseQrels):  # type: ignore[misc]
    """The judgements."""

    source: _Source

    def qrels_iter(self) -> Iterator[Any]:
        view = self.source.view()
        pairs, queries, passages = view.judgements, view.collection.queries.ids, view.collection.passages.ids
        for place, passage, grade in zip(pairs.queries, pairs.passages, pairs.grades, strict=True):
            yield TrecQrel(queries[view.query_rows[place]], passages[passage], int(grade), "0")

    def qrels_count(self) -> int:
        return len(self.source.view().judgements.passages)

    def qrels_cls(self) -> Any:
        return TrecQrel

    def qrels_defs(self) -> dict[int, str]:
        return {0: "judged, and not relevant", 1: "relevant; what is graded higher is more relevant"}


@dataclass(frozen=True)
class _About:
    """What is said of a dataset, and what upstream counts in one."""

    name: str
    part: Part

    def documentation(self) -> dict[str, Any]:
        spec = available()[self.part.base]
        return {
            "pretty_name": spec.title.partition(":")[0],
            "desc": f"<p>{html.escape(spec.title)}. This is {html.escape(self.name)}.</p>",
            "languages": list(self.part.languages or spec.languages),
        } | {name: getattr(spec.info, name) for name in ("citation", "licence", "origin")}

    def get_metadata(self, dataset_id: str, kind: Any) -> Any:
        return getattr(ir_datasets.load(dataset_id), f"{kind.value}_calc_metadata")(verbose=False)
