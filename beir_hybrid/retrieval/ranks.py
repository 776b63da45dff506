"""The ranks of the relevant passages at full depth, from one pass over passages that may be larger than memory.

First the scores of the relevant passages themselves, the targets; then every passage that goes ahead of a target is
counted, a block at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.retrieval.products import products, way
from beir_hybrid.retrieval.targets import QUERIES_AT_ONCE, Tally, tallies, target_scores
from beir_hybrid.retrieval.threads import workers
from beir_hybrid.retrieval.vectors import (
    FloatArray,
    Vectors,
    check_finite,
    check_fit,
    first_equal,
    id_ranks,
)

Progress = Callable[[int, int], None]

_PASSAGES_AT_ONCE = 2040
# Counted in bytes, which is eight times faster than in whole numbers; 255 is the most that a byte holds.
_COUNTED_AT_ONCE = 255
_TIES_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class RelevantRanks:
    """Ranks (1 is best) of the relevant passages, one for each pair of `collection.relevant`, in its order.

    Attributes:
        in_language: Shape (pairs,): the rank among the passages in the passage's own language.
        in_pool: Shape (pairs,): the rank among all passages.
    """

    in_language: IntArray
    in_pool: IntArray


def relevant_ranks(
    queries: npt.ArrayLike,
    passages: npt.ArrayLike,
    collection: MultilingualCollection,
    progress: Progress | None = None,
) -> RelevantRanks:
    """Where each query's relevant passages stand in its full ranking.

    Every setting's figures follow from these ranks: a relevant passage's rank in a mono or cross setting is its rank
    among the passages of its language, in a multi setting its rank in the pool. Ties are settled as trec_eval does, by
    score and then by document id, both descending.

    Args:
        queries: Shape (queries, dimensions), in the collection's order.
        passages: Shape (passages, dimensions), in the collection's order; anything that is sliced like an array, as for
            `top_k`.
        progress: Called with (queries done, queries) as the work goes on; with several blocks of passages, the share
            of the work that is done, in queries.

    Raises:
        BeirHybridError: the shapes do not fit each other or the collection, or a vector is not finite.
    """
    asked, found = Vectors.of(queries, "query vectors"), Vectors.of(passages, "passage vectors")
    if len(asked) != len(collection.queries):
        raise BeirHybridError(
            f"{len(asked)} query vectors for the {len(collection.queries)} queries of {collection.name}; "
            "expected one each, in the collection's order."
        )
    check_fit(asked, found, collection.passages.ids)
    first, largest = first_equal(found)
    check_finite(asked, largest)
    pool = _Pool(first, id_ranks(collection.passages.ids)[0], collection.passages.language)
    targets = target_scores(asked, found, first, collection)
    counted = list(tallies(collection, targets))
    way(found.dimensions)  # before the threads, which then know whether PyTorch is in use
    blocks = -(-len(found) // found.rows_at_once)
    for number, (start, vectors) in enumerate(found.blocks()):
        block = _PassageBlock.of(pool, start, vectors)

        def count(tally: Tally, block: _PassageBlock = block) -> None:
            block.count(asked.rows(tally.query), tally)

        with workers() as threads:
            for at, _ in enumerate(threads.map(count, counted), start=number * len(counted) + 1):
                if progress is not None:
                    progress(at * len(asked) // (blocks * len(counted)), len(asked))
    in_language = np.empty(len(targets), dtype=np.int64)
    in_pool = np.empty(len(targets), dtype=np.int64)
    for tally in counted:
        there = tally.pair >= 0
        in_language[tally.pair[there]] = tally.in_language[there] + 1
        in_pool[tally.pair[there]] = tally.in_pool[there] + 1
    return RelevantRanks(in_language, in_pool)


@dataclass(frozen=True, eq=False)
class _Pool:
    """What is known of every passage, by row."""

    first: IntArray  # the first row with the same vector
    id_rank: IntArray
    language: npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class _PassageBlock:
    """A run of passages: each distinct vector that is first met in it, by language, and the copies of these."""

    pool: _Pool
    start: int
    vectors: FloatArray
    rows: IntArray  # (vectors,): the passage of each
    place: IntArray  # (rows of the run,): where in `vectors` a passage stands; -1 for copies
    copies: IntArray  # rows, anywhere in the pool, whose first equal is in this run; by language

    @classmethod
    def of(cls, pool: _Pool, start: int, vectors: FloatArray) -> _PassageBlock:
        run = np.arange(start, start + len(vectors))
        rows = run[pool.first[run] == run]
        by_language = np.argsort(pool.language[rows], kind="stable")
        if len(rows) < len(run) or (np.diff(by_language) < 0).any():
            rows = rows[by_language]
            vectors = vectors[rows - start]
        place = np.full(len(run), -1, dtype=np.int64)
        place[rows - start] = np.arange(len(rows))
        here = (pool.first >= start) & (pool.first < start + len(run)) & (pool.first != np.arange(len(pool.first)))
        copies = np.flatnonzero(here)
        copies = copies[np.argsort(pool.language[copies], kind="stable")]
        return cls(pool, start, vectors, rows, place, copies)

    def count(self, queries: FloatArray, tally: Tally) -> None:
        """Add to the tally of some queries the passages of this run, and their copies, that go ahead."""
        memory = np.empty(_PASSAGES_AT_ONCE * QUERIES_AT_ONCE, dtype=np.float32)
        relevant, own = self._places(tally.passage), self._places(tally.own)
        copied = self._places(self.copies)
        for at in range(0, len(self.vectors), _PASSAGES_AT_ONCE):
            stop = min(at + _PASSAGES_AT_ONCE, len(self.vectors))
            scores = products(self.vectors[at:stop], queries, memory, False)
            # A target and its copies tie with it whatever the BLAS made of them here.
            nth, column = np.nonzero((relevant >= at) & (relevant < stop))
            scores[relevant[nth, column] - at, column] = tally.score[nth, column]
            _count(scores, self.rows[at:stop], tally, self.pool)
            copies = np.flatnonzero((copied >= at) & (copied < stop))
            for begin in range(0, len(copies), _PASSAGES_AT_ONCE):
                part = copies[begin : begin + _PASSAGES_AT_ONCE]
                _count(scores[copied[part] - at], self.copies[part], tally, self.pool)
            themselves = np.flatnonzero((own >= at) & (own < stop))
            _uncount(scores[own[themselves] - at, themselves], themselves, tally, self.pool)

    def _places(self, rows: IntArray) -> IntArray:
        """Where in `vectors` the passages stand, or the first of their equals; -1 where that is in no row of this."""
        first = np.where(rows >= 0, self.pool.first[rows], -1)
        here = (first >= self.start) & (first < self.start + len(self.place))
        return np.where(here, self.place[np.where(here, first - self.start, 0)], -1)


def _count(scores: FloatArray, rows: IntArray, tally: Tally, pool: _Pool) -> None:
    """Add the passages `rows`, by language, that go ahead of the targets; `scores` has a row for each."""
    languages = pool.language[rows]
    starts = np.flatnonzero(np.append(True, languages[1:] != languages[:-1]))
    better = np.zeros((len(starts), *tally.pair.shape), dtype=np.int64)
    as_good = np.zeros(tally.pair.shape, dtype=np.int64)
    memory = np.empty((_COUNTED_AT_ONCE, scores.shape[1]), dtype=np.bool_)
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(rows)], strict=True)):
        for at in range(start, stop, _COUNTED_AT_ONCE):
            part = scores[at : min(at + _COUNTED_AT_ONCE, stop)]
            for nth, width in enumerate(tally.widths):
                target, ahead = tally.target[nth, :width], memory[: len(part), :width]
                np.greater(part[:, :width], target, out=ahead)
                better[number, nth, :width] += np.add.reduce(ahead.view(np.uint8), axis=0, dtype=np.uint8)
                np.greater_equal(part[:, :width], target, out=ahead)
                as_good[nth, :width] += np.add.reduce(ahead.view(np.uint8), axis=0, dtype=np.uint8)
    together = better.sum(axis=0)
    tally.in_pool[:] += together
    for number, language in enumerate(languages[starts].tolist()):
        np.add(tally.in_language, better[number], out=tally.in_language, where=tally.language == language)
    # A passage is as good as itself.
    tied = np.nonzero(as_good - together > np.isin(tally.passage, rows))
    step = max(1, _TIES_AT_ONCE // len(rows))
    for at in range(0, len(tied[0]), step):
        _count_ties(scores, rows, tied[0][at : at + step], tied[1][at : at + step], tally, pool)


def _count_ties(scores: FloatArray, rows: IntArray, nth: IntArray, column: IntArray, tally: Tally, pool: _Pool) -> None:
    """Add the passages that tie with the targets (nth, column) and have the larger id, which goes first."""
    ahead = scores[:, column] == tally.target[nth, column]
    ahead &= pool.id_rank[rows][:, None] > pool.id_rank[tally.passage[nth, column]]
    tally.in_pool[nth, column] += np.add.reduce(ahead, axis=0, dtype=np.int64)
    ahead &= pool.language[rows][:, None] == tally.language[nth, column]
    tally.in_language[nth, column] += np.add.reduce(ahead, axis=0, dtype=np.int64)


def _uncount(scores: FloatArray, column: IntArray, tally: Tally, pool: _Pool) -> None:
    """Take out of the tally the passages that the queries `column` themselves are, where these were counted."""
    own, target = tally.own[column], tally.target[:, column]
    ahead = scores > target
    ahead |= (scores == target) & (pool.id_rank[own] > pool.id_rank[tally.passage[:, column]])
    tally.in_pool[:, column] -= ahead
    tally.in_language[:, column] -= ahead & (pool.language[own] == tally.language[:, column])
