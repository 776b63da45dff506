"""BEIR's own way to evaluate a sentence-transformers model, on a folder that beir_hybrid has prepared.

    beir-hybrid datasets prepare sample-test/cross/en-de my-folder
    python examples/evaluate_sbert.py my-folder intfloat/multilingual-e5-small

From the loader on, everything below is BEIR; only the folder is new.
"""

from __future__ import annotations

import argparse
import logging

from beir import LoggingHandler
from beir.datasets.data_loader import GenericDataLoader
from beir.retrieval import models
from beir.retrieval.evaluation import EvaluateRetrieval
from beir.retrieval.search.dense import DenseRetrievalExactSearch as DRES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what `beir-hybrid datasets prepare` has written")
    parser.add_argument("model", help="a sentence-transformers model: a hub id or a folder")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s - %(message)s", level=logging.INFO, handlers=[LoggingHandler()])

    corpus, queries, qrels = GenericDataLoader(data_folder=arguments.folder).load(split="test")
    model = DRES(models.SentenceBERT(arguments.model), batch_size=32)
    retriever = EvaluateRetrieval(model, score_function="cos_sim")
    results = retriever.retrieve(corpus, queries)

    logging.info(f"Retriever evaluation for k in: {retriever.k_values}")
    ndcg, _map, recall, precision = retriever.evaluate(qrels, results, retriever.k_values)
    mrr = retriever.evaluate_custom(qrels, results, retriever.k_values, metric="mrr")
    for measure in (ndcg, _map, recall, precision, mrr):
        for name, value in measure.items():
            print(f"{name}: {value:.4f}")


if __name__ == "__main__":
    main()
