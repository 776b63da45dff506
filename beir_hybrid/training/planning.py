"""Handing out an epoch's items to its steps, so that no two rows of a step share a group. Arrays in, arrays out.

The steps of one stream (one language, or the mixed ones) take their items together: of any group at most as many items
as the stream has steps. Sorted by group and dealt round the steps like cards, they can never put two of one group into
one step. So the rule holds by construction, and nothing has to be mended afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.training.draws import draw_weighted, shuffled

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The global steps of one epoch.

    Attributes:
        kind: Shape (steps,): the number of the BatchKind.
        language: Shape (steps,): the one language of the step, -1 where its rows differ.
        flat: Shape (steps, rows): the flat indices.
        redrawn: Shape (steps,): whether language or source are not those first drawn, for want of items.
        source: Shape (steps,): the number of the source.
        reused: Shape (steps,): how many rows have an item that was used before in the epoch.
    """

    kind: IntArray
    language: IntArray
    flat: IntArray
    redrawn: BoolArray
    source: IntArray
    reused: IntArray

    @classmethod
    def joined(cls, plans: Sequence[EpochPlan]) -> EpochPlan:
        """Consecutive parts of an epoch as one."""
        if len(plans) == 1:
            return plans[0]
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(plan, name) for plan in plans]) for name in names})


FIXED = -1


@dataclass(frozen=True, eq=False)
class Stream:
    """Steps that draw on the same items: `eligible` has shape (items,), `steps` names them. They may be given to
    another stream of the same `family`, drawn by `weight`; those of family `FIXED` are not."""

    eligible: BoolArray
    steps: IntArray
    family: int
    weight: float = 1.0


def hand_out(
    streams: Sequence[Stream],
    group: IntArray,
    rows: int,
    random: np.random.Generator,
    redraw: np.random.Generator,
    used: BoolArray | None = None,
    length: Callable[[int, IntArray], FloatArray] | None = None,
) -> tuple[IntArray, IntArray]:
    """Items for every step, each used once if that can be.

    Args:
        streams: Every step is in exactly one; each has at least `rows` groups, or no steps.
        group: Shape (items,), small whole numbers.
        rows: Items of one step.
        random: Draws the items.
        redraw: Draws new streams for the steps that find no unused items in their own.
        used: Shape (items,): the items that are used already. Those of these steps are added.
        length: Of a stream's number and items, how long their texts are: then the rows of a step are of like length.

    Returns:
        Items, shape (steps, rows), and the stream of each step, shape (steps,).
    """
    used = np.zeros(len(group), dtype=bool) if used is None else used
    order = shuffled(len(group), random)
    # One random order of the groups for all streams: the cards are sorted by it.
    rank = shuffled(int(group.max()) + 1, random)[group]
    steps = [stream.steps for stream in streams]
    # The scarcest first, since the others have more to choose from; of equals the last in the list is the last.
    sequence = sorted(range(len(streams)), key=lambda number: int(np.count_nonzero(streams[number].eligible)))
    full: set[int] = set()
    while True:
        chosen, short = _attempt(streams, steps, sequence, order, group, rows, used)
        # A step that finds too few unused items moves to a stream of its family that still had enough. Those that did
        # not are never moved to, so this ends; when no stream is left, items are used again.
        full |= {number for number, missing in short.items() if missing}
        moving: dict[int, tuple[int, list[int]]] = {}
        for number, missing in short.items():
            family = streams[number].family
            open_to = [n for n, stream in enumerate(streams) if stream.family == family and n not in full]
            if missing and family != FIXED and open_to:
                moving[number] = missing, open_to
        if not moving:
            break
        for number, (missing, open_to) in moving.items():
            targets = draw_weighted(np.array([streams[n].weight for n in open_to]), missing, redraw)
            moved = redraw.permutation(len(steps[number]))
            gone = np.sort(steps[number][moved[:missing]])
            steps[number] = np.sort(steps[number][moved[missing:]])
            for index, target in enumerate(open_to):
                steps[target] = np.sort(np.concatenate([steps[target], gone[targets == index]]))

    total = sum(len(own) for own in steps)
    items, stream_of = np.empty((total, rows), dtype=order.dtype), np.empty(total, dtype=np.int64)
    for number, own in enumerate(steps):
        if not len(own):
            continue
        used[chosen[number]] = True
        stream_of[own] = number
        if length is None:
            items[own] = _deal(chosen[number], rank, len(own))
        else:
            by_length = np.argsort(length(number, chosen[number]), kind="stable")
            items[redraw.permutation(own)] = _deal_alike(chosen[number][by_length], group, rank, len(own))
    # Sorted cards would put early groups into the first rows, and so always onto the same process.
    return random.permuted(items, axis=1), stream_of


def _deal(cards: IntArray, rank: IntArray, steps: int) -> IntArray:
    """The cards dealt round the steps, shape (steps, rows); `rank` numbers the items by their groups."""
    # Sorting whole numbers that differ is the same everywhere, and several times faster than a stable order of equals.
    keys = rank[cards].astype(np.int64) << 32
    keys |= np.arange(len(cards))
    keys.sort()
    keys &= 0xFFFFFFFF
    return np.ascontiguousarray(cards[keys].reshape(-1, steps).T)


