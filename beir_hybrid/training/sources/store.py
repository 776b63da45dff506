"""Parallel pairs on disk: laid out once from rows, in the cache, and mapped from there ever after.

A store is a folder: `texts.arrow` has every text by row, `query_row` and `passage_row` the rows of the question and the
passage of each item and language, `item_group` the group of each item, the files `negative_*` what `Negatives` holds,
and `store.json` says what there should be. Opening it reads the latter alone. Items, passages and negatives are told
apart by 64-bit hashes while it is made: among a thousand million texts two may be taken for one with a chance of 3 %.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from beir_hybrid.collections.storage.stored import Column, Table, mapped, open_or_make
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import cache_root, read_json
from beir_hybrid.training.pairs import Negatives, ParallelPairs
from beir_hybrid.training.sources.choosing import chosen
from beir_hybrid.training.sources.laying import SCHEMA, SCRATCH, TEXTS, Part, scratch, write_texts
from beir_hybrid.training.sources.row import PairRow
from beir_hybrid.training.sources.tables import Repeated, small, write_tables

__all__ = ["PairRow", "Part", "Source", "open_pairs"]

VERSION = 1
MANIFEST = "store.json"
_ARRAYS = ("query_row", "passage_row", "item_group")
_NEGATIVES = ("negative_start", "negative_row", "negative_group")
FILES = {MANIFEST, TEXTS, *_ARRAYS, *_NEGATIVES}


@dataclass(frozen=True)
class Source:
    """What pairs are read from.

    Attributes:
        name: What it is called in records and errors.
        identity: All that the rows depend on, as values that JSON has: the store is found again by them.
        parts: The rows; called only where there is no store yet.
        same_language: As in `ParallelPairs`.
    """

    name: str
    identity: Sequence[object]
    parts: Callable[[], Iterable[Part]]
    same_language: bool = True


def open_pairs(source: Source, languages: Sequence[str] | None = None) -> ParallelPairs:
    """The pairs of a source, laid out first where they are not yet; two processes do not do so at once.

    Args:
        languages: The codes to keep, in this order; by default all, in alphabetical order. Those are mapped as they
            are, any others are a copy of their columns, in memory.

    Raises:
        BeirHybridError: a row is not a pair, an item is there twice in a language, there are no rows, the cache cannot
            be written; a language that is not there, or no item left.
    """
    identity = json.dumps(source.identity, default=str).encode("utf-8", "surrogatepass")
    folder = cache_root() / "texts" / f"pairs-{hashlib.sha256(identity).hexdigest()[:24]}"
    what = f"the pairs of {source.name}"
    pairs = open_or_make(folder, partial(_opened, source), partial(_make, source, what), FILES, what)
    return chosen(pairs, languages)


def _make(source: Source, what: str, folder: Path) -> None:
    laid = write_texts(folder, source.parts(), what)
    languages = sorted(laid.languages)
    column = np.array([languages.index(code) for code in laid.languages], dtype=np.int64)
    try:
        items = write_tables(folder, column, laid.starts[-1], laid.negatives)
    except Repeated as repeated:
        _refuse_repeated(source, repeated.row, laid.place(repeated.row))
    for name in SCRATCH:
        scratch(folder, name).unlink()
    manifest = {
        "version": VERSION,
        "digest": laid.digest,
        "languages": languages,
        "items": items,
        "texts": laid.starts[-1],
        "bytes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        "starts": laid.starts,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False) + "\n", encoding="utf-8")


def _refuse_repeated(source: Source, row: int, place: tuple[str, int]) -> None:
    """The error for an item that is there twice in a language; its id is not stored, so the rows are read again."""
    again = next(one for number, one in enumerate(one for part in source.parts() for one in part.rows) if number == row)
    name, number = place
    raise BeirHybridError(
        f"{name}: the item {again.item!r} is there twice in {again.language} (again in row {number}); an item has one "
        "question and one passage in a language. Give the second another item, or leave it out."
    )


def _opened(source: Source, folder: Path) -> ParallelPairs | None:
    """The pairs in `folder`; None where there are none, or not whole ones of this version."""
    try:
        manifest = read_json(folder / MANIFEST, "the manifest of a store of pairs")
        sizes = {name: (folder / name).stat().st_size for name in manifest["bytes"]}
        if manifest["version"] != VERSION or manifest["bytes"] != sizes or not set(_ARRAYS) | {TEXTS} <= set(sizes):
            return None
        texts = Column(Table(folder / TEXTS, manifest["starts"], SCHEMA), "text")
        rows, groups = str(small(manifest["texts"])), str(small(manifest["items"]))
        languages = tuple(manifest["languages"])
        shape = (manifest["items"], len(languages))
        arrays = {
            name: mapped(folder / name, dtype)
            for name, dtype in zip((*_ARRAYS, *_NEGATIVES), (rows, rows, groups, "<i8", rows, groups), strict=True)
            if name in sizes
        }
        negatives = Negatives(texts, *(arrays[name] for name in _NEGATIVES)) if set(_NEGATIVES) <= set(arrays) else None
        return ParallelPairs(
            languages=languages,
            query_texts=texts,
            passage_texts=texts,
            query_row=arrays["query_row"].reshape(shape),
            passage_row=arrays["passage_row"].reshape(shape),
            item_group=arrays["item_group"],
            source=source.name,
            digest=manifest["digest"],
            negatives=negatives,
            same_language=source.same_language,
        )
    except (BeirHybridError, OSError, LookupError, TypeError, ValueError, pa.ArrowException):
        return None
