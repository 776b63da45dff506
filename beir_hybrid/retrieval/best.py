"""The best k passages of each query, exactly, from vectors that may be larger than memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.retrieval.keys import Equals, Keys, keys_of, scores_of
from beir_hybrid.retrieval.products import products, way
from beir_hybrid.retrieval.threads import threads, workers
from beir_hybrid.retrieval.vectors import (
    FloatArray,
    Vectors,
    check_finite,
    check_fit,
    first_equal,
    id_ranks,
)

_SCORES_AT_ONCE = 2**22
_KEYS_AT_ONCE = 2**25
_ROWS_SORTED_AT_ONCE = 256
_BYTES_HELD = 2**27

Take = Callable[[int, FloatArray, IntArray], None]
Settle = Callable[[int, Keys], None]


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
    shape = (len(asked), max(1, min(k, len(found))))
    scores, rows = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.int64)

    def take(start: int, some_scores: FloatArray, some_rows: IntArray) -> None:
        part = slice(start, start + len(some_rows))
        scores[part], rows[part] = some_scores, some_rows

    each_best(asked, found, k, passage_ids, take, block)
    return scores, rows


def each_best(
    asked: Vectors,
    found: Vectors,
    k: int,
    passage_ids: Sequence[str],
    take: Take,
    block: int = 16_384,
) -> None:
    """As `top_k`, but hands over some queries' best as soon as they are known.

    Args:
        take: Called with the first of some queries, their scores and their rows; in no order, and in several threads.
    """
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
    search = _Search(asked, found, equals, min(k, equals.groups), block)

    def settle(start: int, keys: Keys) -> None:
        take(start, *equals.passages(keys, k))

    way(found.dimensions)  # before the threads, which then know whether PyTorch is in use
    with workers() as pool:
        if 4 * len(found) * found.dimensions <= _BYTES_HELD:
            search.by_queries(settle, pool)
        else:
            search.by_passages(settle, pool)


class _Search:
    """The keys of the best `k` groups of equal passages, for each query."""

    def __init__(self, asked: Vectors, found: Vectors, equals: Equals, k: int, block: int) -> None:
        self._asked, self._found, self._equals, self._k, self._block = asked, found, equals, k, block
        self._width = min(2 * k + 32, equals.groups)
        # Wide blocks for a large k: the first bounds what the others can add, and choosing among few costs little.
        self._wide = int(np.clip(16 * k, 4096, 16_384))
        self._own = threading.local()

    def by_queries(self, settle: Settle, pool: ThreadPoolExecutor) -> None:
        """Each thread takes some queries at a time through all passages, which memory holds."""
        blocks = list(self._blocks())
        tall = self._tall(len(self._asked))

        def search(start: int) -> None:
            some = self._asked.block(start, min(start + tall, len(self._asked)))
            best = _Best(len(some), self._k, self._width)
            for vectors, ranks in blocks:
                self._add(best, 0, some, vectors, ranks)
            settle(start, best.ordered(slice(None)))

        list(pool.map(search, range(0, len(self._asked), tall)))

    def by_passages(self, settle: Settle, pool: ThreadPoolExecutor) -> None:
        """The passages pass a block at a time, once for as many queries as memory has room for."""
        step = max(_ROWS_SORTED_AT_ONCE, _KEYS_AT_ONCE // self._width)
        for first in range(0, len(self._asked), step):
            best = _Best(min(step, len(self._asked) - first), self._k, self._width)
            tall = self._tall(len(best))
            for vectors, ranks in self._blocks():

                def add(
                    begin: int,
                    best: _Best = best,
                    first: int = first,
                    tall: int = tall,
                    vectors: FloatArray = vectors,
                    ranks: IntArray = ranks,
                ) -> None:
                    some = self._asked.block(first + begin, first + min(begin + tall, len(best)))
                    self._add(best, begin, some, vectors, ranks)

                list(pool.map(add, range(0, len(best), tall)))

            def order(begin: int, best: _Best = best, first: int = first) -> None:
                settle(first + begin, best.ordered(slice(begin, begin + _ROWS_SORTED_AT_ONCE)))

            list(pool.map(order, range(0, len(best), _ROWS_SORTED_AT_ONCE)))

    def _tall(self, queries: int) -> int:
        """How many queries are scored at once."""
        return max(32, min(_SCORES_AT_ONCE // self._wide, -(-queries // threads())))

    def _blocks(self) -> Iterator[tuple[FloatArray, IntArray]]:
        """The passages that differ from all before them, and the id ranks that their groups stand under."""
        for start, vectors in self._found.blocks(self._block):
            ranks = self._equals.group_rank[start : start + len(vectors)]
            first = ranks >= 0
            yield (vectors, ranks) if first.all() else (vectors[first], ranks[first])

    def _add(self, best: _Best, begin: int, some: FloatArray, vectors: FloatArray, ranks: IntArray) -> None:
        """Add the scores of some queries, from `begin` on in `best`, for a block of passages."""
        if not hasattr(self._own, "memory"):
            self._own.memory = np.empty(_SCORES_AT_ONCE, dtype=np.float32)
        for at in range(0, len(vectors), self._wide):
            part = slice(at, at + self._wide)
            best.add(begin, products(some, vectors[part], self._own.memory, True), ranks[part])


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
        filled = self._filled[queries]
        keys = self._keys[queries, : int(filled.max())]  # sorted whole: that is faster than to choose among so few
        keys = np.where(np.arange(keys.shape[1]) < filled[:, None], keys, 0)
        keys.sort(axis=1)
        return keys[:, ::-1][:, : self.k]


def _bound(scores: FloatArray, k: int) -> FloatArray:
    """A score that at least `k` of each row reach, and not many more: choosing among all would take longer."""
    fold = scores.shape[1] // (2 * k)
    if fold > 1:  # the best of each few: the k-th of those is no better than the k-th of all
        scores = scores[:, : scores.shape[1] // fold * fold].reshape(len(scores), fold, -1).max(axis=1)
    bound: FloatArray = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k]
    return bound
