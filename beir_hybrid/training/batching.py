"""Which pairs share a batch: LAReQA's X-X-mono, X-Y, X-X and En-En batches, and the hybrid of the first two.

LAReQA: Roy et al. 2020, arXiv 2004.05484. Hybrid batches: arXiv 2408.10536.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.eligible import Eligibility
from beir_hybrid.training.mixing import (
    HYBRID as HYBRID,
)
from beir_hybrid.training.mixing import (
    BatchKind,
    check_pairs,
    language_shares,
    mixture,
    pair_choice,
    schedule_end,
    scheduled_alpha,
)
from beir_hybrid.training.pairs import ParallelPairs
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

# Each decision of an epoch draws from a random stream of its own.
_KINDS, _LANGUAGES, _ITEMS, _PAIRS, _STEP_PAIRS = range(5)
_NUMBER = {kind: number for number, kind in enumerate(BatchKind)}
# What a drawn index says of its batch, by tag; with none, the languages of its rows tell X-X-mono from X-Y.
_TAGGED = (None, BatchKind.X_X, BatchKind.EN_EN)
_TAG = np.array([_TAGGED.index(kind) if kind in _TAGGED else 0 for kind in BatchKind])


class HybridBatchSampler:
    """Batches of flat indices `(item * L + query language) * L + passage language`, L languages; see `decode`.

    A global step is `world_size` consecutive batches, one a process (accelerate hands process r the batches
    i * world_size + r). It is drawn as one unit: one kind, one language for X-X-mono, and no two rows whose items share
    a group, so that negatives may be gathered across processes. The same pairs meet in a step however it is cut.

    An epoch uses each usable item at most once and has the same length every time: usable items // rows of a global
    step, times `world_size`. The kinds are drawn independently for each step, the languages of X-X-mono by
    `language_weights`. Where a language (or the one pair of a batch) runs out of unused items, its step moves to
    another; where all are out, items are used again. Both are counted in `composition()`. Everything is a function of
    (seed, epoch), and of what is given here.

    Args:
        pairs: What to draw from.
        batch_size: Rows of one batch on one process.
        batching, alpha: See `mixing.mixture`.
        seed: At least 0.
        world_size: Processes that train together.
        language_weights: How X-X-mono draws its language; see `mixing.language_shares`.
        language_pairs: The ordered (question, passage) languages of X-Y rows: `all`, `pivot:en`, or the weight of each
            pair; see `mixing.pair_choice`. Items with none of them serve for no X-Y row.
        pair_per: `row`: each row of an X-Y batch draws among the wanted pairs that its item has, by their weights.
            `batch`: all rows of a global step have one pair, drawn with probability proportional to its weight times
            the number of items that have it, which is about how often rows of their own would draw it. Pairs without
            enough different answers to fill a step are then left out, and refused where they were named.
        alpha_schedule: None, or {"end": x}: the alpha of hybrid batches goes in a line from `alpha` in the first
            global step to x in the last of `total_steps`, and stays there. It is a function of the step's number.
        total_steps: Global steps of the run, epoch after epoch; read for a schedule only.

    Raises:
        BeirHybridError: these batches cannot be drawn from these pairs; says why and what would do.
    """

    drop_last = True  # accelerate's BatchSamplerShard asks

    def __init__(
        self,
        pairs: ParallelPairs,
        batch_size: int,
        batching: str | Mapping[str, float] = HYBRID,
        alpha: float = 0.5,
        seed: int = 0,
        world_size: int = 1,
        *,
        language_weights: str | float | Mapping[str, float] = "uniform",
        language_pairs: str | Mapping[str, float] = "all",
        pair_per: str = "row",
        alpha_schedule: Mapping[str, float] | None = None,
        total_steps: int | None = None,
    ) -> None:
        self.mixture, self.end = mixture(batching, alpha), schedule_end(alpha_schedule, batching)
        if self.end is not None:
            if total_steps is None or total_steps < 1:
                raise BeirHybridError(f"alpha_schedule needs total_steps of at least 1, and it is {total_steps}.")
            self.mixture = mixture(batching, (alpha + self.end) / 2)  # of the run as a whole
        self.pairs, self.batch_size, self.world_size = pairs, batch_size, world_size
        self.batching, self.alpha, self.seed, self.epoch = batching, alpha, seed, 0
        self.language_weights, self.language_pairs, self.pair_per = language_weights, language_pairs, pair_per
        self.total_steps = total_steps
        if batch_size < 1 or world_size < 1 or seed < 0:
            raise BeirHybridError(
                f"batch size {batch_size}, world size {world_size}, seed {seed}: sizes start at 1 and a seed at 0."
            )
        self.rows = batch_size * world_size
        check_pairs(language_pairs, pair_per)
        both = (pairs.query_row >= 0) & (pairs.passage_row >= 0)
        self._shares = language_shares(language_weights, pairs.languages, both.sum(axis=0))
        self._choice = pair_choice(language_pairs, pairs.languages)
        self._able = Eligibility(pairs, batch_size, world_size, self._choice, whole=pair_per == "batch")
        usable = self._able.usable(self.mixture, self._shares)
        # The pairs of whole batches, shape (pairs, 2), and how likely each is; none of them where rows draw their own.
        self._step_pairs, self._step_shares = self._able.step_pairs, self._able.step_shares
        self.items = int(usable.sum())
        self.steps = self.items // self.rows
        self._last: tuple[int, EpochPlan] | None = None
        self._whole: dict[int, tuple[IntArray, ...]] = {}  # counts of whole epochs, for records of long trainings

    def __len__(self) -> int:
        return self.steps * self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        plan, width = self.plan(self.epoch), len(self.pairs.languages)
        tags = _TAG[plan.kind] * (len(self.pairs) * width * width)
        for step in plan.flat + tags[:, None]:
            for rank in range(self.world_size):
                yield step[rank * self.batch_size : (rank + 1) * self.batch_size].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that of `epoch`, counted from 0."""
        self.epoch = epoch

    def decode(self, flat: npt.ArrayLike) -> tuple[IntArray, IntArray, IntArray]:
        """Items, query languages and passage languages of flat indices, each of the same shape as `flat`."""
        width = len(self.pairs.languages)
        return decode(np.asarray(flat, dtype=np.int64) % (len(self.pairs) * width * width), width)

    def composition(self, steps: int | None = None) -> dict[str, object]:
        """What the first `steps` global steps, epoch after epoch, were made of; `steps` defaults to this epoch alone.

        A JSON-able dictionary: `steps`, `rows`, `kinds` (steps of each), `languages` (X-X-mono and En-En steps of
        each), `pairs` (rows of each ordered language pair, question first), `redrawn_steps` and `reused_rows`; and
        `settings`, what was asked for: probabilities, or where they change from one step to another, how.
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
            "settings": self._settings(),
        }

    def _settings(self) -> dict[str, object]:
        codes, has = self.pairs.languages, {kind.value for kind in self.mixture}
        settings: dict[str, object] = {"kinds": {kind.value: share for kind, share in self.mixture.items()}}
        if self.end is not None:
            settings = {"alpha": {"start": self.alpha, "end": self.end, "steps": self.total_steps}}
        if "x-x-mono" in has:
            settings["languages"] = {code: float(p) for code, p in zip(codes, self._shares, strict=True) if p}
        if "x-y" in has:
            wanted = np.argwhere(self._choice.weight)
            weights = {f"{codes[q]}-{codes[p]}": float(self._choice.weight[q, p]) for q, p in wanted}
            if self.pair_per == "batch":
                shares = zip(self._step_pairs.tolist(), self._step_shares.tolist(), strict=True)
                weights = {f"{codes[q]}-{codes[p]}": share for (q, p), share in shares}
            settings["pair_per"] = self.pair_per
            settings["pairs"] = "all" if self._choice.plain and self.pair_per == "row" else weights
        return settings

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
        kind, width = self._draw_kinds(epoch), len(self.pairs.languages)
        # The streams: X-X-mono in each language, En-En, X-X, X-Y (one, or one a pair). Of each the languages of its
        # questions and passages, -1 where they are drawn for each row.
        english = self.pairs.languages.index("en") if BatchKind.EN_EN in self.mixture else -1
        whole = self.pair_per == "batch" and BatchKind.X_Y in self.mixture
        x_x, x_y = width + 1, width + 2
        fixed = self._step_pairs if whole else np.array([[-1, -1]])
        ends = np.concatenate([np.repeat(np.arange(width), 2).reshape(-1, 2), [[english] * 2, [-1, -1]], fixed])
        none = np.zeros(len(self.pairs), dtype=bool)
        both = self._able.both
        eligible = [*both.T, both[:, english] if english >= 0 else none, both.any(axis=1)]
        eligible += [self._able.having(q, p) for q, p in fixed] if whole else [self._able.crossing]

        random = self._random(epoch, _LANGUAGES)
        drawn = np.full(self.steps, -1, dtype=np.int64)
        mono, crossing = kind == _NUMBER[BatchKind.X_X_MONO], kind == _NUMBER[BatchKind.X_Y]
        # One draw a step whatever its kind: the languages do not depend on how the kinds fell.
        drawn[mono] = draw_weighted(self._shares, self.steps, random)[mono]
        drawn[kind == _NUMBER[BatchKind.EN_EN]] = width
        drawn[kind == _NUMBER[BatchKind.X_X]] = x_x
        drawn[crossing] = x_y
        weights = np.concatenate([self._shares, [1.0, 1.0], self._step_shares if whole else [1.0]])
        if whole:
            own = self._random(epoch, _STEP_PAIRS)
            drawn[crossing] += draw_weighted(self._step_shares, self.steps, own)[crossing]
        streams = []
        for number, mask in enumerate(eligible):
            family = FIXED
            if number < width and weights[number] > 0 and mono.any():
                family = _NUMBER[BatchKind.X_X_MONO]
            elif number >= x_y and whole:
                family = _NUMBER[BatchKind.X_Y]
            streams.append(Stream(mask, np.flatnonzero(drawn == number), family, float(weights[number])))
        items, stream = hand_out(streams, self.pairs.item_group, self.rows, self._random(epoch, _ITEMS), random)

        query, passage = (np.repeat(side[stream][:, None], self.rows, axis=1) for side in ends.T)
        random = self._random(epoch, _PAIRS)
        loose = stream == x_x
        rows = items[loose].ravel()
        query[loose] = passage[loose] = draw_true(self._able.both[rows], random).reshape(-1, self.rows)
        if not whole:
            loose = stream == x_y
            rows = items[loose].ravel()
            asks, answers = self._able.asks[rows], self._able.answers[rows]
            if self._choice.plain:
                first, second = draw_pairs(asks, answers, random)
            else:
                first, second = draw_weighted_pairs(asks, answers, self._choice.weight, random)
            query[loose], passage[loose] = first.reshape(-1, self.rows), second.reshape(-1, self.rows)
        language = np.where(stream <= width, ends[stream, 0], -1)
        return EpochPlan(kind, language, (items * width + query) * width + passage, stream != drawn)

    def _draw_kinds(self, epoch: int) -> IntArray:
        random = self._random(epoch, _KINDS)
        if self.end is not None and self.total_steps is not None:
            run = epoch * self.steps + np.arange(self.steps)
            mono = random.random(self.steps) < scheduled_alpha(self.alpha, self.end, run, self.total_steps)
            return np.where(mono, _NUMBER[BatchKind.X_X_MONO], _NUMBER[BatchKind.X_Y])
        numbers = np.array([_NUMBER[kind] for kind in self.mixture])
        return np.asarray(numbers[random.choice(len(numbers), self.steps, p=list(self.mixture.values()))])

    def _random(self, epoch: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch, stream])))


def decode(flat: npt.ArrayLike, languages: int) -> tuple[IntArray, IntArray, IntArray]:
    """Items, query languages and passage languages of flat indices over `languages` languages."""
    rest, passage = np.divmod(np.asarray(flat, dtype=np.int64), languages)
    item, query = np.divmod(rest, languages)
    return item, query, passage


def untag(flat: npt.ArrayLike, rows: int) -> tuple[list[BatchKind | None], IntArray]:
    """Drawn indices without the kind of batch that they carry, and that kind; None where the languages tell.

    There are `rows` plain indices: items x languages x languages.
    """
    tags, plain = np.divmod(np.asarray(flat, dtype=np.int64), rows)
    return [_TAGGED[tag] for tag in tags.tolist()], plain
