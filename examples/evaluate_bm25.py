"""BM25 with Lucene's analyzer of each language, as BEIR has its lexical baseline; needs Pyserini and Java.

    pip install "beir-hybrid[pyserini]"
    python examples/evaluate_bm25.py sample-test my-runs

Writes a TREC run for each mono setting into the folder, and prints nDCG@10 by language.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beir.retrieval.evaluation import EvaluateRetrieval

import beir_hybrid
from beir_hybrid.anserini.lexical.bm25 import bm25_runs
from beir_hybrid.evaluation.from_runs import run_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", help="a name, such as xquad-r, or a folder")
    parser.add_argument("folder", type=Path, help="where the runs are written")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)

    collection = beir_hybrid.load_collection(arguments.collection)
    mono = [setting for setting in collection.settings if setting.kind == "mono"]
    for found in bm25_runs(collection, mono, depth=100):
        run = found.run
        run.write(arguments.folder / f"{run_name(found.setting)}.trec", tag="bm25")
        qrels = {query: dict(grades) for query, grades in collection.view(found.setting).qrels.items()}
        # From here on it is BEIR's.
        ndcg, _map, recall, _precision = EvaluateRetrieval().evaluate(qrels, run.to_beir(), [10, 100])
        print(f"{found.setting}: {ndcg}, {recall}")


if __name__ == "__main__":
    main()
