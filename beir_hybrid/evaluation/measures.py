"""Measures over the ranks of relevant passages, named as ir_measures names them, and RankDistance for ir_measures.

All are of binary relevance, so that a query's value follows from the ranks of its relevant passages and their number.
Definitions are trec_eval's: AP@k divides by all that is relevant, where LAReQA's own divides by min(relevant, k).
"""

# mypy: allow-untyped-calls
# ir_measures says that it is typed, and leaves most of its functions without types.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import ir_measures
import numpy as np
import numpy.typing as npt
from ir_measures import measures as irm_measures
from ir_measures import providers

from beir_hybrid.collections.collection import Kind, MultilingualCollection, Setting
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.retrieval.search import RelevantRanks

Values = npt.NDArray[np.float64]
KNOWN = ("AP", "AP@k", "RR", "R@k", "P@k", "Success@k", "nDCG", "nDCG@k", "RankDistance")

# What the two papers report in each kind of setting (arXiv 2408.10536, tables 1 to 3; arXiv 2004.05484).
DEFAULT: Mapping[Kind, tuple[str, ...]] = {
    "mono": ("AP", "R@1"),
    "cross": ("AP", "R@1"),
    "multi": ("AP", "R@10", "RankDistance"),
    "blend": ("AP", "R@10"),
}


