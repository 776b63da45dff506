"""How fast an epoch's batches are drawn, beside sentence-transformers' NoDuplicatesBatchSampler; one process, in turn.

    python benchmarks/plan_epoch.py [ITEMS LANGUAGES]

First 87,600 items in 7 languages, against a datasets.Dataset of 87,600 rows of two short texts: an epoch of either
hands out as many rows. Then seconds and peak memory of a plan of 8,000,000 items in 5 languages, or of what is given.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset  # type: ignore[import-untyped]
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

from beir_hybrid.training.batching import HybridBatchSampler
from beir_hybrid.training.pairs import ParallelPairs

SMALL = (87_600, 7)
LARGE = (8_000_000, 5)
ROUNDS = 3
RATIO, SECONDS, MEGABYTES = 20, 10, 1000


def make_pairs(items: int, languages: int) -> ParallelPairs:
    """Every item in every language, and every third with the answer of the one before it."""
    rows = np.arange(items * languages, dtype=np.int64).reshape(items, languages)
    group = np.arange(items, dtype=np.int64)
    group -= (group + 1) // 3
    codes = ("en", *(f"x{number}" for number in range(1, languages)))
    # Drawing reads no text; questions and passages may share the row numbers, which saves memory here.
    return ParallelPairs(codes, (), (), rows, rows, group, "made up", "")


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def against_no_duplicates() -> None:
    items, languages = SMALL
    pairs = make_pairs(items, languages)
    texts = {
        "query": [f"where is the river {number}?" for number in range(items)],
        "passage": [f"the river {number} is in the north" for number in range(items)],
    }
    dataset = Dataset.from_dict(texts)
    print(f"one epoch of {items} items in {languages} languages; best of {ROUNDS}")
    for size in (32, 100):
        drawn, built, peer = [], [], []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            sampler = HybridBatchSampler(pairs, size)
            made = time.perf_counter() - start
            drawn.append(seconds(lambda sampler=sampler: list(sampler)))  # type: ignore[misc]
            built.append(made + drawn[-1])
            other = NoDuplicatesBatchSampler(dataset, batch_size=size, drop_last=True)
            peer.append(seconds(lambda other=other: list(other)))  # type: ignore[misc]
        print(
            f"batch {size:3}: HybridBatchSampler {min(drawn):6.3f} s ({min(built):.3f} with its construction), "
            f"NoDuplicatesBatchSampler {min(peer):6.2f} s: {min(peer) / min(drawn):.0f} times as fast "
            f"({min(peer) / min(built):.0f} with construction; aim {RATIO})"
        )


def large(items: int, languages: int, size: int = 32) -> None:
    pairs = make_pairs(items, languages)
    table = 2 * pairs.query_row.nbytes / 1e6
    print(f"{items} items in {languages} languages, {items * languages / 1e6:.0f} million rows, batch {size}:")
    start = time.perf_counter()
    sampler = HybridBatchSampler(pairs, size)
    made = time.perf_counter() - start
    plan = seconds(lambda: sampler.plan(0))
    # A second time for the memory, since tracing takes time.
    tracemalloc.start()
    again = HybridBatchSampler(pairs, size)
    construction = tracemalloc.get_traced_memory()[1] / 1e6
    held = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.reset_peak()
    again.plan(0)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(f"  construction {made:.1f} s, peak {construction:.0f} MB, {held:.0f} MB of which it keeps")
    for what, value, aim, unit in (("plan", plan, SECONDS, "s"), ("peak of the plan", peak, MEGABYTES, "MB")):
        print(f"  {what} {value:.1f} {unit}: {'reached' if value <= aim else 'NOT reached'} (aim {aim} {unit})")
    print(f"  the plan's peak counts what the sampler keeps; the pairs' own tables would be {table:.0f} MB more")


def main() -> None:
    if len(sys.argv) > 2:
        large(int(sys.argv[1]), int(sys.argv[2]))
        return
    against_no_duplicates()
    large(*LARGE)


if __name__ == "__main__":
    main()
