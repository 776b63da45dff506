"""BM25 with Anserini's analyzers: the lexical baseline, in every setting of a collection.

Passages are analysed in their own language, also where all languages share one pool (and there the frequencies of
terms), and questions in theirs. Nothing is translated: across languages only names, numbers and loan words match, so
`cross` and `multi` figures are a floor and no rival.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.anserini.jvm import JavaProcess
from beir_hybrid.anserini.lexical.analyzers import Analysis, analyzer_for
from beir_hybrid.collections.collection import MultilingualCollection, Setting, SettingView
from beir_hybrid.collections.lazy import take
from beir_hybrid.collections.texts import IntArray, Texts
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import as_one_error
from beir_hybrid.retrieval.runs import Run

logger = logging.getLogger(__name__)

K1, B = 0.9, 0.4
"""Anserini's own."""
DEPTH = 1000
_LUCENE = "beir_hybrid.anserini.lexical.lucene"
_DIGITS = 10
_BLOCK = 10_000


@dataclass(frozen=True, eq=False)
class LexicalRun:
    """What BM25 found in one setting: a row per question and passage, by question, best first.

    A passage that shares no term with the question is not in it, whatever the depth; nor is a question that found
    nothing. Anserini rounds scores to 4 digits and takes a millionth off each that ties with the one before.

    Attributes:
        queries: Query rows, ascending.
        passages: Passage rows: by score, ties by id descending, also where the depth cuts.
        provenance: The versions, the parameters, and how each language was analysed.
    """

    collection: MultilingualCollection
    setting: Setting
    queries: IntArray
    passages: IntArray
    scores: npt.NDArray[np.float32]
    provenance: dict[str, Any]

    @property
    def run(self) -> Run:
        """As any other run: to evaluate, to write, or as BEIR has results (`run.to_beir()`)."""
        return Run.of(self.collection.view(self.setting), self.queries, self.passages, self.scores)


def bm25_runs(
    collection: MultilingualCollection,
    settings: Iterable[Setting | str] | None = None,
    *,
    k1: float = K1,
    b: float = B,
    depth: int | None = DEPTH,
    threads: int | None = None,
    timeout: float | None = None,
) -> Iterator[LexicalRun]:
    """Search with BM25 in some settings of a collection, by default in all; yields each when it is done.

    Args:
        depth: How many passages are fetched for a question; None for all that share a term with it. Java writes some
            80,000 hits a second, so all of them take a while in a large pool.
        threads: Threads of Java; by default one for each core.
        timeout: Seconds that one index or one search may take.

    Raises:
        BeirHybridError: Pyserini or Java is missing, a parameter is out of range, or Java failed or took too long.
    """
    if k1 < 0 or not 0 <= b <= 1 or (depth is not None and depth < 1):
        raise BeirHybridError(f"k1={k1}, b={b}, depth={depth}: BM25 needs k1 >= 0, b from 0 to 1 and a depth above 0.")
    chosen = collection.settings if settings is None else [collection.setting(str(one)) for one in settings]
    threads = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with JavaProcess() as java, tempfile.TemporaryDirectory(prefix="beir-hybrid-bm25-") as scratch:
        lucene = _Lucene(java, Path(scratch), collection, threads, timeout)
        waiting = Counter(setting.searched for setting in chosen)
        provenance = lucene.provenance(chosen) | {"k1": k1, "b": b, "depth": depth}
        for setting in chosen:
            view = collection.view(setting)
            index = lucene.index(view)
            yield LexicalRun(collection, setting, *lucene.search(view, index, k1, b, depth), provenance)
            waiting[setting.searched] -= 1
            if not waiting[setting.searched]:  # the indexes of a large collection need not all be there at once
                shutil.rmtree(index)


