"""What is in the files that are written for a setting: columns, so many rows at a time, and the record of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from beir_hybrid.collections.collection import MultilingualCollection, SettingView
from beir_hybrid.collections.lazy import take
from beir_hybrid.collections.texts import IntArray, Texts
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.version import __version__

# Rows that are in memory at a time; part of the files' bytes, as Parquet groups its rows so.
BLOCK = 10_000
Block = dict[str, list[Any]]  # column -> values


def manifest_of(view: SettingView, split: str) -> dict[str, Any]:
    """What stands beside the files of one setting; `languages` in the order in which a reader meets them."""
    collection = view.collection
    number, first = np.unique(collection.passages.language[view.passage_rows], return_index=True)
    codes = [collection.languages[n] for n in number[np.argsort(first)]]
    counts = {
        "passages": len(view.passage_rows),
        "queries": len(view.query_rows),
        "judgements": len(view.judgements.passages),
    }
    languages = list(dict.fromkeys([*codes, view.setting.query_language]))
    about = {"split": split, "languages": languages, "query_prefix": query_prefix(view), "counts": counts}
    return {"setting": view.name, **_source(collection), **about}


def manifest_of_all(views: list[SettingView], split: str) -> dict[str, Any]:
    """What stands beside several settings of a collection."""
    collection = views[0].collection
    counts = {"passages": len(collection.passages), "queries": len(collection.queries), "settings": len(views)}
    return {
        **_source(collection),
        "split": split,
        "languages": [code for code in collection.languages if "+" not in code],
        "counts": counts,
        "settings": [view.name for view in views],
    }


def _source(collection: MultilingualCollection) -> dict[str, Any]:
    info = collection.info
    return {
        "collection": collection.name,
        "licence": info.licence,
        "citation": info.citation,
        "origin": info.origin,
        "text_mode": info.text_mode,
        "collection_digest": collection.digest,
        "missing": info.missing,
        "beir_hybrid": __version__,
    }


def query_prefix(view: SettingView) -> str:
    """What has to stand before the question ids in BEIR: its searches drop a passage that has the question's id.

    Empty where no id is shared, or where they mean the same text. MIRACL shares some by chance.
    """
    if view.collection.same_ids:
        return ""
    return "q:" if any(identifier in view.corpus for identifier in view.queries) else ""


def passage_blocks(view: SettingView) -> Iterator[Block]:
    """The passages that are searched: `_id`, `title`, `text` and `language`."""
    return _blocks(view.collection, view.collection.passages, view.passage_rows, with_titles=True)


def query_blocks(view: SettingView) -> Iterator[Block]:
    """The questions: `_id`, `text`, `language` and `item`, which translations of one question share."""
    collection, start, prefix = view.collection, 0, query_prefix(view)
    for block in _blocks(collection, collection.queries, view.query_rows, with_titles=False):
        block["_id"] = [prefix + identifier for identifier in block["_id"]]
        rows = view.query_rows[start : start + BLOCK]
        block["item"] = [collection.items[item] for item in collection.query_item[rows].tolist()]
        start += BLOCK
        yield block


def _blocks(collection: MultilingualCollection, texts: Texts, rows: IntArray, *, with_titles: bool) -> Iterator[Block]:
    """The columns of the texts, so many rows at a time."""
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        block: Block = {"_id": take(texts.ids, some)}
        if with_titles:
            block["title"] = [""] * len(some) if texts.titles is None else take(texts.titles, some)
        block["text"] = take(texts.texts, some)
        block["language"] = [collection.languages[number] for number in texts.language[some].tolist()]
        yield block


def check_text(block: Block, where: str) -> None:
    """Refuse what UTF-8 cannot hold: JSON can say half of a surrogate pair.

    Raises:
        BeirHybridError: says which row has it; begins with `where`.
    """
    try:
        "".join(itertools.chain.from_iterable(block.values())).encode()
    except UnicodeEncodeError:
        for values in zip(*block.values(), strict=True):
            if any(re.search("[\ud800-\udfff]", value) for value in values):
                raise BeirHybridError(
                    f"{where}: {values[0]!r} has half of a surrogate pair, which no file in UTF-8 can hold; "
                    "repair the source."
                ) from None


def judgement_blocks(view: SettingView) -> Iterator[Block]:
    """The judgements: `query-id`, `corpus-id` and `score`."""
    pairs, queries, passages = view.judgements, view.collection.queries.ids, view.collection.passages.ids
    asked, prefix = view.query_rows[pairs.queries].tolist(), query_prefix(view)
    for start in range(0, len(asked), BLOCK):
        block = slice(start, start + BLOCK)
        yield {
            "query-id": [prefix + queries[row] for row in asked[block]],
            "corpus-id": [passages[row] for row in pairs.passages[block].tolist()],
            "score": pairs.grades[block].tolist(),
        }
