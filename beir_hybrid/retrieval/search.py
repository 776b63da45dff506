"""Exact inner-product search in blocks: the best k passages, and the ranks of the relevant ones at full depth.

Ties are settled as trec_eval does, by score and then by document id, both descending, whatever the block size. Equal
vectors tie exactly: each distinct vector is scored once, because a BLAS may round one product in two ways.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

_QUERIES_AT_ONCE = 256
_SCORES_AT_ONCE = 8_000_000
# For narrow matrices a BLAS takes another kernel, which sums in another order, and a score would depend on the block it
# is in. These widths (queries, passages) are past OpenBLAS's limit for small matrices.
_NARROWEST = (32, 512)
_HASHED_AT_ONCE = 16_384


@dataclass(frozen=True, eq=False)
class RelevantRanks:
    """Ranks (1 is best) of the relevant passages, one for each pair of `collection.relevant`, in its order.

    Attributes:
        in_language: Shape (pairs,): the rank among the passages in the passage's own language.
        in_pool: Shape (pairs,): the rank among all passages.
    """

    in_language: IntArray
    in_pool: IntArray


def top_k(
    queries: npt.ArrayLike, passages: npt.ArrayLike, k: int, passage_ids: Sequence[str], block: int = 16_384
) -> tuple[FloatArray, IntArray]:
    """The `k` best passages of each query by inner product.

    Args:
        queries: Shape (queries, dimensions).
        passages: Shape (passages, dimensions); may be memory-mapped, it is read a block at a time.
        k: How many; more than there are passages means all of them.
        passage_ids: The id of each passage, which settles ties.
        block: How many passages are scored at once, for 256 queries at a time.

    Returns:
        The scores, best first, and the passages' rows; both of shape (queries, k).

    Raises:
        BeirHybridError: the shapes do not fit, a vector is not finite, an id is used twice, or k or block is below 1.
    """
    asked, found = _matrix(queries, "query vectors"), _matrix(passages, "passage vectors")
    _check_fit(asked, found, passage_ids)
    if len(set(passage_ids)) != len(passage_ids):
        raise BeirHybridError("a passage id is used twice; ids settle ties, so each passage needs one of its own.")
    for name, value in (("k", k), ("block", block)):
        if value < 1:
            raise BeirHybridError(f"top_k: {name} is {value}; expected 1 or more.")
    _check_finite(asked, "query vectors")
    equals = _Equals.of(found, _id_ranks(passage_ids))
    k = min(k, len(found))
    scores = np.empty((len(asked), k), dtype=np.float32)
    rows = np.empty((len(asked), k), dtype=np.int64)
    for first in range(0, len(asked), _QUERIES_AT_ONCE):
        part = slice(first, first + _QUERIES_AT_ONCE)
        some = _float32(asked[part])
        best = np.empty((len(some), 0), dtype=np.float32)
        groups = np.empty((len(some), 0), dtype=np.int64)
        for start in range(0, len(equals.rows), block):
            numbers = np.arange(start, min(start + block, len(equals.rows)))
            scored = _scores(some, _float32(found[equals.rows[numbers]]))
            score, column = _best(scored, np.broadcast_to(equals.group_rank[numbers], scored.shape), k)
            best = np.concatenate([best, score], axis=1)
            groups = np.concatenate([groups, numbers[column]], axis=1)
            if start:
                best, column = _best(best, equals.group_rank[groups], k)
                groups = np.take_along_axis(groups, column, axis=1)
        scores[part], rows[part] = equals.expand(best, groups, k)
    return scores, rows


def relevant_ranks(
    queries: npt.ArrayLike,
    passages: npt.ArrayLike,
    collection: MultilingualCollection,
    progress: Progress | None = None,
) -> RelevantRanks:
    """Where each query's relevant passages stand in its full ranking, from one pass over the scores.

    Every setting's figures follow from these ranks: a relevant passage's rank in a mono or cross setting is its rank
    among the passages of its language, in a multi setting its rank in the pool.

    Args:
        queries: Shape (queries, dimensions), in the collection's order.
        passages: Shape (passages, dimensions), in the collection's order.
        progress: Called with (queries done, queries) after each block.

    Raises:
        BeirHybridError: the shapes do not fit each other or the collection, or a vector is not finite.
    """
    asked, found = _matrix(queries, "query vectors"), _matrix(passages, "passage vectors")
    if len(asked) != len(collection.queries):
        raise BeirHybridError(
            f"{len(asked)} query vectors for the {len(collection.queries)} queries of {collection.name}; "
            "expected one each, in the collection's order."
        )
    _check_fit(asked, found, collection.passages.ids)
    _check_finite(asked, "query vectors")
    _check_finite(found, "passage vectors")  # before they are reordered, so that the row is the caller's

    # Passages of one language side by side: a language is then a slice of the scores.
    order = np.argsort(collection.passages.language, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    bounds = np.searchsorted(collection.passages.language[order], np.arange(len(collection.languages) + 1))
    languages = [slice(int(a), int(b)) for a, b in itertools.pairwise(bounds)]
    vectors = _float32(found[order])
    id_rank = _id_ranks(collection.passages.ids)[order]
    first = _first_equal(vectors)
    copies = np.flatnonzero(first != np.arange(len(first)))

    own = np.full(len(asked), -1, dtype=np.int64)
    if collection.same_ids:  # as BEIR has it, no question finds the passage that it is
        rows = [collection.passages.find(identifier) for identifier in collection.queries.ids]
        own[:] = [-1 if row is None else row for row in rows]

    relevant = collection.relevant
    in_language = np.empty(len(relevant.passages), dtype=np.int64)
    in_pool = np.empty(len(relevant.passages), dtype=np.int64)
    step = max(1, min(_QUERIES_AT_ONCE, _SCORES_AT_ONCE // len(found)))
    for begin in range(0, len(asked), step):
        end = min(begin + step, len(asked))
        pairs = slice(int(relevant.start[begin]), int(relevant.start[end]))
        if pairs.start < pairs.stop:
            scores = _scores(_float32(asked[begin:end]), vectors)
            scores[:, copies] = scores[:, first[copies]]
            themselves = np.flatnonzero(own[begin:end] >= 0)
            scores[themselves, place[own[begin:end][themselves]]] = -np.inf
            in_language[pairs], in_pool[pairs] = _ranks(
                scores, relevant.queries[pairs] - begin, place[relevant.passages[pairs]], languages, id_rank
            )
        if progress is not None:
            progress(end, len(asked))
    return RelevantRanks(in_language, in_pool)


def _ranks(
    scores: FloatArray, row: IntArray, column: IntArray, languages: list[slice], id_rank: IntArray
) -> tuple[IntArray, IntArray]:
    """The ranks of the passages `column` for the queries `row` (ascending): in their language, in the pool."""
    # Targets as a rectangle, a query's relevant passages in its row; NaN fills, and compares as nothing.
    nth = np.arange(len(row)) - np.searchsorted(row, row)
    targets = np.full((len(scores), int(nth.max()) + 1), np.nan, dtype=np.float32)
    targets[row, nth] = scores[row, column]
    better = np.zeros((len(languages), *targets.shape), dtype=np.int64)
    as_good = np.zeros_like(better)
    for number, language in enumerate(languages):
        part = scores[:, language]
        for j in range(targets.shape[1]):
            target = targets[:, j, None]
            better[number, :, j] = np.add.reduce(part > target, axis=1, dtype=np.int64)
            as_good[number, :, j] = np.add.reduce(part >= target, axis=1, dtype=np.int64)
    own = np.searchsorted([language.stop for language in languages], column, side="right")
    in_language = better[own, row, nth] + 1
    in_pool = better.sum(axis=0)[row, nth] + 1

    # A passage is as good as itself; where others are too, the larger id goes first.
    tied = np.flatnonzero((as_good - better).sum(axis=0)[row, nth] > 1)
    starts = np.array([language.start for language in languages])
    stops = np.array([language.stop for language in languages])
    everyone = np.arange(scores.shape[1])
    for part_of in np.array_split(tied, -(-len(tied) // len(scores)) or 1):
        rows, columns = row[part_of], column[part_of]
        ahead = (scores[rows] == scores[rows, columns][:, None]) & (id_rank > id_rank[columns][:, None])
        in_pool[part_of] += np.add.reduce(ahead, axis=1, dtype=np.int64)
        ahead &= (everyone >= starts[own[part_of]][:, None]) & (everyone < stops[own[part_of]][:, None])
        in_language[part_of] += np.add.reduce(ahead, axis=1, dtype=np.int64)
    return in_language, in_pool


def _best(scores: FloatArray, id_rank: IntArray, k: int) -> tuple[FloatArray, IntArray]:
    """The scores and columns of the `k` best of each row, in no order; all where there are fewer."""
    width = scores.shape[1]
    k = min(k, width)
    # A partition cuts ties at the k-th place as it likes: keep all that reach the k-th score, then drop by id.
    least = np.partition(scores, width - k, axis=1)[:, width - k]
    kept = scores >= least[:, None]
    surplus = np.add.reduce(kept, axis=1, dtype=np.int64) - k
    for row in np.flatnonzero(surplus):
        tied = np.flatnonzero(scores[row] == least[row])
        kept[row, tied[np.argsort(id_rank[row, tied])[: surplus[row]]]] = False
    places = np.flatnonzero(kept)
    return scores.ravel()[places].reshape(-1, k), (places % width).reshape(-1, k)


@dataclass(frozen=True, eq=False)
class _Equals:
    """Passages grouped by equal vectors, so that each distinct vector is scored once.

    A group stands in the search under its largest id; its members follow it with the same score.
    """

    rows: IntArray  # (groups,): a passage of each group
    group_rank: IntArray  # (groups,): the largest id rank in the group
    start: IntArray  # (groups + 1,): the group's slice of `members`
    members: IntArray  # (passages,): rows by group, the larger id first
    id_rank: IntArray  # (passages,)

    @classmethod
    def of(cls, passages: npt.NDArray[Any], id_rank: IntArray) -> _Equals:
        first = _first_equal(passages)
        members = np.lexsort((-id_rank, first))
        rows, start = np.unique(first[members], return_index=True)
        return cls(rows, id_rank[members[start]], np.append(start, len(members)), members, id_rank)

    def expand(self, scores: FloatArray, groups: IntArray, k: int) -> tuple[FloatArray, IntArray]:
        """The `k` best passages of each row, in order, from its `k` best groups (all, where there are fewer)."""
        if len(self.rows) == len(self.members):
            order = np.lexsort((-self.group_rank[groups], -scores), axis=1)
            return np.take_along_axis(scores, order, axis=1), self.rows[np.take_along_axis(groups, order, axis=1)]
        # The k best groups hold the k best passages, and no more than k of one group can be among them.
        size = np.minimum(np.diff(self.start)[groups], k).ravel()
        offset = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        passage = self.members[np.repeat(self.start[groups.ravel()], size) + offset]
        score = np.repeat(scores.ravel(), size)
        row = np.repeat(np.repeat(np.arange(len(groups)), groups.shape[1]), size)
        order = np.lexsort((-self.id_rank[passage], -score, row))
        order = order[np.arange(len(row)) - np.searchsorted(row, row) < k]
        return score[order].reshape(-1, k), passage[order].reshape(-1, k)


def _first_equal(vectors: npt.NDArray[Any]) -> IntArray:
    """Shape (n,): the first row with the same vector as this one, which is mostly the row itself.

    Raises:
        BeirHybridError: a passage vector is not finite.
    """
    # One hash a row, as sorting the rows themselves would copy the corpus; equal hashes are compared in full.
    words = np.random.default_rng(0).integers(1, 2**63, size=vectors.shape[1], dtype=np.uint64) * 2 + 1
    hashes = np.empty(len(vectors), dtype=np.uint64)
    for start in range(0, len(vectors), _HASHED_AT_ONCE):
        part = _float32(vectors[start : start + _HASHED_AT_ONCE])
        _check_finite(part, "passage vectors", start)
        # Adding 0 makes -0 equal to 0 in its bits too.
        hashes[start : start + len(part)] = (part + np.float32(0)).view(np.uint32) @ words
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    first = first[group]
    copies = np.flatnonzero(first != np.arange(len(vectors)))
    for part_of in np.array_split(copies, -(-len(copies) // _HASHED_AT_ONCE) or 1):
        differ = (vectors[part_of] != vectors[first[part_of]]).any(axis=1)
        first[part_of[differ]] = part_of[differ]
    return first


def _scores(queries: FloatArray, passages: FloatArray) -> FloatArray:
    """Inner products, shape (queries, passages); equal whatever block the two are in."""
    product: FloatArray = _widened(queries, _NARROWEST[0]) @ _widened(passages, _NARROWEST[1]).T
    return product[: len(queries), : len(passages)]


def _widened(vectors: FloatArray, rows: int) -> FloatArray:
    if len(vectors) >= rows:
        return vectors
    return np.concatenate([vectors, np.zeros((rows - len(vectors), vectors.shape[1]), dtype=np.float32)])


def _id_ranks(ids: Sequence[str]) -> IntArray:
    """Each id's place in ascending string order."""
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return ranks


def _float32(vectors: npt.NDArray[Any]) -> FloatArray:
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _matrix(vectors: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    array = np.asanyarray(vectors)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:
        raise BeirHybridError(
            f"the {name} are {array.dtype} of shape {array.shape}; expected numbers of shape (texts, dimensions)."
        )
    return array


def _check_fit(queries: npt.NDArray[Any], passages: npt.NDArray[Any], passage_ids: Sequence[str]) -> None:
    if queries.shape[1] != passages.shape[1]:
        raise BeirHybridError(
            f"query vectors have {queries.shape[1]} dimensions and passage vectors {passages.shape[1]}; "
            "encode both with one model."
        )
    if not len(passages):
        raise BeirHybridError("there are no passage vectors; expected one or more.")
    if len(passages) != len(passage_ids):
        raise BeirHybridError(f"{len(passages)} passage vectors for {len(passage_ids)} passages; expected one each.")


def _check_finite(vectors: npt.NDArray[Any], name: str, offset: int = 0) -> None:
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite)) + offset
        raise BeirHybridError(
            f"row {row} of the {name} holds NaN or infinity; every number must be finite. "
            "Encode that text alone to see why (half precision may overflow)."
        )
