"""Parallel pairs from files of rows: item, language, query, passage.

The texts are laid out on disk once, in the cache, and mapped from there; what is held in memory is a row number for
each question and each passage of an item and language. Items and passages are told apart by 64-bit hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.storage.jsonl import id_field, read_jsonl, text_field
from beir_hybrid.collections.storage.parquet import read_parquet
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import cache_root
from beir_hybrid.training.pairs import ParallelPairs

_WHAT = "pairs: item, language, query and passage in each row"
_KEYS = ("item", "language", "query", "passage")
_BATCH = 4096


class _Pair(NamedTuple):
    item: str
    language: str
    query: str
    passage: str


def read_pairs(
    paths: str | Path | Sequence[str | Path], languages: Sequence[str] | None = None, name: str | None = None
) -> ParallelPairs:
    """Read parallel pairs from JSON lines (plain or gzip) or Parquet.

    Each row has `item`, `language`, `query` and `passage`. Rows with one `item` in several languages are translations
    of each other; an item may be there in any of the languages, once in each. Items whose passages are equal in any
    language, but for the spaces around them, are one group: they are never each other's negative.

    Args:
        paths: One file or several, which together are one source.
        languages: The codes to keep, in this order; by default all, in alphabetical order.
        name: What the source is called in records; by default after the first file.

    Raises:
        BeirHybridError: a file is missing or broken, a row lacks a field, has explicit negatives (they are not
            supported here) or repeats an item and language; a language that is not there. Says file and row.
    """
    from beir_hybrid.collections.storage.stored import Row, open_or_build

    files = [Path(one).expanduser() for one in ([paths] if isinstance(paths, str | Path) else paths)]
    if not files:
        raise BeirHybridError("no files of pairs were named; expected one or more.")
    name = name or files[0].name.split(".")[0]

    def rows() -> Iterator[Row]:
        # Question and passage side by side: row 2 n and row 2 n + 1 of the store are the nth pair.
        for number, pair in enumerate(_records(files)):
            yield Row(f"{number}q", pair.item, pair.query, pair.language)
            yield Row(f"{number}p", "", pair.passage, pair.language)

    stored = open_or_build(_store(files), rows, f"the pairs of {name}")
    codes = sorted(stored.languages) if languages is None else list(languages)
    for code in codes:
        if code not in stored.languages:
            raise unknown(f"language in {name}:", code, stored.languages)
    # Numbers of items, and of equal passages, in one pass over the texts; neither is held.
    item, items = _numbers(stored.titles, 0, str)
    passage, _ = _numbers(stored.texts, 1, str.strip)
    column_of = np.full(len(stored.languages), -1, dtype=np.int64)
    column_of[[stored.languages.index(code) for code in codes]] = np.arange(len(codes))
    column = column_of[stored.language[::2]]
    kept = np.flatnonzero(column >= 0)
    _check_once(item[kept] * len(codes) + column[kept], kept, stored.titles, stored.language, stored.languages, name)

    numbers, dense = np.unique(item[kept], return_inverse=True)
    query_row = np.full((len(numbers), len(codes)), -1, dtype=np.int64)
    query_row[dense, column[kept]] = 2 * kept
    passage_row = np.where(query_row >= 0, query_row + 1, -1)
    return ParallelPairs(
        languages=tuple(codes),
        query_texts=stored.texts,
        passage_texts=stored.texts,
        query_row=query_row,
        passage_row=passage_row,
        item_group=_groups(item, passage, items)[numbers],
        source=name,
        digest=stored.digest,
    ).renumbered()


def _records(files: Sequence[Path]) -> Iterator[_Pair]:
    for path in files:
        parquet = path.suffix == ".parquet"
        rows = read_parquet(path, _WHAT, (*_KEYS, "negatives")) if parquet else read_jsonl(path, _WHAT)
        place = f"{path}, {'row' if parquet else 'line'} "
        for number, record in rows:
            where = f"{place}{number}"
            if record.get("negatives"):
                raise BeirHybridError(f"{where}: explicit negatives are not supported in files of pairs; drop them.")
            item = id_field(record, ("item",), where)
            texts = [text_field(record, key, where) for key in _KEYS[1:]]
            for key, text in zip(_KEYS[1:], texts, strict=True):
                if not text.strip():
                    raise BeirHybridError(f"{where}: {key!r} is empty; expected {_WHAT}.")
            yield _Pair(item, *texts)


def _store(files: Sequence[Path]) -> Path:
    """Where the texts of these files are laid out; the name changes with the files."""
    try:
        states = [(path.resolve(), path.stat()) for path in files]
    except OSError as error:
        raise BeirHybridError(f"{error.filename}: cannot be read ({error.strerror}); expected {_WHAT}.") from None
    known = [(str(path), one.st_size, one.st_mtime_ns, one.st_ctime_ns) for path, one in states]
    digest = hashlib.sha256(json.dumps(["pairs", known]).encode("utf-8", "surrogatepass")).hexdigest()
    return cache_root() / "texts" / f"pairs-{digest[:24]}"


def _numbers(values: Sequence[str], first: int, form: Callable[[str], str]) -> tuple[IntArray, int]:
    """A number for every second text from the `first`, equal where their forms are, and how many there are."""
    part = slice(first, None, 2)
    hashes = np.empty(len(range(len(values))[part]), dtype="<u8")
    done = 0
    for start in range(0, len(values), 2 * _BATCH):  # an even start, so that the part begins anew in each block
        some = list(values[start : start + 2 * _BATCH])[part]
        found = [hashlib.blake2b(form(one).encode(), digest_size=8).digest() for one in some]
        hashes[done : done + len(found)] = np.frombuffer(b"".join(found), "<u8")
        done += len(found)
    known, numbers = np.unique(hashes, return_inverse=True)
    return numbers.astype(np.int64), len(known)


def _groups(item: IntArray, passage: IntArray, items: int) -> IntArray:
    """Shape (items,): connected items, through equal passages in any language."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = items + int(passage.max()) + 1
    links = coo_array((np.ones(len(item), dtype=np.int8), (item, items + passage)), shape=(nodes, nodes))
    groups: IntArray = connected_components(links, directed=False)[1][:items].astype(np.int64)
    return groups


def _check_once(
    cell: IntArray,
    rows: IntArray,
    items: Sequence[str],
    language: npt.NDArray[np.int16],
    languages: Sequence[str],
    name: str,
) -> None:
    """Refuse an item that is there twice in one language."""
    order = np.argsort(cell, kind="stable")
    again = np.flatnonzero(np.diff(cell[order]) == 0)
    if len(again):
        row = int(rows[order[again[0] + 1]])
        raise BeirHybridError(
            f"{name}: the item {items[2 * row]!r} is there twice in {languages[language[2 * row]]} (again in row "
            f"{row + 1}); an item has one question and one passage in a language."
        )
