"""A sentence-transformers model in every language setting, encoded once, beside BEIR's own loop over two of them.

    python examples/evaluate_dense.py sample-test intfloat/multilingual-e5-small

The second part is a BEIR script as one knows it, with HybridExactSearch in the place of DenseRetrievalExactSearch.
"""

from __future__ import annotations

import argparse

from beir.retrieval.evaluation import EvaluateRetrieval

import beir_hybrid
from beir_hybrid import DenseEncoder, HybridExactSearch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", help="a name, such as xquad-r, or a folder")
    parser.add_argument("model", help="a sentence-transformers model: a hub id or a folder")
    arguments = parser.parse_args()
    encoder = DenseEncoder(arguments.model)

    # Every setting from one encoding.
    collection = beir_hybrid.load_collection(arguments.collection)
    results = beir_hybrid.evaluate_grid(encoder, collection, measures=["nDCG@10", "R@100", "RankDistance"])
    for kind in ("mono", "cross", "multi"):
        value = results.value(setting=kind, measure="nDCG@10", average="macro")
        print(f"{kind}: nDCG@10 {value:.4f}, the mean over its settings")
    distance = results.value(setting="multi", measure="RankDistance", average="macro")
    print(f"language bias: the answers of a question are {distance:.1f} ranks apart")

    # A setting as BEIR has it: corpus, queries and qrels.
    first, second = collection.languages[:2]
    for setting in (f"mono/{first}", f"cross/{first}-{second}"):
        corpus, queries, qrels = beir_hybrid.load_beir(f"{arguments.collection}/{setting}")
        retriever = EvaluateRetrieval(HybridExactSearch(encoder, batch_size=128), score_function="cos_sim")
        found = retriever.retrieve(corpus, queries)
        ndcg, _map, recall, _precision = retriever.evaluate(qrels, found, [10])
        print(f"{setting}: {ndcg}, {recall}")


if __name__ == "__main__":
    main()
