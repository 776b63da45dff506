"""Which pairs share a batch: LAReQA's X-X-mono, X-Y, X-X and En-En batches, and the hybrid of the first two.

LAReQA: Roy et al. 2020, arXiv 2004.05484. Hybrid batches: arXiv 2408.10536.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.planning import EpochPlan, Stream, hand_out

_KINDS, _LANGUAGES, _ITEMS, _PAIRS = range(4)  # each decision of an epoch draws from a random stream of its own


class BatchKind(enum.Enum):
    """How the languages of a batch are chosen; the value is the name used in settings, logs and records."""

    X_X_MONO = "x-x-mono"
    """Questions and passages of the whole batch in one language."""
    X_Y = "x-y"
    """In each row, the question's language differs from the passage's."""
    X_X = "x-x"
    """In each row one language; the languages are mixed in the batch."""
    EN_EN = "en-en"
    """Everything in English."""


HYBRID = "hybrid"
BATCHINGS: tuple[str, ...] = (HYBRID, *(kind.value for kind in BatchKind))


def mixture(batching: str, alpha: float = 0.5) -> dict[BatchKind, float]:
    """The probability of each kind of batch; kinds that never occur are left out.

    Args:
        batching: `hybrid` (X-X-mono with probability `alpha`, else X-Y) or the one kind of every batch.
        alpha: Between 0 and 1; read for `hybrid` only.

    Raises:
        BeirHybridError: an unknown batching, or alpha out of range.
    """
    if batching not in BATCHINGS:
        raise unknown("batching", batching, BATCHINGS)
    if not 0.0 <= alpha <= 1.0:
        raise BeirHybridError(f"alpha is {alpha}; it is the share of X-X-mono batches and lies between 0 and 1.")
    if batching != HYBRID:
        return {BatchKind(batching): 1.0}
    weights = {BatchKind.X_X_MONO: alpha, BatchKind.X_Y: 1.0 - alpha}
    return {kind: weight for kind, weight in weights.items() if weight > 0}


class HybridBatchSampler:
    """Batches of flat indices `(item * L + query language) * L + passage language`, L languages; see `decode`.

    A global step is `world_size` consecutive batches, one a process (accelerate hands process r the batches
    i * world_size + r). It is drawn as one unit: one kind, one language for X-X-mono, and no two rows whose items share
    a group, so that negatives may be gathered across processes. The same pairs meet in a step however it is cut.

    An epoch uses each usable item at most once and has the same length every time: usable items // rows of a global
    step, times `world_size`. The kinds are drawn independently for each step from `mixture(batching, alpha)`, the
    languages of X-X-mono uniformly. Where a language runs out of unused items, its step moves to another language;
    where all are out, items are used again. Both are counted in `composition()`. Everything is a function of
    (seed, epoch).

    Args:
        pairs: What to draw from.
        batch_size: Rows of one batch on one process.
        batching, alpha: See `mixture`.
        seed: At least 0.
        world_size: Processes that train together.

    Raises:
        BeirHybridError: these batches cannot be drawn from these pairs; says why and what would do.
    """

    drop_last = True  # accelerate's BatchSamplerShard asks

    def __init__(
        self,
        pairs: ParallelPairs,
        batch_size: int,
        batching: str = HYBRID,
        alpha: float = 0.5,
        seed: int = 0,
        world_size: int = 1,
    ) -> None:
        self.mixture = mixture(batching, alpha)
        self.pairs, self.batch_size, self.world_size = pairs, batch_size, world_size
        self.batching, self.alpha, self.seed, self.epoch = batching, alpha, seed, 0
        if batch_size < 1 or world_size < 1 or seed < 0:
            raise BeirHybridError(
                f"batch size {batch_size}, world size {world_size}, seed {seed}: sizes start at 1 and a seed at 0."
            )
        self.rows = batch_size * world_size
        asks, answers = pairs.query_row >= 0, pairs.passage_row >= 0
        both = asks & answers
        # (q languages) x (p languages) less the equal ones
        self._ordered_pairs: IntArray = asks.sum(axis=1) * answers.sum(axis=1) - both.sum(axis=1)
        self._asks, self._answers, self._both = asks, answers, both
        usable = np.zeros(len(pairs), dtype=bool)
        for where, eligible in self._needs():
            self._check(where, eligible)
            usable |= eligible
        self.items = int(usable.sum())
        self.steps = self.items // self.rows
        self._last: tuple[int, EpochPlan] | None = None
        self._whole: dict[int, tuple[IntArray, ...]] = {}  # counts of whole epochs, for records of long trainings

    def __len__(self) -> int:
        return self.steps * self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.plan(self.epoch).flat:
            for rank in range(self.world_size):
                yield step[rank * self.batch_size : (rank + 1) * self.batch_size].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that of `epoch`, counted from 0."""
        self.epoch = epoch

    def decode(self, flat: npt.ArrayLike) -> tuple[IntArray, IntArray, IntArray]:
        """Items, query languages and passage languages of flat indices, each of the same shape as `flat`."""
        return decode(flat, len(self.pairs.languages))

    def composition(self, steps: int | None = None) -> dict[str, object]:
        """What the first `steps` global steps, epoch after epoch, were made of; `steps` defaults to this epoch alone.

        A JSON-able dictionary: `steps`, `rows`, `kinds` (steps of each), `languages` (X-X-mono and En-En steps of
        each), `pairs` (rows of each ordered language pair, question first), `redrawn_steps` and `reused_rows`.
        """
        codes = self.pairs.languages
        if steps is None:
            epochs = [(self.epoch, self.steps)]
        else:
            whole, rest = divmod(steps, self.steps)
            epochs = [(epoch, self.steps) for epoch in range(whole)] + ([(whole, rest)] if rest else [])
        totals = [self._counts(epoch, part) for epoch, part in epochs] or [self._counts(0, 0)]
        kinds, languages, pairs, others = (np.sum([total[i] for total in totals], axis=0) for i in range(4))
        grid = pairs.reshape(len(codes), len(codes))
        return {
            "steps": sum(part for _, part in epochs),
            "rows": int(grid.sum()),
            "kinds": {kind.value: int(n) for kind, n in zip(BatchKind, kinds, strict=True) if n},
            "languages": {code: int(n) for code, n in zip(codes, languages, strict=True) if n},
            "pairs": {f"{codes[q]}-{codes[p]}": int(grid[q, p]) for q, p in np.argwhere(grid)},
            "redrawn_steps": int(others[0]),
            "reused_rows": int(others[1]),
        }

    def _counts(self, epoch: int, steps: int) -> tuple[IntArray, ...]:
        if steps == self.steps and epoch in self._whole:
            return self._whole[epoch]
        plan, width = self.plan(epoch), len(self.pairs.languages)
        flat, languages = plan.flat[:steps], plan.language[:steps]
        reused = flat.size - len(np.unique(flat // (width * width)))
        counts = (
            np.bincount(plan.kind[:steps], minlength=len(BatchKind)),
            np.bincount(languages[languages >= 0], minlength=width),
            np.bincount((flat % (width * width)).ravel(), minlength=width * width),
            np.array([int(plan.redrawn[:steps].sum()), reused]),
        )
        if steps == self.steps:
            self._whole[epoch] = counts
        return counts

    def plan(self, epoch: int) -> EpochPlan:
        """The global steps of an epoch, drawn from (seed, epoch) alone."""
        if self._last is None or self._last[0] != epoch:
            self._last = (epoch, self._plan(epoch))
        return self._last[1]

    def _plan(self, epoch: int) -> EpochPlan:
        kinds = list(BatchKind)
        numbers = np.array([kinds.index(kind) for kind in self.mixture])
        kind = numbers[self._random(epoch, _KINDS).choice(len(numbers), self.steps, p=list(self.mixture.values()))]
        random = self._random(epoch, _LANGUAGES)
        language = np.full(self.steps, -1, dtype=np.int64)
        mono = kind == kinds.index(BatchKind.X_X_MONO)
        # One draw a step whatever its kind: the languages do not depend on how the kinds fell.
        language[mono] = random.integers(len(self.pairs.languages), size=self.steps)[mono]
        if BatchKind.EN_EN in self.mixture:
            language[kind == kinds.index(BatchKind.EN_EN)] = self.pairs.languages.index("en")

        redraw = mono.any() and len(self.pairs.languages) > 1
        streams = [
            Stream(self._both[:, number], np.flatnonzero(language == number), redraw)
            for number in range(len(self.pairs.languages))
        ]
        mixed = BatchKind.X_Y if BatchKind.X_Y in self.mixture else BatchKind.X_X
        streams.append(Stream(self._eligible(mixed), np.flatnonzero(language < 0), False))
        items, stream = hand_out(streams, self.pairs.item_group, self.rows, self._random(epoch, _ITEMS), random)
        settled = np.where(stream < len(self.pairs.languages), stream, -1)
        query, passage = self._draw_languages(items, settled, mixed, self._random(epoch, _PAIRS))
        width = len(self.pairs.languages)
        return EpochPlan(kind, settled, (items * width + query) * width + passage, settled != language)

    def _draw_languages(
        self, items: IntArray, language: IntArray, mixed: BatchKind, random: np.random.Generator
    ) -> tuple[IntArray, IntArray]:
        """Question and passage languages, each of the shape of `items`, (steps, rows)."""
        query = np.repeat(language[:, None], items.shape[1], axis=1)
        passage = query.copy()
        loose = np.flatnonzero(language < 0)
        rows = items[loose].ravel()
        shape = (len(loose), items.shape[1])
        if mixed is BatchKind.X_X:
            query[loose] = passage[loose] = _draw_true(self._both[rows], random).reshape(shape)
        else:
            # Uniform over ordered pairs: a question language counts as often as it has passages in other languages.
            partners = self._asks[rows] * (self._answers[rows].sum(axis=1, keepdims=True) - self._answers[rows])
            ends = np.cumsum(partners, axis=1)
            first = (ends <= random.integers(ends[:, -1])[:, None]).sum(axis=1)
            others = self._answers[rows]
            others[np.arange(len(rows)), first] = False
            query[loose] = first.reshape(shape)
            passage[loose] = _draw_true(others, random).reshape(shape)
        return query, passage

    def _random(self, epoch: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch, stream])))

    def _eligible(self, kind: BatchKind) -> npt.NDArray[np.bool_]:
        if kind is BatchKind.X_X:
            return np.asarray(self._both.any(axis=1))
        return np.asarray(self._ordered_pairs > 0)

    def _needs(self) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """What every step needs to be drawn: a name for errors, and which items can serve."""
        languages = self.pairs.languages
        for kind in self.mixture:
            if kind is BatchKind.X_X_MONO:
                for number, code in enumerate(languages):
                    yield f"{kind.value} batches in {code}", self._both[:, number]
            elif kind is BatchKind.EN_EN:
                if "en" not in languages:
                    raise BeirHybridError(
                        f"en-en batches need English, and {self.pairs.source} has {', '.join(languages)}. "
                        "Choose another batching."
                    )
                yield "en-en batches", self._both[:, languages.index("en")]
            else:
                if len(languages) < 2:
                    raise BeirHybridError(
                        f"{kind.value} batches mix languages, and {self.pairs.source} has only "
                        f"{', '.join(languages) or 'none'}. Add a language, or use x-x-mono."
                    )
                has = self._both if kind is BatchKind.X_X else self._asks | self._answers
                missing = [code for number, code in enumerate(languages) if not has[:, number].any()]
                if missing:
                    raise BeirHybridError(
                        f"{kind.value} batches: no item of {self.pairs.source} exists in {', '.join(missing)}. "
                        "Leave it out."
                    )
                yield f"{kind.value} batches", self._eligible(kind)

    def _check(self, where: str, eligible: npt.NDArray[np.bool_]) -> None:
        groups = len(np.unique(self.pairs.item_group[eligible]))
        if groups >= self.rows:
            return
        if groups < self.world_size:
            raise BeirHybridError(
                f"{where}: no item of {self.pairs.source} can serve for them ({groups} of {self.world_size} needed). "
                "Its questions may not be parallel: use x-x-mono, or leave the language out."
            )
        size = f"{self.batch_size} x {self.world_size} processes" if self.world_size > 1 else str(self.batch_size)
        raise BeirHybridError(
            f"{where}: {self.pairs.source} has {int(eligible.sum())} items for them with {groups} different answers, "
            f"and a batch of {size} needs {self.rows}, because two questions with one answer cannot share a batch. "
            f"Use a batch size of at most {groups // self.world_size}, or leave the language out."
        )


def decode(flat: npt.ArrayLike, languages: int) -> tuple[IntArray, IntArray, IntArray]:
    """Items, query languages and passage languages of flat indices over `languages` languages."""
    rest, passage = np.divmod(np.asarray(flat, dtype=np.int64), languages)
    item, query = np.divmod(rest, languages)
    return item, query, passage


def _draw_true(mask: npt.NDArray[np.bool_], random: np.random.Generator) -> IntArray:
    """For each row of `mask`, shape (rows, n), the index of one true entry, uniformly."""
    ends = np.cumsum(mask, axis=1)
    drawn: IntArray = (ends <= random.integers(ends[:, -1])[:, None]).sum(axis=1)
    return drawn
