"""The measures as functions of ranks, each for all queries at once.

The definitions are trec_eval's, and so is the order in which terms are added: a query's value is trec_eval's to the
last bit. A query that found nothing has 0, and so has one without relevant passages, as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import ir_measures
import numpy as np
import numpy.typing as npt

from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.evaluation.measures.names import parse
from beir_hybrid.evaluation.measures.ranks import QueryRanks, Values


def values(measure: str | ir_measures.Measure, found: QueryRanks) -> Values:
    """Shape (queries,): the value of the measure for each query; NaN where it is not defined.

    RankDistance, LanguageRecall and AWRF are not defined for a query without relevant passages (of the asked grade and
    language), MRC for one without a translation; `mean` leaves it out.

    Raises:
        BeirHybridError: the measure is unknown; RankDistance is asked of a query that has not found all; the languages
            that a measure needs are not there.
    """
    measure = parse(measure)
    found = found.at_least(measure.params.get("rel", 1))
    language = measure.params.get("lang")
    if language is not None:
        found = _in_language(found, language)
    return _FUNCTIONS[str(measure.NAME)](found, measure.params.get("cutoff"))


def mean(per_query: Values) -> float:
    """The mean over the queries for which the measure is defined; NaN where it is for none."""
    defined = per_query[~np.isnan(per_query)]
    return float(defined.mean()) if len(defined) else float("nan")


def _in_language(found: QueryRanks, code: str) -> QueryRanks:
    languages = _languages(found, "LanguageRecall")
    if code not in found.codes:
        raise unknown("language", code, found.codes)
    return found.where(languages == found.codes.index(code))


def _languages(found: QueryRanks, measure: str) -> npt.NDArray[np.int64]:
    if found.languages is None:
        raise BeirHybridError(
            f"{measure} needs the language of each relevant passage; give `languages` and `codes` with the ranks."
        )
    return found.languages


def _within(found: QueryRanks, cutoff: int | None) -> npt.NDArray[np.bool_]:
    return found.ranks <= (np.iinfo(np.int64).max if cutoff is None else cutoff)


def _share(part: npt.NDArray[np.float64], whole: npt.NDArray[np.integer] | Values) -> Values:
    """`part / whole`, and 0 where there is nothing to have a part of."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _discounts(ranks: npt.NDArray[np.integer]) -> Values:
    # The C library's logarithm, as trec_eval has it: numpy's own differs in the last bit of a few.
    return np.fromiter(map(math.log2, (ranks + 1).tolist()), dtype=np.float64, count=len(ranks))


def _precisions(found: QueryRanks, cutoff: int | None) -> Values:
    nth = np.arange(len(found.ranks)) - found.start[found.query] + 1
    return found.sums(nth / found.ranks * _within(found, cutoff))


def _average_precision(found: QueryRanks, cutoff: int | None) -> Values:
    return _share(_precisions(found, cutoff), found.relevant)


def _lareqa_ap(found: QueryRanks, cutoff: int | None) -> Values:
    return _share(_precisions(found, cutoff), np.minimum(found.relevant, cast(int, cutoff)))


def _reciprocal_rank(found: QueryRanks, cutoff: int | None) -> Values:
    first = (found.start[found.query] == np.arange(len(found.ranks))) & _within(found, cutoff)
    return found.sums(first / found.ranks)


def _recall(found: QueryRanks, cutoff: int | None) -> Values:
    return _share(found.sums(_within(found, cutoff)), found.relevant)


def _precision(found: QueryRanks, cutoff: int | None) -> Values:
    return found.sums(_within(found, cutoff)) / cast(int, cutoff)  # KNOWN has no P without one


def _success(found: QueryRanks, cutoff: int | None) -> Values:
    return (found.sums(_within(found, cutoff)) > 0).astype(np.float64)


