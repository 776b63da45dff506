"""The seam to vectors that were made elsewhere: whoever has them by id can be evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeGuard

from beir_hybrid.collections.texts import IntArray, Texts
from beir_hybrid.evaluation.plan import GridRows
from beir_hybrid.evaluation.text_vectors import Placed


class VectorsById(Protocol):
    """Vectors of texts by their ids, as an index or a file holds them."""

    @property
    def score_function(self) -> str:
        """`cos_sim` or `dot`: what ranks them as they are meant to be."""

    @property
    def vectors(self) -> Any:
        """Anything whose rows can be read, of shape (rows, dimension)."""

    def rows_of(self, texts: Texts, among: Texts, languages: Sequence[str]) -> IntArray:
        """Shape (texts,): the row of each text.

        Args:
            among: All texts that there may be vectors of.
            languages: What the numbers of the texts' languages mean.

        Raises:
            BeirHybridError: a text has none; there is one of a text that is not `among` them.
        """

    def describe(self) -> dict[str, Any]:
        """What a result must carry about them."""


def of_part(vectors: VectorsById, part: GridRows, side: Literal["queries", "passages"]) -> Placed:
    """The vectors of the questions or the passages that a grid needs."""
    some, among = getattr(part.collection, side), getattr(part.whole, side)
    return Placed(vectors.vectors, vectors.rows_of(some, among, part.whole.languages))


def is_by_id(vectors: Any) -> TypeGuard[VectorsById]:
    """Whether these are looked up by id; else they are an array, in the collection's order."""
    return callable(getattr(vectors, "rows_of", None))
