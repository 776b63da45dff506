"""Vectors with an id for each: what an index or a file of vectors holds, and how it is laid beside a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from beir_hybrid.collections.texts import IntArray, Texts
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.errors import BeirHybridError

_NAMED = 5
_NEARLY_ONE = 1e-5


@dataclass(frozen=True, eq=False)
class KeyedVectors:
    """Vectors by row, and the id of each row.

    Attributes:
        vectors: Shape (rows, dimension); read where they are asked for.
        ids: One for each row; they all differ.
        prefixed: Whether the language stands before an id (`en:12`), as where several languages have the same ids.
        source: Where they are, for errors.
        metric: What the index compares by: the inner product, or the Euclidean distance.
        about: What is known of them, for results: layout, digests, and the manifest of an index of ours.
        note: What has to be said beside their figures: that they are approximate. Empty where they are as encoded.
    """

    vectors: EmbeddingStore
    ids: Sequence[str]
    source: str
    metric: Literal["ip", "l2"] = "ip"
    prefixed: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def __len__(self) -> int:
        return len(self.vectors)

    def rows_of(self, texts: Texts, among: Texts, languages: Sequence[str]) -> IntArray:
        """Shape (texts,): the row of each text, whatever order they are in here.

        Args:
            among: All texts that there may be vectors of.
            languages: What the numbers of the texts' languages mean.

        Raises:
            BeirHybridError: a text has no vector; there is a vector of a text that is not `among` them; an id of theirs
                means several texts.
        """
        if not (self.prefixed or texts.ids_differ):
            raise BeirHybridError(
                f"{self.source}: has vectors by id, and texts of several languages have the same id; evaluate one "
                "language at a time (--languages)."
            )
        row_of = {identifier: row for row, identifier in enumerate(self.ids)}
        names = self._names(texts, languages)
        rows = np.fromiter((row_of.pop(name, -1) for name in names), np.int64, len(names))
        if lacking := np.flatnonzero(rows < 0).tolist():
            raise BeirHybridError(
                f"{self.source}: no vector for {len(lacking)} of {len(texts)} texts: "
                f"{_some([names[row] for row in lacking[:_NAMED]], len(lacking))}. It may be of another collection, or "
                f"of a part of this one; it has {_some(self.ids[:_NAMED], len(self))}."
            )
        unknown = set(row_of).difference(self._names(among, languages)) if row_of else ()
        if strange := [identifier for identifier in row_of if identifier in unknown]:
            raise BeirHybridError(
                f"{self.source}: {len(strange)} of {len(self)} vectors are of texts that the collection has not: "
                f"{_some(strange[:_NAMED], len(strange))}. Rankings of them would be others; evaluate the collection "
                "that they are of, and name settings of it (--setting) for a part."
            )
        return rows

    def _names(self, texts: Texts, languages: Sequence[str]) -> Sequence[str]:
        """What the texts are called here."""
        if not self.prefixed:
            return texts.ids
        spoken = (languages[number] for number in texts.language.tolist())
        return [f"{code}:{identifier}" for code, identifier in zip(spoken, texts.ids, strict=True)]

    def describe(self) -> dict[str, Any]:
        """What a result must carry about its vectors."""
        return {"from": self.source, **self.about, **({"note": self.note} if self.note else {})}

    @property
    def score_function(self) -> str:
        """What ranks these vectors as their index does: `cos_sim` where all have length 1, else `dot`.

        Reads them all, a block at a time.

        Raises:
            BeirHybridError: a number is not finite; the index compares by distance, and the lengths differ.
        """
        if self._normalised:
            return "cos_sim"
        if self.metric == "l2":
            raise BeirHybridError(
                f"{self.source}: ranks by Euclidean distance, which for vectors of different lengths is neither the "
                "inner product nor the cosine, and no setting is evaluated by anything else. Index normalised vectors."
            )
        return "dot"

    @cached_property
    def _normalised(self) -> bool:
        normalised = True
        for start, block in self.vectors.blocks():
            with np.errstate(over="ignore", invalid="ignore"):
                lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
            if len(wrong := np.flatnonzero(~np.isfinite(lengths))):
                row = start + int(wrong[0])
                raise BeirHybridError(
                    f"{self.source}, row {row}, {self.ids[row]!r}: NaN, infinity, or a number too large for a score; "
                    "every number must be finite. Encode that text alone to see why, and write the file anew."
                )
            normalised = normalised and bool((np.abs(lengths - 1) <= _NEARLY_ONE).all())
        return normalised


def check_differ(ids: Sequence[str], place: str) -> None:
    """Refuse ids that stand twice.

    Args:
        place: Where the first id stands but for its number, which counts from 1: `docid, line`.

    Raises:
        BeirHybridError: two are the same.
    """
    if len(set(ids)) == len(ids):
        return
    first: dict[str, int] = {}
    for number, identifier in enumerate(ids, 1):
        if (earlier := first.setdefault(identifier, number)) != number:
            raise BeirHybridError(
                f"{place} {number}: the id {identifier!r} stands in {earlier} already; each vector needs its own."
            )


def _some(ids: Sequence[str], count: int) -> str:
    listed = ", ".join(repr(identifier[:60]) for identifier in ids)
    return listed + (f" and {count - len(ids)} more" if count > len(ids) else "")