def _deal_alike(cards: IntArray, group: IntArray, rank: IntArray, steps: int) -> IntArray:
    """The cards, which are sorted by length, in steps of neighbours: shape (steps, rows), no group twice in a step.

    A card whose group is in its step already waits for the next one. Where the last steps find too few groups left,
    they are dealt together with as many before them as it takes.
    """
    rows = len(cards) // steps
    done: list[IntArray] = []
    waiting, place = cards[:0], 0
    for _ in range(steps):
        taken, missing = cards[:0], rows
        # Twice what is missing at a time: enough, but where many share a group.
        window = waiting
        while True:
            window = np.concatenate([window, cards[place : place + 2 * missing]])
            place = min(place + 2 * missing, len(cards))
            first = np.zeros(len(window), dtype=bool)
            first[np.unique(group[window], return_index=True)[1]] = True
            taken = np.flatnonzero(first)[:rows]
            missing = rows - len(taken)
            if not missing or place == len(cards):
                break
        if missing:
            left = window
            while True:  # it ends: no group has more cards than there are steps
                if np.bincount(group[left]).max() <= steps - len(done):
                    last = _deal(left, rank, steps - len(done))
                    return np.concatenate([*(one[None] for one in done), last])
                left = np.concatenate([done.pop(), left])
        done.append(window[taken])
        waiting = np.delete(window, taken)
    return np.stack(done)


def _attempt(
    streams: Sequence[Stream],
    steps: Sequence[IntArray],
    sequence: Sequence[int],
    order: IntArray,
    group: IntArray,
    rows: int,
    used: BoolArray,
) -> tuple[dict[int, IntArray], dict[int, int]]:
    """The items of each stream, and how many of its steps could not be filled with unused ones.

    The streams come in `sequence` and take from the front of `order`; a stream that falls short is filled up with items
    used elsewhere, which is final only when its steps can move nowhere.
    """
    left = order[~used[order]] if used.any() else order  # the unused ones, in their order
    largest = int(np.bincount(group).max())
    chosen: dict[int, IntArray] = {}
    short: dict[int, int] = {}
    for number in sequence:
        count, eligible = len(steps[number]), streams[number].eligible
        short[number] = 0
        if not count:
            continue
        if largest <= count and (parted := _part(left, eligible, count * rows)) is not None:
            chosen[number], left = parted
            continue
        fresh = left[eligible[left]]
        taken = _capped(fresh, group, count, count * rows)
        if len(taken) < count * rows:
            short[number] = count - _fillable(fresh, group, count, rows)
            # Items used elsewhere first, then round after round also those of this stream, in other steps. It ends:
            # a stream has at least `rows` groups, and after `count` rounds of all its items each gives `count`.
            # Of each round those first that were used the least.
            able = order[eligible[order]]
            more = able[~np.isin(able, taken)]
            times = np.bincount(np.concatenate([taken[:0], *chosen.values()]), minlength=len(group))
            while len(taken) < count * rows:
                more = more[np.argsort(times[more], kind="stable")]
                taken = _capped(np.concatenate([taken, more]), group, count, count * rows)
                more = able
        chosen[number] = taken
        gone = np.zeros(len(group), dtype=bool)
        gone[taken] = True
        left = left[~gone[left]]
    return chosen, short


def _part(items: IntArray, eligible: BoolArray, wanted: int) -> tuple[IntArray, IntArray] | None:
    """The first `wanted` eligible items, and all others in their order; None where there are too few."""
    size = wanted
    while size <= len(items):
        mine = eligible[items[:size]]
        if np.count_nonzero(mine) >= wanted:
            place = np.flatnonzero(mine)[:wanted]
            end = int(place[-1]) + 1
            if end == wanted:
                return items[:end], items[end:]
            return items[place], np.concatenate([items[:end][~mine[:end]], items[end:]])
        if size == len(items):
            break
        size = min(2 * size, len(items))
    return None


def _fillable(items: IntArray, group: IntArray, count: int, rows: int) -> int:
    """How many steps, at most `count`, of `rows` different groups these items can fill."""
    sizes = np.bincount(group[items])
    while count and np.minimum(sizes, count).sum() < count * rows:
        count -= 1
    return count


def _capped(items: IntArray, group: IntArray, most: int, wanted: int) -> IntArray:
    """The first `wanted` items, passing over those whose group is there `most` times already."""
    head = items[:wanted]
    if not len(head) or np.bincount(group[head]).max() <= most:  # as a rule; what follows takes a sort of all items
        return head
    own = group[items]
    by_group = np.argsort(own, kind="stable")
    new = np.concatenate([[True], np.diff(own[by_group]) > 0])
    starts = np.flatnonzero(new)
    nth = np.empty(len(items), dtype=np.int64)
    nth[by_group] = np.arange(len(items)) - np.repeat(starts, np.diff(np.append(starts, len(items))))
    return items[nth < most][:wanted]
