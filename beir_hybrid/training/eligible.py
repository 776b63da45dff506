"""Which items can serve for which batches, and whether they are enough to draw them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.mixing import BatchKind, FloatArray, PairChoice
from beir_hybrid.training.pairs import ParallelPairs

BoolArray = npt.NDArray[np.bool_]


class Eligibility:
    """What each kind of batch can draw on.

    Args:
        pairs: What is drawn from.
        batch_size: Rows of one batch on one process.
        world_size: Processes that share a global step.
        choice: The wanted pairs of X-Y.
        whole: Whether all rows of an X-Y step have one pair.

    Attributes:
        asks, answers, both: Shape (items, languages): whether the item has a question there, a passage, or both.
        crossing: Shape (items,): whether the item has a wanted pair.
        step_pairs: Shape (n, 2): the pairs of whole X-Y steps, languages of question and passage; none before
            `usable`, or where rows draw their own.
        step_shares: Shape (n,): the probability of each.
    """

    def __init__(self, pairs: ParallelPairs, batch_size: int, world_size: int, choice: PairChoice, whole: bool) -> None:
        self.pairs, self.batch_size, self.world_size = pairs, batch_size, world_size
        self.choice, self.whole = choice, whole
        self.asks, self.answers = pairs.query_row >= 0, pairs.passage_row >= 0
        self.both = self.asks & self.answers
        reached = self.asks.astype(np.float32) @ (choice.weight > 0).astype(np.float32)
        self.crossing: BoolArray = np.asarray(((reached > 0) & self.answers).any(axis=1))
        self.step_pairs: IntArray = np.empty((0, 2), dtype=np.int64)
        self.step_shares: FloatArray = np.empty(0)

    def having(self, query: int, passage: int) -> BoolArray:
        """Which items have a question in one language and a passage in the other."""
        return np.asarray(self.asks[:, query] & self.answers[:, passage])

    def usable(self, kinds: Iterable[BatchKind], shares: FloatArray) -> BoolArray:
        """Which items serve for any of `kinds`; `shares` are those of the languages of X-X-mono.

        Raises:
            BeirHybridError: a kind of batch, or one of its languages or pairs, cannot be drawn; says why.
        """
        usable = np.zeros(len(self.pairs), dtype=bool)
        for where, eligible in self._needs(kinds, shares):
            self._check(where, eligible)
            usable |= eligible
        return usable

    def _needs(self, kinds: Iterable[BatchKind], shares: FloatArray) -> Iterator[tuple[str, BoolArray]]:
        """What every step needs to be drawn: a name for errors, and which items can serve."""
        languages = self.pairs.languages
        for kind in kinds:
            if kind is BatchKind.X_X_MONO:
                for number in np.flatnonzero(shares):
                    yield f"{kind.value} batches in {languages[number]}", self.both[:, number]
            elif kind is BatchKind.EN_EN:
                if "en" not in languages:
                    raise BeirHybridError(
                        f"en-en batches need English, and {self.pairs.source} has {', '.join(languages)}. "
                        "Choose another batching."
                    )
                yield "en-en batches", self.both[:, languages.index("en")]
            else:
                if len(languages) < 2:
                    raise BeirHybridError(
                        f"{kind.value} batches mix languages, and {self.pairs.source} has only "
                        f"{', '.join(languages) or 'none'}. Add a language, or use x-x-mono."
                    )
                has = self.both if kind is BatchKind.X_X else self.asks | self.answers
                asked = np.ones(len(languages), dtype=bool)
                if kind is BatchKind.X_Y:
                    asked = np.asarray((self.choice.weight + self.choice.weight.T).any(axis=0))
                missing = [code for number, code in enumerate(languages) if asked[number] and not has[:, number].any()]
                if missing:
                    raise BeirHybridError(
                        f"{kind.value} batches: no item of {self.pairs.source} exists in {', '.join(missing)}. "
                        "Leave it out."
                    )
                if kind is BatchKind.X_X:
                    yield "x-x batches", np.asarray(self.both.any(axis=1))
                else:
                    yield from self._needs_of_pairs()

    def _needs_of_pairs(self) -> Iterator[tuple[str, BoolArray]]:
        codes = self.pairs.languages
        kept: list[tuple[int, int]] = []
        weights: list[float] = []
        for query, passage in np.argwhere(self.choice.weight).tolist():
            name, having = f"{codes[query]}-{codes[passage]}", self.having(query, passage)
            if self.choice.named and not having.any():
                raise BeirHybridError(
                    f"x-y batches: no item of {self.pairs.source} has a question in {codes[query]} and a passage in "
                    f"{codes[passage]}. Leave {name} out of the pairs."
                )
            if self.whole and (self.choice.named or self._groups(having) >= self.batch_size * self.world_size):
                yield f"x-y batches of {name} alone", having
                kept.append((query, passage))
                weights.append(self.choice.weight[query, passage] * int(having.sum()))
        if not self.whole:
            yield "x-y batches", self.crossing
        elif kept:
            self.step_pairs, self.step_shares = np.array(kept), np.array(weights) / sum(weights)
        else:
            raise BeirHybridError(
                f"x-y batches: no ordered pair of {self.pairs.source} has the {self.batch_size * self.world_size} "
                "different answers that a batch of one pair needs. Use a smaller batch size, or pair_per row."
            )

    def _groups(self, eligible: BoolArray) -> int:
        return int(np.count_nonzero(np.bincount(self.pairs.item_group[eligible])))

    def _check(self, where: str, eligible: BoolArray) -> None:
        groups, rows = self._groups(eligible), self.batch_size * self.world_size
        if groups >= rows:
            return
        if groups < self.world_size:
            raise BeirHybridError(
                f"{where}: no item of {self.pairs.source} can serve for them ({groups} of {self.world_size} needed). "
                "Its questions may not be parallel: use x-x-mono, or leave the language out."
            )
        size = f"{self.batch_size} x {self.world_size} processes" if self.world_size > 1 else str(self.batch_size)
        raise BeirHybridError(
            f"{where}: {self.pairs.source} has {int(eligible.sum())} items for them with {groups} different answers, "
            f"and a batch of {size} needs {rows}, because two questions with one answer cannot share a batch. "
            f"Use a batch size of at most {groups // self.world_size}, or leave the language (or the pair) out."
        )
