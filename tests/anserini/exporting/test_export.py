from __future__ import annotations

import contextlib
import errno
import os
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.anserini.exporting import pyserini_files
from beir_hybrid.anserini.exporting.export import export_pyserini
from beir_hybrid.anserini.exporting.exported import Exported
from beir_hybrid.anserini.exporting.ids import unescape
from beir_hybrid.anserini.exporting.shards import chained
from beir_hybrid.anserini.exporting.vectors import arranged
from beir_hybrid.anserini.exporting.workplace import Workplace
from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.grid import evaluate_grid
from beir_hybrid.files import read_json, sha256_file
from beir_hybrid.retrieval.search import top_k


class Random:
    """Vectors of length 1 that depend on the text alone, by BEIR's two methods."""

    score_function = "cos_sim"

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_corpus(self, corpus: list[dict[str, str]], **_: Any) -> Any:
        return self.encode_queries([passage["text"] for passage in corpus])

    def encode_queries(self, queries: list[str], **_: Any) -> Any:
        self.encoded += queries
        vectors = np.stack(
            [np.random.default_rng(list(text.encode("utf-8", "surrogatepass"))).normal(size=16) for text in queries]
        )
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder(tiny_model: Path, one_thread: None) -> DenseEncoder:
    return DenseEncoder(tiny_model, precision="float32", device="cpu", progress=False)


