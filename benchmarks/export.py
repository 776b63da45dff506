"""Memory and time of an export: `python benchmarks/export.py [PASSAGES [DIMENSION [INDEX]]]`, else 1,000,000 x 384.

The export runs in a process of its own with generated vectors, by an encoder that is BEIR's two methods, and with torch
and sentence-transformers loaded as they would be. With `BEIR_HYBRID_DATA` (or the data beside the checkout) it also
prints what it adds to the time of encoding so many passages with the bundled encoder, which is extrapolated from 1,000
passages of XQuAD-R.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini.exporting.export import export_pyserini
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.texts import Relevance, Texts

SAMPLE = 1000
DATA = Path(os.environ.get("BEIR_HYBRID_DATA", Path(__file__).resolve().parents[2] / "shared" / "data" / "lareqa"))


class Generated:
    """Random vectors of length 1, and how long making them took."""

    def __init__(self, dimension: int) -> None:
        self.dimension, self.seconds = dimension, 0.0
        self.random = np.random.default_rng(0)

    def encode_queries(self, queries: list[str], **_: Any) -> Any:
        started = time.perf_counter()
        vectors = self.random.standard_normal((len(queries), self.dimension), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.seconds += time.perf_counter() - started
        return vectors

    def encode_corpus(self, corpus: list[dict[str, str]], **_: Any) -> Any:
        return self.encode_queries([passage["text"] for passage in corpus])


def synthetic(passages: int) -> MultilingualCollection:
    """Passages of some 120 letters, and 1,000 questions with one answer each."""
    filler = (
        "a passage of about the length that a sentence of an encyclopedia has, so that files are as large as they are"
    )
    texts = [f"{filler} {row}" for row in range(passages)]
    found = Texts([f"en_{row}" for row in range(passages)], texts, np.zeros(passages, dtype=np.int16))
    count = min(1000, passages)
    asked = Texts([f"q{row}" for row in range(count)], texts[:count], np.zeros(count, dtype=np.int16))
    judged = Relevance(np.arange(count + 1), np.arange(count), np.ones(count, dtype=np.int16))
    info = CollectionInfo("", "", "generated")
    return MultilingualCollection("generated", ("en",), asked, found, asked.ids, np.arange(count), judged, info)


def export(passages: int, dimension: int, index: str) -> None:
    """In a process of its own: print seconds without the encoder, and peak memory before and after."""
    import sentence_transformers  # noqa: F401 (what would be loaded)

    collection, encoder = synthetic(passages), Generated(dimension)
    before = _megabytes()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        export_pyserini(encoder, collection, Path(folder) / "index", index=index, progress=False)
        seconds = time.perf_counter() - started - encoder.seconds
    print(f"{seconds} {before} {_megabytes()}")


def encode_seconds() -> float | None:
    """Seconds a passage, of the bundled encoder on passages of XQuAD-R; None without the data."""
    if not (DATA / "xquad-r").is_dir():
        return None
    from beir_hybrid import DenseEncoder, load

    texts = load("xquad-r", data_dir=DATA).passages.full_texts
    chosen = np.random.default_rng(0).choice(len(texts), size=SAMPLE, replace=False)
    encoder = DenseEncoder("bundled:multilingual-e5-small", progress=False)
    encoder.encode([texts[int(row)] for row in chosen[:200]], "passage")  # which precision, and warm caches
    started = time.perf_counter()
    encoder.encode([texts[int(row)] for row in chosen], "passage")
    return (time.perf_counter() - started) / SAMPLE


def main() -> None:
    given = sys.argv[1:]
    passages, dimension, index = (*given, *("1000000", "384", "Flat")[len(given) :])
    command = [sys.executable, __file__, "--child", passages, dimension, index]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    seconds, before, after = (float(one) for one in said[-3:])
    print(f"{int(passages):,} x {dimension}, {index}: {seconds:.1f} s beside encoding, peak memory {after:,.0f} MB")
    print(f"of that {before:,.0f} MB were there before (torch, sentence-transformers and the texts)")
    if per_passage := encode_seconds():
        encoding = per_passage * int(passages)
        print(f"encoding so many with the bundled encoder: {encoding:,.0f} s (from {SAMPLE:,} passages of XQuAD-R)")
        print(f"encoding and export, as a multiple of encoding: {(encoding + seconds) / encoding:.4f}")


def _megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        export(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        main()
