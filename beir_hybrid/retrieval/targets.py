"""The relevant passages as targets: their scores, and rectangles to count in what goes ahead of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.retrieval.products import products
from beir_hybrid.retrieval.vectors import FloatArray, Vectors

QUERIES_AT_ONCE = 1024
_TARGET_QUERIES_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Tally:
    """Some queries with their relevant passages, and how many passages were seen to go ahead of each.

    Rectangles have a column for each query, and a row for its nth relevant passage; queries with many stand first.
    """

    query: IntArray
    own: IntArray  # the passage that the query itself is; -1 where there is none
    widths: list[int]  # how many queries have an nth relevant passage
    pair: IntArray  # rectangle: the number of the pair; -1 fills
    passage: IntArray  # rectangle
    language: IntArray  # rectangle: the passage's
    score: FloatArray  # rectangle: NaN fills, and compares as nothing
    target: FloatArray  # rectangle: the score, and minus infinity where the passage is the query itself
    in_language: IntArray  # rectangle: how many go ahead of it
    in_pool: IntArray  # rectangle


def target_scores(asked: Vectors, found: Vectors, first: IntArray, collection: MultilingualCollection) -> FloatArray:
    """The score of each pair of the collection's relevant passages."""
    relevant = collection.relevant
    scores = np.empty(len(relevant.passages), dtype=np.float32)
    some = np.flatnonzero(np.diff(relevant.start))
    # Translations have the same relevant passages: side by side, these are read and scored together.
    some = some[np.argsort(relevant.passages[relevant.start[some]], kind="stable")]
    for start in range(0, len(some), _TARGET_QUERIES_AT_ONCE):
        queries = some[start : start + _TARGET_QUERIES_AT_ONCE]
        theirs = relevant.of_queries(queries)
        rows, column = np.unique(first[theirs.passages], return_inverse=True)
        products_ = products(asked.rows(queries), found.rows(rows), np.empty(0, dtype=np.float32), True)
        counts = np.diff(theirs.start)
        pairs = np.arange(theirs.start[-1]) + np.repeat(relevant.start[queries] - theirs.start[:-1], counts)
        scores[pairs] = products_[theirs.queries, column]
    return scores


def tallies(collection: MultilingualCollection, scores: FloatArray) -> Iterator[Tally]:
    """The queries that have relevant passages, those with many first, and the pairs' scores; nothing counted yet."""
    relevant = collection.relevant
    counts = np.diff(relevant.start)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    for start in range(0, len(order), QUERIES_AT_ONCE):
        query = order[start : start + QUERIES_AT_ONCE]
        widths = [int(np.count_nonzero(counts[query] > nth)) for nth in range(int(counts[query[0]]))]
        pair = np.full((len(widths), len(query)), -1, dtype=np.int64)
        for nth, width in enumerate(widths):
            pair[nth, :width] = relevant.start[query[:width]] + nth
        passage = np.where(pair >= 0, relevant.passages[pair], -1)
        score = np.where(pair >= 0, scores[pair], np.float32(np.nan))
        own = np.full(len(query), -1, dtype=np.int64)
        if collection.same_ids:  # as BEIR has it, no question finds the passage that it is
            rows = [collection.passages.find(collection.queries.ids[row]) for row in query.tolist()]
            own[:] = [-1 if row is None else row for row in rows]
        target = np.where((passage == own) & (pair >= 0), np.float32(-np.inf), score)
        language = collection.passages.language[passage].astype(np.int64)
        yield Tally(
            query, own, widths, pair, passage, language, score, target, np.zeros_like(pair), np.zeros_like(pair)
        )
