"""A store of embeddings as it was encoded: it has no ids, and knows its texts by their digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beir_hybrid.collections.texts import IntArray, Texts
from beir_hybrid.encoders.digests import texts_digest
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.errors import BeirHybridError


@dataclass(frozen=True, eq=False)
class StoredByText:
    """An `EmbeddingStore` of a collection's texts, or of those among them that differ, in the collection's order.

    Attributes:
        score_function: What a DenseEncoder's vectors are ranked by.
    """

    vectors: EmbeddingStore
    source: str
    score_function: str = "cos_sim"
    note: str = ""

    def rows_of(self, texts: Texts, among: Texts, languages: Sequence[str]) -> IntArray:
        """Shape (texts,): the row of each text.

        Raises:
            BeirHybridError: the store is neither of these texts nor of all that they are `among`.
        """
        wanted = self.vectors.manifest.get("texts")
        for some in dict.fromkeys((texts, among)):
            full = list(some.full_texts)
            for listed in (full, list(dict.fromkeys(full))):
                if len(listed) == len(self.vectors) and texts_digest(listed) == wanted:
                    row_of = {text: row for row, text in enumerate(listed)}
                    return np.array([row_of[text] for text in texts.full_texts], dtype=np.int64)
        raise BeirHybridError(
            f"{self.source}: a store of {len(self.vectors)} embeddings of other texts; expected those of the "
            f"{len(texts)} texts that are evaluated, or of all {len(among)} of the collection, in its order."
        )

    def describe(self) -> dict[str, Any]:
        """What a result must carry about its vectors."""
        return {"from": self.source, "layout": "store of embeddings", "manifest": dict(self.vectors.manifest)}
