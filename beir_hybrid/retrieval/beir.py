"""A drop-in for BEIR's exact search: the same model, arguments and results, with ties settled and no heaps."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from beir.retrieval.search import BaseSearch
from beir.retrieval.search.dense import DenseRetrievalExactSearch

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import as_one_error
from beir_hybrid.retrieval.best import each_best
from beir_hybrid.retrieval.vectors import FloatArray, Vectors

# The vectors of a corpus of 100,000 to 350,000 documents.
_BYTES_IN_MEMORY = 2**29


class HybridExactSearch(BaseSearch):  # type: ignore[misc]
    """Exact search for BEIR's `EvaluateRetrieval`, with the arguments of its `DenseRetrievalExactSearch`.

        EvaluateRetrieval(HybridExactSearch(model, batch_size=64), score_function="cos_sim").retrieve(corpus, queries)

    Unlike BEIR's it takes a single query and titles that are null, settles ties by id as trec_eval does, and refuses
    vectors that are not finite. The vectors of a corpus beyond one chunk and 512 MiB wait in a temporary file.
    """

    def __init__(self, model: Any, batch_size: int = 128, corpus_chunk_size: int = 50_000, **kwargs: Any) -> None:
        """Search with a model.

        Args:
            model: Anything with BEIR's `encode_queries` and `encode_corpus`.
            batch_size: Handed to the model.
            corpus_chunk_size: How many documents are encoded at once.
            kwargs: `show_progress_bar` and `convert_to_tensor`, both true by default, are handed to the model.
        """
        if corpus_chunk_size < 1:
            raise BeirHybridError(f"corpus_chunk_size is {corpus_chunk_size}; expected 1 or more.")
        self.model = model
        self.batch_size = batch_size
        self.corpus_chunk_size = corpus_chunk_size
        self.show_progress_bar = kwargs.get("show_progress_bar", True)
        self.convert_to_tensor = kwargs.get("convert_to_tensor", True)
        self.results: dict[str, dict[str, float]] = {}

    def search(
        self,
        corpus: Mapping[str, Mapping[str, Any]],
        queries: Mapping[str, str],
        top_k: int,
        score_function: str,
        return_sorted: bool = False,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Query id -> document id -> score, of the `top_k` best documents other than the query itself.

        Args:
            score_function: "cos_sim" or "dot".
            return_sorted: For BEIR's sake: results are in order, best first, either way.
            kwargs: Left alone, as by BEIR.

        Raises:
            BeirHybridError: an unknown score function, or vectors of the wrong shape or not finite.
        """
        _check(score_function)
        self.results = {query: {} for query in queries}
        if not self.results or not len(corpus):
            return self.results
        asked = self._vectors(self.model.encode_queries(list(queries.values()), **self._options), len(queries), "query")
        one_chunk = len(corpus) <= self.corpus_chunk_size
        with (
            contextlib.nullcontext("")
            if one_chunk
            else tempfile.TemporaryDirectory(prefix="beir_hybrid-", ignore_cleanup_errors=True) as folder
        ):
            documents, found = self._encoded(corpus, score_function, Path(folder))
            self._fill(_scaled(asked, score_function), found, list(queries), documents, top_k, itself=False)
            del found  # before its file goes
        return self.results

    def encode(
        self,
        corpus: Mapping[str, Mapping[str, Any]],
        queries: Mapping[str, str],
        encode_output_path: str = "./embeddings/",
        overwrite: bool = False,
        query_filename: str = "queries.pkl",
        corpus_filename: str = "corpus.*.pkl",
        **kwargs: Any,
    ) -> None:
        """Encode into BEIR's pickled files, as BEIR does."""
        DenseRetrievalExactSearch.encode(
            self,
            dict(zip(corpus, _complete(corpus.values()), strict=True)),
            queries,
            encode_output_path=encode_output_path,
            overwrite=overwrite,
            query_filename=query_filename,
            corpus_filename=corpus_filename,
            **kwargs,
        )

    def search_from_files(
        self,
        query_embeddings_file: str,
        corpus_embeddings_files: Sequence[str],
        top_k: int,
        score_function: str = "dot",
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Search what `encode` wrote. The files are pickles, which run code when read: read none but your own.

        As BEIR's, it leaves a document in that has the query's id.

        Raises:
            BeirHybridError: an unknown score function, no files, or files that do not fit each other.
        """
        _check(score_function)
        if not corpus_embeddings_files:
            raise BeirHybridError("there are no files of corpus embeddings; encode the corpus first.")
        asked, query_ids = _unpickled(query_embeddings_file)
        parts = [_unpickled(one) for one in sorted(corpus_embeddings_files)]
        found = np.concatenate([_scaled(vectors, score_function) for vectors, _ in parts])
        documents = [document for _, ids in parts for document in ids]
        self.results = {query: {} for query in query_ids}
        self._fill(_scaled(asked, score_function), found, query_ids, documents, top_k, itself=True)
        return self.results

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "show_progress_bar": self.show_progress_bar,
            "convert_to_tensor": self.convert_to_tensor,
        }

    def _encoded(
        self, corpus: Mapping[str, Mapping[str, Any]], score_function: str, folder: Path
    ) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Document ids, the longest document first, and their vectors: in a file where they are many."""
        lengths = _lengths(corpus)
        documents = sorted(lengths, key=lengths.__getitem__, reverse=True)
        chunks = self._chunks(corpus, documents, score_function)
        first = next(chunks)
        shape = (len(documents), first.shape[1])
        if len(first) == len(documents):
            return documents, first
        if 4 * shape[0] * shape[1] <= _BYTES_IN_MEMORY:
            return documents, np.concatenate([first, *chunks])
        path = folder / "vectors"
        with as_one_error(path), open(path, "wb") as stream:
            first.tofile(stream)
            for chunk in chunks:
                chunk.tofile(stream)
        return documents, np.memmap(path, dtype=np.float32, mode="r", shape=shape)

    def _chunks(
        self, corpus: Mapping[str, Mapping[str, Any]], documents: list[str], score_function: str
    ) -> Iterator[FloatArray]:
        numbers = 0
        for start in range(0, len(documents), self.corpus_chunk_size):
            some = _complete(map(corpus.__getitem__, documents[start : start + self.corpus_chunk_size]))
            chunk = self._vectors(self.model.encode_corpus(some, **self._options), len(some), "document")
            if start and chunk.shape[1] != numbers:
                raise BeirHybridError(f"the model made vectors of {numbers} and of {chunk.shape[1]} numbers.")
            numbers = chunk.shape[1]
            yield _scaled(chunk, score_function)

    @staticmethod
    def _vectors(vectors: Any, texts: int, kind: str) -> FloatArray:
        if isinstance(vectors, list) and vectors and hasattr(vectors[0], "detach"):
            vectors = [one.detach().cpu().float().numpy() for one in vectors]
        read = Vectors.of(vectors, f"{kind} vectors")
        if len(read) != texts:
            raise BeirHybridError(f"the model made {len(read)} vectors for {texts} {kind} texts; expected one each.")
        return read.block(0, texts)

    def _fill(
        self,
        asked: FloatArray,
        found: npt.NDArray[np.float32],
        query_ids: list[str],
        documents: list[str],
        top_k: int,
        itself: bool,
    ) -> None:
        """Put the best documents into `results`, with the query `itself` or without."""
        known = set(documents)
        also = 0 if itself or known.isdisjoint(query_ids) else 1
        names = np.array(documents, dtype=object)

        # Dicts take as long as the search: each is made by the thread that searched, while others search on.
        def take(start: int, scores: FloatArray, rows: IntArray) -> None:
            for query, score, row in zip(query_ids[start : start + len(rows)], scores, rows, strict=True):
                best = dict(zip(names[row].tolist(), score.tolist(), strict=True))
                if also and best.pop(query, None) is None and len(best) > top_k:
                    best.popitem()
                self.results[query] = best

        each_best(
            Vectors.of(asked, "query vectors"),
            Vectors.of(found, "document vectors"),
            top_k + also,
            documents,
            take,
        )


def _check(score_function: str) -> None:
    if score_function not in ("cos_sim", "dot"):
        raise unknown("score function", str(score_function), ("cos_sim", "dot"))


def _lengths(corpus: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many characters each document has."""
    with contextlib.suppress(KeyError, TypeError):  # most corpora have a title and a text everywhere
        return {name: len(one["title"]) + len(one["text"]) for name, one in corpus.items()}
    return {name: len(one.get("title") or "") + len(one.get("text") or "") for name, one in corpus.items()}


def _complete(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """With a title and a text, which models take for granted."""
    return [
        one
        if one.get("title") is not None and one.get("text") is not None
        else {**one, "title": one.get("title") or "", "text": one.get("text") or ""}
        for one in records
    ]


def _scaled(vectors: npt.ArrayLike, score_function: str) -> FloatArray:
    """The vectors as float32, of length 1 for "cos_sim"; a zero vector stays zero, as BEIR has it."""
    found = np.asarray(vectors, dtype=np.float32)
    if score_function == "dot":
        return found
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.maximum(length, np.float32(1e-12)), dtype=np.float32)


def _unpickled(path: str) -> tuple[FloatArray, list[str]]:
    try:
        with open(path, "rb") as stream:
            vectors, ids = pickle.load(stream)
    except (OSError, EOFError, pickle.UnpicklingError, TypeError, ValueError) as error:
        raise BeirHybridError(f"{path}: cannot be read ({error}); expected embeddings that `encode` wrote.") from None
    return np.asarray(vectors, dtype=np.float32), [str(one) for one in ids]
