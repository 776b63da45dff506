"""The vectors of texts, read where they are asked for: a grid of a million passages holds a block of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray, Texts
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import let_go

FloatArray = npt.NDArray[np.float32]


def as_vectors(vectors: Any, texts: int) -> Any:
    """Vectors as they are, if there is one for each of so many texts.

    Args:
        vectors: An array, a mapped file, a store of embeddings, or a tensor on whatever device.

    Raises:
        BeirHybridError: they are of another shape, or no numbers.
    """
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().cpu().float().numpy()
    if not hasattr(vectors, "shape"):
        vectors = np.asarray(vectors)
    if len(vectors.shape) != 2 or vectors.shape[0] != texts:
        raise BeirHybridError(
            f"vectors of shape {tuple(vectors.shape)} for {texts} texts; expected one row each, (texts, dimensions)."
        )
    if (kind := np.asarray(vectors[:1]).dtype).kind not in "fiub":
        raise BeirHybridError(f"vectors of {kind}; expected numbers.")
    return vectors


class Placed(NamedTuple):
    """Vectors, and the row that each text has among them; None where each has its own."""

    vectors: Any
    place: IntArray | None

    @classmethod
    def of(cls, vectors: Any, texts: int, rows: IntArray) -> Placed:
        """Those of some rows of so many texts, of each of which there is a vector; as `as_vectors`."""
        return cls(as_vectors(vectors, texts), None if len(rows) == texts else rows)


class TextVectors:
    """Vectors by row, as float32: `vectors[3:9]` and `vectors[rows]` are arrays, and nothing else is held.

    Attributes:
        shape: Texts and dimensions.
    """

    def __init__(self, source: Any, texts: Texts, place: IntArray | None = None, *, normalise: bool = False) -> None:
        """Of texts, from anything whose rows can be read.

        Args:
            source: As `as_vectors` takes it.
            texts: Whose they are.
            place: The row of `source` that each text has; by default its own.
            normalise: Bring each vector to the length 1 when it is read.
        """
        self._source, self._texts, self._place, self._normalise = source, texts, place, normalise
        self.shape = (len(texts), int(source.shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> FloatArray:
        """Some rows, as a copy.

        Raises:
            BeirHybridError: one is not finite, or is zero where it should be normalised.
        """
        found = np.array(self._source[key if self._place is None else self._place[key]], dtype=np.float32, order="C")
        let_go(self._source)
        length = np.linalg.norm(found, axis=1, keepdims=True)
        wrong = np.flatnonzero(~np.isfinite(length) | (self._normalise & (length == 0)))
        if len(wrong):
            row = int(np.arange(len(self))[key][wrong[0]])
            what = "zero, so it has no cosine with any" if np.isfinite(length[wrong[0]]) else "not finite"
            raise BeirHybridError(
                f"the vector of {self._texts.ids[row]!r} ({self._texts.texts[row][:60]!r}) is {what}. Encode that text "
                "alone to see why (half precision may overflow)."
            )
        if self._normalise:
            found /= length
        return found

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or np.float32, copy=False)


class SomeVectors:
    """Some rows of vectors, as vectors of their own; copies nothing."""

    def __init__(self, vectors: TextVectors, rows: IntArray) -> None:
        self._vectors, self._rows = vectors, rows
        self.shape = (len(rows), vectors.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> FloatArray:
        """Some rows, as a copy."""
        return self._vectors[self._rows[key]]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or np.float32, copy=False)
