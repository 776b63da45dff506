"""The grid of a large collection from vectors on disk: peak resident memory and seconds (Linux).

    python benchmarks/grid_memory.py [PASSAGES ...]

Two languages with made passages, 100 thousand and 1 million by default, 1,000 questions, and random vectors of 384
numbers in a mapped file. Each is evaluated in a fresh process: mono, cross and multi, whole rankings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

DIMENSIONS, QUESTIONS, BLOCK, LANGUAGES = 384, 1000, 50_000, ("en", "de")

_CHILD = """
import json, re, sys, time
from pathlib import Path
from beir_hybrid.collections.registry import load_collection
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.evaluation.grid import grid_from_embeddings
def peak():
    # Not ru_maxrss, which a process inherits from the one that started it.
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
folder = Path(sys.argv[1])
data = load_collection(str(folder / "data"))
data.digest
before, started = peak(), time.perf_counter()
results = grid_from_embeddings(
    *(EmbeddingStore.open(folder / f"{name}.npy") for name in ("queries", "passages")), data, measures=["AP", "R@100"]
)
print(json.dumps({
    "seconds": time.perf_counter() - started, "peak": peak(), "before": before, "passages": len(data.passages),
    "settings": [str(one) for one in data.settings],
}))
"""


def write_vectors(path: Path, rows: int, seed: int) -> None:
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, DIMENSIONS))
    for start in range(0, rows, BLOCK):
        made = np.random.default_rng((seed, start)).standard_normal((min(BLOCK, rows - start), DIMENSIONS))
        file[start : start + BLOCK] = made
    file.flush()


def write_collection(folder: Path, passages: int) -> None:
    """A BEIR folder in two languages by turns; each question has one relevant passage in each."""
    (folder / "qrels").mkdir(parents=True)
    filling = "It is as long as a sentence of an encyclopedia would be, so that reading it takes what it takes there."
    with (folder / "corpus.jsonl").open("w") as file:
        for row in range(passages):
            about = json.dumps({"language": LANGUAGES[row % 2]})
            file.write(f'{{"_id": "d{row}", "title": "", "text": "Passage {row}. {filling}", "metadata": {about}}}\n')
    with (folder / "queries.jsonl").open("w") as file:
        for row in range(QUESTIONS):
            about = json.dumps({"language": LANGUAGES[row % 2]})
            file.write(f'{{"_id": "q{row}", "text": "Question {row}?", "metadata": {about}}}\n')
    with (folder / "qrels" / "test.tsv").open("w") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        step = passages // QUESTIONS
        file.writelines(f"q{row}\td{row * step + nth}\t1\n" for row in range(QUESTIONS) for nth in (0, 1))


def main() -> None:
    for passages in [int(size) for size in sys.argv[1:]] or [100_000, 1_000_000]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_collection(folder / "data", passages)
            write_vectors(folder / "queries.npy", QUESTIONS, 0)
            write_vectors(folder / "passages.npy", passages, 1)
            environment = {"BEIR_HYBRID_CACHE": str(folder / "cache")}
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, str(folder)],
                capture_output=True,
                text=True,
                env=os.environ | environment,
                check=False,
            )
            if done.returncode:
                sys.exit(done.stderr)
            figures = json.loads(done.stdout)
        print(
            f"{QUESTIONS:,} x {figures['passages']:9,}: {figures['seconds']:6.1f} s; peak {figures['peak']:5.0f} MiB, "
            f"of which {figures['before']:4.0f} before; {len(figures['settings'])} settings",
            flush=True,
        )


if __name__ == "__main__":
    main()
