"""Does mixing batches help? Train with three batchings, evaluate every language setting, test the difference.

    python examples/compare_batching.py intfloat/multilingual-e5-small --steps 150

Trains on `sample-train` and evaluates on `sample-test`, which share no questions, unless told otherwise.
"""

from __future__ import annotations

import argparse
import tempfile

import beir_hybrid
from beir_hybrid import DenseEncoder, HybridTrainer, HybridTrainingArguments
from beir_hybrid.evaluation.reports.comparison_report import comparison_tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a sentence-transformers model: a hub id or a folder")
    parser.add_argument("--train", default="sample-train", help="the collection to train on")
    parser.add_argument("--test", default="sample-test", help="the collection to evaluate on")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()

    training, test = (beir_hybrid.load_collection(name) for name in (arguments.train, arguments.test))
    systems = {}
    for batching in ("x-x-mono", "x-y", "hybrid"):
        encoder = DenseEncoder(arguments.model)
        with tempfile.TemporaryDirectory() as folder:
            args = HybridTrainingArguments(
                folder,
                batching=batching,
                max_steps=arguments.steps,
                per_device_train_batch_size=arguments.batch_size,
                save_strategy="no",
            )
            HybridTrainer(encoder.model, args, training).train()
        systems[batching] = beir_hybrid.evaluate_grid(encoder, test, system=batching)
    comparison = beir_hybrid.compare(systems, baseline="x-x-mono", measures=["AP", "RankDistance"])
    for table in comparison_tables(comparison):
        print(table.text())


if __name__ == "__main__":
    main()
