"""Handing out an epoch's items to its steps, so that no two rows of a step share a group. Arrays in, arrays out.

The steps of one stream (one language, or the mixed ones) take their items together: of any group at most as many items
as the stream has steps. Sorted by group and dealt round the steps like cards, they can never put two of one group into
one step. So the rule holds by construction, and nothing has to be mended afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The global steps of one epoch.

    Attributes:
        kind: Shape (steps,): the number of the BatchKind.
        language: Shape (steps,): the one language of the step, -1 where its rows differ.
        flat: Shape (steps, rows): the flat indices.
        redrawn: Shape (steps,): whether the language is not the one first drawn, for want of items.
    """

    kind: IntArray
    language: IntArray
    flat: IntArray
    redrawn: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Stream:
    """Steps that draw on the same items: `eligible` has shape (items,), `steps` names them, and where `movable` is true
    they may be given to another movable stream."""

    eligible: npt.NDArray[np.bool_]
    steps: IntArray
    movable: bool


def hand_out(
    streams: Sequence[Stream], group: IntArray, rows: int, random: np.random.Generator, redraw: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Items for every step, each used once if that can be.

    Args:
        streams: Every step is in exactly one; each has at least `rows` groups, or no steps and is not movable.
        group: Shape (items,), from 0 without gaps.
        rows: Items of one step.
        random: Draws the items.
        redraw: Draws new streams for the steps that find no unused items in their own.

    Returns:
        Items, shape (steps, rows), and the stream of each step, shape (steps,).
    """
    order = random.permutation(len(group))
    # One random order of the groups for all streams: the cards are sorted by it.
    rank = random.permutation(int(group.max()) + 1)[group]
    steps = [stream.steps for stream in streams]
    # The scarcest first, since the others have more to choose from; of equals the last in the list is the last.
    sequence = sorted(range(len(streams)), key=lambda number: int(streams[number].eligible.sum()))
    full: set[int] = set()
    while True:
        chosen, short = _attempt(streams, steps, sequence, order, group, rows)
        # A step that finds too few unused items moves to a language that still had enough. Those that did not are
        # never moved to, so this ends; when no language is left, items are used again.
        full |= {number for number, missing in short.items() if missing}
        open_to = [n for n, stream in enumerate(streams) if stream.movable and n not in full]
        moving = {number: missing for number, missing in short.items() if missing and streams[number].movable}
        if not moving or not open_to:
            break
        for number, missing in moving.items():
            targets = redraw.integers(len(open_to), size=missing)
            moved = redraw.permutation(len(steps[number]))
            gone = np.sort(steps[number][moved[:missing]])
            steps[number] = np.sort(steps[number][moved[missing:]])
            for index, target in enumerate(open_to):
                steps[target] = np.sort(np.concatenate([steps[target], gone[targets == index]]))

    total = sum(len(own) for own in steps)
    items, stream_of = np.empty((total, rows), dtype=np.int64), np.empty(total, dtype=np.int64)
    for number, own in enumerate(steps):
        if len(own):
            cards = chosen[number][np.argsort(rank[chosen[number]], kind="stable")]
            items[own] = cards.reshape(rows, len(own)).T
            stream_of[own] = number
    # Sorted cards would put early groups into the first rows, and so always onto the same process.
    return random.permuted(items, axis=1), stream_of


def _attempt(
    streams: Sequence[Stream],
    steps: Sequence[IntArray],
    sequence: Sequence[int],
    order: IntArray,
    group: IntArray,
    rows: int,
) -> tuple[dict[int, IntArray], dict[int, int]]:
    """The items of each stream, and how many of its steps could not be filled with unused ones.

    The streams come in `sequence` and take from the front of `order`; a stream that falls short is filled up with items
    used elsewhere, which is final only when its steps can move nowhere.
    """
    unused = np.ones(len(group), dtype=bool)
    chosen: dict[int, IntArray] = {}
    short: dict[int, int] = {}
    for number in sequence:
        count = len(steps[number])
        eligible = order[streams[number].eligible[order]]
        fresh = eligible[unused[eligible]]
        taken = _capped(fresh, group, count)[: count * rows]
        short[number] = 0
        if len(taken) < count * rows:
            short[number] = count - _fillable(fresh, group, count, rows)
            # Items used elsewhere first, then round after round also those of this stream, in other steps. It ends:
            # a stream has at least `rows` groups, and after `count` rounds of all its items each gives `count`.
            more = eligible[~np.isin(eligible, taken)]
            while len(taken) < count * rows:
                taken = _capped(np.concatenate([taken, more]), group, count)[: count * rows]
                more = eligible
        unused[taken] = False
        chosen[number] = taken
    return chosen, short


def _fillable(items: IntArray, group: IntArray, count: int, rows: int) -> int:
    """How many steps, at most `count`, of `rows` different groups these items can fill."""
    sizes = np.bincount(group[items])
    while count and np.minimum(sizes, count).sum() < count * rows:
        count -= 1
    return count


def _capped(items: IntArray, group: IntArray, most: int) -> IntArray:
    """The items in their order, of each group only the first `most`."""
    if not len(items):
        return items
    own = group[items]
    by_group = np.argsort(own, kind="stable")
    new = np.concatenate([[True], np.diff(own[by_group]) > 0])
    starts = np.flatnonzero(new)
    nth = np.empty(len(items), dtype=np.int64)
    nth[by_group] = np.arange(len(items)) - np.repeat(starts, np.diff(np.append(starts, len(items))))
    return items[nth < most]
