"""Random choices, a whole array at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray


def index_type(count: int) -> type[np.signedinteger]:
    """The smallest type that numbers so many things."""
    return np.int32 if count < 2**31 else np.int64


def shuffled(count: int, random: np.random.Generator) -> IntArray:
    """The numbers below `count` in a random order: the one of `random.permutation`, in half the memory."""
    order = np.arange(count, dtype=index_type(count))
    random.shuffle(order)
    return order


def draw_weighted(weights: npt.NDArray[np.float64], size: int, random: np.random.Generator) -> IntArray:
    """Numbers of `weights`, each drawn in proportion to its weight, shape (size,)."""
    if (weights == weights[0]).all():
        return random.integers(len(weights), size=size)
    return random.choice(len(weights), size, p=weights / weights.sum())


def draw_true(mask: npt.NDArray[np.bool_], random: np.random.Generator) -> IntArray:
    """For each row of `mask`, shape (rows, n), the index of one true entry, uniformly."""
    return _draw_by_count(np.ascontiguousarray(mask.T), random)


def _draw_by_count(counts: npt.NDArray[Any], random: np.random.Generator) -> IntArray:
    """For each column of `counts`, shape (n, columns), an index in proportion to its count."""
    # The tables are long and narrow: row after row of a narrow one would take several times as long.
    points = random.integers(counts.sum(axis=0, dtype=np.int64)).astype(np.int32)
    drawn, ends = np.zeros(len(points), dtype=np.int16), np.zeros(len(points), dtype=np.int32)
    for count in counts:
        ends += count
        drawn += ends <= points
    return drawn.astype(np.int64)


def draw_pairs(
    asks: npt.NDArray[np.bool_], answers: npt.NDArray[np.bool_], random: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """For each row, one of its ordered pairs of different languages, uniformly.

    Both masks have shape (rows, languages). A question language counts as often as it has passages in other languages.
    """
    asked, answered = (side.T.copy() for side in (asks, answers))
    partners = answered.sum(axis=0, dtype=np.int32) - answered
    partners *= asked
    query = _draw_by_count(partners, random)
    answered[query, np.arange(len(query))] = False
    return query, _draw_by_count(answered, random)


def draw_any_pairs(rows: int, languages: int, random: np.random.Generator) -> tuple[IntArray, IntArray]:
    """As `draw_pairs`, where everything is translated: the same draws, without the tables."""
    others = languages - 1
    query = random.integers(others * languages, size=rows) // others
    passage = random.integers(others, size=rows)
    return query, passage + (passage >= query)


def draw_weighted_pairs(
    asks: npt.NDArray[np.bool_],
    answers: npt.NDArray[np.bool_],
    weight: npt.NDArray[np.float64],
    random: np.random.Generator,
) -> tuple[IntArray, IntArray]:
    """As `draw_pairs`, each pair in proportion to its `weight`, shape (languages, languages), and 0 for those unwanted.

    Every row has a pair whose weight is not 0.
    """
    first, second = np.nonzero(weight)
    drawn = np.empty(len(asks), dtype=np.int64)
    shares = random.random(len(asks))
    for start in range(0, len(asks), 1 << 16):  # rows x pairs numbers at a time
        part = slice(start, start + (1 << 16))
        ends = np.cumsum(asks[part][:, first] * answers[part][:, second] * weight[first, second], axis=1)
        # Below the last end even where the product is rounded up, or no pair would be left to draw.
        point = np.minimum(shares[part] * ends[:, -1], np.nextafter(ends[:, -1], 0))
        drawn[part] = (ends <= point[:, None]).sum(axis=1)
    return first[drawn], second[drawn]
