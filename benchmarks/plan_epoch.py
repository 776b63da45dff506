"""How fast an epoch's batches are drawn, beside sentence-transformers' NoDuplicatesBatchSampler; one process, in turn.

    python benchmarks/plan_epoch.py [ITEMS LANGUAGES]

First 87,600 items in 7 languages, against a datasets.Dataset of 87,600 rows of two short texts: an epoch of either
hands out as many rows. Then seconds and peak memory of an epoch of 40,000,000 rows: as many items in 7 languages, or
what is given. A large epoch is planned while it goes on: how long the first batch takes is said too.
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
LARGE = (40_000_000, 7)
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
    # Tables as they come from a store on disk, which is not what is measured here.
    rows: Any = np.broadcast_to(np.arange(languages, dtype=np.int32), (items, languages))
    group: Any = np.arange(items, dtype=np.int32)
    group -= (group + 1) // 3
    codes = ("en", *(f"x{number}" for number in range(1, languages)))
    pairs = ParallelPairs(codes, (), (), rows, rows, group, "made up", "")
    print(f"{items} items in {languages} languages, an epoch of {items / 1e6:.0f} million rows, batch {size}:")
    tracemalloc.start()
    sampler = HybridBatchSampler(pairs, size)
    drawing = sampler._drawing
    for piece in range(min(3, len(drawing.pieces(0)))):
        drawing.plan(0, piece)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    # A second time for the seconds, since tracing takes time.
    start = time.perf_counter()
    sampler = HybridBatchSampler(pairs, size)
    made = time.perf_counter() - start
    first = seconds(lambda: next(iter(sampler)))
    drawing = sampler._drawing
    drawing.plan(1, 0)  # so that the plan below is of an epoch that was not begun
    before = time.process_time()
    plan = seconds(lambda: [drawing.plan(0, piece) for piece in range(len(drawing.pieces(0)))])
    processor = time.process_time() - before
    print(f"  construction {made:.1f} s, first batch after {first:.1f} s, {len(drawing.pieces(0))} pieces")
    for what, value, aim, unit in (("plan", plan, SECONDS, "s"), ("peak memory", peak, MEGABYTES, "MB")):
        print(f"  {what} {value:.1f} {unit}: {'reached' if value <= aim else 'NOT reached'} (aim {aim} {unit})")
    print(f"  the plan took {processor:.1f} s of the processors' time, in two threads")
    print(f"  the peak is of construction and plan; the groups of the items are {group.nbytes / 1e6:.0f} MB beside it")


def main() -> None:
    if len(sys.argv) > 2:
        large(int(sys.argv[1]), int(sys.argv[2]))
        return
    against_no_duplicates()
    large(*LARGE)


if __name__ == "__main__":
    main()
