"""A score and an id's place in one whole number that sorts as trec_eval ranks: by score, then by id.

With such keys the best are chosen and sorted at once, and ties settle themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.retrieval.vectors import FloatArray

Keys = npt.NDArray[np.uint64]
"""0 is below the key of any score."""


def keys_of(scores: FloatArray, ranks: IntArray) -> Keys:
    """The keys of scores and the places of their ids."""
    # The bits of floats sort as the floats do once negative ones are inverted and the sign is flipped. Adding 0 makes
    # -0 equal to 0. In place, as new arrays take most of the time.
    bits = (scores + np.float32(0)).view(np.int32)
    flips = bits >> 31
    flips |= np.int32(-(2**31))
    flips ^= bits
    keys: Keys = flips.view(np.uint32).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= ranks.view(np.uint64)
    return keys


def scores_of(keys: Keys) -> FloatArray:
    """The scores, as they were."""
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    return np.where(bits >> 31, bits & np.uint32((1 << 31) - 1), ~bits).view(np.float32)


def ranks_of(keys: Keys) -> IntArray:
    """The places of the ids."""
    return (keys & np.uint64(2**32 - 1)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Equals:
    """Passages grouped by equal vectors, so that each distinct vector is scored once.

    A group stands in the search under its largest id; its members follow it with the same score.
    """

    row_of_rank: IntArray  # (passages,): the row whose id has this rank
    group_rank: IntArray  # (passages,): the largest id rank in the group that this row is the first of; else -1
    size: IntArray | None  # (passages,): by id rank, the size of the group that stands under it; None where all are 1
    start: IntArray  # (passages,): by id rank, where that group begins in `members`
    members: IntArray  # id ranks of the passages by group, the largest first

    @classmethod
    def of(cls, first: IntArray, id_rank: IntArray) -> Equals:
        """From the first row with the same vector as each row, and the place of each row's id."""
        row_of_rank = np.empty_like(id_rank)
        row_of_rank[id_rank] = np.arange(len(id_rank))
        if (first == np.arange(len(first))).all():
            return cls(row_of_rank, id_rank, None, id_rank[:0], id_rank[:0])
        order = np.lexsort((-id_rank, first))
        rows, begin, count = np.unique(first[order], return_index=True, return_counts=True)
        group_rank = np.full(len(first), -1, dtype=np.int64)
        group_rank[rows] = id_rank[order[begin]]
        size, start = np.zeros_like(id_rank), np.zeros_like(id_rank)
        size[group_rank[rows]], start[group_rank[rows]] = count, begin
        return cls(row_of_rank, group_rank, size, start, id_rank[order])

    @property
    def groups(self) -> int:
        """How many distinct vectors there are."""
        return int(np.count_nonzero(self.group_rank >= 0))

    def passages(self, keys: Keys, k: int) -> tuple[FloatArray, IntArray]:
        """The scores and rows of the `k` best passages of each query, from the keys of its best groups, in order."""
        if (sizes := self.size) is not None:
            keys = np.stack([self._members(own, sizes[ranks_of(own)], k) for own in keys])
        return scores_of(keys), self.row_of_rank[ranks_of(keys)]

    def _members(self, keys: Keys, size: IntArray, k: int) -> Keys:
        """The keys of the `k` best passages of one query, from those of its best groups and their sizes."""
        if len(keys) == k and size.max() == 1:
            return keys
        # As many groups as hold k passages, and those that tie with the last of them.
        last = min(int(np.searchsorted(np.cumsum(size), k)), len(keys) - 1)
        last = int(np.searchsorted(-scores_of(keys), -scores_of(keys[last : last + 1])[0], side="right"))
        size = np.minimum(size[:last], k)
        nth = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        ranks = self.members[np.repeat(self.start[ranks_of(keys[:last])], size) + nth]
        own = (np.repeat(keys[:last], size) & ~np.uint64(2**32 - 1)) | ranks.astype(np.uint64)
        members: Keys = np.sort(own)[::-1][:k]
        return members
