"""From ir_measures' forms of a run and of judgements to arrays, and back to its metrics."""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ir_measures
import numpy as np
from ir_measures import providers

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.measures.correlation import run_rank_correlation
from beir_hybrid.evaluation.measures.functions import values
from beir_hybrid.evaluation.measures.languages import languages_of
from beir_hybrid.evaluation.measures.names import parse
from beir_hybrid.evaluation.measures.questions import items_of
from beir_hybrid.evaluation.measures.ranks import QueryRanks
from beir_hybrid.evaluation.measures.runs import ReadRun, check_relevant, read_run, run_ranks


class DictEvaluator(providers.Evaluator):
    """Evaluates runs on one set of judgements."""

    def __init__(self, measures: Sequence[ir_measures.Measure], qrels: Any) -> None:
        self._qrels = _nested(ir_measures.util.QrelsConverter(qrels), "qrels", "relevance")
        for measure in measures:
            parse(measure)
            check_relevant((grade for judged in self._qrels.values() for grade in judged.values()), measure)
        super().__init__(measures, set(self._qrels))

    def _iter_calc(self, run: Any) -> Iterator[ir_measures.Metric]:
        read = read_run(_nested(ir_measures.util.RunConverter(run), "run", "score"), self._qrels)
        languages, codes = self._languages(read)
        found = run_ranks(read.run, read.judgements, languages=languages, codes=codes)
        if any(measure.NAME == "MRC" for measure in self.measures):
            found = replace(found, correlations=run_rank_correlation(read.run, items_of(read.queries)))
        for measure in self.measures:
            if measure.NAME == "RankDistance":
                _check_full(found.at_least(measure["rel"]), read, self._qrels, measure["rel"])
            for query, value in zip(read.queries, values(measure, found).tolist(), strict=True):
                yield ir_measures.Metric(query_id=query, measure=measure, value=value)

    def _languages(self, read: ReadRun) -> tuple[IntArray | None, tuple[str, ...]]:
        """The languages of the documents that a measure asks about: of all for AWRF, else of what is relevant."""
        names = {measure.NAME for measure in self.measures}
        if not names & {"LanguageRecall", "AWRF"}:
            return None, ()
        asked = range(len(read.documents)) if "AWRF" in names else np.unique(read.judgements.passages).tolist()
        numbers, codes = languages_of([read.documents[row] for row in asked])
        languages = np.zeros(len(read.documents), dtype=np.int64)
        languages[list(asked)] = numbers
        return languages, codes


def _check_full(found: QueryRanks, read: ReadRun, qrels: Mapping[str, Mapping[str, int]], grade: int) -> None:
    short = np.flatnonzero(np.diff(found.start) != found.relevant)
    if not len(short):
        return
    query = read.queries[short[0]]
    documents = [document for document, given in qrels[query].items() if given >= grade]
    retrieved = {read.documents[row] for row in read.run.of(int(short[0])).tolist()}
    missing = [document for document in documents if document not in retrieved]
    raise BeirHybridError(
        f"RankDistance of query {query!r}: {len(missing)} of its {len(documents)} relevant documents are missing "
        f"from the run (one is {missing[0]!r}), and so it is with {len(short)} of {len(read.queries)} queries. It "
        "needs a full-depth run, of every document of the pool; evaluate_grid computes it without one."
    )


def _nested(converter: Any, name: str, value: str) -> Mapping[str, Mapping[str, Any]]:
    """Query id -> document id -> value, of any of ir_measures' forms; it would keep the last of two equal rows."""
    form, wrong = converter.predict_type()
    if form == "UNKNOWN":
        raise BeirHybridError(f"the {name} cannot be read: {wrong}; give a dict of dicts, a frame or named tuples.")
    if form == "dict_of_dict":
        nested: Mapping[str, Mapping[str, Any]] = converter.as_dict_of_dict()
        return nested
    found: dict[str, dict[str, Any]] = {}
    for row in converter.as_namedtuple_iter():
        own = found.setdefault(row.query_id, {})
        if row.doc_id in own:
            raise BeirHybridError(
                f"the {name} has document {row.doc_id!r} twice for query {row.query_id!r}; each may stand there once."
            )
        own[row.doc_id] = getattr(row, value)
    return found
