"""The vectors in a Faiss index: mapped where it holds them as they are, else asked of Faiss a block at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from beir_hybrid.anserini.indexes.flat import map_flat
from beir_hybrid.encoders.store import SHARD_ROWS, EmbeddingStore
from beir_hybrid.errors import BeirHybridError, library_errors

_FLAT = b"IxFI"
_AS_THEY_WERE = {"IndexFlat", "IndexFlatIP", "IndexFlatL2", "IndexHNSWFlat", "IndexNSGFlat", "IndexIVFFlat"}
_METRICS: dict[int, Literal["ip", "l2"]] = {0: "ip", 1: "l2"}  # faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2


class FaissIndex(NamedTuple):
    """What is in an index.

    Attributes:
        vectors: By row.
        kind: Faiss's class.
        metric: What it compares by.
        note: What it does not give back as it was put in; empty where it does.
    """

    vectors: EmbeddingStore
    kind: str
    metric: Literal["ip", "l2"]
    note: str


def read_faiss(path: Path) -> FaissIndex:
    """The vectors in the file of an index.

    A flat inner-product index is mapped. Any other is read into memory by Faiss and asked for its vectors; a compressed
    one gives approximations.

    Raises:
        BeirHybridError: it is missing, cut short or no index of vectors; Faiss cannot give its vectors back; it
            compares by something else than inner product or distance.
    """
    try:
        with open(path, "rb") as stream:
            begins = stream.read(len(_FLAT))
    except OSError as error:
        raise BeirHybridError(f"{path}: cannot be read ({error.strerror}); expected a Faiss index.") from None
    if begins == _FLAT:
        return FaissIndex(EmbeddingStore.from_array(map_flat(path)), "IndexFlatIP", "ip", "")
    import faiss

    with library_errors(f"{path}: cannot be read as a Faiss index", "It may be cut short: write it again."):
        index = faiss.read_index(str(path))
    kind = type(index).__name__
    if index.metric_type not in _METRICS:
        raise BeirHybridError(f"{path}: {kind} with metric {index.metric_type}; expected inner product or L2.")
    return FaissIndex(_asked(index, path), kind, _METRICS[index.metric_type], _note(index))


def _asked(index: Any, path: Path) -> EmbeddingStore:
    """A store whose blocks are reconstructed when they are asked for."""
    import faiss

    rows, dimension = int(index.ntotal), int(index.d)

    def shard(number: int) -> npt.NDArray[np.float32]:
        first = number * SHARD_ROWS
        found: npt.NDArray[np.float32] = index.reconstruct_n(first, min(SHARD_ROWS, rows - first))
        return found

    with library_errors(
        f"{path}: {type(index).__name__} gives no vectors back", "Export the vectors themselves, or a Flat index."
    ):
        if isinstance(index, faiss.IndexIDMap):
            raise ValueError("its ids are whole numbers of its own")
        # Without it, each block would be looked for in all lists.
        if (lists := faiss.try_extract_index_ivf(index)) is not None:
            lists.make_direct_map()
        if rows:
            index.reconstruct(rows - 1)
    return EmbeddingStore(None, {}, (rows, dimension), np.float32, SHARD_ROWS, shard)


def _note(index: Any) -> str:
    """What the figures of a reconstructed index are of."""
    import faiss

    kind = type(index).__name__
    whole = type(faiss.downcast_index(index.refine_index)).__name__ if kind.startswith("IndexRefine") else kind
    if whole not in _AS_THEY_WERE:
        return (
            f"{kind} holds its vectors compressed: these are approximations of what was encoded, compared exactly; "
            "its own search may find less"
        )
    if kind not in ("IndexFlat", "IndexFlatIP", "IndexFlatL2"):
        return f"{kind} holds the vectors as they were encoded, compared exactly here; its own search may find less"
    return ""
