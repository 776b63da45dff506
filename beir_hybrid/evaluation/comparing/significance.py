"""Is the difference of two systems more than chance? Paired tests on the same questions, corrected for their number.

**Pairs.** Two systems answer the same questions, so the differences question by question are tested. The default is the
randomisation test of Smucker, Allan and Carterette (A comparison of statistical significance tests for information
retrieval evaluation, CIKM 2007): if the systems were alike, each difference would as well have the other sign, so the
observed mean is compared with the means under random signs. It assumes no distribution. The paired t-test is the other
choice.

**Items, not questions.** In a parallel collection the questions of one item are translations of each other, and a
system that finds an answer in one language tends to find it in the next. Taken for independent observations, the
average of 110 settings would seem to rest on 130,900 questions rather than on 1,190 items, and its interval would be
far too narrow. Every mean here, of one setting or an average of many, is a sum over items of what each item contributes
to it. All of an item's questions change sign together, and the bootstrap draws items. In a setting where each item asks
once, that is the ordinary test.

**Many tests.** p-values are corrected by Holm's step-down procedure (A simple sequentially rejective multiple test
procedure, 1979), which bounds the chance of even one false alarm in a family, whatever the dependence of its tests.

**Size.** With enough questions any difference is significant. Beside p stand the interval of the difference (bootstrap
over items: bias-corrected and accelerated, Efron 1987, or percentile) and the standardised mean difference of the
pairs, d_z = mean / standard deviation of the items' differences (Sakai, Laboratory Experiments in Information
Retrieval, 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.errors import BeirHybridError, unknown

Array = npt.NDArray[np.float64]
TESTS, INTERVALS = ("randomisation", "t"), ("bca", "percentile")
_BLOCK = 1000  # permutations at a time: 10 MB of signs for the 1,190 items of XQuAD-R
_EQUAL = 1e-12  # relative to the size of the sum: what rounding may make of two equal sums


@dataclass(frozen=True)
class TestSettings:
    """How differences are tested.

    Attributes:
        test: `randomisation`, or `t` for the paired t-test; both two-sided.
        permutations: Random sign vectors. All of them are taken instead where there are no more than that.
        resamples: Bootstrap samples of the interval.
        interval: `bca` or `percentile`.
        confidence: Of the interval.
    """

    __test__ = False  # pytest: not a test

    test: str = "randomisation"
    permutations: int = 10_000
    resamples: int = 10_000
    interval: str = "bca"
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.test not in TESTS:
            raise unknown("test", self.test, TESTS)
        if self.interval not in INTERVALS:
            raise unknown("interval", self.interval, INTERVALS)
        if min(self.permutations, self.resamples) < 100:
            raise BeirHybridError("fewer than 100 permutations or resamples say nothing; leave 10,000.")
        if not 0 < self.confidence < 1:
            raise BeirHybridError(f"confidence is {self.confidence}; expected a number between 0 and 1, as 0.95.")
        if self.seed < 0:
            raise BeirHybridError(f"seed is {self.seed}; expected a whole number from 0.")


@dataclass(frozen=True, eq=False)
class PairedSample:
    """The differences of two systems, by item and setting, and the means to test.

    Attributes:
        totals: Shape (items, settings): the sum of the differences of an item's questions in a setting.
        counts: Shape (items, settings): how many questions these are; 0 where the item does not ask there.
        weights: Shape (settings, means): each mean is a weighted sum of the settings' means. One setting on its own
            has a single 1; the macro average of S settings has 1/S each.
    """

    totals: Array
    counts: Array
    weights: Array

    @classmethod
    def of_questions(cls, differences: npt.ArrayLike) -> PairedSample:
        """One setting in which every question is an item of its own."""
        totals = np.asarray(differences, dtype=np.float64)[:, None]
        return cls(totals, np.ones_like(totals), np.ones((1, 1)))

    @property
    def means(self) -> Array:
        """Shape (means,): the differences that are tested."""
        result: Array = (self.totals.sum(axis=0) / self.counts.sum(axis=0)) @ self.weights
        return result

    @property
    def contributions(self) -> Array:
        """Shape (items, means): what each item adds to a mean; a column sums to the mean."""
        result: Array = (self.totals / self.counts.sum(axis=0)) @ self.weights
        return result

    @property
    def taking_part(self) -> npt.NDArray[np.bool_]:
        """Shape (items, means): whether the item asks in a setting of the mean."""
        found: npt.NDArray[np.bool_] = (self.counts @ (self.weights > 0)) > 0
        return found


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is known of each mean difference; all arrays have shape (means,).

    Attributes:
        low, high: The confidence interval.
        p: Two-sided, not corrected.
        effect: d_z; nan where all items differ by the same amount.
        wins, ties, losses: Items whose contribution is above, at and below 0.
    """

    mean: Array
    low: Array
    high: Array
    p: Array
    effect: Array
    wins: npt.NDArray[np.int64]
    ties: npt.NDArray[np.int64]
    losses: npt.NDArray[np.int64]