@dataclass(frozen=True, eq=False)
class QueryRanks:
    """The ranks of the relevant passages that some queries found.

    Attributes:
        ranks: Shape (found,): ranks from 1, ascending within each query.
        start: Shape (queries + 1,): query q has `ranks[start[q] : start[q + 1]]`.
        relevant: Shape (queries,): how many relevant passages there are, found or not.
    """

    ranks: IntArray
    start: IntArray
    relevant: IntArray

    @property
    def query(self) -> IntArray:
        """Shape (found,): the query of each rank."""
        return np.repeat(np.arange(len(self.relevant)), np.diff(self.start))

    def sums(self, values: npt.ArrayLike) -> Values:
        """Shape (queries,): the sum over each query's ranks, added in their order as trec_eval adds."""
        weights = np.asarray(values, dtype=np.float64)
        return np.bincount(self.query, weights=weights, minlength=len(self.relevant)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class SettingRanks:
    """The questions of one setting, as rows of the collection (ascending), and the ranks of what answers them."""

    query_rows: IntArray
    found: QueryRanks


def setting_ranks(collection: MultilingualCollection, ranks: RelevantRanks, setting: Setting) -> SettingRanks:
    """Where the relevant passages of each question of `setting` stand in its pool."""
    relevant = collection.relevant
    asked = collection.queries.language[relevant.queries] == collection.language_number(setting.query_language)
    if setting.searched is not None:
        asked &= collection.passages.language[relevant.passages] == collection.language_number(setting.searched)
    pairs = np.flatnonzero(asked)
    rank = (ranks.in_pool if setting.searched is None else ranks.in_language)[pairs]
    query_rows, query, counts = np.unique(relevant.queries[pairs], return_inverse=True, return_counts=True)
    ordered = rank[np.lexsort((rank, query))]
    return SettingRanks(query_rows, QueryRanks(ordered, np.append(0, np.cumsum(counts)), counts))


class _RankDistance(irm_measures.Measure):
    """How far apart the translations of one answer are ranked: the largest rank less the smallest, at full depth.

    The measure of language bias of arXiv 2408.10536; lower is better, and the best is the number of relevant documents
    less one. It is not defined where a relevant document is missing from the run.
    """

    __name__ = "RankDistance"
    NAME = __name__
    PRETTY_NAME = "Rank Distance"
    SHORT_DESC = "The largest rank of a relevant document less the smallest, in a full-depth run."
    SUPPORTED_PARAMS = {  # noqa: RUF012 - as the base class has it
        "rel": irm_measures.ParamInfo(
            dtype=int, default=1, desc="minimum relevance score to be considered relevant (inclusive)"
        )
    }
    DEFAULT = float("nan")

    def aggregator(self) -> irm_measures.base.Agg:
        return _MeanOfDefined()


class _MeanOfDefined(irm_measures.MeanAgg):
    """Leaves out queries without relevant documents, which ir_measures fills in with `DEFAULT`."""

    def add(self, value: float) -> None:
        if not np.isnan(value):
            super().add(value)


class _RankDistanceEvaluator(providers.Evaluator):
    def __init__(self, measures: Iterable[_RankDistance], qrels: Mapping[str, Mapping[str, int]]) -> None:
        self._relevant = {
            (measure, query): [document for document, grade in judged.items() if grade >= measure["rel"]]
            for measure in measures
            for query, judged in qrels.items()
        }
        self._relevant = {key: documents for key, documents in self._relevant.items() if documents}
        super().__init__(list(measures), {query for _, query in self._relevant})

    def _iter_calc(self, run: Any) -> Iterator[ir_measures.Metric]:
        scores = ir_measures.util.RunConverter(run).as_dict_of_dict()
        for (measure, query), documents in self._relevant.items():
            ranks = _ranks_in_run(scores.get(query, {}), documents, query)
            yield ir_measures.Metric(query_id=query, measure=measure, value=max(ranks) - min(ranks))


class _RankDistanceProvider(providers.Provider):
    NAME = "beir_hybrid"
    SUPPORTED_MEASURES = [_RankDistance(rel=providers.base.Any())]  # noqa: RUF012 - as the base class has it

    def _evaluator(self, measures: Iterable[Any], qrels: Any) -> providers.Evaluator:
        return _RankDistanceEvaluator(list(measures), ir_measures.util.QrelsConverter(qrels).as_dict_of_dict())


def _ranks_in_run(scores: Mapping[str, float], documents: list[str], query: str) -> list[int]:
    missing = [document for document in documents if document not in scores]
    if missing:
        raise BeirHybridError(
            f"RankDistance of query {query!r}: {len(missing)} of its {len(documents)} relevant documents are missing "
            f"from the run (one is {missing[0]!r}). It needs a full-depth run, of every document of the pool; "
            "evaluate_grid computes it without one."
        )
    # In single precision, as trec_eval holds scores: what ties for AP ties here.
    values = np.fromiter(scores.values(), dtype=np.float32, count=len(scores))
    ids = list(scores)
    ranks = []
    for document in documents:
        own = np.float32(scores[document])
        tied = sum(ids[place] > document for place in np.flatnonzero(values == own))
        ranks.append(1 + int(np.count_nonzero(values > own)) + tied)
    return ranks


def _register() -> _RankDistance:
    """The one RankDistance of this process: ir_measures refuses a name that is registered twice."""
    registry = irm_measures.registry
    if _RankDistance.NAME not in registry:
        irm_measures.register(_RankDistance())
        providers.register(_RankDistanceProvider())
        ir_measures.DefaultPipeline.providers.append(providers.registry[_RankDistanceProvider.NAME])
    measure: _RankDistance = registry[_RankDistance.NAME]
    return measure


RankDistance = _register()


def parse(measure: str | ir_measures.Measure) -> ir_measures.Measure:
    """The measure of this name: `AP`, `R@10`.

    Raises:
        BeirHybridError: it is not one of `KNOWN`, or its cutoff is not a whole number from 1.
    """
    try:
        parsed = ir_measures.parse_measure(measure) if isinstance(measure, str) else measure
        parsed.validate_params()
    except (NameError, ValueError, TypeError, AssertionError, AttributeError, RecursionError):
        raise _unknown(measure) from None
    given = {name: value for name, value in parsed.params.items() if value != parsed.SUPPORTED_PARAMS[name].default}
    cutoff = given.pop("cutoff", None)
    if cutoff is not None and (isinstance(cutoff, bool) or cutoff < 1):
        raise BeirHybridError(f"measure {str(measure)!r}: the cutoff is {cutoff!r}; expected a whole number from 1.")
    form = parsed.NAME if cutoff is None else f"{parsed.NAME}@k"
    if given or form not in KNOWN:
        raise _unknown(measure)
    return parsed


def _unknown(measure: str | ir_measures.Measure) -> BeirHybridError:
    return BeirHybridError(
        f"unknown measure {str(measure)!r}. Known: {', '.join(KNOWN)}, k a whole number from 1; relevance is binary. "
        "For others, write a run and give it to ir_measures."
    )


def defined_in(measure: ir_measures.Measure, kind: Kind) -> bool:
    """Whether the measure says anything in this kind of setting: RankDistance compares languages of one pool."""
    return kind == "multi" or measure.NAME != RankDistance.NAME


def values(measure: str | ir_measures.Measure, found: QueryRanks) -> Values:
    """Shape (queries,): the value of the measure for each query.

    Raises:
        BeirHybridError: the measure is unknown, or RankDistance is asked of a query that has not found all.
    """
    measure = parse(measure)
    return _FUNCTIONS[str(measure.NAME)](found, measure.params.get("cutoff"))


def _within(found: QueryRanks, cutoff: int | None) -> npt.NDArray[np.bool_]:
    return found.ranks <= (np.iinfo(np.int64).max if cutoff is None else cutoff)


def _average_precision(found: QueryRanks, cutoff: int | None) -> Values:
    nth = np.arange(len(found.ranks)) - found.start[found.query] + 1
    return found.sums(nth / found.ranks * _within(found, cutoff)) / found.relevant


def _reciprocal_rank(found: QueryRanks, cutoff: int | None) -> Values:
    first = found.start[found.query] == np.arange(len(found.ranks))
    return found.sums(first / found.ranks)


def _recall(found: QueryRanks, cutoff: int | None) -> Values:
    return found.sums(_within(found, cutoff)) / found.relevant


def _precision(found: QueryRanks, cutoff: int | None) -> Values:
    return found.sums(_within(found, cutoff)) / cast(int, cutoff)  # KNOWN has no P without one


def _success(found: QueryRanks, cutoff: int | None) -> Values:
    return (found.sums(_within(found, cutoff)) > 0).astype(np.float64)


def _ndcg(found: QueryRanks, cutoff: int | None) -> Values:
    gains = found.sums(_within(found, cutoff) / np.log2(found.ranks + 1.0))
    best = found.relevant if cutoff is None else np.minimum(found.relevant, cutoff)
    ideal = np.cumsum(1 / np.log2(np.arange(best.max(initial=1)) + 2.0))
    return gains / ideal[best - 1]


def _rank_distance(found: QueryRanks, cutoff: int | None) -> Values:
    missing = np.flatnonzero(np.diff(found.start) != found.relevant)
    if len(missing):
        raise BeirHybridError(
            f"RankDistance: {len(missing)} queries have not found all of their relevant passages (the first is number "
            f"{missing[0]}); it needs a full-depth run."
        )
    return (found.ranks[found.start[1:] - 1] - found.ranks[found.start[:-1]]).astype(np.float64)


_FUNCTIONS: dict[str, Callable[[QueryRanks, int | None], Values]] = {
    "AP": _average_precision,
    "RR": _reciprocal_rank,
    "R": _recall,
    "P": _precision,
    "Success": _success,
    "nDCG": _ndcg,
    "RankDistance": _rank_distance,
}
