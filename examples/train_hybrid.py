"""Train an encoder with hybrid batches and see what they did to it, in every language setting.

python examples/train_hybrid.py [MODEL] [--steps 60]
"""

from __future__ import annotations

import argparse

import beir_hybrid
from beir_hybrid import DenseEncoder, HybridTrainer, HybridTrainingArguments


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="bundled:multilingual-e5-small")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()

    encoder = DenseEncoder(options.model)
    test = beir_hybrid.load("sample-test")
    before = beir_hybrid.evaluate_grid(encoder, test)

    # Half of the batches in one language, half with questions and passages in different languages.
    arguments = HybridTrainingArguments(
        "example-output",
        batching="hybrid",
        alpha=0.5,
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        freeze_embeddings=True,
        save_strategy="no",
        use_cpu=encoder.model.device.type == "cpu",
        bf16=encoder.precision == "bf16",
    )
    HybridTrainer(encoder.model, arguments, beir_hybrid.load("sample-train")).train()
    after = beir_hybrid.evaluate_grid(encoder, test)

    for kind, measure in (("mono", "AP"), ("cross", "AP"), ("multi", "AP"), ("multi", "RankDistance")):
        values = [results.value(setting=kind, measure=measure, average="macro") for results in (before, after)]
        print(f"{kind:6} {measure:13} {values[0]:7.3f} -> {values[1]:7.3f}")


if __name__ == "__main__":
    main()
