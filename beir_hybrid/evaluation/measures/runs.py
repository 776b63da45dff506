"""Runs as arrays: what was retrieved for each query in rank order, and where the relevant documents are in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import ir_measures
import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray, Relevance
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.measures.functions import values
from beir_hybrid.evaluation.measures.names import parse
from beir_hybrid.evaluation.measures.ranks import QueryRanks, Retrieved, Values

_CELLS = 1 << 20


@dataclass(frozen=True, eq=False)
class RankedRun:
    """What was retrieved, truncated or not, as rows in rank order.

    Attributes:
        documents: Shape (retrieved,): document rows, by query and best first.
        start: Shape (queries + 1,): query q has `documents[start[q] : start[q + 1]]`, which may be nothing.
    """

    documents: npt.NDArray[np.integer]
    start: IntArray

    def of(self, query: int) -> npt.NDArray[np.integer]:
        """The documents of one query, best first."""
        return self.documents[self.start[query] : self.start[query + 1]]


def ranked_run(query_rows: npt.ArrayLike, document_rows: npt.ArrayLike, queries: int) -> RankedRun:
    """A run from two columns: the query and the document of each result, a query's results in rank order.

    Args:
        queries: How many queries there are; those that are not in `query_rows` retrieved nothing.

    Raises:
        BeirHybridError: the columns differ in length, or hold anything but rows.
    """
    asked, shown = np.asarray(query_rows), np.asarray(document_rows)
    if asked.ndim != 1 or asked.shape != shown.shape:
        raise BeirHybridError(f"columns of shape {asked.shape} and {shown.shape}; a run has a query for each document.")
    if len(asked) and (asked.dtype.kind not in "iu" or shown.dtype.kind not in "iu"):
        raise BeirHybridError(f"columns of {asked.dtype} and {shown.dtype}; expected rows of queries and documents.")
    if len(asked) and (asked.min() < 0 or asked.max() >= queries or shown.min() < 0):
        raise BeirHybridError(f"a row is out of range: there are {queries} queries, and rows count from 0.")
    if (asked[1:] < asked[:-1]).any():
        order = np.argsort(asked, kind="stable")
        asked, shown = asked[order], shown[order]
    return RankedRun(shown, np.searchsorted(asked, np.arange(queries + 1)).astype(np.int64))


def run_ranks(
    run: RankedRun,
    judgements: Relevance,
    *,
    languages: npt.NDArray[np.integer] | None = None,
    codes: tuple[str, ...] = (),
) -> QueryRanks:
    """Where the relevant documents of each query are in the run; `values` makes measures of it.

    Args:
        judgements: Of the same queries, in the same order; grades of 0 and below are judged and not relevant.
        languages: Shape (documents,): each document's language, a number into `codes`. LanguageRecall and AWRF need it.

    Raises:
        BeirHybridError: run and judgements are of different queries; a document stands twice in a query's results.
    """
    if len(run.start) != len(judgements.start):
        raise BeirHybridError(
            f"a run of {len(run.start) - 1} queries and judgements of {len(judgements.start) - 1}; "
            "give both for the same queries, in one order."
        )
    relevant = judgements.where(judgements.grades > 0)
    rank = _ranks(run, relevant)
    found = np.flatnonzero(rank)
    query = relevant.queries[found]
    pair = found[np.lexsort((rank[found], query))]
    queries = len(relevant.start) - 1
    return QueryRanks(
        rank[pair],
        np.append(0, np.cumsum(np.bincount(query, minlength=queries))),
        np.diff(relevant.start),
        relevant.grades.astype(np.int64),
        None if languages is None else languages[relevant.passages].astype(np.int64),
        pair,
        codes,
        None if languages is None else Retrieved(languages[run.documents], run.start),
    )


def _ranks(run: RankedRun, relevant: Relevance) -> IntArray:
    """Shape (pairs,): the rank of each relevant document, and 0 where it was not retrieved."""
    width = 1 + max(int(array.max(initial=0)) for array in (run.documents, relevant.passages))
    step = max(1, _CELLS // width)
    place_of = np.zeros(step * width, dtype=np.int32)
    ranks = np.zeros(len(relevant.passages), dtype=np.int64)
    for first in range(0, len(run.start) - 1, step):
        start = run.start[first : first + step + 1]
        key = np.repeat(np.arange(len(start) - 1) * width, np.diff(start)) + run.documents[start[0] : start[-1]]
        place = np.arange(len(key), dtype=np.int32)
        place_of[key] = place  # what was there of another block is seen to be so below
        twice = np.flatnonzero(place_of[key] != place)
        if len(twice):
            asked, document = divmod(int(key[twice[0]]), width)
            raise BeirHybridError(
                f"the run has document {document} twice for query {first + asked} (rows from 0); "
                "each may stand there once."
            )
        pairs = slice(int(relevant.start[first]), int(relevant.start[first + len(start) - 1]))
        query = relevant.queries[pairs] - first
        wanted = query * width + relevant.passages[pairs]
        at = place_of[wanted]
        there = np.flatnonzero(at < len(key))
        there = there[key[at[there]] == wanted[there]]
        ranks[pairs.start + there] = at[there] + 1 - (start[query[there]] - start[0])
    return ranks


def evaluate_run(
    run: RankedRun,
    judgements: Relevance,
    measures: Sequence[str | ir_measures.Measure],
    *,
    languages: npt.NDArray[np.integer] | None = None,
    codes: tuple[str, ...] = (),
    correlations: Values | None = None,
) -> dict[str, Values]:
    """The value of each measure for each query, by the measure's name; `mean` makes a figure of it.

    A query that retrieved nothing has 0, as in trec_eval and ir_measures; RankDistance refuses a run in which a
    relevant document is missing.

    Args:
        run, judgements, languages, codes: As of `run_ranks`.
        correlations: Shape (queries,), as `run_rank_correlation` makes them; MRC needs them.

    Raises:
        BeirHybridError: as `run_ranks` and `values`; or no query has a relevant document.
    """
    parsed = [parse(measure) for measure in measures]
    for measure in parsed:
        check_relevant([int(judgements.grades.max(initial=0))], measure)
    found = replace(run_ranks(run, judgements, languages=languages, codes=codes), correlations=correlations)
    return {str(measure): values(measure, found) for measure in parsed}


def check_relevant(grades: Iterable[int], measure: ir_measures.Measure) -> None:
    """Refuse judgements in which nothing is relevant."""
    least = measure.params.get("rel", 1)
    if not any(grade >= least for grade in grades):
        raise BeirHybridError(
            f"{measure}: no query has a relevant document, of grade {least} or more, so nothing can be measured; "
            "give the judgements of these queries."
        )


@dataclass(frozen=True, eq=False)
class ReadRun:
    """A run and its judgements as arrays, and the ids of the rows."""

    run: RankedRun
    judgements: Relevance
    queries: list[str]
    documents: list[str]


def read_run(run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]]) -> ReadRun:
    """Arrays of a run and of judgements as dicts of dicts; queries that were not judged are left out.

    Ties are settled as trec_eval does, by score in single precision and then by document id, both descending.

    Raises:
        BeirHybridError: a score is not a number, or a grade no whole number of 16 bits.
    """
    number: defaultdict[str, int] = defaultdict(count().__next__)
    judged = [np.fromiter(map(number.__getitem__, own), np.int64, len(own)) for own in qrels.values()]
    grades = [_grades(query, own) for query, own in qrels.items()]
    results = []
    for query in qrels:
        scores = run.get(query, {})
        try:
            given = np.fromiter(scores.values(), np.float32, len(scores))
        except (TypeError, ValueError):
            given = np.array([np.nan], dtype=np.float32)
        if np.isnan(given).any():
            raise BeirHybridError(f"the run has a score for query {query!r} that is not a number; each must be one.")
        rows = np.fromiter(map(number.__getitem__, scores), np.int64, len(scores))
        results.append(rows[_order(given, scores)])
    return ReadRun(
        RankedRun(_joined(results), _starts(results)),
        Relevance(_starts(judged), _joined(judged), _joined(grades).astype(np.int16)),
        list(qrels),
        list(number),
    )


def _grades(query: str, judged: Mapping[str, int]) -> npt.NDArray[np.int16]:
    try:
        if all(isinstance(grade, int | np.integer) for grade in judged.values()):
            return np.fromiter(judged.values(), np.int16, len(judged))
    except OverflowError:
        pass
    raise BeirHybridError(f"a grade of query {query!r} is no whole number from -32768 to 32767; each must be one.")


def _order(scores: npt.NDArray[np.float32], ids: Iterable[str]) -> IntArray:
    """Best first."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    if (ordered[1:] == ordered[:-1]).any():
        named = list(zip(scores.tolist(), ids, strict=True))
        order = np.array(sorted(range(len(named)), key=named.__getitem__, reverse=True), dtype=np.int64)
    return order


def _starts(parts: Sequence[npt.NDArray[np.integer]]) -> IntArray:
    return np.append(0, np.cumsum([len(part) for part in parts])).astype(np.int64)


def _joined(parts: Sequence[npt.NDArray[np.integer]]) -> npt.NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
