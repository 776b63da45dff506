"""Runs: which passages a system found for the questions of a setting. Files of TREC and dicts of BEIR, both ways."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.collection import SettingView
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.retrieval import trec_files
from beir_hybrid.retrieval.vectors import FloatArray

Unknown = Literal["error", "skip"]
_TOO_LARGE = float(2**128 - 2**103)  # half a step past the largest float32: below it, numbers round to that one


@dataclass(frozen=True, eq=False)
class Run:
    """The passages that were found for the questions of one setting: a row for each, in aligned arrays.

    By question in the collection's order, then by score and by passage id, both descending, as trec_eval ranks.

    Attributes:
        view: The setting.
        queries, passages: Rows of the collection.
        scores: As trec_eval holds them, in single precision.
        unknown_queries, unknown_documents: How many lines named a question or document that the setting has not, and
            were skipped.
    """

    view: SettingView
    queries: IntArray
    passages: IntArray
    scores: FloatArray
    unknown_queries: int = 0
    unknown_documents: int = 0

    def __len__(self) -> int:
        return len(self.queries)

    @classmethod
    def of(cls, view: SettingView, queries: npt.ArrayLike, passages: npt.ArrayLike, scores: npt.ArrayLike) -> Run:
        """From rows in any order, as `top_k` has them: `queries` of shape (queries, 1) goes with its (queries, k).

        Raises:
            BeirHybridError: a row is not in the setting, a passage stands twice, or a score is not finite.
        """
        arrays = np.broadcast_arrays(np.asarray(queries), np.asarray(passages), np.asarray(scores, dtype=np.float32))
        query, passage, score = arrays[0].ravel(), arrays[1].ravel(), arrays[2].ravel()
        if not np.isfinite(score).all():
            raise BeirHybridError("a score of the run is NaN or infinite; every score must be finite.")
        for name, rows, known in (("query", query, view.query_rows), ("passage", passage, view.passage_rows)):
            if len(strange := np.setdiff1d(rows, known)):
                raise BeirHybridError(f"{name} row {strange[0]} of the run is not in {view.name}; give its own rows.")
        run = _ordered(cls(view, query.astype(np.int64), passage.astype(np.int64), score))
        if (twice := _repeated(run.queries, run.passages)) is not None:
            raise _repeats(view, *twice, "the run")
        return run

    @classmethod
    def from_beir(
        cls, results: Mapping[str, Mapping[str, float]], view: SettingView, unknown: Unknown = "error"
    ) -> Run:
        """From BEIR's results, query id -> document id -> score.

        Raises:
            BeirHybridError: an unknown id (unless it is to be skipped and counted), or a score that is not finite.
        """
        rows = _Rows(view, unknown)
        for query, found in results.items():
            for document, score in found.items():
                rows.add(query, document, float(score), lambda query=query: f"the results of query {query!r}")  # type: ignore[misc]
        return rows.run()

    @classmethod
    def read(cls, path: str | Path, view: SettingView, unknown: Unknown = "error") -> Run:
        """From a TREC run file, plain or gzip (`.gz`): the score counts, as for trec_eval, not the rank.

        Raises:
            BeirHybridError: the file cannot be read, is empty or malformed, repeats a document for a query, or holds an
                unknown id (unless it is to be skipped and counted); says the line.
        """
        rows = _Rows(view, unknown)
        path = Path(path)
        for number, (query, document, score) in trec_files.lines(path):
            rows.add(query, document, score, lambda number=number: f"{path}, line {number}")  # type: ignore[misc]
        return rows.run(lambda query, passage: trec_files.second_line(path, query, passage))

    def write(self, path: str | Path, tag: str = "beir_hybrid") -> None:
        """As a TREC run file, gzip where its name ends in `.gz`: whole or not at all.

        Reading it gives the same order and the same scores.

        Raises:
            BeirHybridError: an id or the tag holds white space or is empty, or the file cannot be written.
        """
        queries, passages = self.view.collection.queries.ids, self.view.collection.passages.ids
        bounds = self._bounds
        with trec_files.writer(Path(path), tag) as write:
            for start, stop in itertools.pairwise(bounds):
                found = [passages[row] for row in self.passages[start:stop].tolist()]
                write(queries[int(self.queries[start])], found, self.scores[start:stop].tolist())

    def to_beir(self) -> dict[str, dict[str, float]]:
        """Query id -> document id -> score, best first, as BEIR has results."""
        queries, passages = self.view.collection.queries.ids, self.view.collection.passages.ids
        return {
            queries[int(self.queries[start])]: {
                passages[row]: score
                for row, score in zip(self.passages[start:stop].tolist(), self.scores[start:stop].tolist(), strict=True)
            }
            for start, stop in itertools.pairwise(self._bounds)
        }

    @cached_property
    def _bounds(self) -> list[int]:
        """Where each query's rows begin, and the end."""
        if not len(self):
            return []
        return [0, *(np.flatnonzero(np.diff(self.queries)) + 1).tolist(), len(self)]


