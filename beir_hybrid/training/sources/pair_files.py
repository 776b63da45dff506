"""Parallel pairs from files of rows: item, language, query, passage, and negatives where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from beir_hybrid.collections.storage.jsonl import id_field, read_jsonl, text_field
from beir_hybrid.collections.storage.parquet import read_parquet
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import expanded, file_states
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.sources.store import PairRow, Part, Source, open_pairs

_WHAT = "pairs: item, language, query and passage in each row"
_KEYS = ("item", "language", "query", "passage")


def read_pairs(
    paths: str | Path | Sequence[str | Path], languages: Sequence[str] | None = None, name: str | None = None
) -> ParallelPairs:
    """Read parallel pairs from JSON lines (plain or gzip) or Parquet.

    Each row has `item`, `language`, `query` and `passage`, and may have `negatives`, a list of passages in its language
    that do not answer the question. Rows with one `item` in several languages are translations of each other; an item
    may be there in any of the languages, once in each. Items whose passages are equal in any language, but for the
    spaces around them, are one group: they are never each other's negative.

    The texts are laid out on disk once, in the cache, and mapped from there.

    Args:
        paths: One file or several, which together are one source.
        languages: The codes to keep, in this order; by default all, in alphabetical order.
        name: What the source is called in records; by default after the first file.

    Raises:
        BeirHybridError: a file is missing or broken, a row lacks a field or repeats an item and language, a passage is
            among its own negatives; a language that is not there. Says file and row.
    """
    files = [expanded(one) for one in ([paths] if isinstance(paths, str | Path) else paths)]
    if not files:
        raise BeirHybridError("no files of pairs were named; expected one or more.")
    identity = ["pairs", *file_states(files, _WHAT)]
    source = Source(
        name or files[0].name.split(".")[0], identity, lambda: (Part(str(path), _rows(path)) for path in files)
    )
    return open_pairs(source, languages)


def _rows(path: Path) -> Iterator[PairRow]:
    parquet = path.suffix == ".parquet"
    rows = read_parquet(path, _WHAT, (*_KEYS, "negatives")) if parquet else read_jsonl(path, _WHAT)
    place = f"{path}, {'row' if parquet else 'line'} "
    for number, record in rows:
        fields: list[Any] = [record.get(key) for key in _KEYS]
        item, language, query, passage = fields
        negatives = record.get("negatives")
        if negatives or not (
            type(item) is str is type(language) is type(query) is type(passage)
            and item and language.strip() and query.strip() and passage.strip()
        ):  # fmt: skip
            item = _checked(record, f"{place}{number}")
        yield PairRow(item, language, query, passage, tuple(negatives or ()))


def _checked(record: dict[str, Any], where: str) -> str:
    """The id of the item of a row that is not plainly one, or the error that says what is wrong with it."""
    item = id_field(record, ("item",), where)
    for key in _KEYS[1:]:
        if not text_field(record, key, where).strip():
            raise BeirHybridError(f"{where}: {key!r} is empty; expected {_WHAT}.")
    negatives = record.get("negatives")
    if negatives is None:
        return item
    if not (isinstance(negatives, list) and all(isinstance(one, str) and one.strip() for one in negatives)):
        raise BeirHybridError(f"{where}: 'negatives' is not a list of strings with text in them; mend or drop it.")
    if (passage := record["passage"].strip()) in (one.strip() for one in negatives):
        raise BeirHybridError(
            f"{where}: the passage {passage[:80]!r} is among its own 'negatives'; leave it out there."
        )
    return item
