"""Vectors that are read a block at a time, from memory or from disk, and what is the same in every search of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import let_go
from beir_hybrid.retrieval.threads import threads

FloatArray = npt.NDArray[np.float32]

_BYTES_AT_ONCE = 2**25
_NUMBERS_HASHED = 32
_ROWS_HASHED_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors by row, read as float32.

    Attributes:
        source: Anything with `shape` and `len` whose slices and rows are arrays of numbers: an array, a memory-mapped
            file, an embedding store.
        name: What they are, for errors.
    """

    source: Any
    name: str

    @classmethod
    def of(cls, source: Any, name: str) -> Vectors:
        """Of anything that is like an array.

        Raises:
            BeirHybridError: it is not a matrix of numbers.
        """
        if hasattr(source, "detach"):  # a torch tensor, on whatever device and in whatever precision
            source = source.detach().cpu().float().numpy()
        if not hasattr(source, "shape"):
            source = np.asarray(source)
        shape = tuple(source.shape)
        kind = np.asarray(source[:1]).dtype if len(shape) == 2 else getattr(source, "dtype", "objects")
        if len(shape) != 2 or np.dtype(kind).kind not in "fiu" or not shape[1]:
            raise BeirHybridError(
                f"the {name} are {kind} of shape {shape}; expected numbers of shape (texts, dimensions)."
            )
        return cls(source, name)

    def __len__(self) -> int:
        return int(self.source.shape[0])

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return int(self.source.shape[1])

    @property
    def rows_at_once(self) -> int:
        """How many rows make a block of 32 MiB."""
        return max(256, _BYTES_AT_ONCE // (4 * self.dimensions))

    def block(self, start: int, stop: int) -> FloatArray:
        """A run of rows, to be read only: of an array in memory it is a view."""
        if isinstance(self.source, np.memmap):
            block = np.array(self.source[start:stop], dtype=np.float32, order="C")
            let_go(self.source)
            return block
        return np.ascontiguousarray(self.source[start:stop], dtype=np.float32)

    def rows(self, rows: IntArray) -> FloatArray:
        """Some rows, as a copy."""
        found = np.array(self.source[rows], dtype=np.float32, order="C")
        let_go(self.source)
        return found

    def blocks(self, rows_at_once: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """The rows in order, as (first row, block)."""
        step = rows_at_once or self.rows_at_once
        for start in range(0, len(self), step):
            yield start, self.block(start, min(start + step, len(self)))

    def largest(self, block: FloatArray, start: int = 0) -> float:
        """The largest absolute number of a block that begins at row `start`.

        Raises:
            BeirHybridError: a number is not finite.
        """
        if not block.size:
            return 0.0
        largest = max(float(block.max()), -float(block.min()))
        if np.isfinite(largest):
            return largest
        row = int(np.argmin(np.isfinite(block).all(axis=1))) + start
        raise BeirHybridError(
            f"row {row} of the {self.name} holds NaN or infinity; every number must be finite. "
            "Encode that text alone to see why (half precision may overflow)."
        )


def check_fit(queries: Vectors, passages: Vectors, passage_ids: Sequence[str]) -> None:
    """Whether the vectors are those of one model, and a passage has one each.

    Raises:
        BeirHybridError: they are not.
    """
    if queries.dimensions != passages.dimensions:
        raise BeirHybridError(
            f"query vectors have {queries.dimensions} dimensions and passage vectors {passages.dimensions}; "
            "encode both with one model."
        )
    if not len(passages):
        raise BeirHybridError("there are no passage vectors; expected one or more.")
    if len(passages) != len(passage_ids):
        raise BeirHybridError(f"{len(passages)} passage vectors for {len(passage_ids)} passages; expected one each.")


def check_finite(queries: Vectors, passage_largest: float) -> None:
    """Whether every score will be a number.

    Raises:
        BeirHybridError: a query vector is not finite, or a score may be too large for float32.
    """
    largest = max((queries.largest(block, start) for start, block in queries.blocks()), default=0.0)
    if largest * passage_largest * queries.dimensions > float(np.finfo(np.float32).max):
        raise BeirHybridError(
            f"numbers as large as {largest:.3g} (queries) and {passage_largest:.3g} (passages) make scores beyond "
            "float32; scale the vectors down."
        )


def first_equal(vectors: Vectors) -> tuple[IntArray, float]:
    """The first row with the same vector as each row, mostly the row itself; and the largest absolute number.

    Raises:
        BeirHybridError: a vector is not finite.
    """
    # Hashes, as sorting the rows themselves would copy the corpus: of the first numbers of each row, then of whole rows
    # where these are equal, and where those are equal too the rows are compared.
    hashes = np.empty(len(vectors), dtype=np.uint64)
    largest = [0.0]
    with ThreadPoolExecutor(threads()) as pool:
        for start, block in vectors.blocks():

            def look(begin: int, start: int = start, block: FloatArray = block) -> None:
                part = block[begin : begin + _ROWS_HASHED_AT_ONCE]
                largest.append(vectors.largest(part, start + begin))
                hashes[start + begin : start + begin + len(part)] = _hashes(part[:, :_NUMBERS_HASHED])

            list(pool.map(look, range(0, len(block), _ROWS_HASHED_AT_ONCE)))
    first = np.arange(len(vectors))
    candidates = _repeated(hashes)
    if len(candidates) and vectors.dimensions > _NUMBERS_HASHED:
        parts = np.split(candidates, range(vectors.rows_at_once, len(candidates), vectors.rows_at_once))
        hashes[candidates] = np.concatenate([_hashes(vectors.rows(some)) for some in parts])
        candidates = candidates[_repeated(hashes[candidates])]
    while len(candidates):
        _, earliest, group = np.unique(hashes[candidates], return_index=True, return_inverse=True)
        first[candidates] = candidates[earliest[group]]
        copies = candidates[first[candidates] != candidates]
        parts = np.split(copies, range(vectors.rows_at_once, len(copies), vectors.rows_at_once))
        differ = [(vectors.rows(some) != vectors.rows(first[some])).any(axis=1) for some in parts]
        candidates = copies[np.concatenate(differ)]  # equal hashes of rows that differ: again among themselves
    return first, max(largest)


def _hashes(vectors: FloatArray) -> npt.NDArray[np.uint64]:
    """Shape (rows,): equal for equal rows."""
    # Adding 0 makes -0 equal to 0 in its bits too.
    bits = (vectors + np.float32(0)).view(np.uint32)
    words = np.random.default_rng(0).integers(1, 2**63, size=bits.shape[1], dtype=np.uint64) * 2 + 1
    found: npt.NDArray[np.uint64] = bits @ words
    return found


def _repeated(hashes: npt.NDArray[np.uint64]) -> IntArray:
    """Where the hashes that stand there twice or more are."""
    ordered = np.sort(hashes)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return np.empty(0, dtype=np.int64)
    place = np.minimum(np.searchsorted(twice, hashes), len(twice) - 1)
    return np.flatnonzero(twice[place] == hashes)


def id_ranks(ids: Sequence[str]) -> tuple[IntArray, bool]:
    """Each id's place in ascending string order, and whether all differ."""
    names = list(ids)
    order = sorted(range(len(names)), key=names.__getitem__)
    ranks = np.empty(len(names), dtype=np.int64)
    ranks[order] = np.arange(len(names))
    return ranks, all(names[one] != names[next_] for one, next_ in itertools.pairwise(order))
