"""Which pairs share a batch: LAReQA's X-X-mono, X-Y, X-X and En-En batches, and the hybrid of the first two.

LAReQA: Roy et al. 2020, arXiv 2004.05484. Hybrid batches: arXiv 2408.10536.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.drawing import EpochDrawing
from beir_hybrid.training.eligible import Eligibility
from beir_hybrid.training.joined import JoinedPairs
from beir_hybrid.training.lengths import Measure
from beir_hybrid.training.mixing import (
    HYBRID as HYBRID,
)
from beir_hybrid.training.mixing import (
    BatchKind,
    check_pairs,
    mixture,
    pair_choice,
    shares,
)
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.planning import EpochPlan
from beir_hybrid.training.schedule import read_schedule

# What a drawn index says of its batch, by tag; with none, the languages of its rows tell X-X-mono from X-Y.
_TAGGED = (None, BatchKind.X_X, BatchKind.EN_EN)
_TAG = np.array([_TAGGED.index(kind) if kind in _TAGGED else 0 for kind in BatchKind])


class HybridBatchSampler:
    """Batches of flat indices `(item * L + query language) * L + passage language`, L languages; see `decode`.

    A global step is `world_size` consecutive batches, one a process (accelerate hands process r the batches
    i * world_size + r). It is drawn as one unit: one kind, one source, one language for X-X-mono, and no two rows whose
    items share a group, so that negatives may be gathered across processes. The same pairs meet in a step however it is
    cut.

    An epoch uses each usable item at most once and has the same length every time. Of one source: usable items // rows
    of a global step, times `world_size`; of several: as far as the first of them lasts at its share. The kinds are
    drawn independently for each step, the languages of X-X-mono by `language_weights`, and among the sources that hold
    the language (or the pairs) one by `source_weights`. Where a language, the one pair of a batch or a source runs out
    of unused items, its step moves to another; where all are out, items are used again. Both are counted in
    `composition()`. Everything is a function of (seed, epoch), and of what is given here.

    Large data are planned piece by piece while the epoch goes on, so the memory is some 15 bytes an item.

    Args:
        pairs: What to draw from: one source, or several. Item numbers run through all of them; see JoinedPairs.
        batch_size: Rows of one batch on one process.
        batching, alpha: See `mixing.mixture`.
        seed: At least 0.
        world_size: Processes that train together.
        language_weights: How X-X-mono draws its language; see `mixing.shares`.
        source_weights: How a step draws its source, in the same words: `proportional` to the items that the source has
            for such a step, `uniform`, a temperature T, or the weight of each source by its name. A source with too
            few different answers for a step of the kind and language is left out of those.
        language_pairs: The ordered (question, passage) languages of X-Y rows: `all`, `pivot:en`, or the weight of each
            pair; see `mixing.pair_choice`. Items with none of them serve for no X-Y row.
        pair_per: `row`: each row of an X-Y batch draws among the wanted pairs that its item has, by their weights.
            `batch`: all rows of a global step have one pair, drawn with probability proportional to its weight times
            the number of items that have it, which is about how often rows of their own would draw it. Pairs without
            enough different answers to fill a step are then left out, and refused where they were named.
        alpha_schedule: None; {"end": x}: the alpha of hybrid batches goes in a line from `alpha` in the first
            global step to x in the last of `total_steps`, and stays there; or `adaptive`, see AdaptiveAlpha.
        total_steps: Global steps of the run, epoch after epoch; read for a line only.
        repeat_items: Never move a step for want of unused items, use them again instead. An epoch of several sources is
            then as long as their items together, and small ones come several times.
        length_bucketing: Put rows with passages of like length into one global step: less padding, other negatives.
            Lengths are guessed from characters, or told by a function of texts, such as a count of their tokens.

    Raises:
        BeirHybridError: these batches cannot be drawn from these pairs; says why and what would do.
    """

    drop_last = True  # accelerate's BatchSamplerShard asks

    def __init__(
        self,
        pairs: ParallelPairs | JoinedPairs | Sequence[ParallelPairs],
        batch_size: int,
        batching: str | Mapping[str, float] = HYBRID,
        alpha: float = 0.5,
        seed: int = 0,
        world_size: int = 1,
        *,
        language_weights: str | float | Mapping[str, float] = "uniform",
        source_weights: str | float | Mapping[str, float] = "proportional",
        language_pairs: str | Mapping[str, float] = "all",
        pair_per: str = "row",
        alpha_schedule: str | Mapping[str, Any] | None = None,
        total_steps: int | None = None,
        repeat_items: bool = False,
        length_bucketing: bool | Measure = False,
    ) -> None:
        if batch_size < 1 or world_size < 1 or seed < 0:
            raise BeirHybridError(
                f"batch size {batch_size}, world size {world_size}, seed {seed}: sizes start at 1 and a seed at 0."
            )
        self.mixture = mixture(batching, alpha)
        self.schedule = read_schedule(alpha_schedule, batching, alpha, total_steps)
        if self.schedule is not None:
            self.mixture = mixture(batching, sum(self.schedule.alphas) / 2)  # of the run as a whole
        self.pairs = joined = JoinedPairs.of(pairs)
        self.batch_size, self.world_size, self.seed, self.epoch = batch_size, world_size, seed, 0
        self.pair_per = pair_per
        check_pairs(language_pairs, pair_per)
        width = len(joined.languages)
        items = np.array([np.count_nonzero(joined.both.has(number, slice(0, len(joined)))) for number in range(width)])
        self._shares = shares("language", language_weights, joined.languages, items)
        # A language that is only there as translations of another makes no rows of its own.
        own = {code for part in joined.parts if part.same_language for code in part.languages}
        if own and not isinstance(language_weights, Mapping):
            self._shares = np.where([code in own for code in joined.languages], self._shares, 0.0)
            self._shares /= self._shares.sum()
        self._choice = pair_choice(language_pairs, joined.languages)
        able = Eligibility(joined, batch_size, world_size, self._choice, pair_per == "batch", source_weights)
        self._drawing = EpochDrawing(
            able,
            self.mixture,
            self._shares,
            seed,
            schedule=self.schedule,
            repeat_items=repeat_items,
            length_bucketing=length_bucketing,
        )
        self.items, self.steps = self._drawing.supply.items, self._drawing.steps
        self._counted: dict[tuple[int, int], tuple[IntArray, ...]] = {}  # of whole pieces, for records

    def __len__(self) -> int:
        return self.steps * self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        epoch, width = self.epoch, len(self.pairs.languages)
        for piece in range(len(self._drawing.pieces(epoch))):
            plan = self._drawing.plan(epoch, piece)
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

    def plan(self, epoch: int) -> EpochPlan:
        """The global steps of an epoch, drawn from (seed, epoch) alone."""
        return EpochPlan.joined([self._drawing.plan(epoch, piece) for piece in range(len(self._drawing.pieces(epoch)))])

    def composition(self, steps: int | None = None) -> dict[str, object]:
        """What the first `steps` global steps, epoch after epoch, were made of; `steps` defaults to this epoch alone.

        A JSON-able dictionary: `steps`, `rows`, `kinds` (steps of each), `languages` (X-X-mono and En-En steps of
        each), `pairs` (rows of each ordered language pair, question first), `sources` (steps of each),
        `redrawn_steps` and `reused_rows`; and `settings`, what was asked for: probabilities, or where they change from
        one step to another, how.
        """
        codes = self.pairs.languages
        if steps is None:
            epochs = [(self.epoch, self.steps)]
        else:
            whole, rest = divmod(steps, self.steps)
            epochs = [(epoch, self.steps) for epoch in range(whole)] + ([(whole, rest)] if rest else [])
        totals = [counts for epoch, part in epochs for counts in self._counts(epoch, part)]
        totals = totals or [_count(self._drawing.plan(0, 0), 0, len(codes), len(self.pairs.parts))]
        kinds, languages, pairs, sources, others = (np.sum([total[i] for total in totals], axis=0) for i in range(5))
        grid = pairs.reshape(len(codes), len(codes))
        names = [part.source for part in self.pairs.parts]
        return {
            "steps": sum(part for _, part in epochs),
            "rows": int(grid.sum()),
            "kinds": {kind.value: int(n) for kind, n in zip(BatchKind, kinds, strict=True) if n},
            "languages": {code: int(n) for code, n in zip(codes, languages, strict=True) if n},
            "pairs": {f"{codes[q]}-{codes[p]}": int(grid[q, p]) for q, p in np.argwhere(grid)},
            "sources": {name: int(n) for name, n in zip(names, sources, strict=True)},
            "redrawn_steps": int(others[0]),
            "reused_rows": int(others[1]),
            "settings": self._settings(),
        }

    def _settings(self) -> dict[str, object]:
        codes, has = self.pairs.languages, {kind.value for kind in self.mixture}
        settings: dict[str, object] = {"kinds": {kind.value: share for kind, share in self.mixture.items()}}
        if self.schedule is not None:
            settings = {"alpha": self.schedule.about()}
        if "x-x-mono" in has:
            settings["languages"] = {code: float(p) for code, p in zip(codes, self._shares, strict=True) if p}
        if "x-y" in has:
            wanted = np.argwhere(self._choice.weight)
            weights = {f"{codes[q]}-{codes[p]}": float(self._choice.weight[q, p]) for q, p in wanted}
            if self.pair_per == "batch":
                crossing = [slot for slot in self._drawing.slots if slot.kind is BatchKind.X_Y]
                weights = {f"{codes[slot.query]}-{codes[slot.passage]}": slot.share for slot in crossing}
            settings["pair_per"] = self.pair_per
            settings["pairs"] = "all" if self._choice.plain and self.pair_per == "row" else weights
        if len(self.pairs.parts) > 1:
            names = [part.source for part in self.pairs.parts]
            demand = zip(names, self._drawing.supply.demand.tolist(), strict=True)
            settings["sources"] = {name: share for name, share in demand if share}
        return settings

    def _counts(self, epoch: int, steps: int) -> Iterator[tuple[IntArray, ...]]:
        """What each piece of the first `steps` of an epoch is made of. Small epochs are one piece."""
        for number, piece in enumerate(self._drawing.pieces(epoch)):
            if piece.first >= steps:
                break
            whole = piece.stop <= steps
            if not whole or (epoch, number) not in self._counted:
                plan = self._drawing.plan(epoch, number)
                counts = _count(plan, steps - piece.first, len(self.pairs.languages), len(self.pairs.parts))
                if not whole:
                    yield counts
                    break
                self._counted[epoch, number] = counts
            yield self._counted[epoch, number]


def _count(plan: EpochPlan, steps: int, width: int, sources: int) -> tuple[IntArray, ...]:
    """Steps of each kind, language, rows of each pair, steps of each source, and redrawn steps with reused rows."""
    languages = plan.language[:steps]
    return (
        np.bincount(plan.kind[:steps], minlength=len(BatchKind)),
        np.bincount(languages[languages >= 0], minlength=width),
        np.bincount((plan.flat[:steps] % (width * width)).ravel(), minlength=width * width),
        np.bincount(plan.source[:steps], minlength=sources),
        np.array([int(plan.redrawn[:steps].sum()), int(plan.reused[:steps].sum())]),
    )


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
