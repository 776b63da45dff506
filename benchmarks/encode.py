"""Encoding passages of XQuAD-R: this package beside SentenceTransformer.encode as it comes.

    python benchmarks/encode.py [PASSAGES [THREADS]] [--ap]

The bundled encoder, with the same prompts, in turn in one process; the fastest round of each counts. Time is that of
the processor where there is one thread, which neighbours on the machine disturb least, else that of the clock. With
`--ap`, AP in each language beside that of float32: the whole collection is encoded twice, which takes minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.registry import load_collection
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.encoding import FloatArray
from beir_hybrid.encoders.tokenised import Tokenised
from beir_hybrid.evaluation.grid import grid_from_embeddings

SHARED = Path(__file__).parents[2] / "shared" / "data" / "lareqa"
ROUNDS = 2
RATIO, RATIO_FLOAT32, AP = 3.0, 1.0, 0.002


def timed(ways: dict[str, Callable[[], FloatArray]]) -> tuple[dict[str, float], dict[str, FloatArray]]:
    """The fewest seconds of each way, and its vectors."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    best: dict[str, float] = {}
    vectors: dict[str, FloatArray] = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = clock()
            vectors[name] = way()
            best[name] = min(best.get(name, float("inf")), clock() - start)
    return best, vectors


def mono_ap(encoder: DenseEncoder, collection: MultilingualCollection, precision: str) -> dict[str, float]:
    """AP in each language, of all questions and passages."""
    asked = encoder.encode(collection.queries.texts, "query", precision=precision)
    found = encoder.encode(list(collection.passages.full_texts), "passage", precision=precision)
    results = grid_from_embeddings(asked, found, collection, measures=["AP"], settings=["mono"])
    return {figure.query_language: figure.value for figure in results.figures if not figure.average}


def main() -> None:
    if not (SHARED / "xquad-r").is_dir():
        print(f"no XQuAD-R in {SHARED}: nothing measured.")
        return
    numbers = [int(given) for given in sys.argv[1:] if given != "--ap"]
    count = numbers[0] if numbers else 2000
    if numbers[1:]:
        torch.set_num_threads(numbers[1])
    collection = load_collection("xquad-r", data_dir=SHARED)
    every = collection.passages.full_texts
    texts = [every[row] for row in np.random.default_rng(0).permutation(len(every))[:count].tolist()]
    encoder = DenseEncoder("bundled:multilingual-e5-small", device="cpu", progress=False)
    model, prompt = encoder.model, encoder.passage_prompt
    tokens = Tokenised(model, texts, prompt)
    print(f"{len(texts)} passages, {int(tokens.lengths.sum())} tokens, {torch.get_num_threads()} threads")
    print(f"precision: {encoder.settle_precision(texts, 'passage')}, {encoder.precision_probe}")
    ways: dict[str, Callable[[], FloatArray]] = {
        "sentence-transformers": lambda: model.encode(
            texts, prompt=prompt, normalize_embeddings=True, show_progress_bar=False
        ),
        "ours, auto": lambda: encoder.encode(texts, "passage"),
        "ours, float32": lambda: encoder.encode(texts, "passage", precision="float32"),
    }
    seconds, vectors = timed(ways)
    theirs = "sentence-transformers"
    for name, taken in seconds.items():
        least = float((vectors[name] * vectors[theirs]).sum(axis=1).min())
        speed = len(texts) / taken
        print(f"{name:22} {speed:8.1f} texts/s {seconds[theirs] / taken:6.2f} times theirs, cosine >= {least:.5f}")
    print(f"auto: at least {RATIO} times theirs on a CPU with units for bf16; float32: at least {RATIO_FLOAT32}")
    if "--ap" not in sys.argv:
        return
    ap = {precision: mono_ap(encoder, collection, precision) for precision in ("float32", "bf16")}
    for language, value in ap["float32"].items():
        print(f"AP in {language}: float32 {value:.4f}, bf16 {ap['bf16'][language] - value:+.4f} (within {AP})")


if __name__ == "__main__":
    main()