def of_texts(
    texts: Sequence[str], ids: Sequence[str] | None = None, question: tuple[str, str] = ("q", "text?")
) -> MultilingualCollection:
    """A collection of one language; the question's answer is the first passage."""
    builder = CollectionBuilder("own", ("en",), CollectionInfo("", "", "the test"))
    rows = [
        builder.add_passage(identifier, text, 0, "test")
        for identifier, text in zip(ids or [f"p{row}" for row in range(len(texts))], texts, strict=True)
    ]
    builder.add_query(*question, 0, "q", rows[0], "test")
    return builder.build()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def test_faiss_reads_back_the_same_ranking(
    encoder: DenseEncoder, toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    exported = export_pyserini(encoder, toy_collection, tmp_path / "index")
    index = faiss.read_index(str(exported.folder / "index"))
    docids = lines(exported.folder / "docid")
    assert docids == list(toy_collection.passages.ids) == list(exported.docids)
    passages = encoder.encode_corpus([{"text": text} for text in toy_collection.passages.texts])
    np.testing.assert_allclose(exported.passages[:], passages, atol=1e-6)
    assert list(exported.settings) == ["toy/multi/en", "toy/multi/de", "toy/multi/hi"]
    for queries in exported.settings.values():
        expected_scores, expected = top_k(queries.vectors, exported.passages, 100, exported.passage_ids)
        scores, rows = index.search(queries.vectors, 100)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
        for found, wanted, its_scores in zip(rows, expected, expected_scores, strict=True):
            # Faiss settles ties its own way, so compare what stands above the last score that is tied for a place.
            clear = its_scores > its_scores[-1] + 1e-6
            assert {docids[row] for row in found[clear]} == {docids[row] for row in wanted[clear]}


def test_the_folder_is_what_pyserinis_readers_take(
    encoder: DenseEncoder, toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    exported = export_pyserini(encoder, toy_collection, tmp_path / "index", vectors=True)
    view, file = toy_collection.view("multi/de"), "toy.multi.de"
    topics = dict(line.split("\t") for line in lines(exported.folder / "topics" / f"{file}.tsv"))
    assert topics == dict(view.queries)
    qrels: dict[str, dict[str, int]] = {}
    for line in lines(exported.folder / "qrels" / f"{file}.txt"):
        query, zero, docid, grade = line.split(" ")
        assert zero == "0"
        qrels.setdefault(query, {})[docid] = int(grade)
    assert qrels == dict(view.qrels)
    # Ours alone are unpickled, and only here.
    frame = pickle.loads((exported.folder / "queries" / file / "embedding.pkl").read_bytes())
    assert list(frame.columns) == ["id", "text", "embedding"]
    by_text = dict(zip(frame["text"].tolist(), frame["embedding"].tolist(), strict=True))
    for text, vector in zip(view.queries.values(), encoder.encode_queries(list(view.queries.values())), strict=True):
        assert by_text[text].dtype == np.float32
        np.testing.assert_allclose(by_text[text], vector, atol=1e-6)
    passages = [orjson.loads(line) for line in lines(exported.folder / "corpus" / "part-00000.jsonl")]
    assert {row["id"]: row["contents"] for row in passages} == {
        docid: document["text"] for docid, document in view.corpus.items()
    }
    with_vectors = [orjson.loads(line) for line in lines(exported.folder / "vectors" / "part-00000.jsonl")]
    assert [(row["id"], row["contents"]) for row in with_vectors] == [(row["id"], row["contents"]) for row in passages]
    index = faiss.read_index(str(exported.folder / "index"))
    written = np.array([row["vector"] for row in with_vectors], dtype=np.float32)
    np.testing.assert_array_equal(written, index.reconstruct_n(0, index.ntotal))  # to the last bit


def test_the_manifest_says_what_was_made_of_what(
    encoder: DenseEncoder, toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    folder = export_pyserini(encoder, toy_collection, tmp_path / "index", setting="cross/en-de").folder
    manifest = read_json(folder / "manifest.json", "a manifest")
    assert manifest["settings"] == ["toy/cross/en-de"]
    assert manifest["collection_digest"] == toy_collection.digest
    assert manifest["dimension"] == 32
    assert manifest["encoder"]["digest"] == encoder.describe()["digest"]
    assert manifest["encoder"]["prompts"] == {"query": "query: ", "passage": "passage: "}
    assert manifest["precision"] == {"passage": "float32", "query": "float32"}
    there = {name for name in contents(folder) if name != "manifest.json"}
    assert set(manifest["files"]) == there
    for name, about in manifest["files"].items():
        assert about == {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
    assert {path.name for path in tmp_path.iterdir()} == {"index"}
    said = (folder / "README.md").read_text()
    for word in ("pyserini.search.faiss --index . --topics topics/toy.cross.en-de.tsv", "trec_eval", "JsonCollection"):
        assert word in said
    assert all(docid.startswith("de_") for docid in lines(folder / "docid"))


def test_settings_of_one_pool_share_a_folder(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    exported = export_pyserini(Random(), toy_collection, tmp_path / "de", setting=["mono/de", "cross/en-de"])
    assert list(exported.settings) == ["toy/mono/de", "toy/cross/en-de"]
    by_view = export_pyserini(Random(), toy_collection.view("mono/de"), tmp_path / "view")
    assert list(by_view.settings) == ["toy/mono/de"]
    kind = export_pyserini(Random(), toy_collection, tmp_path / "kind", setting="multi")
    assert len(kind.settings) == 3
    with pytest.raises(BeirHybridError, match="search different passages"):
        export_pyserini(Random(), toy_collection, tmp_path / "no", setting=["mono/de", "mono/en"])
    with pytest.raises(BeirHybridError, match="search different passages"):
        export_pyserini(Random(), toy_collection, tmp_path / "no", setting="cross")
    with pytest.raises(BeirHybridError, match="unknown setting"):
        export_pyserini(Random(), toy_collection, tmp_path / "no", setting="mono/fr")
    assert not (tmp_path / "no").exists()


def test_ids_and_questions_that_pyserini_would_break(tmp_path: Path) -> None:
    ids = ["a b", "a\n", "ä", 'say "a"', "a%20b"]
    data = of_texts([f"text {one}" for one in ids], ids, ("007", "\x07 text\ta?\r\n"))
    exported = export_pyserini(Random(), data, tmp_path / "index")
    docids = (exported.folder / "docid").read_text("ascii").splitlines()
    assert docids == ["a%20b", "a%0A", "%C3%A4", "say%20%22a%22", "a%2520b"] == list(exported.docids)
    assert [unescape(docid) for docid in docids] == list(exported.passage_ids) == ids
    assert (exported.folder / "topics" / "own.mono.en.tsv").read_text() == "%3007\ttext a?\n"
    assert (exported.folder / "qrels" / "own.mono.en.txt").read_text() == "%3007 0 a%20b 1\n"
    assert exported.manifest["ids"]["escaped_passages"] == 5
    assert "percent-encoding" in (exported.folder / "README.md").read_text()
    with pytest.raises(BeirHybridError, match="the question 'q' is empty"):
        export_pyserini(Random(), of_texts(["a"], question=("q", "\x07")), tmp_path / "empty")
    with pytest.raises(BeirHybridError, match="surrogate pair"):
        export_pyserini(Random(), of_texts(["a"], question=("q", "\ud800?")), tmp_path / "half")


def test_ids_that_languages_share_are_told_apart(tmp_path: Path) -> None:
    builder = CollectionBuilder("twice", ("en", "de"), CollectionInfo("", "", "the test"))
    for number, code in enumerate(("en", "de")):
        row = builder.add_passage(f"{code}1#0", f"passage in {code}", number, "test")
        builder.add_query(f"{code}?", f"question in {code}?", number, f"q{code}", row, "test")
    data = builder.build()
    same = {"passages": ["1#0", "1#0"], "queries": ["1", "1"]}
    texts = {side: replace(getattr(data, side), ids=ids, index=None) for side, ids in same.items()}
    data = replace(data, **texts, kinds=("mono",))
    exported = export_pyserini(Random(), data, tmp_path / "all")
    assert lines(exported.folder / "docid") == ["en:1#0", "de:1#0"]
    assert list(exported.passage_ids) == ["1#0", "1#0"]
    alone = export_pyserini(Random(), data, tmp_path / "de", setting="mono/de")
    assert lines(alone.folder / "docid") == ["de:1#0"]
    assert lines(alone.folder / "qrels" / "twice.mono.de.txt") == ["1 0 de:1#0 1"]


def test_what_is_there_is_kept(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    folder = export_pyserini(Random(), toy_collection, tmp_path / "index", setting="mono/en").folder
    with pytest.raises(BeirHybridError, match="exists already"):
        export_pyserini(Random(), toy_collection, folder)
    export_pyserini(Random(), toy_collection, folder, replace=True)
    assert len(lines(folder / "docid")) == len(toy_collection.passages)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(BeirHybridError, match="is not a dense index"):
        export_pyserini(Random(), toy_collection, tmp_path / "other", replace=True)
    assert {path.name for path in tmp_path.iterdir()} == {"index", "other"}


class Broken(Random):
    """An encoder whose vectors are changed by a function."""

    def __init__(self, change: Callable[[np.ndarray], np.ndarray], passages_only: bool = True) -> None:
        super().__init__()
        self.change, self.passages_only = change, passages_only

    def encode_corpus(self, corpus: list[dict[str, str]], **_: Any) -> Any:
        return self.change(np.asarray(super().encode_queries([passage["text"] for passage in corpus])))


def _row_3(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda vectors: np.where(np.arange(len(vectors))[:, None] == 3, value, vectors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_row_3(0.0), "is zero"),
        (_row_3(np.nan), "not finite"),
        (lambda vectors: vectors * 3, "has the length 3"),
        (lambda vectors: vectors[:, :8] * np.sqrt(2), "8 dimensions and questions 16|has the length"),
        (lambda vectors: vectors[1:], r"of shape \(7, 16\) for 8 texts"),
        (lambda vectors: vectors[0], "of shape"),
    ],
)
def test_bad_vectors_are_refused_before_the_work(
    change: Callable[[np.ndarray], np.ndarray], said: str, toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    broken = Broken(change)
    with pytest.raises(BeirHybridError, match=said):
        export_pyserini(broken, toy_collection, tmp_path / "index")
    assert len(broken.encoded) <= 16
    assert not list(tmp_path.iterdir())


def test_dimensions_that_differ_are_refused(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    def half(vectors: np.ndarray) -> np.ndarray:
        return vectors[:, :8] / np.linalg.norm(vectors[:, :8], axis=1, keepdims=True)

    with pytest.raises(BeirHybridError, match="passages 8 dimensions and questions 16"):
        export_pyserini(Broken(half), toy_collection, tmp_path / "index")
    assert not list(tmp_path.iterdir())


def test_vectors_of_any_length(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    longer = Broken(lambda vectors: vectors * 3)
    exported = export_pyserini(longer, toy_collection, tmp_path / "cosine", normalise=True)
    np.testing.assert_allclose(np.linalg.norm(exported.passages[:], axis=1), 1, atol=1e-6)
    assert exported.manifest["similarity"] == "cosine"
    exported = export_pyserini(longer, toy_collection, tmp_path / "dot", similarity="dot")
    np.testing.assert_allclose(np.linalg.norm(exported.passages[:], axis=1), 3, atol=1e-6)
    longer.score_function = "dot"
    assert export_pyserini(longer, toy_collection, tmp_path / "own").manifest["similarity"] == "dot"


def test_embeddings_are_shared_with_the_grid(
    encoder: DenseEncoder, toy_collection: MultilingualCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_grid(encoder, toy_collection, embeddings=tmp_path / "kept", progress=False)
    kept = contents(tmp_path / "kept")
    monkeypatch.setattr(DenseEncoder, "encode", lambda *_, **__: pytest.fail("a text was encoded again"))
    bare = {"embeddings": tmp_path / "kept", "query_encoder": False}
    exported = export_pyserini(encoder, toy_collection, tmp_path / "index", **bare)
    assert contents(tmp_path / "kept") == kept
    assert exported.passages.shape == (len(toy_collection.passages), 32)
    again = export_pyserini(encoder, toy_collection, tmp_path / "2", index="IVF2,Flat", **bare)
    np.testing.assert_array_equal(again.passages[:], exported.passages[:])
    with pytest.raises(BeirHybridError, match="of a DenseEncoder alone"):
        export_pyserini(Random(), toy_collection, tmp_path / "3", embeddings=tmp_path / "kept")


@pytest.mark.parametrize("kind", ["dense", "beir"])
def test_an_export_that_fails_goes_on_with_what_was_encoded(
    kind: str,
    encoder: DenseEncoder,
    toy_collection: MultilingualCollection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model: Any = encoder if kind == "dense" else Random()
    # Without its query encoder, which is tried before it is kept.
    unbroken = export_pyserini(model, toy_collection, tmp_path / "unbroken", query_encoder=False).folder

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(pyserini_files, "write_qrels", full)
        with pytest.raises(BeirHybridError, match=r"(?i)no space left.*What was encoded is kept in .*\.index\.export"):
            export_pyserini(model, toy_collection, tmp_path / "index", query_encoder=False)
    assert {path.name for path in tmp_path.iterdir()} == {"unbroken", ".index.export"}
    if kind == "dense":
        monkeypatch.setattr(DenseEncoder, "encode", lambda *_, **__: pytest.fail("a text was encoded again"))
    else:
        model.encoded.clear()
    folder = export_pyserini(model, toy_collection, tmp_path / "index", query_encoder=False).folder
    assert kind == "dense" or len(model.encoded) <= 32  # a look at the encoder, and whether it is the same
    assert contents(folder) == contents(unbroken)
    assert {path.name for path in tmp_path.iterdir()} == {"unbroken", "index"}


def test_another_encoder_does_not_go_on(
    toy_collection: MultilingualCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pyserini_files, "write_docids", lambda *_: (_ for _ in ()).throw(BeirHybridError("stopped")))
        with pytest.raises(BeirHybridError, match="stopped"):
            export_pyserini(Random(), toy_collection, tmp_path / "index")
    other = Random()
    before = other.encode_queries
    monkeypatch.setattr(other, "encode_queries", lambda queries, **_: -before(queries))
    exported = export_pyserini(other, toy_collection, tmp_path / "index")
    first = next(iter(toy_collection.passages.texts))
    np.testing.assert_allclose(exported.passages[0], -before([first])[0], atol=1e-6)


def test_an_index_of_another_kind(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    exported = export_pyserini(
        Random(), toy_collection, tmp_path / "index", index="IVF4,Flat", parameters="nprobe=4", seed=3
    )
    index = faiss.read_index(str(exported.folder / "index"))
    assert faiss.extract_index_ivf(index).nprobe == 4  # Pyserini has no option for it
    recall = exported.manifest["recall"]
    assert recall["values"] == {"recall@10": 1.0, "recall@100": 1.0}
    assert recall["of"] == "questions"
    assert exported.manifest["trained_on"] == len(toy_collection.passages)
    # The exact vectors can still be read, though the store that they were in is gone.
    assert {path.name for path in tmp_path.iterdir()} == {"index"}
    np.testing.assert_allclose(np.linalg.norm(exported.passages[:], axis=1), 1, atol=1e-6)
    with pytest.raises(BeirHybridError, match="needs 100,000 or more"):
        export_pyserini(Random(), toy_collection, tmp_path / "no", index="IVF100000,Flat")
    assert not (tmp_path / "no").exists()


def test_shards_give_the_same_index(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    whole = export_pyserini(Random(), toy_collection, tmp_path / "whole").folder
    target = tmp_path / "index"
    for number in (2, 0):
        part = export_pyserini(Random(), toy_collection, target, shard=number, shards=3)
        assert part.folder == tmp_path / f"index.shard{number}"
        assert set(contents(part.folder)) == {"index", "docid", "manifest.json", "README.md"} - {"README.md"}
    with pytest.raises(BeirHybridError, match=r"index\.shard1: is missing; make it with shard=1"):
        export_pyserini(Random(), toy_collection, target, shards=3)
    export_pyserini(Random(), toy_collection, target, shard=1, shards=3)
    merging = Random()
    merged = export_pyserini(merging, toy_collection, target, shards=3)
    assert not set(merging.encoded) & set(list(toy_collection.passages.texts)[8:])
    for name, data in contents(whole).items():
        if name != "manifest.json":
            assert (merged.folder / name).read_bytes() == data
    with pytest.raises(BeirHybridError, match="shards differ"):
        export_pyserini(Random(), toy_collection, target, shards=2, replace=True)
    shard = tmp_path / "index.shard1" / "index"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(BeirHybridError, match="make the shard anew"):
        export_pyserini(Random(), toy_collection, target, shards=3, replace=True)
    with pytest.raises(BeirHybridError, match="counted from 0"):
        export_pyserini(Random(), toy_collection, target, shard=3, shards=3)


def test_two_at_once_write_one_index(
    toy_collection: MultilingualCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have begun before either is done; the second one takes what the first has made."""
    both, turn = threading.Barrier(2), Workplace.turn

    def together(place: Workplace) -> contextlib.AbstractContextManager[None]:
        both.wait(timeout=60)
        return turn(place)

    monkeypatch.setattr(Workplace, "turn", together)
    models = [Random(), Random()]
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(export_pyserini, one, toy_collection, tmp_path / "index", progress=False) for one in models
        ]
        found = [call.result(timeout=120) for call in calls]
    assert found[0].manifest == found[1].manifest
    assert {path.name for path in tmp_path.iterdir()} == {"index"}
    np.testing.assert_array_equal(found[0].passages[:], found[1].passages[:])


def test_equal_texts_share_a_vector(tmp_path: Path) -> None:
    random = Random()
    texts = [str(number) for number in range(20)]  # more than a look at the encoder takes
    exported = export_pyserini(random, of_texts([*texts, *texts[::-1]]), tmp_path / "index")
    assert [random.encoded.count(text) for text in texts[8:]] == [1] * 12
    vectors = exported.passages[:]
    np.testing.assert_array_equal(vectors[:20], vectors[:19:-1])
    assert not np.array_equal(vectors[0], vectors[1])


@settings(max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.data())
def test_stores_that_are_put_together(sizes: list[int], data: st.DataObject) -> None:
    whole = np.random.default_rng(0).normal(size=(sum(sizes), 3)).astype(np.float32)
    parts = [EmbeddingStore.from_array(part) for part in np.split(whole, np.cumsum(sizes)[:-1])]
    np.testing.assert_array_equal(chained(parts, {})[:], whole)
    rows = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1)))
    np.testing.assert_array_equal(arranged(EmbeddingStore.from_array(whole), rows)[:], whole[rows])


def test_an_exported_folder_is_described_by_its_values(
    encoder: DenseEncoder, toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    exported = export_pyserini(encoder, toy_collection, tmp_path / "index")
    assert isinstance(exported, Exported)
    assert exported.docids[-1] == list(toy_collection.passages.ids)[-1]
    assert exported.docids[2:5] == list(toy_collection.passages.ids)[2:5]
    queries = exported.settings["toy/multi/en"]
    assert (queries.file, queries.ids, queries.topic_ids) == ("toy.multi.en", queries.ids, queries.ids)
    assert len(queries.texts) == len(queries.vectors) == len(queries.rows)
