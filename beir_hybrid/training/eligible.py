"""Which items can serve for which batches, and whether they are enough to draw them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.joined import BoolArray, JoinedPairs
from beir_hybrid.training.mixing import BatchKind, FloatArray, PairChoice, shares

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Slot:
    """What a step is before it is known from which source: its kind and its languages.

    Attributes:
        query, passage: The language of all questions, and of all passages; -1 where each row draws its own.
        share: How likely it is among the slots of its kind.
        sources: Shape (sources,): how likely each source is to fill it, summing to 1.
        answers: Shape (sources,): different answers in each, counted as far as `Eligibility.enough`.
    """

    kind: BatchKind
    query: int
    passage: int
    share: float
    sources: FloatArray
    answers: IntArray


class Eligibility:
    """What each kind of batch can draw on.

    Args:
        pairs: What is drawn from.
        batch_size: Rows of one batch on one process.
        world_size: Processes that share a global step.
        choice: The wanted pairs of X-Y.
        whole: Whether all rows of an X-Y step have one pair.
        weights: How the sources share what several of them hold; see `mixing.shares`.
        enough: How many different answers are counted at most.
    """

    def __init__(
        self,
        pairs: JoinedPairs,
        batch_size: int,
        world_size: int,
        choice: PairChoice,
        whole: bool,
        weights: str | float | Mapping[str, float] = "proportional",
        enough: int = 0,
    ) -> None:
        self.pairs, self.batch_size, self.world_size = pairs, batch_size, world_size
        self.choice, self.whole, self.weights = choice, whole, weights
        self.enough = max(enough, batch_size * world_size)
        self._answers: dict[tuple[str, int, int, int], int] = {}

    @cached_property
    def crossing(self) -> BoolArray:
        """Shape (items,): whether the item has a wanted pair."""
        width = len(self.pairs.languages)
        wanted = (self.choice.weight > 0).astype(np.float32)

        def of(items: slice) -> BoolArray:
            asked, answered = (side.table(items, width) for side in (self.pairs.asks, self.pairs.answers))
            return np.asarray(((asked.astype(np.float32) @ wanted > 0) & answered).any(axis=1))

        if self.pairs.asks.alike and self.pairs.answers.alike:
            return np.broadcast_to(of(slice(0, 1)), len(self.pairs))
        found = np.zeros(len(self.pairs), dtype=bool)
        for start in range(0, len(found), _BLOCK):
            block = slice(start, start + _BLOCK)
            found[block] = of(block)
        return found

    def mask(self, kind: BatchKind, query: int, passage: int, items: slice | IntArray) -> BoolArray:
        """Which of these items can fill a row of such a step."""
        if kind is BatchKind.X_Y:
            if query < 0:
                return self.crossing[items]
            return self.pairs.asks.has(query, items) & self.pairs.answers.has(passage, items)
        return self.pairs.both.some(items) if query < 0 else self.pairs.both.has(query, items)

    def slots(self, kinds: Iterable[BatchKind], language_shares: FloatArray) -> list[Slot]:
        """What the steps of these kinds can be; `language_shares` are those of X-X-mono.

        Raises:
            BeirHybridError: a kind of batch, or one of its languages or pairs, cannot be drawn; says why.
        """
        return [slot for kind in kinds for slot in self._slots_of(kind, language_shares)]

    def usable(self, slots: Iterable[Slot]) -> BoolArray:
        """Shape (items,): which items serve for any of these slots."""
        usable = np.zeros(len(self.pairs), dtype=bool)
        for slot in slots:
            for source in np.flatnonzero(slot.sources).tolist():
                own = self.pairs.items_of(source)
                usable[own] |= self.mask(slot.kind, slot.query, slot.passage, own)
        return usable

    def _slots_of(self, kind: BatchKind, language_shares: FloatArray) -> Iterator[Slot]:
        languages, name = self.pairs.languages, self.pairs.name
        if kind is BatchKind.X_X_MONO:
            for number in np.flatnonzero(language_shares).tolist():
                where = f"{kind.value} batches in {languages[number]}"
                yield self._slot(where, kind, number, number, float(language_shares[number]))
        elif kind is BatchKind.EN_EN:
            if "en" not in languages:
                raise BeirHybridError(
                    f"en-en batches need English, and {name} has {', '.join(languages)}. Choose another batching."
                )
            english = languages.index("en")
            yield self._slot("en-en batches", kind, english, english)
        else:
            if len(languages) < 2:
                raise BeirHybridError(
                    f"{kind.value} batches mix languages, and {name} has only {', '.join(languages) or 'none'}. "
                    "Add a language, or use x-x-mono."
                )
            self._check_languages(kind)
            if kind is BatchKind.X_X:
                yield self._slot("x-x batches", kind, -1, -1)
            else:
                yield from self._crossing_slots()

    def _check_languages(self, kind: BatchKind) -> None:
        """Whether each language that a kind of mixed batches is to have is there at all."""
        everything = slice(0, len(self.pairs))
        missing = []
        for number, code in enumerate(self.pairs.languages):
            if kind is BatchKind.X_X:
                there = bool(self.pairs.both.has(number, everything).any())
            elif (self.choice.weight[number] + self.choice.weight[:, number]).any():
                sides = self.pairs.asks, self.pairs.answers
                there = any(bool(side.has(number, everything).any()) for side in sides)
            else:
                continue
            if not there:
                missing.append(code)
        if missing and kind is BatchKind.X_X:
            self._refuse_sentences("x-x batches")
        if missing:
            raise BeirHybridError(
                f"{kind.value} batches: no item of {self.pairs.name} exists in {', '.join(missing)}. Leave it out."
            )

    def _crossing_slots(self) -> Iterator[Slot]:
        codes, rows = self.pairs.languages, self.batch_size * self.world_size
        kept: list[tuple[int, int]] = []
        weights: list[float] = []
        for query, passage in np.argwhere(self.choice.weight).tolist():
            items = self._items(BatchKind.X_Y, query, passage)
            if self.choice.named and not items.any():
                raise BeirHybridError(
                    f"x-y batches: no item of {self.pairs.name} has a question in {codes[query]} and a passage in "
                    f"{codes[passage]}. Leave {codes[query]}-{codes[passage]} out of the pairs."
                )
            if not self.whole:
                if not self.choice.named:
                    break
                continue  # rows draw their own, among those that they have
            enough = max(self._groups(BatchKind.X_Y, query, passage, one) for one in range(len(items))) >= rows
            if self.choice.named or enough:
                kept.append((query, passage))
                weights.append(float(self.choice.weight[query, passage] * items.sum()))
        if not self.whole:
            yield self._slot("x-y batches", BatchKind.X_Y, -1, -1)
            return
        if not kept:
            raise BeirHybridError(
                f"x-y batches: no ordered pair of {self.pairs.name} has the {rows} different answers that a batch of "
                "one pair needs. Use a smaller batch size, or pair_per row."
            )
        for (query, passage), weight in zip(kept, weights, strict=True):
            name = f"x-y batches of {codes[query]}-{codes[passage]} alone"
            yield self._slot(name, BatchKind.X_Y, query, passage, weight / sum(weights))

    def _slot(self, where: str, kind: BatchKind, query: int, passage: int, share: float = 1.0) -> Slot:
        """The slot, if any source can fill it; a source that cannot fill a batch on its own is left out of it."""
        items, rows = self._items(kind, query, passage), self.batch_size * self.world_size
        names = [part.source for part in self.pairs.parts]
        given = shares("source", self.weights, names, items)
        answers = np.array([self._groups(kind, query, passage, source) for source in range(len(names))])
        fits = (answers >= rows) & (given > 0)
        if not fits.any():
            if kind is not BatchKind.X_Y:
                self._refuse_sentences(where)
            self._refuse(where, int(items.max()), int(answers.max()))
        sources = np.where(fits, given, 0.0)
        return Slot(kind, query, passage, share, sources / sources.sum(), answers)

    def _items(self, kind: BatchKind, query: int, passage: int) -> IntArray:
        """Shape (sources,): how many items of each source can serve."""
        parts = range(len(self.pairs.parts))
        return np.array([np.count_nonzero(self.mask(kind, query, passage, self.pairs.items_of(one))) for one in parts])

    def _groups(self, kind: BatchKind, query: int, passage: int, source: int) -> int:
        """How many different answers the items of a source have that can serve; no more than `enough` are counted."""
        key = kind.value, query, passage, source
        if key not in self._answers:
            own, wanted, found = self.pairs.items_of(source), 4 * self.enough, 0
            start = own.start
            while start < own.stop:
                stop = min(start + wanted, own.stop)
                part = slice(own.start, stop)  # from the beginning again: a group may go on
                groups = self.pairs.groups(part)[self.mask(kind, query, passage, part)]
                found = len(np.unique(groups))
                if found >= self.enough:
                    break
                start, wanted = stop, 2 * wanted
            self._answers[key] = found
        return self._answers[key]

    def _refuse_sentences(self, where: str) -> None:
        """Refuse rows of one language where no source has any."""
        if not any(part.same_language for part in self.pairs.parts):
            raise BeirHybridError(
                f"{where}: {self.pairs.name} holds sentences and their translations, and within a language a sentence "
                "would be asked for itself. Use x-y batches, or add questions and passages."
            )

    def _refuse(self, where: str, items: int, groups: int) -> None:
        rows, name = self.batch_size * self.world_size, self.pairs.name
        if groups < self.world_size:
            raise BeirHybridError(
                f"{where}: no item of {name} can serve for them ({groups} of {self.world_size} needed). "
                + ("Its questions may not be parallel: use x-x-mono, or leave" if "x-y" in where else "Leave")
                + " the language out."
            )
        size = f"{self.batch_size} x {self.world_size} processes" if self.world_size > 1 else str(self.batch_size)
        raise BeirHybridError(
            f"{where}: {name} has {items} items for them with {groups} different answers, and a batch of {size} needs "
            f"{rows}, because two questions with one answer cannot share a batch. "
            f"Use a batch size of at most {groups // self.world_size}, or leave the language (or the pair) out."
        )
