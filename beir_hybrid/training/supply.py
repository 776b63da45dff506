"""What the items can supply: who serves, how long an epoch is, and which items are dealt together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.training.draws import index_type, shuffled
from beir_hybrid.training.eligible import Eligibility, Slot
from beir_hybrid.training.mixing import BatchKind, FloatArray

BLOCK = 1 << 20
"""Items that are dealt together: of more, each epoch cuts a new random order into blocks of about this size."""
_PLENTY = 64
"""Steps that the different answers of a language must fill in a block; where there are fewer, blocks are larger."""
_ORDER = (BatchKind.X_X_MONO, BatchKind.EN_EN, BatchKind.X_X, BatchKind.X_Y)
"""Of slots: where several are equally scarce, those that are the least particular take their items last."""


class Supply:
    """The items that can be drawn, and the length of an epoch.

    Args:
        able: What can be drawn from.
        mixture: The probability of each kind of batch, over the run as a whole.
        language_shares: How likely X-X-mono is to draw each language.
        repeat_items: See HybridBatchSampler.

    Attributes:
        slots: What a step can be.
        demand: Shape (sources,): the share of the rows that each is to give.
        items: How many items serve for any step.
        steps: Global steps of an epoch.
        blocks: Into how many blocks an epoch's items are cut.
    """

    def __init__(
        self, able: Eligibility, mixture: Mapping[BatchKind, float], language_shares: FloatArray, repeat_items: bool
    ) -> None:
        self.able, self.pairs = able, able.pairs
        self.rows = rows = able.batch_size * able.world_size
        blocks = max(1, len(self.pairs) // BLOCK)
        able.enough = max(able.enough, _PLENTY * rows * blocks if blocks > 1 else 0)
        self.slots = able.slots([kind for kind in _ORDER if kind in mixture], language_shares)
        self.demand: FloatArray = np.zeros(len(self.pairs.parts))
        for slot in self.slots:
            self.demand += mixture[slot.kind] * slot.share * slot.sources
        usable = able.usable(self.slots)
        self._type = index_type(len(self.pairs))
        self.items = int(np.count_nonzero(usable))
        # By source, and no more than needed: where everything serves, there is nothing to remember.
        self._usable: list[IntArray | None] = []
        counts = []
        for source in range(len(self.pairs.parts)):
            own = usable[self.pairs.items_of(source)]
            counts.append(int(np.count_nonzero(own)))
            self._usable.append(None if own.all() else np.flatnonzero(own).astype(self._type))
        self._counts = np.array(counts)
        self.steps = self.items // rows
        lasting = len(counts) > 1 and not repeat_items
        if lasting:
            asked = self.demand > 0
            self.steps = max(1, int((self._counts[asked] / (rows * self.demand[asked])).min() + 1e-9))
        self.blocks = min(blocks, *(self._fitting_blocks(slot) for slot in self.slots), max(1, self.steps))
        if lasting:
            # What is left of a source when no whole step is, in each block, is of no use.
            left = len(counts) * self.blocks if self.blocks > 1 else 0
            self.steps = max(1, min(self.steps, int((self._counts // rows).sum()) - left))
        self._order: tuple[int, list[IntArray]] | None = None

    def block_start(self, block: int) -> int:
        """The first step of a block."""
        return self.steps * block // self.blocks

    def orders(self, epoch: int, random: np.random.Generator) -> list[IntArray]:
        """The order of each source's items that an epoch is cut from; `random` is read once an epoch."""
        known = self._order
        if known is None or known[0] != epoch:
            self._order = known = None  # it is large
            self._order = known = (epoch, [shuffled(count, random) for count in self._counts.tolist()])
        return known[1]

    def block_items(self, epoch: int, block: int, random: np.random.Generator) -> IntArray:
        """The items of a block, ascending; `random` is for `orders`, where there are several blocks."""
        if self.blocks == 1:
            return np.arange(len(self.pairs))
        parts = []
        unit = self.rows if len(self.pairs.parts) > 1 else 1  # whole steps of each source, where there are several
        for source, order in enumerate(self.orders(epoch, random)):
            whole = len(order) // unit
            first, stop = (whole * self.block_start(one) // self.steps * unit for one in (block, block + 1))
            own = np.sort(order[first:stop])
            known = self._usable[source]
            parts.append((own if known is None else known[own]) + self._type(self.pairs.start[source]))
        return np.concatenate(parts)

    def _fitting_blocks(self, slot: Slot) -> int:
        """Into how many blocks the data can be cut so that each has plenty for this slot."""
        used = slot.answers[slot.sources > 0]
        return max(1, int(used.min()) // (_PLENTY * self.rows))
