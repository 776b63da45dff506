"""Measures by their names in ir_measures, as functions of arrays, and this package's own registered there.

`values` computes a measure for all queries from the ranks of what is relevant: `setting_ranks` has them for a setting
of a collection at full depth, `run_ranks` for a run, which may be truncated. A query's value is trec_eval's to the last
bit, with its ties: score descending, then document id descending. That holds for RR@k too, where ir_measures asks a
provider that puts the lower id first. AP@k divides by all that is relevant, as trec_eval's; LareqaAP@k is LAReQA's own.
nDCG takes the grades as gains, others take what has grade 1 or more as relevant, or grade n or more with `rel=n`.

A query that retrieved nothing counts as 0 in a mean. RankDistance has no value there, nor wherever a relevant document
is missing, and refuses such a run.
"""

from __future__ import annotations

from beir_hybrid.evaluation.measures.correlation import mean_rank_correlation, run_rank_correlation
from beir_hybrid.evaluation.measures.definitions import own, register
from beir_hybrid.evaluation.measures.functions import mean, values
from beir_hybrid.evaluation.measures.languages import document_language, language_in_id
from beir_hybrid.evaluation.measures.names import DEFAULT, KNOWN, defined_in, parse
from beir_hybrid.evaluation.measures.questions import item_in_id, question_item
from beir_hybrid.evaluation.measures.ranks import Attention, QueryRanks, Retrieved, SettingRanks, Values, setting_ranks
from beir_hybrid.evaluation.measures.runs import RankedRun, evaluate_run, ranked_run, read_run, run_ranks

RankDistance = own("RankDistance")
LanguageRecall = own("LanguageRecall")
AWRF = own("AWRF")
LareqaAP = own("LareqaAP")
MRC = own("MRC")

__all__ = [
    "AWRF",
    "DEFAULT",
    "KNOWN",
    "MRC",
    "Attention",
    "LanguageRecall",
    "LareqaAP",
    "QueryRanks",
    "RankDistance",
    "RankedRun",
    "Retrieved",
    "SettingRanks",
    "Values",
    "defined_in",
    "document_language",
    "evaluate_run",
    "item_in_id",
    "language_in_id",
    "mean",
    "mean_rank_correlation",
    "parse",
    "question_item",
    "ranked_run",
    "read_run",
    "register",
    "run_rank_correlation",
    "run_ranks",
    "setting_ranks",
    "values",
]
