"""What was exported, read back and evaluated: the figures of evaluating directly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.anserini.exporting.export import export_pyserini
from beir_hybrid.anserini.reading import KeyedVectors, read_vectors
from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.encoders.storing import encode_to_store
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.grid import evaluate_grid, grid_from_embeddings
from tests.anserini.exporting.test_export import Random
from tests.anserini.test_jvm import TIMEOUT, needs_java
from tests.conftest import make_collection


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Not the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEIR_HYBRID_CACHE", str(folder))
        yield folder


class Unit(Random):
    """Vectors of length 1."""

    def encode_queries(self, queries: list[str], **_: Any) -> Any:
        vectors = super().encode_queries(queries).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def json_line(identifier: str, vector: Any) -> bytes:
    """As Pyserini writes it."""
    return orjson.dumps({"id": identifier, "contents": "some", "vector": vector}, option=orjson.OPT_SERIALIZE_NUMPY)


def write_lines(path: Path, ids: list[str], vectors: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(json_line(one, row) for one, row in zip(ids, vectors, strict=True)) + b"\n")
    return path


@pytest.mark.usefixtures("one_thread")
def test_an_export_has_the_figures_of_the_model(
    tiny_model: Path, toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    encoder = DenseEncoder(tiny_model, precision="float32")
    export_pyserini(encoder, toy_collection, tmp_path / "index", vectors=True)
    direct = evaluate_grid(encoder, toy_collection)
    for path in (tmp_path / "index", tmp_path / "index" / "vectors"):
        read = evaluate_grid(encoder, toy_collection, passage_vectors=read_vectors(path))
        assert read.provenance["texts_encoded"]["passages"] == 0
        for one, other in zip(direct.figures, read.figures, strict=True):
            assert one.value == pytest.approx(other.value, abs=1e-6 if one.measure != "RankDistance" else 0.5)
    about = read_vectors(tmp_path / "index").describe()
    assert about["manifest"]["encoder"]["digest"] == encoder.describe()["digest"]


@given(seed=st.integers(0, 10_000), parts=st.integers(1, 4))
@settings(max_examples=8, deadline=None)
def test_any_order_and_any_files_have_the_same_figures(
    seed: int, parts: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("export")
    collection = make_collection(items=6, seed=seed)
    direct = evaluate_grid(Unit(), collection)
    exported = export_pyserini(Unit(), collection, folder / "index")
    read = read_vectors(folder / "index")
    assert evaluate_grid(Unit(), collection, passage_vectors=read).figures == direct.figures
    # Shuffled, and cut into files, as Pyserini's processes leave them.
    order = np.random.default_rng(seed).permutation(len(read))
    for number, rows in enumerate(np.array_split(order, parts)):
        ids = [exported.docids[row] for row in rows.tolist()]
        write_lines(folder / "lines" / f"part{number}" / "embeddings.jsonl", ids, exported.passages[rows])
    questions = write_lines(
        folder / "q.jsonl", list(collection.queries.ids), Unit().encode_queries(collection.queries.texts)
    )
    vectors = [read_vectors(path) for path in (questions, folder / "lines")]
    assert np.array_equal(vectors[1].vectors[:], exported.passages[order])
    assert grid_from_embeddings(*vectors, collection).figures == direct.figures


def test_a_part_of_the_settings_needs_a_part_of_the_vectors(
    toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    export_pyserini(Unit(), toy_collection, tmp_path / "de", setting="cross/en-de")
    read = read_vectors(tmp_path / "de")
    direct = evaluate_grid(Unit(), toy_collection, settings=["cross/en-de", "mono/de"])
    again = evaluate_grid(Unit(), toy_collection, settings=["cross/en-de", "mono/de"], passage_vectors=read)
    assert again.figures == direct.figures
    with pytest.raises(BeirHybridError, match=r"no vector for \d+ of \d+ texts: 'en_p0'"):
        evaluate_grid(Unit(), toy_collection, passage_vectors=read)


def test_ids_that_were_escaped_and_prefixed_are_found(tmp_path: Path) -> None:
    builder = CollectionBuilder("ids", ("en", "sw"), CollectionInfo("", "", "the test"))
    ids = ("a b", "%41", "ä:ö")
    for number, code in enumerate(("en", "sw")):
        for one in ids:
            row = builder.add_passage(f"{code} {one}", f"{code} {one}", number, "line")
            builder.add_query(f"{code} {one}?", f"ask {code} {one}", number, f"{one} {code}", row, "line")
    built = builder.build()
    collection = replace(built, passages=replace(built.passages, ids=[*ids, *ids], index=None))
    assert not collection.passages.ids_differ
    export_pyserini(Unit(), collection, tmp_path / "index", vectors=True)
    wanted = ["mono/en", "mono/sw"]
    direct = evaluate_grid(Unit(), collection, settings=wanted)
    for path in (tmp_path / "index", tmp_path / "index" / "vectors"):
        assert evaluate_grid(Unit(), collection, settings=wanted, passage_vectors=read_vectors(path)).figures == (
            direct.figures
        )
    lines = write_lines(tmp_path / "plain.jsonl", ["a b"], np.ones((1, 16)))
    with pytest.raises(BeirHybridError, match="several languages have the same id"):
        evaluate_grid(Unit(), collection, settings=wanted, passage_vectors=read_vectors(lines))


@pytest.mark.parametrize(
    ("factory", "metric", "said", "nearness"),
    [
        ("Flat", faiss.METRIC_INNER_PRODUCT, "", 0),
        ("Flat", faiss.METRIC_L2, "", 0),
        ("HNSW8", faiss.METRIC_INNER_PRODUCT, "as they were encoded", 0),
        ("IVF4,Flat", faiss.METRIC_INNER_PRODUCT, "as they were encoded", 0),
        ("SQ8", faiss.METRIC_INNER_PRODUCT, "approximations", 0.02),
        ("IVF4,SQ8,RFlat", faiss.METRIC_INNER_PRODUCT, "as they were encoded", 0),
    ],
)
def test_other_indexes_give_their_vectors_back_and_say_what_they_are(
    factory: str, metric: int, said: str, nearness: float, toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    vectors = Unit().encode_queries(toy_collection.passages.texts)
    index = faiss.index_factory(16, factory, metric)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "index"))
    (tmp_path / "docid").write_text("\n".join(toy_collection.passages.ids))  # no end of line at the end
    found = read_vectors(tmp_path)
    assert isinstance(found, KeyedVectors)
    assert (said in found.note) if said else not found.note
    np.testing.assert_allclose(found.vectors[:], vectors, atol=nearness)
    if not nearness:
        assert evaluate_grid(Unit(), toy_collection, passage_vectors=found).figures == (
            evaluate_grid(Unit(), toy_collection).figures
        )


def test_vectors_that_are_not_normalised_are_ranked_as_their_index_does(
    toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(toy_collection.passages), 16)).astype(np.float32)
    found = read_vectors(write_lines(tmp_path / "v.jsonl", list(toy_collection.passages.ids), vectors))
    assert found.score_function == "dot"
    questions = Unit().encode_queries(toy_collection.queries.texts)
    expected = grid_from_embeddings(questions, vectors, toy_collection, score_function="dot").figures
    assert evaluate_grid(Unit(), toy_collection, passage_vectors=found).figures == expected
    index = faiss.IndexFlatL2(16)
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "index"))
    (tmp_path / "docid").write_text("\n".join(toy_collection.passages.ids))
    with pytest.raises(BeirHybridError, match="ranks by Euclidean distance"):
        evaluate_grid(Unit(), toy_collection, passage_vectors=read_vectors(tmp_path))


def test_a_store_of_embeddings_is_known_by_its_texts(
    tiny_model: Path, toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    encoder = DenseEncoder(tiny_model, precision="float32", progress=False)
    kept = tmp_path / "kept"
    direct = evaluate_grid(encoder, toy_collection, embeddings=kept)  # of the texts that differ
    (queries,), (passages,) = kept.glob("query-*"), kept.glob("passage-*")
    found = grid_from_embeddings(read_vectors(queries, "queries"), read_vectors(passages), toy_collection)
    assert found.figures == direct.figures
    with pytest.raises(BeirHybridError, match="embeddings of other texts"):
        grid_from_embeddings(read_vectors(passages), read_vectors(passages), toy_collection)
    whole = encode_to_store(encoder, toy_collection.passages.texts, "passage", tmp_path / "all", progress=False)
    part = evaluate_grid(encoder, toy_collection, settings=["mono/de"], passage_vectors=read_vectors(tmp_path / "all"))
    assert len(whole) == len(toy_collection.passages)
    assert [one.value for one in part.figures] == pytest.approx(
        [one.value for one in evaluate_grid(encoder, toy_collection, settings=["mono/de"]).figures], abs=1e-6
    )


def test_lines_are_laid_out_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "v.jsonl", ["a", "b"], np.eye(2))
    read_vectors(path)
    from beir_hybrid.anserini.reading import json_lines

    monkeypatch.setattr(json_lines, "read_jsonl", None)
    assert list(read_vectors(path).ids) == ["a", "b"]  # type: ignore[union-attr]
    monkeypatch.undo()
    write_lines(path, ["a", "b", "c"], np.eye(3))
    assert list(read_vectors(path).ids) == ["a", "b", "c"]  # type: ignore[union-attr]


def test_a_large_index_is_mapped(tmp_path: Path) -> None:
    export = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    index = faiss.IndexFlatIP(16)
    index.add(export)
    faiss.write_index(index, str(tmp_path / "index"))
    (tmp_path / "docid").write_text("".join(f"{row}\n" for row in range(50)))
    found = read_vectors(tmp_path)
    ((_, block),) = found.vectors.blocks()
    base: Any = block
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert isinstance(found.vectors, EmbeddingStore)


@needs_java
def test_what_pyserini_itself_makes_is_read(
    tiny_model: Path, toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    """`pyserini.encode` and `pyserini.index.faiss`, for real: encoded by Pyserini, and searched by us."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "docs.jsonl").write_bytes(
        b"\n".join(
            orjson.dumps({"id": one, "text": text})
            for one, text in zip(toy_collection.passages.ids, toy_collection.passages.texts, strict=True)
        )
    )
    encode = [
        "pyserini.encode",
        *("input", "--corpus", str(corpus), "--fields", "text"),
        *("output", "--embeddings", str(tmp_path / "lines")),
        *("encoder", "--encoder", str(tiny_model), "--encoder-class", "auto", "--fields", "text", "--device", "cpu"),
        *("--pooling", "mean", "--l2-norm", "--prefix", "passage:", "--max-length", "32"),
    ]
    index = ["pyserini.index.faiss", "--input", str(tmp_path / "lines"), "--output", str(tmp_path / "index")]
    for arguments in (encode, [*index, "--dim", "32", "--threads", "1"]):
        done = subprocess.run(
            [sys.executable, "-m", "beir_hybrid.anserini", *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
    encoder = DenseEncoder(tiny_model, precision="float32", progress=False)
    direct = evaluate_grid(encoder, toy_collection)
    for path in (tmp_path / "lines", tmp_path / "index"):
        read = evaluate_grid(encoder, toy_collection, passage_vectors=read_vectors(path))
        for one, other in zip(direct.figures, read.figures, strict=True):
            assert one.value == pytest.approx(other.value, abs=1e-6 if one.measure != "RankDistance" else 0.5)
