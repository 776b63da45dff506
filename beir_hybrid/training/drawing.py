"""Drawing the steps of an epoch: kinds, languages, sources, items, and the languages of each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.training.eligible import Eligibility, Slot
from beir_hybrid.training.joined import BoolArray
from beir_hybrid.training.lengths import PassageLengths
from beir_hybrid.training.mixing import BatchKind, FloatArray
from beir_hybrid.training.planning import (
    FIXED,
    EpochPlan,
    Stream,
    draw_pairs,
    draw_true,
    draw_weighted,
    draw_weighted_pairs,
    hand_out,
)
from beir_hybrid.training.schedule import AdaptiveAlpha, LinearAlpha
from beir_hybrid.training.supply import Supply

# Each decision of an epoch draws from a random stream of its own.
_KINDS, _LANGUAGES, _ITEMS, _PAIRS, _STEP_PAIRS, _SOURCES, _BLOCKS = range(7)
_NUMBER = {kind: number for number, kind in enumerate(BatchKind)}


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
        length_bucketing: bool = False,
    ) -> None:
        self.able, self.pairs, self.mixture, self.seed, self.schedule = able, able.pairs, mixture, seed, schedule
        self._language_shares, self._repeat, self._bucketing = language_shares, repeat_items, length_bucketing
        self.supply = Supply(able, mixture, language_shares, repeat_items)
        self.slots, self.steps, self.rows = self.supply.slots, self.supply.steps, self.supply.rows
        # The last two: a record looks back where a loader looks ahead.
        self._plans: dict[tuple[int, int], EpochPlan] = {}
        self._block: _Block | None = None

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
        """The steps of a piece."""
        if (epoch, number) not in self._plans:
            piece = self.pieces(epoch)[number]
            block = self._block
            if block is None or (block.epoch, block.number, block.next) != (epoch, piece.block, piece.first):
                # The pieces of a block share its items: those before this one must be drawn first.
                block = self._block = _Block(self, epoch, piece.block)
                for earlier in self.pieces(epoch)[:number]:
                    if earlier.block == piece.block:
                        block.draw(earlier)
            if len(self._plans) > 1:
                del self._plans[next(iter(self._plans))]
            self._plans[epoch, number] = block.draw(piece)
        return self._plans[epoch, number]

    def draw_kinds(self, epoch: int, piece: Piece, random: np.random.Generator) -> IntArray:
        """The kind of each step, as its number."""
        steps = piece.stop - piece.first
        if self.schedule is not None:
            alpha = self.schedule.of(epoch * self.steps + np.arange(piece.first, piece.stop))
            return np.where(random.random(steps) < alpha, _NUMBER[BatchKind.X_X_MONO], _NUMBER[BatchKind.X_Y])
        numbers = np.array([_NUMBER[kind] for kind in self.mixture])
        return np.asarray(numbers[random.choice(len(numbers), steps, p=list(self.mixture.values()))])

    def draw_slots(self, epoch: int, piece: Piece, kind: IntArray, languages: np.random.Generator) -> IntArray:
        """What each step is, as the number of its slot."""
        steps = piece.stop - piece.first
        drawn = np.zeros(steps, dtype=np.int64)
        for name in self.mixture:
            own = [number for number, slot in enumerate(self.slots) if slot.kind is name]
            mask, random = kind == _NUMBER[name], self.random(epoch, _STEP_PAIRS, piece)
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
        point = self.random(epoch, _SOURCES, piece).random(len(drawn))
        # Below the last end even where the sum is rounded, or a source that is left out would be drawn.
        point = np.minimum(point * ends[drawn, -1], np.nextafter(ends[drawn, -1], 0))
        return np.asarray((ends[drawn] <= point[:, None]).sum(axis=1))

    def family(self, slot: Slot) -> int:
        """Among what streams a step may move when its own has no unused items."""
        whole = slot.kind is BatchKind.X_Y and slot.query >= 0
        if self._repeat or not (slot.kind is BatchKind.X_X_MONO or whole or len(self.pairs.parts) > 1):
            return FIXED
        return _NUMBER[slot.kind]

    @cached_property
    def lengths(self) -> PassageLengths | None:
        """Lengths of passages, where rows of like length are to share a step."""
        return PassageLengths(self.pairs) if self._bucketing else None

    def random(self, epoch: int, stream: int, piece: Piece | None = None) -> np.random.Generator:
        """The random numbers of one decision in one piece."""
        key = [self.seed, epoch, stream]
        if piece is not None and piece.first:
            key.append(piece.first)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


class _Block:
    """The items of a block, and which of them are used."""

    def __init__(self, drawing: EpochDrawing, epoch: int, number: int) -> None:
        pairs, supply = drawing.pairs, drawing.supply
        self.drawing, self.epoch, self.number, self.next = drawing, epoch, number, supply.block_start(number)
        self.items = supply.block_items(epoch, number, drawing.random(epoch, _BLOCKS))
        self.groups = pairs.groups(self.items)
        if supply.blocks > 1:
            self.groups = _small_numbers(self.groups)
        self.source = pairs.source_of(self.items)
        self.used = np.zeros(len(self.items), dtype=bool)
        self._drawn: dict[int, IntArray] = {}  # of slots, the languages that were drawn before the items were dealt
        # The streams: each slot in each source.
        slots, sources = drawing.slots, range(len(pairs.parts))
        self.eligible = [self._mask(slot, source) for slot in slots for source in sources]

    def _mask(self, slot: Slot, source: int) -> BoolArray:
        if not slot.sources[source]:
            return np.zeros(len(self.items), dtype=bool)
        mask = self.drawing.able.mask(slot.kind, slot.query, slot.passage, self.items)
        return mask if len(self.drawing.pairs.parts) == 1 else mask & (self.source == source)

    def draw(self, piece: Piece) -> EpochPlan:
        """The steps of a piece, the next of this block."""
        drawing, epoch, pairs = self.drawing, self.epoch, self.drawing.pairs
        self.next = piece.stop
        kind = drawing.draw_kinds(epoch, piece, drawing.random(epoch, _KINDS, piece))
        random = drawing.random(epoch, _LANGUAGES, piece)
        sources = len(pairs.parts)
        drawn = drawing.draw_slots(epoch, piece, kind, random)
        drawn = drawn * sources + drawing.draw_sources(epoch, piece, drawn)
        streams = []
        for number, mask in enumerate(self.eligible):
            slot, source = drawing.slots[number // sources], number % sources
            weight = slot.share * float(slot.sources[source])
            family = drawing.family(slot) if weight and (kind == _NUMBER[slot.kind]).any() else FIXED
            streams.append(Stream(mask, np.flatnonzero(drawn == number), family, weight))
        before, languages = self.used.copy(), drawing.random(epoch, _PAIRS, piece)
        own, stream = hand_out(
            streams,
            self.groups,
            drawing.rows,
            drawing.random(epoch, _ITEMS, piece),
            random,
            self.used,
            self._lengths(languages),
        )
        slot_of, width = stream // sources, len(pairs.languages)
        query, passage = self._languages(own, slot_of, languages)
        ends = np.array([slot.query for slot in drawing.slots])
        crossing = kind == _NUMBER[BatchKind.X_Y]
        return EpochPlan(
            kind=kind,
            language=np.where(crossing, -1, ends[slot_of]),
            flat=(self.items[own] * width + query) * width + passage,
            redrawn=stream != drawn,
            source=stream % sources,
            reused=_repeats(own) + before[own].sum(axis=1),
        )

    def _languages(self, own: IntArray, slot_of: IntArray, random: np.random.Generator) -> tuple[IntArray, IntArray]:
        """The languages of the questions and passages of each row, shape (steps, rows)."""
        slots, rows = self.drawing.slots, self.drawing.rows
        ends = np.array([(slot.query, slot.passage) for slot in slots])
        query, passage = (np.repeat(side[slot_of][:, None], rows, axis=1) for side in ends.T)
        for number, slot in enumerate(slots):
            if slot.query < 0:
                loose = slot_of == number
                cards = own[loose].ravel()
                known = self._drawn.get(number)
                first, second = self._draw_languages(slot, cards, random) if known is None else known[:, cards]
                query[loose], passage[loose] = first.reshape(-1, rows), second.reshape(-1, rows)
        return query, passage

    def _draw_languages(self, slot: Slot, cards: IntArray, random: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Languages of question and passage for each item, where rows draw their own."""
        pairs, choice = self.drawing.pairs, self.drawing.able.choice
        items, width = self.items[cards], len(pairs.languages)
        if slot.kind is BatchKind.X_X:
            drawn = draw_true(pairs.both.table(items, width), random)
            return drawn, drawn
        asks, answers = pairs.asks.table(items, width), pairs.answers.table(items, width)
        if choice.plain:
            return draw_pairs(asks, answers, random)
        return draw_weighted_pairs(asks, answers, choice.weight, random)

    def _lengths(self, random: np.random.Generator) -> Callable[[int, IntArray], FloatArray] | None:
        """How long the passages of a stream's items are. Rows that draw their languages draw them now: it matters."""
        self._drawn = {}
        lengths, slots, sources = self.drawing.lengths, self.drawing.slots, len(self.drawing.pairs.parts)
        if lengths is None:
            return None

        def of(stream: int, cards: IntArray) -> FloatArray:
            number = stream // sources
            slot = slots[number]
            if slot.query >= 0:
                return lengths.of(self.items[cards], slot.passage)
            known = self._drawn.setdefault(number, np.zeros((2, len(self.items)), dtype=np.int64))
            known[:, cards] = self._draw_languages(slot, cards, random)
            found = np.empty(len(cards))
            passage = known[1, cards]
            for language in np.unique(passage).tolist():
                mine = passage == language
                found[mine] = lengths.of(self.items[cards[mine]], language)
            return found

        return of


def _small_numbers(groups: IntArray) -> IntArray:
    """The groups as numbers from 0 without gaps, in their order."""
    step = np.diff(groups)
    if not (step < 0).any():  # as a rule: groups are numbered in the order of their items, which ascend
        return np.append(0, np.cumsum(step > 0)).astype(np.int64)
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _repeats(own: IntArray) -> IntArray:
    """Shape (steps,): the rows of each step whose item an earlier step has."""
    flat = own.ravel()
    # The last to write wins: from the back, each item is left with its first place.
    place = np.empty(int(flat.max()) + 1 if len(flat) else 0, dtype=np.int64)
    place[flat[::-1]] = np.arange(len(flat))[::-1]
    return np.asarray((place[flat] != np.arange(len(flat))).reshape(own.shape).sum(axis=1))