def paired_statistics(sample: PairedSample, settings: TestSettings | None = None) -> Statistics:
    """Test every mean of the sample against 0; the same seed gives the same numbers."""
    settings = settings or TestSettings()
    parts, there = sample.contributions, sample.taking_part
    if settings.test == "t":
        p = t_test(parts, there)
    else:
        p = randomisation_test(parts, settings.permutations, settings.seed)
    low, high = bootstrap_interval(sample, settings)
    tie = there & (np.abs(parts) <= _EQUAL * np.abs(parts).sum(axis=0))
    wins = (there & ~tie & (parts > 0)).sum(axis=0)
    losses = (there & ~tie & (parts < 0)).sum(axis=0)
    return Statistics(sample.means, low, high, p, effect_size(parts, there), wins, tie.sum(axis=0), losses)


def randomisation_test(parts: Array, permutations: int = 10_000, seed: int = 0) -> Array:
    """Two-sided p-values that a column's sum is 0 but for chance, by random signs of its rows.

    Exact where a column's 2^n sign vectors are no more than `permutations` (rows that are 0 change no sum). Else
    (1 + as extreme) / (1 + permutations), which is never 0 and counts the observed signs as one of the draws. All
    columns see the same signs, so one matrix product a block does for all of them.

    Args:
        parts: Shape (items, columns).
    """
    observed = np.abs(parts.sum(axis=0)) - _EQUAL * np.abs(parts).sum(axis=0)
    moving = (parts != 0).sum(axis=0)
    few = moving <= np.log2(permutations)
    p = np.ones(parts.shape[1])
    for column in np.flatnonzero(few & (moving > 0)):
        own = parts[parts[:, column] != 0, column]
        sums = _all_signs(len(own)) @ own
        p[column] = np.mean(np.abs(sums) >= observed[column])
    many = np.flatnonzero(~few)
    if len(many):
        generator, extreme = np.random.default_rng([seed, 0]), np.zeros(len(many))
        columns, limit = np.ascontiguousarray(parts[:, many]), observed[many]
        for size in _blocks(permutations):
            signs = generator.integers(0, 2, (size, len(parts)), dtype=np.int8).astype(np.float64) * 2 - 1
            extreme += (np.abs(signs @ columns) >= limit).sum(axis=0)
        p[many] = (extreme + 1) / (permutations + 1)
    return p


def t_test(parts: Array, there: npt.NDArray[np.bool_]) -> Array:
    """Two-sided p-values of the paired t-test on the items that take part; 1 where fewer than two do."""
    from scipy.special import stdtr

    items = there.sum(axis=0)
    effect = np.abs(effect_size(parts, there))
    effect = np.where(np.isnan(effect), np.inf, effect)  # no spread: any difference is certain
    p: Array = 2 * stdtr(np.maximum(items - 1, 1), -effect * np.sqrt(items))
    return np.where(items < 2, 1.0, p)


