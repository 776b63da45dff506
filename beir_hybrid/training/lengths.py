"""How long the passages of an item are, so that rows of like length can share a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.lazy import take
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.training.joined import JoinedPairs
from beir_hybrid.training.pairs import ParallelPairs

FloatArray = npt.NDArray[np.float64]
Measure = Callable[[Sequence[str]], IntArray]
"""How long each of some texts is, such as its tokens; shape (texts,)."""


class PassageLengths:
    """Lengths of passages by item and language. Holds four bytes a text.

    Where there is no measure, characters count, relative to the mean of their language: a translation is about as long
    as its original in tokens, while its characters may be twice as many.

    Args:
        pairs: What is measured; every text is read once.
        measure: What tells lengths that can be compared between languages.
    """

    def __init__(self, pairs: JoinedPairs, measure: Measure | None = None) -> None:
        self._pairs = pairs
        self._mean = np.ones((len(pairs.parts), len(pairs.languages)))
        if measure is not None:
            self._of_text = [_measured(part, measure) for part in pairs.parts]
            return
        self._of_text = [np.fromiter(map(len, part.passage_texts), dtype=np.int32) for part in pairs.parts]
        for source in range(len(pairs.parts)):
            own = pairs.items_of(source)
            some = np.arange(own.start, own.stop)[:: max(1, (own.stop - own.start) // 100_000)]
            for language in range(len(pairs.languages)):
                rows = pairs.passage_rows(source, some, language)
                if (rows >= 0).any():
                    self._mean[source, language] = max(1.0, float(self._of_text[source][rows[rows >= 0]].mean()))

    def of(self, items: IntArray, language: int) -> FloatArray:
        """The length of each item's passage in a language, which it has."""
        found, source_of = np.zeros(len(items)), self._pairs.source_of(items)
        for source in np.unique(source_of).tolist():
            mine = source_of == source
            rows = self._pairs.passage_rows(source, items[mine], language)
            found[mine] = self._of_text[source][rows] / self._mean[source, language]
        return found


def _measured(part: ParallelPairs, measure: Measure) -> npt.NDArray[np.int32]:
    rows = np.unique(part.passage_row[part.passage_row >= 0])
    lengths = np.zeros(len(part.passage_texts), dtype=np.int32)
    lengths[rows] = measure(take(part.passage_texts, rows))
    return lengths
