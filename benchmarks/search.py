"""Exact search beside faiss and BEIR, in turn in one process, and its memory for vectors on disk.

    python benchmarks/search.py [REPEATS]

First 100 thousand and 1 million vectors of 384 numbers from a mapped file, each in a fresh process: seconds and peak
resident memory (Linux). Then, as ratios of the best of REPEATS (3): `top_k` beside faiss's IndexFlatIP on as many
threads, and `HybridExactSearch` beside BEIR's DenseRetrievalExactSearch, both from corpus and queries to dicts of
results, with one model that has its vectors ready. The scores of each query must be equal.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from beir_hybrid.retrieval.beir import HybridExactSearch
from beir_hybrid.retrieval.search import top_k
from beir_hybrid.retrieval.threads import threads

DIMENSIONS = 384
SIZES = ((13_090, 13_014), (1_000, 100_000))
ON_DISK = (100_000, 1_000_000)

_CHILD = """
import json, re, sys, time
import numpy as np
from beir_hybrid.retrieval.search import top_k
def peak():
    # Not ru_maxrss, which a process inherits from the one that started it.
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
passages = np.load(sys.argv[1], mmap_mode="r")
queries = np.random.default_rng(1).standard_normal((1000, passages.shape[1])).astype(np.float32)
ids = [f"{number:08d}" for number in range(len(passages))]
before, started = peak(), time.perf_counter()
top_k(queries, passages, 100, ids)
print(json.dumps({"seconds": time.perf_counter() - started, "peak": peak(), "before": before}))
"""

Vectors = npt.NDArray[np.float32]


class Ready:
    """A model that has the vectors ready; a document's text is its row."""

    def __init__(self, queries: Vectors, passages: Vectors) -> None:
        import torch

        self._queries, self._passages = torch.from_numpy(queries), torch.from_numpy(passages)

    def encode_queries(self, queries: list[str], **kwargs: Any) -> Any:
        return self._queries[: len(queries)]

    def encode_corpus(self, corpus: list[dict[str, str]], **kwargs: Any) -> Any:
        return self._passages[[int(one["text"]) for one in corpus]]


def unit(rows: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((rows, DIMENSIONS), dtype=np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def best_in_turn(repeats: int, *functions: Callable[[], Any]) -> tuple[list[float], list[Any]]:
    """The best seconds of each function, run in turn so that a busy minute meets all of them, and its last result.

    That results of the round before are thrown away is not timed.
    """
    best, results = [float("inf")] * len(functions), [None] * len(functions)
    for _ in range(repeats):
        for number, function in enumerate(functions):
            results[number] = None
            started = time.perf_counter()
            results[number] = function()
            best[number] = min(best[number], time.perf_counter() - started)
    return best, results


def compare(queries: int, passages: int, repeats: int) -> None:
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    asked, found = unit(queries, 0), unit(passages, 1)
    ids = [f"{number:08d}" for number in range(passages)]
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(found)
    corpus = {name: {"title": "", "text": str(row)} for row, name in enumerate(ids)}
    texts = {f"q{number}": "" for number in range(queries)}
    model = Ready(asked, found)

    def search(kind: Any, k: int) -> Any:
        return kind(model, show_progress_bar=False).search(corpus, texts, k, "dot")

    for k in (100, 1000):
        ways = partial(top_k, asked, found, k, ids), partial(index.search, asked, k)
        (ours, theirs), _ = best_in_turn(repeats, *ways)
        drop_ins = (partial(search, kind, k) for kind in (HybridExactSearch, DenseRetrievalExactSearch))
        (drop_in, beir), results = best_in_turn(repeats, *drop_ins)
        for query in list(texts)[::100]:
            mine, other = (np.sort(list(one[query].values())) for one in results)
            if not np.allclose(mine, other, rtol=1e-5, atol=1e-6):
                raise SystemExit(f"{query}: HybridExactSearch found other scores than BEIR.")
        del results
        print(
            f"{queries:6,} x {passages:7,}, k={k:4}: top_k {ours:6.2f} s, faiss {theirs:6.2f} s: {ours / theirs:4.2f}; "
            f"HybridExactSearch {drop_in:6.2f} s, BEIR {beir:6.2f} s: {beir / drop_in:4.1f} times as fast "
            f"({beir / ours:4.1f} as arrays, by top_k).",
            flush=True,
        )


def from_disk(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "passages.npy"
        file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, DIMENSIONS))
        for start in range(0, rows, 50_000):
            file[start : start + 50_000] = unit(50_000, start)[: rows - start]
        file.flush()
        del file
        done = subprocess.run([sys.executable, "-c", _CHILD, str(path)], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    print(
        f"1,000 x {rows:9,} from disk, k=100: {figures['seconds']:6.1f} s "
        f"({1e6 * figures['seconds'] / rows:5.1f} s for a million); peak {figures['peak']:5.0f} MiB, of which "
        f"{figures['before']:4.0f} before the search.",
        flush=True,
    )


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    faiss.omp_set_num_threads(threads())
    print(f"{threads()} threads, {DIMENSIONS} dimensions, float32, best of {repeats}")
    for rows in ON_DISK:
        from_disk(rows)
    for queries, passages in SIZES:
        compare(queries, passages, repeats)


if __name__ == "__main__":
    main()