def effect_size(parts: Array, there: npt.NDArray[np.bool_]) -> Array:
    """d_z of each column: mean over standard deviation; 0 where all are 0, nan where there is no spread otherwise."""
    items = there.sum(axis=0)
    mean = parts.sum(axis=0) / np.maximum(items, 1)
    squares = (np.where(there, parts - mean, 0) ** 2).sum(axis=0)
    deviation = np.sqrt(squares / np.maximum(items - 1, 1))
    spread = deviation > _EQUAL * np.abs(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread, mean / deviation, np.where(mean == 0, 0.0, np.nan))


def bootstrap_interval(sample: PairedSample, settings: TestSettings) -> tuple[Array, Array]:
    """The confidence interval of each mean: items are drawn with replacement, and each setting's mean taken anew."""
    generator = np.random.default_rng([settings.seed, 1])
    items, drawn = len(sample.totals), []
    for size in _blocks(settings.resamples):
        rows = generator.integers(0, items, (size, items)) + np.arange(size)[:, None] * items
        times = np.bincount(rows.ravel(), minlength=size * items).reshape(size, items).astype(np.float64)
        drawn.append(_setting_means(times @ sample.totals, times @ sample.counts) @ sample.weights)
    means = np.concatenate(drawn)
    tail = (1 - settings.confidence) / 2
    levels = np.tile([[tail], [1 - tail]], means.shape[1])
    if settings.interval == "bca":
        levels = _bca_levels(sample, means, levels)
    low, high = (_quantiles(means, level) for level in levels)
    return low, high


def _setting_means(totals: Array, counts: Array) -> Array:
    """Where no question of a setting was drawn its mean is unknown, and with it the averages that need it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(counts > 0, totals / counts, np.nan)


def _bca_levels(sample: PairedSample, means: Array, levels: Array) -> Array:
    """The levels of Efron's interval: shifted by the samples' bias and by the skew that leaving one item out shows."""
    from scipy.special import ndtr, ndtri

    observed = sample.means
    below = ((means < observed) + 0.5 * (means == observed)).sum(axis=0) / np.isfinite(means).sum(axis=0)
    bias = ndtri(below)
    left_out = _setting_means(sample.totals.sum(axis=0) - sample.totals, sample.counts.sum(axis=0) - sample.counts)
    away = np.where(sample.taking_part, np.nan_to_num(observed - left_out @ sample.weights), 0)
    away = away - away.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = (away**3).sum(axis=0) / (6 * (away**2).sum(axis=0) ** 1.5)
        shifted = bias + ndtri(levels)
        adjusted = ndtr(bias + shifted / (1 - skew * shifted))
    return np.where(np.isfinite(adjusted), adjusted, levels)  # no spread: the percentile interval is a point


def _quantiles(values: Array, levels: Array) -> Array:
    """One quantile of each column, each at its own level."""
    ordered = np.sort(values, axis=0)  # nan last
    last = np.isfinite(ordered).sum(axis=0) - 1
    place = levels * np.maximum(last, 0)
    below = np.floor(place).astype(np.int64)
    columns = np.arange(values.shape[1])
    low, high = ordered[below, columns], ordered[np.minimum(below + 1, np.maximum(last, 0)), columns]
    result: Array = low + (place - below) * (high - low)
    return result


def holm(p: npt.ArrayLike) -> Array:
    """Holm's corrected p-values of one family, in the order given."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(steps, 1)
    return corrected


def _all_signs(count: int) -> Array:
    """Shape (2^count, count): every vector of signs."""
    bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    return bits.astype(np.float64) * 2 - 1


def _blocks(total: int) -> Iterator[Any]:
    for start in range(0, total, _BLOCK):
        yield min(_BLOCK, total - start)
