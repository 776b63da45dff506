from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from beir_hybrid.anserini.export import export_pyserini
from beir_hybrid.anserini.ids import unescape
from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import read_json
from beir_hybrid.retrieval.search import top_k


class Random:
    """Vectors that depend on the text alone, of any length."""

    def encode_corpus(self, corpus: list[dict[str, str]], **_: Any) -> Any:
        return self.encode_queries([passage["text"] for passage in corpus])

    def encode_queries(self, queries: list[str], **_: Any) -> Any:
        return np.stack([np.random.default_rng(list(text.encode())).normal(size=16) for text in queries]) * 3


def test_faiss_reads_back_the_same_ranking(
    toy_collection: MultilingualCollection, tiny_model: Path, tmp_path: Path
) -> None:
    encoder = DenseEncoder(tiny_model)
    folder = export_pyserini(encoder, toy_collection, tmp_path / "index").folder
    index = faiss.read_index(str(folder / "index"))
    docids = (folder / "docid").read_text().splitlines()
    assert docids == list(toy_collection.passages.ids)
    queries = encoder.encode_queries(toy_collection.queries.texts)
    passages = encoder.encode_corpus([{"text": text} for text in toy_collection.passages.texts])
    expected_scores, expected = top_k(queries, passages, 100, toy_collection.passages.ids)
    scores, rows = index.search(queries, 100)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    for found, wanted, its_scores in zip(rows, expected, expected_scores, strict=True):
        # Faiss settles ties its own way, so compare what stands above the last score that is tied for a place.
        clear = its_scores > its_scores[-1] + 1e-6
        assert {docids[row] for row in found[clear]} == {docids[row] for row in wanted[clear]}


def test_vectors_are_normalised_and_described(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    folder = export_pyserini(Random(), toy_collection, tmp_path / "index", setting="cross/en-de").folder
    index = faiss.read_index(str(folder / "index"))
    vectors = index.reconstruct_n(0, index.ntotal)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    docids = (folder / "docid").read_text().splitlines()
    assert len(docids) == index.ntotal
    assert all(identifier.startswith("de_") for identifier in docids)
    manifest = read_json(folder / "manifest.json", "a manifest")
    assert manifest["settings"] == ["toy/cross/en-de"]
    assert manifest["collection_digest"] == toy_collection.digest
    assert manifest["dimension"] == 16


def test_ids_that_pyserini_would_break_are_escaped(tmp_path: Path) -> None:
    builder = CollectionBuilder("ids", ("en",), CollectionInfo("", "", "the test"))
    rows = [builder.add_passage(one, f"text {one}", 0, "line 1") for one in ("a b", "a\n", "ä", 'say "a"', "a%20b")]
    builder.add_query("007", "text\ta?", 0, "q", rows[0], "line 2")
    found = export_pyserini(Random(), builder.build(), tmp_path / "index")
    docids = (found.folder / "docid").read_text("ascii").splitlines()
    assert docids == ["a%20b", "a%0A", "%C3%A4", "say%20%22a%22", "a%2520b"]
    assert [unescape(docid) for docid in docids] == list(found.passage_ids)
    assert (found.folder / "topics" / "ids.mono.en.tsv").read_text() == "%307\ttext a?\n".replace("7", "07")
    assert (found.folder / "qrels" / "ids.mono.en.txt").read_text() == "%3007 0 a%20b 1\n"


def test_what_is_there_is_kept(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    folder = export_pyserini(Random(), toy_collection, tmp_path / "index", setting="mono/en").folder
    with pytest.raises(BeirHybridError, match="exists already"):
        export_pyserini(Random(), toy_collection, folder)
    export_pyserini(Random(), toy_collection, folder, replace=True)
    assert len((folder / "docid").read_text().splitlines()) == len(toy_collection.passages)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(BeirHybridError, match="is not a dense index"):
        export_pyserini(Random(), toy_collection, tmp_path / "other", replace=True)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_vectors_without_a_cosine_are_refused(
    toy_collection: MultilingualCollection, tmp_path: Path, value: float
) -> None:
    class Broken(Random):
        def encode_corpus(self, corpus: list[dict[str, str]], **_: Any) -> Any:
            vectors = super().encode_corpus(corpus)
            vectors[3] = value
            return vectors

    with pytest.raises(BeirHybridError, match="no cosine"):
        export_pyserini(Broken(), toy_collection, tmp_path / "index")
