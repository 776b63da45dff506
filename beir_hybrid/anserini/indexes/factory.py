"""Any index of inner products that Faiss makes from a string: trained on a sample, filled block by block, measured."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.encoders.store import SHARD_ROWS, EmbeddingStore, FloatArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import atomic_file

FLAT = "Flat"
DEPTHS = (10, 100)
"""Where recall is measured."""
RECALL_QUERIES = 500
_SAMPLE, _PER_CENTROID = 16_384, 128
_TIE = 1e-6
CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True)
class IndexKind:
    """What kind of index is to be made.

    Attributes:
        factory: As Faiss's `index_factory` takes it: `Flat`, `HNSW32`, `IVF1024,Flat`, `PQ48`, `SQ8`.
        parameters: As Faiss's `ParameterSpace` takes them: `nprobe=16`, `efConstruction=200,efSearch=128`. They are
            kept in the file: Pyserini, which cannot be told them all, searches with them.
        training_rows: How many vectors it is trained on; by default 128 for each centroid, and 16,384 at least.
        seed: Which ones.
    """

    factory: str = FLAT
    parameters: str = ""
    training_rows: int | None = None
    seed: int = 0

    @property
    def exact(self) -> bool:
        """Whether it is the plain one, which is written without being held in memory."""
        return self.factory == FLAT

    def describe(self) -> dict[str, Any]:
        """What the manifest says of it."""
        rest = {"parameters": self.parameters, "training_rows": self.training_rows, "seed": self.seed}
        return {"index": self.factory} | ({} if self.exact else rest)

    def check(self, rows: int, dimension: int) -> None:
        """Refuse, before anything is encoded, what Faiss would refuse afterwards.

        Raises:
            BeirHybridError: Faiss has no such index for inner products and this dimension, or there are too few rows.
        """
        if self.exact:
            if self.parameters:
                raise BeirHybridError(f"an exact index has no parameters such as {self.parameters!r}; leave them out.")
            return
        import faiss

        index = self.empty(dimension)  # what it is downcast to does not keep it alive
        if "IndexIDMap" in type(faiss.downcast_index(index)).__name__:
            raise BeirHybridError(f"{self.factory!r}: the ids stand in `docid`, row by row; leave IDMap out.")
        least, sample = _centroids(index), self.sample_rows(rows, index)
        if not index.is_trained and sample < least:
            raise BeirHybridError(
                f"the index {self.factory!r} has {least:,} centroids, and would be trained on {sample:,} vectors; it "
                f"needs {least:,} or more, better 39 times as many. Choose an index with fewer centroids (an IVF "
                "with a smaller number, a PQ with fewer bits), or Flat."
            )

    def empty(self, dimension: int) -> Any:
        """The index, untrained."""
        import faiss

        with _faiss_errors(f"Faiss makes no index {self.factory!r} for inner products of {dimension} dimensions"):
            index = faiss.index_factory(dimension, self.factory, faiss.METRIC_INNER_PRODUCT)
        if self.parameters:
            space: Any = faiss.ParameterSpace()  # its stub knows only one of its two forms
            with _faiss_errors(f"the index {self.factory!r} does not take the parameters {self.parameters!r}"):
                space.set_index_parameters(index, self.parameters)
        return index

    def sample_rows(self, rows: int, index: Any) -> int:
        """How many of so many vectors this empty index is trained on; 0 for one that needs no training."""
        if index.is_trained:
            return 0
        return min(rows, self.training_rows or max(_SAMPLE, _PER_CENTROID * _centroids(index)))


def build(
    kind: IndexKind,
    vectors: EmbeddingStore,
    path: Path,
    check: Callable[[FloatArray, int], None],
    advance: Callable[[int], object] = lambda done: None,
) -> tuple[Any, int]:
    """Make an index of the vectors, in memory, and write it to `path`, whole or not at all.

    What is done so far is written every two minutes beside it (`index.begun`), and taken up from there.

    Args:
        check: Is shown each block and its first row, and refuses bad vectors.
        advance: Is told how many rows were added.

    Returns:
        The index, and how many vectors it was trained on.
    """

    begun = path.with_name(f"{path.name}.begun")
    sample = kind.sample_rows(len(vectors), kind.empty(vectors.dimension))
    index = _taken_up(begun, kind, vectors)
    if not index.is_trained:
        rows = np.sort(np.random.default_rng(kind.seed).choice(len(vectors), size=sample, replace=False))
        with _faiss_errors(f"the index {kind.factory!r} cannot be trained on {sample:,} vectors"):
            index.train(vectors[rows])
        _write(index, begun)
    advance(index.ntotal)
    saved = time.monotonic()
    with _faiss_errors(f"the index {kind.factory!r} does not take these vectors"):
        for start in range(index.ntotal, len(vectors), SHARD_ROWS):
            block = vectors[start : start + SHARD_ROWS]
            check(block, start)
            index.add(block)
            advance(len(block))
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                _write(index, begun)
                saved = time.monotonic()
    _write(index, path)
    begun.unlink(missing_ok=True)
    return index, sample


def recall(
    index: Any, queries: FloatArray, vectors: EmbeddingStore, depths: tuple[int, ...] = DEPTHS
) -> dict[str, float]:
    """How many of the best passages an index finds, by depth: the mean over the queries.

    What it finds counts if its exact score is as good as that of the last one of the exact ranking: ties do no harm.
    """
    import faiss

    most = min(max(depths), len(vectors))
    best = faiss.ResultHeap(len(queries), most, keep_max=True)
    for start in range(0, len(vectors), SHARD_ROWS):
        block = vectors[start : start + SHARD_ROWS]
        scores, rows = faiss.knn(queries, block, min(most, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        best.add_result(scores, rows + start)
    best.finalize()
    _, found = index.search(queries, most)
    hits = np.zeros(found.shape, dtype=np.float32)
    for query, rows in enumerate(found):
        there = rows >= 0
        hits[query, there] = vectors[rows[there]] @ queries[query]
        hits[query, ~there] = -np.inf
    measured = {}
    for depth in sorted({min(depth, most) for depth in depths}):
        good = hits[:, :depth] >= best.D[:, depth - 1 : depth] - _TIE
        measured[f"recall@{depth}"] = round(float(good.mean()), 4)
    return measured


def _centroids(index: Any) -> int:
    """The most centroids that a part of an index learns at once; 0 where none learns any."""
    import faiss

    index = faiss.downcast_index(index)
    inner = [getattr(index, name, None) for name in ("index", "base_index", "storage", "refine_index")]
    of_parts = [_centroids(one) for one in inner if isinstance(one, faiss.Index)]
    quantiser = getattr(index, "pq", None)
    return max(getattr(index, "nlist", 0), quantiser.ksub if quantiser else 0, *of_parts, 0)


def _taken_up(begun: Path, kind: IndexKind, vectors: EmbeddingStore) -> Any:
    """The index as far as it was made before, else an empty one."""
    import faiss

    if begun.exists():
        with contextlib.suppress(RuntimeError):
            index = faiss.read_index(str(begun))
            if index.d == vectors.dimension and index.ntotal <= len(vectors):
                return index
    return kind.empty(vectors.dimension)


def _write(index: Any, path: Path) -> None:
    import faiss

    with atomic_file(path) as temporary:
        try:
            faiss.write_index(index, os.fspath(temporary))
        except RuntimeError as error:  # Faiss's way of saying that the disk is full
            raise BeirHybridError(
                f"{path}: cannot be written ({_said(error)}). Nothing was left half written. Free space, or choose a "
                "folder that you may write to."
            ) from error


@contextlib.contextmanager
def _faiss_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise BeirHybridError(
            f"{what} ({_said(error)}). See Faiss's page on the index factory; Flat, HNSW32, IVF256,Flat, SQ8 and PQ16 "
            "are common ones."
        ) from error


def _said(error: Exception) -> str:
    """What Faiss says, without where in its source."""
    text = " ".join(str(error).split())
    return text.rsplit("Error: ", 1)[-1] if "Error: " in text else text.rsplit(": ", 1)[-1] or type(error).__name__
