"""Parallel pairs from the Hugging Face hub, or from a folder that is laid out as its datasets are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import offline
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.sources.columns import Columns, check_sentences, found_columns
from beir_hybrid.training.sources.parallel_text import sentence_rows
from beir_hybrid.training.sources.store import PairRow, Part, Source, open_pairs

_BATCH = 2048


def read_hub(
    name: str,
    *,
    language: str | None = None,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    sentences: Mapping[str, str] | None = None,
    languages: Sequence[str] | None = None,
) -> ParallelPairs:
    """Read pairs, or sentences and their translations, from a dataset of the hub or a local folder of data files.

    No code of a dataset is run. Without a column for the item, each row is an item of its own.

    Args:
        name: `owner/dataset`, or the path of a folder.
        language: The language of all rows, where no column says it.
        config, split, revision: Which part of the dataset, and which version of it: a branch, tag or commit.
        columns: What the dataset calls `item`, `language`, `query`, `passage` and `negatives`; those that are not
            named are guessed (anchor and positive, question and answer, ...). `negatives` may be several columns, or
            one with a list in each row.
        sentences: Instead of `columns`: language -> the column of its sentences, for parallel text:
            `{"en": "english", "de": "non_english"}`. As from `read_parallel_text`, each sentence is both question and
            passage, and is asked for in other languages only.
        languages: The codes to keep, in this order; by default all, in alphabetical order.

    Raises:
        BeirHybridError: the dataset, or a column, is not there or cannot be read, no column and no `language` says what
            language it is, a row is not a pair. Says dataset and row.
    """
    if sentences is not None and (columns is not None or language is not None):
        raise BeirHybridError(f"{name}: sentences name their languages and columns; leave language and columns out.")
    data = _loaded(name, config, split, revision)
    place = " ".join(filter(None, (name, config, split)))
    # The fingerprint follows from the dataset's files: their commit on the hub, or their times and paths.
    identity = ["hub", place, revision, data._fingerprint]
    if sentences is not None:
        check_sentences(data.features, sentences, name)
        named = dict(sentences)
        return open_pairs(
            Source(
                place,
                [*identity, named],
                lambda: [Part(place, sentence_rows(_sentences(data, named)))],
                same_language=False,
            ),
            languages,
        )
    mapping = found_columns(data.features, columns or {}, language, name)
    source = Source(place, [*identity, mapping, language], lambda: [Part(place, _rows(data, mapping, language))])
    return open_pairs(source, languages)


def _loaded(name: str, config: str | None, split: str, revision: str | None) -> Any:
    import datasets  # type: ignore[import-untyped]

    if offline() and not datasets.config.HF_HUB_OFFLINE and not Path(name).is_dir():
        raise BeirHybridError(
            f"offline, and {name} is no folder here; set HF_HUB_OFFLINE=1 too, to use what the hub's cache has of it."
        )
    try:
        return datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:  # of many kinds: of the hub, of the file system, of the formats of the files
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        raise BeirHybridError(
            f"{name}: datasets cannot load it ({fault[:300]}); check its name, config={config!r}, split={split!r} and "
            f"revision={revision!r}, or load it yourself and write it as Parquet for read_pairs."
        ) from error


def _batches(data: Any, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    names = list(dict.fromkeys(columns))
    for table in data.select_columns(names).with_format("arrow").iter(batch_size=_BATCH):
        yield {name: table.column(name).to_pylist() for name in names}


def _sentences(data: Any, sentences: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for batch in _batches(data, list(sentences.values())):
        for row in zip(*(batch[column] for column in sentences.values()), strict=True):
            yield {code: text or "" for code, text in zip(sentences, row, strict=True)}


def _rows(data: Any, columns: Columns, language: str | None) -> Iterator[PairRow]:
    labels = getattr(data.features[columns.language], "names", None) if columns.language else None
    done = 0
    for batch in _batches(data, columns.all()):
        queries, passages = batch[columns.query], batch[columns.passage]
        numbers: Sequence[Any] = range(done, done + len(queries))
        items = batch[columns.item] if columns.item else numbers
        codes = batch[columns.language] if columns.language else [language] * len(queries)
        if labels:
            codes = [labels[code] if isinstance(code, int) and code >= 0 else None for code in codes]
        negatives = [batch[column] for column in columns.negatives]
        others = map(_together, *negatives) if negatives else [()] * len(queries)
        for item, code, query, passage, other in zip(items, codes, queries, passages, others, strict=True):
            yield PairRow(str(item) if isinstance(item, int) else item, code, query, passage, other)
        done += len(queries)


def _together(*negatives: list[str] | str | None) -> tuple[str, ...]:
    """The negatives of a row, of all columns; an empty one in a column of its own is none."""
    found: list[str] = []
    for one in negatives:
        if isinstance(one, str):
            found += [one] if one.strip() else []
        elif one:
            found += one
    return tuple(found)
