"""The best k passages of each query, exactly, from vectors that may be larger than memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.retrieval.keys import Equals, Keys, keys_of, scores_of
from beir_hybrid.retrieval.vectors import (
    FloatArray,
    Vectors,
    check_finite,
    check_fit,
    first_equal,
    id_ranks,
    products,
    threads,
    workers,
)

_SCORES_AT_ONCE = 2**20
_KEYS_AT_ONCE = 2**25
_ROWS_SORTED_AT_ONCE = 256


def top_k(
    queries: npt.ArrayLike, passages: npt.ArrayLike, k: int, passage_ids: Sequence[str], block: int = 16_384
) -> tuple[FloatArray, IntArray]:
    """The `k` best passages of each query by inner product.

    Ties are settled as trec_eval does, by score and then by document id, both descending, whatever the block.

    Args:
        queries: Shape (queries, dimensions).
        passages: Shape (passages, dimensions); anything that is sliced like an array: a memory-mapped file, an
            embedding store. It is read a block at a time, twice.
        k: How many; more than there are passages means all of them.
        passage_ids: The id of each passage, which settles ties.
        block: How many passages are read at once.

    Returns:
        The scores, best first, and the passages' rows; both of shape (queries, k).

    Raises:
        BeirHybridError: the shapes do not fit, a vector is not finite, an id is used twice, or k or block is below 1.
    """
    asked, found = Vectors.of(queries, "query vectors"), Vectors.of(passages, "passage vectors")
    check_fit(asked, found, passage_ids)
    for name, value in (("k", k), ("block", block)):
        if value < 1:
            raise BeirHybridError(f"top_k: {name} is {value}; expected 1 or more.")
    id_rank, all_differ = id_ranks(passage_ids)
    if not all_differ:
        raise BeirHybridError("a passage id is used twice; ids settle ties, so each passage needs one of its own.")
    first, largest = first_equal(found)
    check_finite(asked, largest)
    equals = Equals.of(first, id_rank)
    k = min(k, len(found))
    scores = np.empty((len(asked), k), dtype=np.float32)
    rows = np.empty((len(asked), k), dtype=np.int64)
    groups = min(k, equals.groups)
    width = min(2 * groups + 32, equals.groups)
    step = max(_ROWS_SORTED_AT_ONCE, _KEYS_AT_ONCE // width)
    with workers() as pool:
        for start in range(0, len(asked), step):
            best = _Best(min(step, len(asked) - start), groups, width)
            _search(asked, start, found, equals, best, block, pool)

            def settle(begin: int, start: int = start, best: _Best = best) -> None:
                part = slice(begin, begin + _ROWS_SORTED_AT_ONCE)
                settled = slice(start + begin, min(start + part.stop, start + step))
                scores[settled], rows[settled] = equals.passages(best.ordered(part), k)

            list(pool.map(settle, range(0, len(best), _ROWS_SORTED_AT_ONCE)))
    return scores, rows


def _search(
    asked: Vectors, first: int, found: Vectors, equals: Equals, best: _Best, block: int, pool: ThreadPoolExecutor
) -> None:
    """Search for the queries from `first` on, as many as `best` has room for, in one pass over the passages."""
    # Wide blocks for a large k: the first block bounds what the others can add, and choosing among few costs little.
    wide = int(np.clip(8 * best.k, 2048, 8192))
    tall = max(32, min(_SCORES_AT_ONCE // wide, -(-len(best) // threads())))
    own = threading.local()
    for start, vectors in found.blocks(block):
        ranks = equals.group_rank[start : start + len(vectors)]
        if not (ranks >= 0).all():  # copies are not scored: their group's first row is
            vectors, ranks = vectors[ranks >= 0], ranks[ranks >= 0]

        def score(begin: int, vectors: FloatArray = vectors, ranks: IntArray = ranks) -> None:
            if not hasattr(own, "memory"):
                own.memory = np.empty(_SCORES_AT_ONCE, dtype=np.float32)
            some = asked.block(first + begin, first + min(begin + tall, len(best)))
            for at in range(0, len(vectors), wide):
                part = slice(at, at + wide)
                best.add(begin, products(some, vectors[part], own.memory, True), ranks[part])

        list(pool.map(score, range(0, len(best), tall)))


class _Best:
    """The best keys of each query so far: at least its `k` best, in no order.

    A score below the k-th best that a query has had is dropped on sight, which most are. The others gather until a
    query's row is full; only then are its k best chosen.
    """

    def __init__(self, queries: int, k: int, width: int) -> None:
        self.k = k
        self._keys: Keys = np.zeros((queries, width), dtype=np.uint64)
        self._filled = np.zeros(queries, dtype=np.int64)
        self._least = np.full(queries, -np.inf, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, first: int, scores: FloatArray, ranks: IntArray) -> None:
        """Add the scores of the queries from `first` on for groups that stand under the id ranks `ranks`."""
        count, width = scores.shape
        part = slice(first, first + count)
        least, filled = self._least[part], self._filled[part]
        if width >= self.k and not filled.any():
            least[:] = _bound(scores, self.k)
        places = np.flatnonzero(scores >= least[:, None])
        bounds = np.searchsorted(places, np.arange(count + 1) * width)
        counts = np.diff(bounds)
        row = np.repeat(np.arange(count), counts)
        keys = keys_of(np.ascontiguousarray(scores).ravel()[places], ranks[places - row * width])
        place = np.arange(len(places)) + np.repeat(filled - bounds[:-1], counts)
        full = filled + counts > self._keys.shape[1]
        if full.any():
            over = full[row]
            self._choose(
                np.flatnonzero(full) + first, filled[full] + counts[full], (row[over], place[over], keys[over])
            )
            row, place, keys = row[~over], place[~over], keys[~over]
        self._keys[part].reshape(-1)[row * self._keys.shape[1] + place] = keys
        filled[~full] += counts[~full]

    def _choose(self, queries: IntArray, filled: IntArray, added: tuple[IntArray, IntArray, Keys]) -> None:
        """Keep the k best of what the rows of these `queries` hold together with what was `added` to them."""
        row, place, keys = added
        together: Keys = np.zeros((len(queries), int(filled.max())), dtype=np.uint64)
        before = self._filled[queries]
        width = min(self._keys.shape[1], together.shape[1])
        together[:, :width] = np.where(np.arange(width) < before[:, None], self._keys[queries, :width], 0)
        nth = np.zeros(int(row[-1]) + 1, dtype=np.int64)
        nth[row[np.append(True, row[1:] != row[:-1])]] = np.arange(len(queries))
        together[nth[row], place] = keys
        together.partition(together.shape[1] - self.k, axis=1)
        kept = together[:, together.shape[1] - self.k :]
        self._keys[queries, : self.k] = kept
        self._filled[queries] = self.k
        self._least[queries] = scores_of(kept[:, 0])

    def ordered(self, queries: slice) -> Keys:
        """The k best keys of some queries, best first."""
        keys = self._keys[queries]
        keys = np.where(np.arange(keys.shape[1]) < self._filled[queries, None], keys, 0)
        keys.partition(keys.shape[1] - self.k, axis=1)
        ordered: Keys = np.sort(keys[:, keys.shape[1] - self.k :], axis=1)[:, ::-1]
        return ordered


def _bound(scores: FloatArray, k: int) -> FloatArray:
    """A score that at least `k` of each row reach, and not many more: choosing among all would take longer."""
    fold = scores.shape[1] // (4 * k)
    if fold > 1:  # the best of each few: the k-th of those is no better than the k-th of all
        scores = scores[:, : scores.shape[1] // fold * fold].reshape(len(scores), fold, -1).max(axis=1)
    bound: FloatArray = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k]
    return bound
