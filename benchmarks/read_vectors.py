"""How vectors come back from Pyserini's files, beside Pyserini's own way; the memory and time of each, in turn.

    python benchmarks/read_vectors.py [ROWS]

An index of ROWS x 384 (default: a million) is opened, checked, and every vector is gathered by its id, in another
order, as a grid does; beside it stand `faiss.read_index` and `reconstruct_n`, as `pyserini.index.faiss` reads one.
Then 20,000 vectors in JSON lines, laid out for the first time, beside `json.loads` and `np.array`, as it reads those.
Each in a process of its own on Linux, whose memory is what it has over the interpreter and its imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from beir_hybrid import read_vectors
from beir_hybrid.anserini.indexes.flat import write_flat
from beir_hybrid.collections.texts import Texts

DIMENSION, LINES, AT_ONCE, ROUNDS = 384, 20_000, 20_000, 3


def gather(folder: Path) -> None:
    """All vectors, by id, in the opposite order."""
    found = read_vectors(folder)
    found.score_function  # noqa: B018  # reads them all
    ids = [f"doc{row}" for row in reversed(range(len(found.vectors)))]
    texts = Texts(ids, ids, np.zeros(len(ids), dtype=np.int16))
    rows = found.rows_of(texts, texts, ("en",))
    for start in range(0, len(rows), AT_ONCE):
        found.vectors[rows[start : start + AT_ONCE]]


def reconstruct(folder: Path) -> None:
    """As Pyserini does."""
    import faiss

    index = faiss.read_index(str(folder / "index"))
    with open(folder / "docid") as stream:
        ids = [line.rstrip() for line in stream]
    vectors = index.reconstruct_n(0, index.ntotal)
    assert len(ids) == len(vectors)


def lay_out(folder: Path) -> None:
    """JSON lines, for the first time."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["BEIR_HYBRID_CACHE"] = cache
        read_vectors(folder / "vectors.jsonl")


def loads(folder: Path) -> None:
    """JSON lines, as Pyserini reads them."""
    vectors = []
    with open(folder / "vectors.jsonl") as stream:
        for line in stream:
            vectors.append(json.loads(line)["vector"])
    np.array(vectors, dtype="float32")


def blocks(rows: int) -> Iterator[npt.NDArray[np.float32]]:
    random = np.random.default_rng(0)
    block = random.standard_normal((AT_ONCE, DIMENSION), dtype=np.float32)
    block /= np.linalg.norm(block, axis=1, keepdims=True)
    for start in range(0, rows, AT_ONCE):
        yield np.roll(block, start // AT_ONCE, axis=1)[: rows - start]


def measured(name: str, folder: Path) -> tuple[float, float]:
    """Seconds of processor time and MB, of one function in a process of its own."""
    command = [sys.executable, __file__, "--one", name, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def one(name: str, folder: Path) -> None:
    import faiss  # noqa: F401  # imports are not what is measured
    import pyarrow  # noqa: F401

    before, started = _memory(), time.process_time()
    {"gather": gather, "reconstruct": reconstruct, "lay_out": lay_out, "loads": loads}[name](folder)
    print(time.process_time() - started, _memory() - before)


def _memory() -> float:
    # Not ru_maxrss: that begins at what the parent had.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_flat(folder / "index", blocks(rows), rows, DIMENSION)
        (folder / "docid").write_text("".join(f"doc{row}\n" for row in range(rows)))
        with open(folder / "vectors.jsonl", "w") as stream:
            for row, vector in enumerate(next(blocks(LINES))):
                stream.write(json.dumps({"id": f"doc{row}", "contents": "", "vector": vector.tolist()}) + "\n")
        what = {"index": ("gather", "reconstruct", rows), "JSON lines": ("lay_out", "loads", LINES)}
        for kind, (ours, theirs, count) in what.items():
            pairs = [(measured(ours, folder), measured(theirs, folder)) for _ in range(ROUNDS)]
            fastest = [min(pair[side][0] for pair in pairs) for side in (0, 1)]
            memory = [max(pair[side][1] for pair in pairs) for side in (0, 1)]
            print(
                f"{kind}, {count:,} x {DIMENSION}: {fastest[0]:.2f} s and {memory[0]:,.0f} MB, the other "
                f"{fastest[1]:.2f} s and {memory[1]:,.0f} MB (time x {fastest[0] / fastest[1]:.2f}, "
                f"memory x {memory[0] / memory[1]:.2f})"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], Path(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
