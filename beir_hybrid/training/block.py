"""The items of one block of an epoch, and the steps that are drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.training.draws import draw_any_pairs, draw_pairs, draw_true, draw_weighted_pairs
from beir_hybrid.training.eligible import Slot
from beir_hybrid.training.joined import BoolArray
from beir_hybrid.training.mixing import BatchKind, FloatArray
from beir_hybrid.training.planning import FIXED, EpochPlan, Stream, hand_out

if TYPE_CHECKING:
    from beir_hybrid.training.drawing import EpochDrawing, Piece

# Each decision of an epoch draws from a random stream of its own.
KINDS, LANGUAGES, ITEMS, PAIRS, STEP_PAIRS, SOURCES, BLOCKS = range(7)
KIND_NUMBER = {kind: number for number, kind in enumerate(BatchKind)}


class Block:
    """The items of a block, and which of them are used."""

    def __init__(self, drawing: EpochDrawing, epoch: int, number: int) -> None:
        pairs, supply = drawing.pairs, drawing.supply
        self.drawing, self.epoch, self.number, self.next = drawing, epoch, number, supply.block_start(number)
        self.items = supply.block_items(epoch, number, drawing.random(epoch, BLOCKS))
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
        kind = drawing.draw_kinds(epoch, piece, drawing.random(epoch, KINDS, piece))
        random = drawing.random(epoch, LANGUAGES, piece)
        sources = len(pairs.parts)
        drawn = drawing.draw_slots(epoch, piece, kind, random)
        drawn = drawn * sources + drawing.draw_sources(epoch, piece, drawn)
        streams = []
        for number, mask in enumerate(self.eligible):
            slot, source = drawing.slots[number // sources], number % sources
            weight = slot.share * float(slot.sources[source])
            family = drawing.family(slot) if weight and (kind == KIND_NUMBER[slot.kind]).any() else FIXED
            streams.append(Stream(mask, np.flatnonzero(drawn == number), family, weight))
        before, languages = self.used.copy(), drawing.random(epoch, PAIRS, piece)
        own, stream = hand_out(
            streams,
            self.groups,
            drawing.rows,
            drawing.random(epoch, ITEMS, piece),
            random,
            self.used,
            self._lengths(languages),
        )
        slot_of, width = stream // sources, len(pairs.languages)
        query, passage = self._languages(own, slot_of, languages)
        ends = np.array([slot.query for slot in drawing.slots])
        crossing = kind == KIND_NUMBER[BatchKind.X_Y]
        flat = self.items[own].astype(np.int64)
        for language in (query, passage):
            flat *= width
            flat += language
        # Where as many more are used as there are rows, none was used twice.
        fresh = np.count_nonzero(self.used) - np.count_nonzero(before) == own.size
        return EpochPlan(
            kind=kind,
            language=np.where(crossing, -1, ends[slot_of]),
            flat=flat,
            redrawn=stream != drawn,
            source=stream % sources,
            reused=np.zeros(len(own), dtype=np.int64) if fresh else _repeats(own) + before[own].sum(axis=1),
        )

    def _languages(self, own: IntArray, slot_of: IntArray, random: np.random.Generator) -> tuple[IntArray, IntArray]:
        """The languages of the questions and passages of each row, shape (steps, rows)."""
        slots, rows = self.drawing.slots, self.drawing.rows
        ends = np.array([(slot.query, slot.passage) for slot in slots], dtype=np.int16)
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
        width = len(pairs.languages)
        if choice.plain and slot.kind is BatchKind.X_Y and pairs.asks.full(width) and pairs.answers.full(width):
            return draw_any_pairs(len(cards), width, random)
        items = self.items[cards]
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
        return np.append(0, np.cumsum(step > 0, dtype=step.dtype))
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _repeats(own: IntArray) -> IntArray:
    """Shape (steps,): the rows of each step whose item an earlier step has."""
    flat = own.ravel()
    # The last to write wins: from the back, each item is left with its first place.
    place = np.empty(int(flat.max()) + 1 if len(flat) else 0, dtype=np.int64)
    place[flat[::-1]] = np.arange(len(flat))[::-1]
    return np.asarray((place[flat] != np.arange(len(flat))).reshape(own.shape).sum(axis=1))
