"""This package's own measures, as ir_measures knows measures."""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import ir_measures
import numpy as np
from ir_measures import measures as irm_measures
from ir_measures import providers

_REL = irm_measures.ParamInfo(
    dtype=int, default=1, desc="minimum relevance score to be considered relevant (inclusive)"
)
_CUTOFF = irm_measures.ParamInfo(dtype=int, required=True, desc="ranking cutoff threshold")
_OPTIONAL_CUTOFF = irm_measures.ParamInfo(dtype=int, required=False, desc="ranking cutoff threshold")
_LANG = irm_measures.ParamInfo(dtype=str, required=False, desc="the one language to look at, by its code")


class _MeanOfDefined(irm_measures.MeanAgg):
    """Leaves out queries for which the measure is not defined; ir_measures fills those in with `DEFAULT`."""

    def add(self, value: float) -> None:
        if not np.isnan(value):
            super().add(value)


class _OfLanguages(irm_measures.Measure):
    """A measure that is not defined for a query without relevant documents."""

    DEFAULT = float("nan")

    def aggregator(self) -> irm_measures.base.Agg:
        return _MeanOfDefined()


class _RankDistance(_OfLanguages):
    """How far apart the translations of one answer are ranked: the largest rank less the smallest, at full depth.

    The measure of language bias of arXiv 2408.10536; lower is better, and the best is the number of relevant documents
    less one. It is not defined where a relevant document is missing from the run, and such a run is refused: a rank
    put in its place, or a mean without those queries, would flatter the run.
    """

    __name__ = "RankDistance"
    NAME = __name__
    PRETTY_NAME = "Rank Distance"
    SHORT_DESC = "The largest rank of a relevant document less the smallest, in a full-depth run."
    SUPPORTED_PARAMS = {"rel": _REL}  # noqa: RUF012 - as the base class has it


class _LanguageRecall(_OfLanguages):
    """Recall in the top k for each language's relevant documents on their own, averaged over the languages.

    Each language that has a relevant document for the query counts alike, however many it has; `lang` asks for one
    language. Macro-averaged recall (Manning, Raghavan, Schuetze 2008, section 13.6) with languages as the classes: the
    name is this package's own. A query counts 0 where it found nothing, and is left out where nothing is relevant for
    it (in that language).
    """

    __name__ = "LanguageRecall"
    NAME = __name__
    PRETTY_NAME = "Language Recall at k"
    SHORT_DESC = "Recall in the top k of each language's relevant documents, averaged over the languages."
    SUPPORTED_PARAMS = {"cutoff": _CUTOFF, "lang": _LANG, "rel": _REL}  # noqa: RUF012


class _AWRF(_OfLanguages):
    """Attention-weighted rank fairness: whether languages get attention in proportion to what they have to offer.

    One less the Jensen-Shannon divergence, in bits, between two distributions over languages: that of the attention
    that the ranking gives, 1 / log2(max(rank, 2)) at each rank, and that of the query's relevant documents. 1 is best;
    0 is attention to other languages alone, or nothing retrieved. Sapiezynski et al. 2019 (WWW '19 companion,
    "Quantifying the impact of user attention on fair group representation in ranked lists"), with the discount and the
    divergence of the TREC Fair Ranking Track 2022 (arXiv 2302.05558). Its scripts take the divergence in nats, so that
    theirs is 1 - (1 - this) * ln 2; in bits the measure goes from 0 to 1.
    """

    __name__ = "AWRF"
    NAME = __name__
    PRETTY_NAME = "Attention-Weighted Rank Fairness of languages"
    SHORT_DESC = "How near the languages' shares of attention are to their shares of the relevant documents."
    SUPPORTED_PARAMS = {"cutoff": _OPTIONAL_CUTOFF, "rel": _REL}  # noqa: RUF012


class _LareqaAP(irm_measures.Measure):
    """LAReQA's average precision at k: AP@k divided by min(relevant, k), so that a perfect top k has 1.

    arXiv 2004.05484. trec_eval's AP@k divides by all that is relevant; the two are equal where that is at most k.
    """

    __name__ = "LareqaAP"
    NAME = __name__
    PRETTY_NAME = "LAReQA's Average Precision at k"
    SHORT_DESC = "The mean of the precision at each relevant document in the top k, over as many as can be there."
    SUPPORTED_PARAMS = {"cutoff": _CUTOFF, "rel": _REL}  # noqa: RUF012


class _MRC(_OfLanguages):
    """Mean rank correlation: how alike a question and its translations rank one pool, by Spearman's rho.

    Yang, Jiang, Baldwin 2024 (arXiv 2509.06195): a question's value is the mean of the correlations between its ranking
    and that of each of its translations. It needs no judgements. 1 is best: the language that is asked in makes no
    difference, whether the rankings are good or bad. Truncated rankings are compared over what is in either (see
    `run_rank_correlation`). A question without a translation is left out.
    """

    __name__ = "MRC"
    NAME = __name__
    PRETTY_NAME = "Mean Rank Correlation"
    SHORT_DESC = "The rank correlation between the rankings of a question and of its translations."
    SUPPORTED_PARAMS = {}  # noqa: RUF012


_OWN = (_RankDistance, _LanguageRecall, _AWRF, _LareqaAP, _MRC)


class _Provider(providers.Provider):
    """Computes this package's measures for ir_measures, from the arrays that everything else here uses."""

    NAME = "beir_hybrid"
    SUPPORTED_MEASURES = [  # noqa: RUF012 - as the base class has it
        _RankDistance(rel=providers.base.Any()),
        _LanguageRecall(cutoff=providers.base.Any(), lang=providers.base.Any(), rel=providers.base.Any()),
        _AWRF(cutoff=providers.base.Any(), rel=providers.base.Any()),
        _LareqaAP(cutoff=providers.base.Any(), rel=providers.base.Any()),
        _MRC(),
    ]

    def _evaluator(self, measures: Any, qrels: Any) -> providers.Evaluator:
        from beir_hybrid.evaluation.measures.evaluator import DictEvaluator

        return DictEvaluator(list(measures), qrels)


def register() -> None:
    """Let ir_measures know of these measures; doing so again changes nothing (it refuses a name that it has)."""
    if _Provider.NAME in providers.registry:
        return
    for measure in _OWN:
        irm_measures.register(measure())
    ir_measures.DefaultPipeline.providers.append(providers.register(_Provider()))


def own(name: str) -> Any:
    """The one measure of this name in this process."""
    register()
    return irm_measures.registry[name]
