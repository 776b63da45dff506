"""What Pyserini itself finds in an exported folder: called in a process with Java (`jvm.JavaProcess`).

The folder is the working directory, as its README says, so that Pyserini sees the paths that a user types.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini import jvm
from beir_hybrid.anserini.lexical import lucene

_BATCH = 1024


def versions() -> dict[str, str]:
    """What runs here."""
    return lucene.versions() | {name: importlib.metadata.version(name) for name in ("faiss-cpu", "transformers")}


def search(folder: str, topics: str, encoded: str, output: str, depth: int, threads: int) -> None:
    """FaissSearcher with the encoded queries; writes `topics`, `rows` and `scores` to the .npz file `output`."""
    from pyserini.encode import QueryEncoder

    with _working_in(folder):
        ids, texts = _topics(topics)
        _found(_searcher(folder, QueryEncoder(encoded)), ids, texts, output, depth, threads)


def search_with_encoder(folder: str, topics: str, flags: list[str], output: str, depth: int, threads: int) -> None:
    """FaissSearcher with the encoder that its command line makes of `flags`; also writes `vectors`.

    Pyserini encodes one text at a time. A text that several settings ask for is encoded once.
    """
    with _working_in(folder):
        ids, texts = _topics(topics)
        vectors = np.stack([_encoded(folder, tuple(flags), text) for text in texts])
        _found(_searcher(folder, None), ids, vectors, output, depth, threads, vectors=vectors)


def command(folder: str, module: str, arguments: list[str]) -> str:
    """What `python -m module arguments` prints, run in `folder`."""
    said = io.StringIO()
    with _working_in(folder), contextlib.redirect_stdout(said):
        jvm.run_module(module, *arguments)
    return said.getvalue()


def _topics(path: str) -> tuple[list[str], list[str]]:
    from pyserini.query_iterator import TopicsFormat, get_query_iterator

    asked = list(get_query_iterator(path, TopicsFormat.DEFAULT))
    return [str(topic) for topic, _ in asked], [text for _, text in asked]


def _found(searcher: Any, ids: list[str], queries: Any, output: str, depth: int, threads: int, **more: Any) -> None:
    """What `searcher` finds, passages by their place in `docid`."""
    place = {docid: row for row, docid in enumerate(searcher.docids)}
    rows = np.full((len(ids), depth), -1, dtype=np.int64)
    scores = np.full((len(ids), depth), -np.inf, dtype=np.float32)
    for start in range(0, len(ids), _BATCH):
        some = slice(start, start + _BATCH)
        hits = searcher.batch_search(queries[some], ids[some], k=depth, threads=threads)
        for row, topic in enumerate(ids[some], start):
            rows[row, : len(hits[topic])] = [place[hit.docid] for hit in hits[topic]]
            scores[row, : len(hits[topic])] = [hit.score for hit in hits[topic]]
    np.savez(output, topics=np.array(ids, dtype=np.str_), rows=rows, scores=scores, **more)


def _searcher(folder: str, encoder: Any) -> Any:
    searcher = _opened(folder)
    searcher.query_encoder = encoder
    return searcher


@lru_cache(maxsize=1)
def _opened(folder: str) -> Any:
    from pyserini.search.faiss import FaissSearcher

    return FaissSearcher(folder, object())


@lru_cache(maxsize=1)
def _encoder(folder: str, flags: tuple[str, ...]) -> Any:
    from pyserini.search.faiss import __main__ as faiss_command

    parser = argparse.ArgumentParser()
    faiss_command.define_dsearch_args(parser)
    told = parser.parse_args(["--index", ".", *flags])
    return faiss_command.init_query_encoder(
        told.encoder,
        told.encoder_class,
        told.tokenizer,
        "",
        None,
        told.device,
        told.max_length,
        told.pooling,
        told.l2_norm,
        told.query_prefix,
    )


@lru_cache(maxsize=2**16)
def _encoded(folder: str, flags: tuple[str, ...], text: str) -> Any:
    import torch

    # One short text gives threads nothing to share, and where others use the processor they wait for each other.
    torch.set_num_threads(1)
    with torch.inference_mode():
        return np.asarray(_encoder(folder, flags).encode(text), dtype=np.float32)


@contextlib.contextmanager
def _working_in(folder: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
