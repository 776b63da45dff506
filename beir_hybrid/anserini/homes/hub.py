"""A dataset for the hub: Parquet with ids, texts and vectors, and a card that says what they are and whose."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini.exporting.exported import Exported
from beir_hybrid.anserini.homes.common import check_home, home_manifest, prompts, questions
from beir_hybrid.anserini.reading.manifest import MANIFEST
from beir_hybrid.collections.formats.beir_blocks import check_text
from beir_hybrid.collections.formats.hub_card import CARD, hub_card
from beir_hybrid.collections.lazy import take
from beir_hybrid.collections.texts import IntArray, Texts
from beir_hybrid.encoders.store import FloatArray
from beir_hybrid.files import atomic_folder, expanded, write_json

_LAYOUT = "hub dataset"
_SHARD_BYTES = 2**28
"""Of vectors; with the texts, files are about as large as the hub's own."""
_ROWS_AT_ONCE = 4096
_BODY = """{prompts}

Vectors of {passages} passages and {queries} questions of {collection}, {dimension} dimensions, to be compared by inner
product. The licence above is that of the texts; vectors that are made from them may be bound by it too.

```python
from datasets import load_dataset

passages = load_dataset({name!r}, split="passages")
queries = load_dataset({name!r}, split="queries")
passages.add_faiss_index("embedding", metric_type=0)  # the inner product
scores, found = passages.get_nearest_examples("embedding", queries.with_format("numpy")[0]["embedding"], k=10)
print(queries[0]["text"], *found["id"], sep="\\n")
```"""


def write_hub(
    exported: Exported,
    folder: Path | str,
    *,
    texts: bool = True,
    replace: bool = False,
    progress: bool = False,
) -> Path:
    """Write an export as a dataset in the hub's layout, whole or not at all; the same call writes the same bytes again.

    `load_dataset(folder, split="passages")` reads it, and so does the split `queries`: columns `id`, `title` (where
    the collection has titles), `text`, `language` and `embedding`, a list of so many float32. `README.md` is the card,
    with the licence of the collection. Nothing is uploaded. `read_vectors` reads it again.

    Args:
        exported: What `export_pyserini` gives.
        texts: Whether titles and texts go along.
        replace: Put the new folder in the place of one that was written before.
        progress: Show a bar on standard error, if that is a terminal.

    Returns:
        The folder.

    Raises:
        BeirHybridError: the folder exists (and `replace` is false) or holds something else; a text that no file in
            UTF-8 can hold; no permission or no space.
    """
    folder = expanded(folder)
    check_hub(folder, replace)
    from tqdm.auto import tqdm

    collection, (rows, vectors) = exported.collection, questions(exported)
    languages, with_titles = collection.languages, collection.passages.titles is not None
    splits = {"passages": _Split(collection.passages, exported.passage_rows, exported.passages, languages)}
    if len(rows):
        splits["queries"] = _Split(collection.queries, rows, vectors, languages)
    with (
        atomic_folder(folder, replace=replace, new=True) as temporary,
        tqdm(
            total=sum(map(len, splits.values())),
            desc="Writing",
            unit="row",
            disable=None if progress else True,
        ) as bar,
    ):
        (temporary / "data").mkdir()
        columns = ["id", *(["title"] if with_titles and texts else []), *(["text"] if texts else []), "language"]
        for name, split in splits.items():
            split.write(temporary / "data", name, columns, bar.update)
        manifest = home_manifest(exported, temporary, _LAYOUT)
        (temporary / CARD).write_text(_card(exported, manifest, splits, folder.name), encoding="utf-8", newline="")
        write_json(temporary / MANIFEST, manifest)
    return folder


def check_hub(folder: Path, replace: bool) -> None:
    """Refuse a folder that `write_hub` could not write to.

    Raises:
        BeirHybridError: it exists (and `replace` is false) or holds something else.
    """
    check_home(expanded(folder), "a hub dataset of embeddings", _LAYOUT, replace)


class _Split:
    """Some texts and their vectors."""

    def __init__(self, texts: Texts, rows: IntArray, vectors: Any, languages: tuple[str, ...]) -> None:
        self.texts, self.rows, self.vectors, self.languages = texts, rows, vectors, languages

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def spoken(self) -> set[str]:
        """The languages of its texts."""
        return {self.languages[number] for number in np.unique(self.texts.language[self.rows]).tolist()}

    def write(self, folder: Path, name: str, columns: list[str], advance: Callable[[int], object]) -> None:
        """Write the files of the split, each in one stream; a block of rows is in memory at a time."""
        import pyarrow as pa
        from pyarrow import parquet

        dimension = int(self.vectors.shape[1])
        schema = pa.schema([(column, pa.string()) for column in columns])
        schema = schema.append(pa.field("embedding", pa.list_(pa.float32(), dimension)))
        rows_a_file = max(_ROWS_AT_ONCE, _SHARD_BYTES // (4 * dimension) // _ROWS_AT_ONCE * _ROWS_AT_ONCE)
        files = max(1, math.ceil(len(self) / rows_a_file))
        for number in range(files):
            path = folder / f"{name}-{number:05}-of-{files:05}.parquet"
            # Numbers of vectors hardly repeat: neither a dictionary of them nor compressing them is worth its time.
            compression = dict.fromkeys(columns, "zstd") | {"embedding.list.element": "none"}
            end = min((number + 1) * rows_a_file, len(self))
            with parquet.ParquetWriter(path, schema, compression=compression, use_dictionary=["language"]) as writer:
                for start in range(number * rows_a_file, end, _ROWS_AT_ONCE):
                    stop = min(start + _ROWS_AT_ONCE, end)
                    writer.write_table(self._table(schema, start, stop, name))
                    advance(stop - start)

    def _table(self, schema: Any, start: int, stop: int, name: str) -> Any:
        import pyarrow as pa

        some, texts = self.rows[start:stop], self.texts
        block: dict[str, list[Any]] = {}
        for column in schema.names[:-1]:
            if column == "language":
                block[column] = [self.languages[number] for number in texts.language[some].tolist()]
            elif column == "title":
                block[column] = [""] * len(some) if texts.titles is None else take(texts.titles, some)
            else:
                block[column] = take(texts.ids if column == "id" else texts.texts, some)
        check_text(block, name)
        numbers: FloatArray = np.ascontiguousarray(self.vectors[start:stop], dtype=np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), numbers.shape[1])
        return pa.table([*(pa.array(values, pa.string()) for values in block.values()), vectors], schema=schema)


def _card(exported: Exported, manifest: dict[str, Any], splits: dict[str, _Split], name: str) -> str:
    about = manifest | {"languages": sorted(set[str]().union(*(split.spoken for split in splits.values())))}
    more = {"task_categories": ["text-retrieval"], "tags": ["embeddings", "beir-hybrid"]}
    configs = {"default": [(split, f"data/{split}-*.parquet") for split in splits]}
    body = _BODY.format(**manifest | {"prompts": prompts(exported), "name": name})
    return hub_card(f"Embeddings of {exported.collection.name}", about, configs, more=more, body=body)
