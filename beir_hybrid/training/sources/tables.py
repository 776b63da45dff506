"""From hashes to numbers: items and their tables, their groups, and the negatives beside them.

All of it is arithmetic on arrays that are as long as there are pairs; those that are written are mapped, not held.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.storage.stored import mapped
from beir_hybrid.training.sources.laying import SCRATCH, scratch

Ints = npt.NDArray[Any]
Order = npt.NDArray[np.int64]
_BLOCK = 2**20


class Repeated(Exception):
    """An item is there twice in one language, again in pair `row`."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


def write_tables(folder: Path, column: npt.NDArray[np.int64], texts: int, negatives: int) -> int:
    """Write the tables of what `write_texts` has left in `folder`; how many items there are.

    Args:
        column: For each language, as it is numbered there, its column in the tables.
        texts, negatives: How many rows of texts, and how many negatives there are.

    Raises:
        Repeated: an item is there twice in a language.
    """
    item, items = numbered(_all(folder, "item"))
    cell = item.astype(np.int64) * len(column) + column[_all(folder, "language")]
    for name in ("query_row", "passage_row"):
        rows = _mapped(folder, name)
        table = _new(folder / name, small(texts), items * len(column))
        table[:] = -1
        for part in _blocks(len(cell)):
            table[cell[part]] = rows[part]
        _check_once(cell, table)

    asked = _all(folder, "question")
    by_question = np.flatnonzero(asked)
    by_question = by_question[np.argsort(asked[by_question])]
    same_question = _neighbours(asked[by_question], item[by_question])
    del asked, by_question
    passage = _all(folder, "passage")
    by_passage = np.argsort(passage)
    passage, item = passage[by_passage], item[by_passage]  # from here on in the order of the hashes
    del by_passage
    same_passage = _neighbours(passage, item)
    one, other = (np.append(*sides) for sides in zip(same_question, same_passage, strict=True))
    group = groups(items, one, other).astype(small(items))
    group.tofile(folder / "item_group")
    if negatives:
        start = _start(folder, cell, items * len(column))
        _write_negatives(folder, cell, start, small(texts), (passage, item, group))
    return items


def small(count: int) -> npt.DTypeLike:
    """The dtype for numbers below `count` and -1."""
    return "<i4" if count < 2**31 else "<i8"


def numbered(hashes: npt.NDArray[np.uint64]) -> tuple[Ints, int]:
    """Numbers in order of first appearance, equal where the hashes are, and how many there are."""
    if not len(hashes):
        return np.empty(0, dtype=np.int32), 0
    # Rows of one item mostly stand together: a run of them is sorted once.
    heads = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1]))
    distinct = hashes[heads]
    order = np.argsort(distinct)
    distinct = distinct[order]
    starts = np.flatnonzero(np.append(True, distinct[1:] != distinct[:-1]))
    del distinct
    first = np.minimum.reduceat(order, starts)
    rank = np.empty(len(starts), dtype=small(len(starts)))
    rank[np.argsort(first)] = np.arange(len(starts))
    numbers = np.empty(len(heads), dtype=rank.dtype)
    numbers[order] = np.repeat(rank, np.diff(np.append(starts, len(heads))))
    return np.repeat(numbers, np.diff(np.append(heads, len(hashes)))), len(starts)


def groups(items: int, one: Ints, other: Ints) -> Ints:
    """Shape (items,): connected items, given the links between them; numbered in order of first appearance."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(one):
        return np.arange(items)
    links = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(items, items))
    return from_first(connected_components(links, directed=False)[1])


def from_first(labels: Ints) -> Ints:
    """The labels as numbers from 0 without gaps, in order of first appearance."""
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[numbers]


def spread(starts: Ints, counts: Ints) -> Order:
    """The numbers from `starts[i]` on, `counts[i]` of them, one i after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    found: Order = np.repeat(starts - (ends - counts), counts) + np.arange(total)
    return found


def _neighbours(hashes: npt.NDArray[np.uint64], item: Ints) -> tuple[Ints, Ints]:
    """Links between different items with equal hashes, which stand side by side."""
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    one, other = item[same], item[same + 1]
    apart = one != other
    return one[apart], other[apart]


def _check_once(cell: Ints, table: Ints) -> None:
    """Refuse an item that is there twice in one language: the table has a place for each pair."""
    if sum(int(np.count_nonzero(table[part] >= 0)) for part in _blocks(len(table))) < len(cell):
        order = np.argsort(cell, kind="stable")
        again = order[1:][cell[order[1:]] == cell[order[:-1]]]
        raise Repeated(int(again.min()))


def _start(folder: Path, cell: Ints, cells: int) -> Ints:
    """Where the negatives of each cell begin, and where the last end."""
    counts = np.zeros(cells + 1, dtype=np.int64)
    counts[cell + 1] = _all(folder, "count")
    start: Ints = np.cumsum(counts, out=counts)
    start.astype("<i8", copy=False).tofile(folder / "negative_start")
    return start


def _write_negatives(
    folder: Path, cell: Ints, start: Ints, dtype: npt.DTypeLike, passages: tuple[npt.NDArray[np.uint64], Ints, Ints]
) -> None:
    """The negatives, cell by cell: their rows, and the groups of the items that they answer after all.

    Args:
        passages: The hashes of the passages, ascending; the item of each; the groups of the items.
    """
    hashes, item, group = passages
    row = _new(folder / "negative_row", dtype, int(start[-1]))
    of = _new(folder / "negative_group", group.dtype, int(start[-1]))
    count, found, rows = (_mapped(folder, name) for name in ("count", "negative", "negative_row"))
    done = 0
    for part in _blocks(len(cell)):
        counts = count[part]
        target = spread(start[cell[part]], counts)
        some = slice(done, done := done + len(target))
        row[target] = rows[some]
        place = np.minimum(np.searchsorted(hashes, found[some]), len(hashes) - 1)
        of[target] = np.where(hashes[place] == found[some], group[item[place]], -1)


def _blocks(length: int) -> Iterator[slice]:
    for first in range(0, length, _BLOCK):
        yield slice(first, min(first + _BLOCK, length))


def _all(folder: Path, name: str) -> Ints:
    return np.fromfile(scratch(folder, name), SCRATCH[name])


def _mapped(folder: Path, name: str) -> Ints:
    return mapped(scratch(folder, name), SCRATCH[name])


def _new(path: Path, dtype: npt.DTypeLike, length: int) -> Ints:
    return np.memmap(path, dtype, "w+", shape=(length,)).view(np.ndarray)