class _Lucene:
    """The indexes of a collection's pools, in a folder, and the Java process that makes and searches them."""

    def __init__(
        self,
        java: JavaProcess,
        folder: Path,
        collection: MultilingualCollection,
        threads: int,
        timeout: float | None,
    ) -> None:
        self._java, self._folder, self._collection = java, folder, collection
        self._threads, self._timeout = threads, timeout
        plain = sorted({code.partition("+")[0] for code in collection.languages})
        known = java.call(f"{_LUCENE}:analyzers", timeout=timeout, languages=plain)
        self._analyses = {code: analyzer_for(code, known) for code in collection.languages}
        self._order = _descending(collection.passages.ids)
        self._place = np.empty_like(self._order)
        self._place[self._order] = np.arange(len(self._order))

    def provenance(self, settings: Sequence[Setting]) -> dict[str, Any]:
        """What the runs came from; warns of languages without an analyzer."""
        codes = {setting.query_language for setting in settings}
        for searched in {setting.searched for setting in settings}:
            codes |= set(self._spoken(searched))
        used = [self._analyses[code] for code in self._collection.languages if code in codes]
        if without := {one.language: one.name for one in used if one.kind != "lucene"}:
            named = "; ".join(f"{language}: {name}" for language, name in without.items())
            logger.warning("Anserini has no analyzer that works here for %s.", named)
        return {
            "engine": "Lucene's BM25 through Anserini",
            **self._java.call(f"{_LUCENE}:versions", timeout=self._timeout),
            "analyzers": {one.language: one.name for one in used},
            "without_analyzer": sorted(without),
        }

    def index(self, view: SettingView) -> Path:
        """The index of what a setting searches, made when it is first asked for."""
        searched = view.setting.searched
        folder = self._folder / ("multi" if searched is None else f"mono-{searched}")
        if folder.exists():
            return folder
        parts, expected = [], 0
        for code in self._spoken(searched):
            rows = self._collection.passages.rows_of(self._collection.language_number(code))
            path, analysis = self._folder / f"passages-{code}.jsonl", self._analyses[code]
            expected += _write(path, "contents", self._collection.passages, rows, self._place[rows], analysis)
            parts.append((str(path), analysis.options))
        call = {"folder": str(folder), "parts": parts, "threads": self._threads}
        written = self._java.call(f"{_LUCENE}:index", timeout=self._timeout, **call)
        if written != expected:
            raise BeirHybridError(f"{view.name}: Anserini indexed {written} of {expected} passages.")
        for path in self._folder.glob("passages-*.jsonl"):
            path.unlink()
        return folder

    def search(
        self, view: SettingView, index: Path, k1: float, b: float, depth: int | None
    ) -> tuple[IntArray, IntArray, npt.NDArray[np.float32]]:
        """Query rows, passage rows and scores."""
        collection, analysis = self._collection, self._analyses[view.setting.query_language]
        topics, run, rows = self._folder / "topics.jsonl", self._folder / "run.txt", view.query_rows
        asked = _write(topics, "title", collection.queries, rows, rows, analysis)
        if not asked or not len(view.passage_rows):
            return rows[:0], rows[:0], np.empty(0, dtype=np.float32)
        hits = len(view.passage_rows) if depth is None else min(depth + collection.same_ids, len(view.passage_rows))
        self._java.call(
            f"{_LUCENE}:search",
            timeout=self._timeout,
            **{"folder": str(index), "topics": str(topics), "run": str(run), "options": analysis.options},
            **{"k1": k1, "b": b, "hits": hits, "threads": self._threads},
        )
        queries, places, scores = _read_run(run)
        run.unlink()
        passages = self._order[places]
        if collection.same_ids:
            kept = _others(collection, queries, passages, depth)
            queries, passages, scores = queries[kept], passages[kept], scores[kept]
        return queries, passages, scores

    def _spoken(self, searched: str | None) -> list[str]:
        """The languages of the passages that are searched."""
        codes = self._collection.languages
        return [codes[i] for i in self._collection.passages.languages_there if searched in (None, codes[i])]


def _descending(ids: Sequence[str]) -> IntArray:
    """Rows by id, descending.

    Where scores tie Anserini goes by id, ascending, and cuts there. The place in this order is a passage's id in the
    index, so that what it cuts is what our rule (id descending) would.
    """
    names = list(ids)
    return np.array(sorted(range(len(names)), key=names.__getitem__, reverse=True), dtype=np.int64)


def _write(path: Path, field: str, texts: Texts, rows: IntArray, numbers: IntArray, analysis: Analysis) -> int:
    """Write texts as JSON lines, with numbers as ids that sort as strings; returns how many. Leaves out empty ones.

    Anserini refuses an empty passage, which nothing could find.
    """
    written = 0
    with as_one_error(path), open(path, "w", encoding="utf-8", newline="\n") as stream:
        for start in range(0, len(rows), _BLOCK):
            some = slice(start, start + _BLOCK)
            for number, text in zip(numbers[some].tolist(), take(texts.full_texts, rows[some]), strict=True):
                if prepared := analysis.prepare(text).strip():
                    stream.write(json.dumps({"id": f"{number:0{_DIGITS}d}", field: prepared}) + "\n")
                    written += 1
    return written


def _read_run(path: Path) -> tuple[IntArray, IntArray, npt.NDArray[np.float32]]:
    """Queries, passages and scores of a TREC run whose ids are numbers."""
    import pyarrow
    from pyarrow import csv

    names = ["query", "q0", "passage", "rank", "score", "tag"]
    types = {"query": pyarrow.int64(), "passage": pyarrow.int64(), "score": pyarrow.float32()}
    if not path.stat().st_size:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    table = csv.read_csv(
        path,
        csv.ReadOptions(column_names=names),
        csv.ParseOptions(delimiter=" "),
        csv.ConvertOptions(column_types=types, include_columns=list(types)),
    )
    queries, passages, scores = (table[name].to_numpy() for name in types)
    return queries, passages, scores


def _others(
    collection: MultilingualCollection, queries: IntArray, passages: IntArray, depth: int | None
) -> npt.NDArray[np.bool_]:
    """Which hits are kept: no question finds itself, and `depth` is the number of the others."""
    asked, found = collection.queries.ids, collection.passages.ids
    pairs = zip(queries.tolist(), passages.tolist(), strict=True)
    kept = np.fromiter((asked[query] != found[passage] for query, passage in pairs), np.bool_, len(queries))
    if depth is not None:
        before = np.append(0, np.cumsum(kept))
        starts = np.searchsorted(queries, queries)
        kept &= before[:-1] - before[starts] < depth
    return kept