class _Rows:
    """Rows of a run as they are read: ids in, numbers kept, 20 bytes a row."""

    def __init__(self, view: SettingView, unknown: Unknown) -> None:
        if unknown not in ("error", "skip"):
            raise BeirHybridError(f"unknown is {unknown!r}; expected 'error' or 'skip'.")
        if view.setting.searched is None and not view.collection.passages.ids_differ:
            raise BeirHybridError(
                f"{view.name}: passages of different languages share ids, so a run of all of them cannot be told apart."
            )
        self._view, self._skip = view, unknown == "skip"
        codes = view.collection.languages
        self._asked = codes.index(view.setting.query_language)
        self._searched = None if view.setting.searched is None else codes.index(view.setting.searched)
        self._in_setting = np.zeros(len(view.collection.queries), dtype=np.bool_)
        self._in_setting[view.query_rows] = True
        self._queries, self._passages, self._scores = array("q"), array("q"), array("f")
        self._last: tuple[str, int | None] = ("", None)
        self._strange = {"query": 0, "document": 0}

    def add(self, query: str, document: str, score: float, place: Callable[[], str]) -> None:
        """Add a row; `place` says where it is from, for errors."""
        if self._last[0] != query or self._last[1] is None:
            row = self._view.collection.queries.find(query, self._asked)
            self._last = (query, row if row is not None and self._in_setting[row] else None)
        asked = self._last[1]
        if asked is None:
            return self._stranger("query", query, place)
        found = self._view.collection.passages.find(document, self._searched)
        if found is None:
            return self._stranger("document", document, place)
        if not (math.isfinite(score) and abs(score) < _TOO_LARGE):
            raise BeirHybridError(
                f"{place()}: the score of document {document!r} is {score}; expected a finite float32 number."
            )
        self._queries.append(asked)
        self._passages.append(found)
        self._scores.append(score)
        return None

    def run(self, line_of: Callable[[str, str], str] | None = None) -> Run:
        """What was added; `line_of` says where a query's document stands for the second time."""
        numbers = (
            np.array(self._queries, dtype=np.int64),
            np.array(self._passages, dtype=np.int64),
            np.array(self._scores, dtype=np.float32),
        )
        run = Run(self._view, *numbers, self._strange["query"], self._strange["document"])
        if (twice := _repeated(run.queries, run.passages)) is not None:
            collection = self._view.collection
            ids = collection.queries.ids[twice[0]], collection.passages.ids[twice[1]]
            raise _repeats(self._view, *twice, line_of(*ids) if line_of else "the run")
        return _ordered(run)

    def _stranger(self, kind: str, identifier: str, place: Callable[[], str]) -> None:
        if not self._skip:
            raise BeirHybridError(
                f"{place()}: {kind} {identifier!r} is not in {self._view.name}. Give the setting of the run, or "
                "skip and count what it has not (unknown='skip')."
            )
        self._strange[kind] += 1


def _ordered(run: Run) -> Run:
    """The same rows by query, score and id, the last two descending."""
    order = np.lexsort((-run.scores, run.queries))
    query, passage, score = run.queries[order], run.passages[order], run.scores[order]
    tied = np.append((query[1:] == query[:-1]) & (score[1:] == score[:-1]), False)
    # Ids are strings, perhaps on disk: only those that settle a tie are looked at.
    starts = np.flatnonzero(tied & ~np.append(False, tied[:-1]))
    ends = np.flatnonzero(~tied & np.append(False, tied[:-1])) + 1
    ids = run.view.collection.passages.ids
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        passage[start:end] = sorted(passage[start:end].tolist(), key=lambda row: ids[row], reverse=True)
    return Run(run.view, query, passage, score, run.unknown_queries, run.unknown_documents)


def _repeated(queries: IntArray, passages: IntArray) -> tuple[int, int] | None:
    """A query and passage that stand together in two rows."""
    order = np.lexsort((passages, queries))
    query, passage = queries[order], passages[order]
    twice = np.flatnonzero((query[1:] == query[:-1]) & (passage[1:] == passage[:-1]))
    return (int(query[twice[0]]), int(passage[twice[0]])) if len(twice) else None


def _repeats(view: SettingView, query: int, passage: int, where: str) -> BeirHybridError:
    document = view.collection.passages.ids[passage]
    return BeirHybridError(
        f"{where}: document {document!r} stands twice for query {view.collection.queries.ids[query]!r}; expected each "
        "document once. Merge the runs that this was made of, or keep the better score."
    )
