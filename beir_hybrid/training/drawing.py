"""Drawing the steps of an epoch: kinds, languages, sources, items, and the languages of each row."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.training.ahead import PlannedAhead
from beir_hybrid.training.block import BLOCKS, KIND_NUMBER, SOURCES, STEP_PAIRS, Block
from beir_hybrid.training.draws import draw_weighted
from beir_hybrid.training.eligible import Eligibility, Slot
from beir_hybrid.training.lengths import Measure, PassageLengths
from beir_hybrid.training.mixing import BatchKind, FloatArray
from beir_hybrid.training.planning import FIXED, EpochPlan
from beir_hybrid.training.schedule import AdaptiveAlpha, LinearAlpha
from beir_hybrid.training.supply import Supply


class Piece(NamedTuple):
    """Steps `first` to `stop` of an epoch, which are drawn together, from the items of a block."""

    block: int
    first: int
    stop: int


class EpochDrawing:
    """The steps of each epoch, in pieces, each a function of (seed, epoch) and of the alphas so far.

    Args:
        able: What can be drawn from.
        mixture: The probability of each kind of batch, over the run as a whole.
        language_shares: How likely X-X-mono is to draw each language.
        seed: At least 0.
        schedule: How alpha changes, where it does.
        repeat_items, length_bucketing: See HybridBatchSampler.
    """

    def __init__(
        self,
        able: Eligibility,
        mixture: Mapping[BatchKind, float],
        language_shares: FloatArray,
        seed: int,
        *,
        schedule: LinearAlpha | AdaptiveAlpha | None = None,
        repeat_items: bool = False,
        length_bucketing: bool | Measure = False,
    ) -> None:
        self.able, self.pairs, self.mixture, self.seed, self.schedule = able, able.pairs, mixture, seed, schedule
        self._language_shares, self._repeat, self._bucketing = language_shares, repeat_items, length_bucketing
        self.supply = Supply(able, mixture, language_shares, repeat_items)
        self.slots, self.steps, self.rows = self.supply.slots, self.supply.steps, self.supply.rows
        # The last two: a record looks back where a loader looks ahead.
        self._plans: dict[tuple[int, int], EpochPlan] = {}
        self._block: Block | None = None
        self._ahead = PlannedAhead(self._whole_block)

    def pieces(self, epoch: int) -> list[Piece]:
        """The pieces of an epoch, in order: blocks, cut where an adaptive alpha changes."""
        cuts = [self.supply.block_start(block) for block in range(self.supply.blocks + 1)]
        found = []
        for block, (first, stop) in enumerate(pairwise(cuts)):
            while first < stop:
                end = stop
                if isinstance(self.schedule, AdaptiveAlpha):
                    every, run = self.schedule.every, epoch * self.steps
                    end = min(stop, ((run + first) // every + 1) * every - run)
                found.append(Piece(block, first, end))
                first = end
        return found

    def plan(self, epoch: int, number: int) -> EpochPlan:
        """The steps of a piece. Of several blocks the next is then drawn in a thread already."""
        if (epoch, number) not in self._plans:
            if len(self._plans) > 1:
                del self._plans[next(iter(self._plans))]
            if self.supply.blocks == 1 or isinstance(self.schedule, AdaptiveAlpha):
                plan = self._next_of_block(epoch, number)  # what comes next depends on how this went
            else:
                # What the threads share is made before they start.
                self.supply.orders(epoch, self.random(epoch, BLOCKS))
                _ = self.lengths
                plan = self._ahead.get(epoch, number, len(self.pieces(epoch)))
            self._plans[epoch, number] = plan
        return self._plans[epoch, number]

    def _whole_block(self, epoch: int, number: int) -> EpochPlan:
        """The steps of a piece that is a block."""
        piece = self.pieces(epoch)[number]
        return Block(self, epoch, piece.block).draw(piece)

    def _next_of_block(self, epoch: int, number: int) -> EpochPlan:
        """The steps of a piece that shares its block's items with others: those before it must be drawn first."""
        piece = self.pieces(epoch)[number]
        block = self._block
        if block is None or (block.epoch, block.number, block.next) != (epoch, piece.block, piece.first):
            block = self._block = Block(self, epoch, piece.block)
            for earlier in self.pieces(epoch)[:number]:
                if earlier.block == piece.block:
                    block.draw(earlier)
        return block.draw(piece)

    def draw_kinds(self, epoch: int, piece: Piece, random: np.random.Generator) -> IntArray:
        """The kind of each step, as its number."""
        steps = piece.stop - piece.first
        if self.schedule is not None:
            alpha = self.schedule.of(epoch * self.steps + np.arange(piece.first, piece.stop))
            return np.where(random.random(steps) < alpha, KIND_NUMBER[BatchKind.X_X_MONO], KIND_NUMBER[BatchKind.X_Y])
        numbers = np.array([KIND_NUMBER[kind] for kind in self.mixture])
        return np.asarray(numbers[random.choice(len(numbers), steps, p=list(self.mixture.values()))])

    def draw_slots(self, epoch: int, piece: Piece, kind: IntArray, languages: np.random.Generator) -> IntArray:
        """What each step is, as the number of its slot."""
        steps = piece.stop - piece.first
        drawn = np.zeros(steps, dtype=np.int64)
        for name in self.mixture:
            own = [number for number, slot in enumerate(self.slots) if slot.kind is name]
            mask, random = kind == KIND_NUMBER[name], self.random(epoch, STEP_PAIRS, piece)
            if name is BatchKind.X_X_MONO:
                # Of all languages, and one draw a step whatever its kind: the languages do not depend on how the kinds
                # fell.
                place = np.full(len(self._language_shares), -1, dtype=np.int64)
                place[[self.slots[number].query for number in own]] = own
                drawn[mask] = place[draw_weighted(self._language_shares, steps, languages)][mask]
            elif len(own) > 1:
                shares = np.array([self.slots[number].share for number in own])
                drawn[mask] = own[0] + draw_weighted(shares, steps, random)[mask]
            else:
                drawn[mask] = own[0]
        return drawn

    def draw_sources(self, epoch: int, piece: Piece, drawn: IntArray) -> IntArray:
        """The source of each step."""
        if len(self.pairs.parts) == 1:
            return np.zeros(len(drawn), dtype=np.int64)
        ends = np.cumsum([slot.sources for slot in self.slots], axis=1)
        point = self.random(epoch, SOURCES, piece).random(len(drawn))
        # Below the last end even where the sum is rounded, or a source that is left out would be drawn.
        point = np.minimum(point * ends[drawn, -1], np.nextafter(ends[drawn, -1], 0))
        return np.asarray((ends[drawn] <= point[:, None]).sum(axis=1))

    def family(self, slot: Slot) -> int:
        """Among what streams a step may move when its own has no unused items."""
        whole = slot.kind is BatchKind.X_Y and slot.query >= 0
        if self._repeat or not (slot.kind is BatchKind.X_X_MONO or whole or len(self.pairs.parts) > 1):
            return FIXED
        return KIND_NUMBER[slot.kind]

    @cached_property
    def lengths(self) -> PassageLengths | None:
        """Lengths of passages, where rows of like length are to share a step."""
        if not self._bucketing:
            return None
        return PassageLengths(self.pairs, self._bucketing if callable(self._bucketing) else None)

    def random(self, epoch: int, stream: int, piece: Piece | None = None) -> np.random.Generator:
        """The random numbers of one decision in one piece."""
        key = [self.seed, epoch, stream]
        if piece is not None and piece.first:
            key.append(piece.first)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