def _ndcg(found: QueryRanks, cutoff: int | None) -> Values:
    grades = np.ones(int(found.relevant.sum()), dtype=np.int64) if found.grades is None else found.grades
    near = np.flatnonzero(_within(found, cutoff))
    gain = np.ones(len(near)) if found.grades is None or found.pair is None else grades[found.pair[near]]
    queries = len(found.relevant)
    gains = np.bincount(found.query[near], weights=gain / _discounts(found.ranks[near]), minlength=queries)
    # At best, the highest grades come first.
    owner = found.owner
    best = np.arange(len(owner)) - np.repeat(np.cumsum(found.relevant) - found.relevant, found.relevant) + 1
    if found.grades is not None and len(grades) and grades.min() < grades.max():
        grades = grades[np.lexsort((-grades, owner))]
    shown = np.flatnonzero(best <= (len(best) if cutoff is None else cutoff))
    ideal = np.bincount(owner[shown], weights=grades[shown] / _discounts(best[shown]), minlength=queries)
    return _share(gains.astype(np.float64), ideal.astype(np.float64))


def _rank_distance(found: QueryRanks, cutoff: int | None) -> Values:
    missing = np.flatnonzero(np.diff(found.start) != found.relevant)
    if len(missing):
        raise BeirHybridError(
            f"RankDistance: {len(missing)} queries have not found all of their relevant passages (the first is number "
            f"{missing[0]}); it needs a full-depth run."
        )
    distance = np.full(len(found.relevant), np.nan)
    defined = np.flatnonzero(found.relevant)
    distance[defined] = found.ranks[found.start[1:][defined] - 1] - found.ranks[found.start[:-1][defined]]
    return distance


def _language_recall(found: QueryRanks, cutoff: int | None) -> Values:
    languages = _languages(found, "LanguageRecall")
    shape = (len(found.relevant), len(found.codes))
    cell = found.owner * shape[1] + languages
    pair = np.empty(0, dtype=np.int64) if found.pair is None else found.pair
    there = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    got = np.bincount(cell[pair[_within(found, cutoff)]], minlength=shape[0] * shape[1]).reshape(shape)
    shares = np.divide(got, there, out=np.zeros(shape), where=there > 0).sum(axis=1)
    spoken = np.count_nonzero(there, axis=1)
    averages = np.full(shape[0], np.nan)
    np.divide(shares, spoken, out=averages, where=spoken > 0)
    return averages


def _awrf(found: QueryRanks, cutoff: int | None) -> Values:
    from scipy.special import rel_entr

    languages, retrieved = _languages(found, "AWRF"), found.retrieved
    if retrieved is None:
        raise BeirHybridError(
            "AWRF needs the languages of all that is retrieved, not only of what is relevant; evaluate_grid and "
            "evaluate_runs have them, and `run_ranks` with `languages` makes ranks with them."
        )
    count, codes = len(found.relevant), len(found.codes)
    exposure = retrieved.attention(cutoff, codes)
    wanted = np.bincount(found.owner * codes + languages, minlength=count * codes).reshape(count, codes)
    given = np.divide(exposure, exposure.sum(axis=1, keepdims=True), out=np.zeros_like(exposure), where=exposure > 0)
    target = wanted / np.maximum(found.relevant, 1)[:, None]
    middle = (given + target) / 2
    divergence = (rel_entr(given, middle) + rel_entr(target, middle)).sum(axis=1) / (2 * math.log(2))
    fair: Values = np.where(exposure.any(axis=1), np.clip(1 - divergence, 0, 1), 0.0)
    fair[found.relevant == 0] = np.nan
    return fair


def _rank_correlation(found: QueryRanks, cutoff: int | None) -> Values:
    if found.correlations is None:
        raise BeirHybridError(
            "MRC compares the rankings of parallel questions; evaluate_grid and evaluate_runs have them, ir_measures "
            "where the questions of several languages are in one run."
        )
    return found.correlations


_FUNCTIONS: dict[str, Callable[[QueryRanks, int | None], Values]] = {
    "AP": _average_precision,
    "RR": _reciprocal_rank,
    "R": _recall,
    "P": _precision,
    "Success": _success,
    "nDCG": _ndcg,
    "LareqaAP": _lareqa_ap,
    "RankDistance": _rank_distance,
    "LanguageRecall": _language_recall,
    "AWRF": _awrf,
    "MRC": _rank_correlation,
}
