from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.anserini.indexes import factory
from beir_hybrid.anserini.indexes.factory import IndexKind, build, recall
from beir_hybrid.anserini.indexes.flat import map_flat, write_flat
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.errors import BeirHybridError


def unit(rows: int, dimension: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def any_vectors(block: np.ndarray, start: int) -> None:
    """What `build` is shown, taken as it is."""


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(1, 70), st.integers(1, 9))
def test_the_flat_file_is_faiss_own_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, rows: int, dimension: int, step: int
) -> None:
    folder = tmp_path_factory.mktemp("flat")
    vectors = np.random.default_rng(rows).normal(size=(rows, dimension)).astype(np.float32)
    index = faiss.IndexFlatIP(dimension)
    index.add(vectors)
    faiss.write_index(index, str(folder / "theirs"))
    write_flat(folder / "ours", (vectors[row : row + step] for row in range(0, rows, step)), rows, dimension)
    assert (folder / "ours").read_bytes() == (folder / "theirs").read_bytes()
    np.testing.assert_array_equal(map_flat(folder / "theirs"), vectors)


@pytest.mark.parametrize("factory", ["HNSW8", "IVF4,Flat", "SQ8"])
def test_another_index_is_not_taken_for_a_flat_one(factory: str, tmp_path: Path) -> None:
    index = faiss.index_factory(16, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(unit(200))
    index.add(unit(200))
    faiss.write_index(index, str(tmp_path / "index"))
    with pytest.raises(BeirHybridError, match="not an exact inner-product index"):
        map_flat(tmp_path / "index")
    write_flat(tmp_path / "flat", [unit(9)], 9, 16)
    (tmp_path / "flat").write_bytes((tmp_path / "flat").read_bytes()[:-4])
    with pytest.raises(BeirHybridError, match="cut short"):
        map_flat(tmp_path / "flat")


def test_more_or_fewer_vectors_than_said_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BeirHybridError, match="3 vectors for 4 rows"):
        write_flat(tmp_path / "index", [unit(3)], 4, 16)
    with pytest.raises(BeirHybridError, match="expected 16 dimensions"):
        write_flat(tmp_path / "index", [unit(3, 8)], 3, 16)


@pytest.mark.parametrize(
    ("factory", "parameters", "least"),
    [
        ("HNSW32", "efSearch=128", 0.99),
        ("IVF8,Flat", "nprobe=8", 1.0),
        ("IVF8,Flat", "", 0.2),
        ("SQ8", "", 0.9),
        ("PQ8x4", "", 0.3),
        ("OPQ8,PQ8x4", "", 0.3),
    ],
)
def test_what_faiss_reads_back_finds_what_was_measured(
    factory: str, parameters: str, least: float, tmp_path: Path
) -> None:
    vectors, queries = unit(2000), unit(40, seed=1)
    kind = IndexKind(factory, parameters)
    kind.check(2000, 16)
    store = EmbeddingStore.from_array(vectors)
    index, trained = build(kind, store, tmp_path / "index", any_vectors)
    assert trained == (0 if factory == "HNSW32" else 2000)
    measured = recall(index, queries, store)
    assert measured["recall@10"] >= least
    # Slowly: the share of the exact ten that Faiss finds after reading its file. No two scores tie here.
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    found = faiss.read_index(str(tmp_path / "index")).search(queries, 10)[1]
    slow = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(exact, found, strict=True)])
    assert measured["recall@10"] == pytest.approx(slow, abs=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_recall_counts_a_tie_as_found() -> None:
    vectors = np.repeat(unit(20), 10, axis=0)
    index = faiss.IndexIDMap(faiss.IndexFlatIP(16))
    index.add_with_ids(vectors[::-1].copy(), np.arange(199, -1, -1))  # so that Faiss finds other rows of each ten
    exact = faiss.IndexFlatIP(16)
    exact.add(vectors)
    queries = unit(5, seed=2)
    assert (index.search(queries, 5)[1] != exact.search(queries, 5)[1]).any()
    assert recall(index, queries, EmbeddingStore.from_array(vectors), (5,)) == {"recall@5": 1.0}


def test_an_index_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut short after a block that was saved, and the second run trains nothing and adds only the rest."""
    monkeypatch.setattr(factory, "CHECKPOINT_SECONDS", -1)
    monkeypatch.setattr(factory, "SHARD_ROWS", 100)
    store, kind = EmbeddingStore.from_array(unit(1000)), IndexKind("IVF4,Flat", "nprobe=4")
    seen: list[int] = []

    def stop(block: np.ndarray, start: int) -> None:
        seen.append(start)
        if start == 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(kind, store, tmp_path / "index", stop)
    assert not (tmp_path / "index").exists()
    seen.clear()
    index, _ = build(kind, store, tmp_path / "index", lambda block, start: seen.append(start))
    assert seen == [500, 600, 700, 800, 900]
    build(kind, store, tmp_path / "unbroken", any_vectors)
    assert (tmp_path / "index").read_bytes() == (tmp_path / "unbroken").read_bytes()
    assert recall(index, unit(9, seed=3), store)["recall@100"] == 1.0
    (tmp_path / "broken.begun").write_bytes(b"IwFl, cut short")
    build(kind, store, tmp_path / "broken", any_vectors)
    assert (tmp_path / "broken").read_bytes() == (tmp_path / "unbroken").read_bytes()


@pytest.mark.parametrize(
    ("factory", "parameters", "said"),
    [
        ("nonsense", "", "Faiss makes no index 'nonsense'"),
        ("PQ7", "", "should be a multiple"),
        ("LSH", "", "makes no index 'LSH' for inner products"),
        ("IVF5000,Flat", "", "needs 5,000 or more"),
        ("IVF4,PQ16", "", "needs 256 or more"),
        ("PCA8,IVF300,Flat", "", "needs 300 or more"),
        ("IVF4,Flat", "probes=3", "does not take the parameters 'probes=3'"),
        ("Flat", "nprobe=3", "leave them out"),
        ("IDMap,Flat", "", "leave IDMap out"),
        ("IDMap2,HNSW8", "", "leave IDMap out"),
    ],
)
def test_what_faiss_would_refuse_later_is_refused_before(factory: str, parameters: str, said: str) -> None:
    with pytest.raises(BeirHybridError, match=said):
        IndexKind(factory, parameters).check(200, 16)
