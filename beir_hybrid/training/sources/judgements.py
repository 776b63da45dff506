"""Which document answers which question and which does not, from judgements that may be many more than memory holds.

What is held for a row is numbers; the ids that they stand for are held once each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

_Ints = npt.NDArray[np.int64]
_BLOCK = 2**18


@dataclass(frozen=True, eq=False)
class Judgements:
    """Questions with one of their positives each, in order of first appearance.

    Attributes:
        queries, documents: Ids by number.
        query, positive: Shape (pairs,), their numbers.
        start, negative: The negatives of pair i are `negative[start[i] : start[i + 1]]`.
    """

    queries: list[str]
    documents: list[str]
    query: _Ints
    positive: _Ints
    start: _Ints
    negative: _Ints

    def __len__(self) -> int:
        return len(self.query)


def from_triples(triples: Iterable[tuple[str, str, str]], most: int) -> Judgements:
    """Of question, positive and negative; the first `most` different negatives of each question and positive."""
    queries, documents = dict[str, int](), dict[str, int]()
    kept = np.empty((0, 3), dtype=np.int64)
    waiting: list[npt.NDArray[np.int64]] = []
    pending = 0
    for block in _blocks(triples, queries, documents):
        waiting.append(block)
        pending += len(block)
        # What is kept is looked through again when as much has come to it: a few times, whatever there is.
        if pending > max(len(kept), 8 * _BLOCK):
            kept, waiting, pending = _first_of_pair(np.concatenate([kept, *waiting]), most), [], 0
    kept = _first_of_pair(np.concatenate([kept, *waiting]), most)
    _, first, pair = np.unique(kept[:, 0] << 32 | kept[:, 1], return_index=True, return_inverse=True)
    order = np.argsort(first)  # of pairs, by first appearance
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    by_pair = np.argsort(rank[pair], kind="stable")
    counts = np.bincount(rank[pair], minlength=len(order)) if most else np.zeros(len(order), dtype=np.int64)
    return Judgements(
        queries=list(queries),
        documents=list(documents),
        query=kept[first[order], 0],
        positive=kept[first[order], 1],
        start=np.append(0, np.cumsum(counts)),
        negative=kept[by_pair, 2] if most else np.empty(0, dtype=np.int64),
    )


def from_qrels(qrels: Iterable[tuple[str, str, int]], most: int) -> Judgements:
    """Of question, document and relevance; the first `most` that are not relevant serve all positives of a question."""
    queries, documents = dict[str, int](), dict[str, int]()
    numbers = (
        (queries.setdefault(query, len(queries)), documents.setdefault(document, len(documents)), relevance > 0)
        for query, document, relevance in qrels
    )
    rows = np.fromiter(chain.from_iterable(numbers), np.int64).reshape(-1, 3)
    key = rows[:, 0] << 32 | rows[:, 1]
    good = rows[:, 2] > 0
    _, first = np.unique(key[good], return_index=True)
    positives = rows[good][np.sort(first)]
    bad = np.flatnonzero(~good & ~np.isin(key, key[good]))
    _, first = np.unique(key[bad], return_index=True)
    negatives = rows[bad[np.sort(first)]]
    negatives = negatives[np.argsort(negatives[:, 0], kind="stable")]
    counts = np.bincount(negatives[:, 0], minlength=len(queries))
    begin = (np.cumsum(counts) - counts)[positives[:, 0]]
    taken = np.minimum(counts, most)[positives[:, 0]]
    start = np.append(0, np.cumsum(taken))
    places = np.repeat(begin - start[:-1], taken) + np.arange(start[-1])
    return Judgements(list(queries), list(documents), positives[:, 0], positives[:, 1], start, negatives[places, 1])


def _blocks(
    triples: Iterable[tuple[str, str, str]], queries: dict[str, int], documents: dict[str, int]
) -> Iterator[npt.NDArray[np.int64]]:
    """Shape (rows, 3): the numbers of question, positive and negative, some rows at a time."""
    rows = iter(triples)
    while block := list(islice(rows, _BLOCK)):
        found = np.empty((len(block), 3), dtype=np.int64)
        asked, positive, negative = zip(*block, strict=True)
        found[:, 0] = [queries.setdefault(one, len(queries)) for one in asked]
        found[:, 1] = [documents.setdefault(one, len(documents)) for one in positive]
        found[:, 2] = [documents.setdefault(one, len(documents)) for one in negative]
        yield found


def _first_of_pair(rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """The first `most` rows of each question and positive with different negatives, at least one, in their order."""
    if not len(rows):
        return rows
    pair = np.unique(rows[:, 0] << 32 | rows[:, 1], return_inverse=True)[1]
    _, first = np.unique(pair << 32 | rows[:, 2], return_index=True)
    first = np.sort(first)
    pair = pair[first]
    order = np.argsort(pair, kind="stable")
    begins = np.flatnonzero(np.append(True, np.diff(pair[order]) != 0))
    place = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    return rows[first[np.sort(order[place < max(most, 1)])]]
