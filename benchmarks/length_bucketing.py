"""Tokens a second in training on MLQA-R: batches in random order beside batches of passages of like length.

    python benchmarks/length_bucketing.py [STEPS]

Forward and backward passes of the bundled encoder over the same number of batches, in turn in one process; the fastest
round of each counts. Padding is not counted as tokens. On a CPU the package runs a batch in chunks of like length
already; "plain" has that switched off, as on a GPU and as in sentence-transformers.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from beir_hybrid.collections.registry import load_collection
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.tokenised import token_counts
from beir_hybrid.training import forward
from beir_hybrid.training.batching import HybridBatchSampler
from beir_hybrid.training.lengths import Measure
from beir_hybrid.training.loss import HybridInfoNCELoss
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.rows import HybridDataCollator, PairDataset, training_prompts
from beir_hybrid.training.trainer import freeze_embeddings

SHARED = Path(__file__).parents[2] / "shared" / "data" / "lareqa"
BATCH, ROUNDS, RATIO = 32, 3, 1.3


def batches(
    pairs: ParallelPairs, collator: HybridDataCollator, steps: int, bucketing: bool | Measure
) -> list[dict[str, Any]]:
    """The tokenised batches of the first steps."""
    sampler, dataset = HybridBatchSampler(pairs, BATCH, length_bucketing=bucketing), PairDataset(pairs)
    found: list[dict[str, Any]] = []
    epoch = 0
    while len(found) < steps:
        sampler.set_epoch(epoch)
        found += [collator(dataset.__getitems__(batch)) for batch in sampler][: steps - len(found)]
        epoch += 1
    return found


def run(loss: HybridInfoNCELoss, data: list[dict[str, Any]]) -> float:
    """Tokens a second, forward and backward."""
    tokens, start = 0, time.perf_counter()
    for batch in data:
        columns = [
            {name: batch[f"{side}_{name}"] for name in ("input_ids", "attention_mask")} for side in ("query", "passage")
        ]
        with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
            value = loss(columns, batch["label"])
        value.backward()
        loss.zero_grad(set_to_none=True)
        tokens += sum(int(column["attention_mask"].sum()) for column in columns)
    return tokens / (time.perf_counter() - start)


def main() -> None:
    if not (SHARED / "mlqa-r").is_dir():
        print(f"no MLQA-R in {SHARED}: nothing measured.")
        return
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    encoder = DenseEncoder("bundled:multilingual-e5-small", progress=False)
    freeze_embeddings(encoder.model)
    pairs = ParallelPairs.from_collection(load_collection("mlqa-r", data_dir=SHARED))
    collator = HybridDataCollator(encoder.model.preprocess, prompts=training_prompts(None, encoder.model.prompts))
    loss = HybridInfoNCELoss(encoder.model)
    chunks = forward.CHUNKS
    ways = [(bucketing, plain) for bucketing in (False, True) for plain in (True, False)]
    speeds: dict[tuple[bool, bool], float] = dict.fromkeys(ways, 0.0)
    # By the model's tokens, as the trainer has it.
    counted = partial(token_counts, encoder.model)
    data = {bucketing: batches(pairs, collator, steps, bucketing and counted) for bucketing in (False, True)}
    for number in range(ROUNDS + 1):
        for bucketing, plain in ways:
            forward.CHUNKS = 10**6 if plain else chunks
            speed = run(loss, data[bucketing])
            if number:  # the first round warms up
                speeds[bucketing, plain] = max(speed, speeds[bucketing, plain])
    print(f"{steps} batches of {BATCH} rows of MLQA-R, {torch.get_num_threads()} threads, the fastest of {ROUNDS}")
    base = speeds[False, True]
    for (bucketing, plain), speed in speeds.items():
        name = f"{'like lengths' if bucketing else 'random order'}, {'plain batches' if plain else 'run in chunks'}"
        print(f"{name:30} {speed:8.0f} tokens/s {speed / base:6.2f}")
    print(f"like lengths / random order, plain batches: {speeds[True, True] / base:.2f} (at least {RATIO})")


BF16 = torch.cpu._is_avx512_bf16_supported() if hasattr(torch.cpu, "_is_avx512_bf16_supported") else False

if __name__ == "__main__":
    main()
