"""Damaged indexes and files of vectors: one error, which says where."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.anserini.reading import KeyedVectors, read_vectors
from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.grid import evaluate_grid
from tests.anserini.reading.test_round_trip import Unit, write_lines
from tests.anserini.reading.test_round_trip import cache as cache


def make_index(folder: Path, rows: int = 4, dimension: int = 8, factory: str = "Flat") -> Path:
    folder.mkdir(exist_ok=True)
    index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    index.add(np.random.default_rng(0).normal(size=(rows, dimension)).astype(np.float32))
    faiss.write_index(index, str(folder / "index"))
    (folder / "docid").write_text("".join(f"p{row}\n" for row in range(rows)))
    return folder


@pytest.mark.parametrize("factory", ["Flat", "HNSW4"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_an_index_cut_anywhere_is_refused(
    factory: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = make_index(tmp_path_factory.mktemp("index"), factory=factory)
    whole = (folder / "index").read_bytes()
    kept = data.draw(st.integers(0, len(whole) - 1))
    (folder / "index").write_bytes(whole[:kept])
    with pytest.raises(BeirHybridError, match=r"index: "):
        read_vectors(folder)


@pytest.mark.parametrize(
    ("docids", "message"),
    [
        (b"p0\np1\np2\n", "docid: 3 lines for 4 vectors"),
        (b"p0\np1\np2\np3\np4\n", "docid: 5 lines for 4 vectors"),
        (b"p0\np1\n\np3\n", "docid, line 3: empty"),
        (b"p0\np1\np2\np1\n", "docid, line 4: the id 'p1' stands in 2 already"),
        (b"p0\n\xff\np2\np3\n", "docid: not UTF-8"),
    ],
)
def test_ids_that_are_not_one_for_each_vector(docids: bytes, message: str, tmp_path: Path) -> None:
    (make_index(tmp_path) / "docid").write_bytes(docids)
    with pytest.raises(BeirHybridError, match=message):
        read_vectors(tmp_path)


def test_integer_ids_of_faiss_are_not_row_numbers(tmp_path: Path) -> None:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(8))
    index.add_with_ids(np.ones((2, 8), np.float32), np.array([7, 9]))
    make_index(tmp_path, rows=2)
    faiss.write_index(index, str(tmp_path / "index"))
    with pytest.raises(BeirHybridError, match="IndexIDMap2 gives no vectors back"):
        read_vectors(tmp_path)


def test_a_number_that_is_none_is_found_in_its_row(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    folder = make_index(tmp_path, rows=len(toy_collection.passages), dimension=16)
    ids = toy_collection.passages.ids
    (folder / "docid").write_text("".join(f"{one}\n" for one in ids))
    vectors = np.memmap(folder / "index", "<f4", "r+", offset=45, shape=(len(ids), 16))
    vectors[3, 5] = np.nan
    vectors.flush()
    with pytest.raises(BeirHybridError, match=rf"row 3, '{ids[3]}': NaN, infinity"):
        evaluate_grid(Unit(), toy_collection, passage_vectors=read_vectors(folder))


GOOD = b'{"id": "a", "contents": "x", "vector": [1.0, 2]}\n'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (GOOD + b'{"id": "b", "vector": [1.0', r"v\.jsonl, line 2: not valid JSON"),
        (GOOD + b'{"id": "b", "vector": [1.0, NaN]}', r"v\.jsonl, line 2: not valid JSON.*finite numbers"),
        (GOOD + b'\n{"id": "b", "vector": [1.0]}', r"line 3: a vector of 1 numbers, where those before it have 2"),
        (GOOD + b'{"id": "b", "vector": [1.0, 1e300]}', "line 2: 'vector' has a number too large for float32"),
        (GOOD + b'{"id": "b", "vector": [1.0, "2"]}', "line 2: 'vector' is not an array of numbers alone"),
        (GOOD + b'{"id": "b", "vector": [1.0, null]}', "line 2: 'vector' is not an array of numbers alone"),
        (GOOD + b'{"id": "b", "vector": [[1.0, 2], [3]]}', "line 2: 'vector' is not an array of numbers alone"),
        (GOOD + b'{"id": "b", "vector": []}', "line 2: 'vector' is not an array of numbers"),
        (GOOD + b'{"id": "b", "contents": "x"}', "line 2: no 'vector'; expected vectors in JSON lines"),
        (GOOD + b'{"vector": [1.0, 2]}', "line 2: no id"),
        (GOOD + GOOD, "the id 'a' comes twice, in rows 0 and 1"),
        (b"", "no texts at all"),
    ],
)
def test_a_line_that_is_wrong(lines: bytes, message: str, tmp_path: Path, cache: Path) -> None:
    for name, data in (("v.jsonl", lines), ("v.jsonl.gz", gzip.compress(lines))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BeirHybridError, match=message.replace(r"v\.jsonl", r"v\.jsonl(\.gz)?")):
            read_vectors(tmp_path / name)
    assert not [path for path in (cache / "vectors").iterdir() if not path.name.startswith(".")]


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return pytest.fail, ("unpickled",)

    (tmp_path / "embedding.pkl").write_bytes(pickle.dumps(Bomb()))
    for path in (tmp_path, tmp_path / "embedding.pkl"):
        with pytest.raises(BeirHybridError, match=r"embedding\.pkl is not read"):
            read_vectors(path)
    with pytest.raises(BeirHybridError, match="no such file or folder"):
        read_vectors(tmp_path / "nowhere")


def test_vectors_of_another_collection(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    ids = list(toy_collection.passages.ids)
    lines = write_lines(tmp_path / "v.jsonl", [*ids[1:], "strange"], np.ones((len(ids), 16)))
    with pytest.raises(BeirHybridError, match=f"no vector for 1 of {len(ids)} texts: '{ids[0]}'"):
        evaluate_grid(Unit(), toy_collection, passage_vectors=read_vectors(lines))
    lines = write_lines(tmp_path / "w.jsonl", [*ids, "strange"], np.ones((len(ids) + 1, 16)))
    with pytest.raises(BeirHybridError, match=r"1 of \d+ vectors are of texts that the collection has not: 'strange'"):
        evaluate_grid(Unit(), toy_collection, passage_vectors=read_vectors(lines))
    found = read_vectors(write_lines(tmp_path / "x.jsonl", ids, np.ones((len(ids), 3))))
    assert isinstance(found, KeyedVectors)
    with pytest.raises(BeirHybridError, match="query vectors have 16 dimensions and passage vectors 3"):
        evaluate_grid(Unit(), toy_collection, passage_vectors=found)
