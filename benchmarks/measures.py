"""Six measures of a run of 13,090 queries x 1000 documents, beside pytrec_eval; one process, one thread, in turn.

    python benchmarks/measures.py [QUERIES DEPTH]

The run is generated: 13,014 documents, 11 relevant for each query, of which most are retrieved. Each side starts from
the form that it works on: here rows in rank order and judgements as arrays, there dicts of dicts of scores and grades.
So ranking by score is in pytrec_eval's time, which it always does, and not in the first time of ours, as a search hands
over rows in rank order; the other time of ours has it, and all that leads from the dicts to arrays. In neither time is
the making of the dicts. The values of every query are compared after each round: all must be equal.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pytrec_eval

from beir_hybrid.collections.texts import Relevance
from beir_hybrid.evaluation.measures import RankedRun, evaluate_run, read_run

MEASURES = ("AP", "RR@10", "nDCG@10", "R@100", "P@10", "Success@10")
THEIRS = ("map", "recip_rank", "ndcg_cut_10", "recall_100", "P_10", "success_10")
DOCUMENTS, RELEVANT, ROUNDS = 13_014, 11, 3

Scores = dict[str, dict[str, float]]
Grades = dict[str, dict[str, int]]


def make_run(queries: int, depth: int) -> tuple[RankedRun, Relevance, Scores, Grades]:
    """The same run and judgements as arrays and as dicts."""
    generator = np.random.default_rng(0)
    documents = np.empty((queries, depth), dtype=np.int64)
    judged = np.empty((queries, RELEVANT), dtype=np.int64)
    for query in range(queries):
        documents[query] = generator.choice(DOCUMENTS, depth, replace=False)
        places = generator.choice(min(200, depth), RELEVANT, replace=False)
        judged[query] = np.sort(documents[query, places])
    start = np.arange(queries + 1)
    relevance = Relevance(start * RELEVANT, judged.ravel(), np.ones(judged.size, dtype=np.int16))
    names = [f"d{number:05}" for number in range(DOCUMENTS)]
    scores = (np.arange(depth, 0, -1) / depth).tolist()
    run = {
        f"q{query}": dict(zip((names[row] for row in rows), scores, strict=True))
        for query, rows in enumerate(documents.tolist())
    }
    qrels = {f"q{query}": {names[row]: 1 for row in rows} for query, rows in enumerate(judged.tolist())}
    return RankedRun(documents.ravel(), start * depth), relevance, run, qrels


def main() -> None:
    queries, depth = (int(sys.argv[at]) if len(sys.argv) > at else value for at, value in ((1, 13_090), (2, 1000)))
    run, relevance, scores, grades = make_run(queries, depth)
    seconds: dict[str, list[float]] = {"arrays": [], "dicts": [], "pytrec_eval": []}
    for _ in range(ROUNDS):
        started = time.perf_counter()
        ours = evaluate_run(run, relevance, MEASURES)
        seconds["arrays"].append(time.perf_counter() - started)

        started = time.perf_counter()
        evaluator = pytrec_eval.RelevanceEvaluator(grades, set(THEIRS))
        theirs = evaluator.evaluate(scores)
        seconds["pytrec_eval"].append(time.perf_counter() - started)

        started = time.perf_counter()
        read = read_run(scores, grades)
        again = evaluate_run(read.run, read.judgements, MEASURES)
        seconds["dicts"].append(time.perf_counter() - started)
        for name, their_name in zip(MEASURES, THEIRS, strict=True):
            expected = np.array([theirs[query][their_name] for query in grades])
            if name == "RR@10":  # trec_eval has no cutoff
                expected[expected < 1 / 10] = 0
            if not (ours[name] == expected).all() or not (again[name] == expected).all():
                raise SystemExit(f"{name}: the values differ from pytrec_eval's {their_name}.")
    peer = min(seconds["pytrec_eval"])
    print(f"{queries:,} queries x {depth:,} documents; {', '.join(MEASURES)}; best of {ROUNDS}; all values equal")
    for name, label in (
        ("pytrec_eval", "pytrec_eval, from dicts"),
        ("arrays", "evaluate_run, from arrays in rank order"),
        ("dicts", "read_run and evaluate_run, from dicts"),
    ):
        print(f"{label:42} {min(seconds[name]):7.2f} s  {min(seconds[name]) / peer:5.2f} x")


if __name__ == "__main__":
    main()
