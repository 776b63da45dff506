"""A query encoder for Pyserini's FaissSearcher, of any model that this package encodes with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.encoding import FloatArray


class PyseriniQueryEncoder:
    """Encodes queries for an exported index as the model itself does: with its prompt and all of its modules.

    Pyserini's own encoders know a transformer and its pooling, and no dense head. This one stands in their place:
    `FaissSearcher(folder, PyseriniQueryEncoder("my-model")).search("...")`.

    Args:
        model: A DenseEncoder, or the name or folder of a model.
        options: As DenseEncoder takes them (`query_prompt=`, `precision=`, `device=`).

    Raises:
        BeirHybridError: there is no such model.
    """

    def __init__(self, model: DenseEncoder | str | Path, **options: Any) -> None:
        self.encoder = model if isinstance(model, DenseEncoder) else DenseEncoder(model, **options)

    def encode(self, query: str, **_: Any) -> FloatArray:
        """Shape (dimension,), of length 1."""
        vector: FloatArray = self.encode_batch([query])[0]
        return vector

    def encode_batch(self, queries: Sequence[str], **_: Any) -> FloatArray:
        """Shape (queries, dimension). Pyserini's `batch_search` calls it with all of a batch."""
        return self.encoder.encode(list(queries), "query")
