"""An export as a plain Faiss file and as a hub dataset: what others read there, and what we read back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import faiss
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from beir_hybrid.anserini.exporting.export import export_pyserini
from beir_hybrid.anserini.exporting.exported import Exported
from beir_hybrid.anserini.homes import hub
from beir_hybrid.anserini.homes.faiss_file import write_faiss
from beir_hybrid.anserini.homes.hub import write_hub
from beir_hybrid.anserini.reading import read_vectors
from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.grid import evaluate_grid, grid_from_embeddings
from beir_hybrid.files import read_json, sha256_file
from tests.anserini.reading.test_round_trip import Unit
from tests.anserini.reading.test_round_trip import cache as cache
from tests.conftest import make_collection

Write = Callable[..., Path]
HOMES = pytest.mark.parametrize("write", [write_faiss, write_hub])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, toy_collection: MultilingualCollection) -> Exported:
    return export_pyserini(Unit(), toy_collection, tmp_path_factory.mktemp("export") / "index")


@given(seed=st.integers(0, 10_000), setting=st.sampled_from([None, "cross/en-de", "mono/hi"]))
@settings(max_examples=6, deadline=None)
def test_read_back_it_has_the_figures_of_the_model(
    seed: int, setting: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("homes")
    collection = make_collection(items=6, seed=seed)
    found = export_pyserini(Unit(), collection, folder / "index", setting=setting)
    wanted = [setting] if setting else ["multi"]
    direct = evaluate_grid(Unit(), collection, settings=wanted)
    for path in (write_faiss(found, folder / "faiss"), write_hub(found, folder / "hub")):
        read = [read_vectors(path, side) for side in ("queries", "passages")]  # type: ignore[arg-type]
        assert grid_from_embeddings(*read, collection, settings=wanted).figures == direct.figures


@HOMES
def test_the_manifest_has_every_file(write: Write, exported: Exported, tmp_path: Path) -> None:
    folder = write(exported, tmp_path / "home")
    manifest = read_json(folder / "manifest.json", "a manifest")
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert set(files) - set(manifest["files"]) == {"README.md", "manifest.json"}
    for name, about in manifest["files"].items():
        assert about == {"bytes": files[name].stat().st_size, "sha256": sha256_file(files[name])}
    assert manifest["collection_digest"] == exported.collection.digest
    again = write(exported, tmp_path / "again")
    assert {name: sha256_file(again / name) for name in manifest["files"]} == {
        name: about["sha256"] for name, about in manifest["files"].items()
    }


@HOMES
def test_what_is_there_is_kept(write: Write, exported: Exported, tmp_path: Path) -> None:
    folder = write(exported, tmp_path / "home")
    with pytest.raises(BeirHybridError, match="exists already"):
        write(exported, folder)
    write(exported, folder, replace=True)
    with pytest.raises(BeirHybridError, match="exists and is not"):
        write(exported, exported.folder, replace=True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with pytest.raises(BeirHybridError, match="exists and is not"):
        write(exported, tmp_path / "thesis", replace=True)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "thesis"}


def test_the_snippet_of_the_faiss_folder_runs(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_faiss(exported, tmp_path / "faiss")
    monkeypatch.chdir(folder)
    exec(python_of(folder), {})
    hits = eval(capsys.readouterr().out)
    ids = [json.loads(line) for line in (folder / "query_ids.jsonl").read_text().splitlines()]
    texts, passages = exported.collection.queries, exported.collection.passages
    assert [one["id"] for one in ids] == list(texts.ids)
    assert {one["language"] for one in ids} == {"en", "de", "hi"}
    scores = Unit().encode_queries(passages.texts) @ Unit().encode_queries(texts.texts[:1])[0]
    best = np.argsort(-scores)[:10]
    assert [one for one, _ in hits] == [passages.ids[row] for row in best]
    assert [score for _, score in hits] == pytest.approx(scores[best].tolist(), abs=1e-6)
    assert faiss.read_index(str(folder / "passages.faiss")).ntotal == len(passages)


def test_datasets_loads_and_searches_it(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hub(exported, tmp_path / "hub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    loaded = datasets.load_dataset("hub")
    assert list(loaded) == ["passages", "queries"]
    passages, found = exported.collection.passages, loaded["passages"]
    assert found.column_names == ["id", "text", "language", "embedding"]
    assert found.features["embedding"].length == 16
    assert found["id"][:] == list(passages.ids)
    assert found["text"][:] == list(passages.texts)
    vectors = found.with_format("numpy")["embedding"][:]
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, exported.passages[:])
    exec(python_of(tmp_path / "hub"), {})
    question, *ids = capsys.readouterr().out.splitlines()
    assert question == exported.collection.queries.texts[0]
    scores = Unit().encode_queries(passages.texts) @ Unit().encode_queries([question])[0]
    assert ids == [passages.ids[row] for row in np.argsort(-scores)[:10]]


def test_the_card_says_whose_it_is(exported: Exported, tmp_path: Path) -> None:
    text = (write_hub(exported, tmp_path / "hub") / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["license"] == "cc0-1.0"
    assert header["language"] == ["de", "en", "hi"]
    assert [one["split"] for one in header["configs"][0]["data_files"]] == ["passages", "queries"]
    assert "Licence: CC0-1.0" in text


def test_large_splits_are_several_files_without_texts_if_so_wished(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_ROWS_AT_ONCE", 16)
    monkeypatch.setattr(hub, "_SHARD_BYTES", 16 * 4 * 40)
    folder = write_hub(exported, tmp_path / "hub", texts=False)
    files = sorted((folder / "data").glob("passages-*"))
    rows = [parquet.read_metadata(path).num_rows for path in files]
    assert rows[:-1] == [32] * (len(rows) - 1)
    assert len(rows) > 1
    assert sum(rows) == len(exported.passages)
    assert parquet.read_schema(files[0]).names == ["id", "language", "embedding"]
    assert np.array_equal(read_vectors(folder).vectors[:], exported.passages[:])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("embedding", [1.0], r"row 3: a vector of 1 numbers, where those before it have 2"),
        ("embedding", [1.0, float("nan")], "row 3: 'embedding' is empty, or holds what is not finite"),
        ("embedding", [], "row 3: 'embedding' is empty"),
        ("embedding", None, "row 3: no 'embedding'"),
        ("id", None, "row 3: no 'id'"),
        ("id", "p1", "the id 'p1' comes twice"),
    ],
)
def test_vectors_of_others_that_are_wrong(column: str, value: Any, message: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": f"p{row}", "embedding": [1.0, row]} for row in range(5)]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "good.parquet")
    assert read_vectors(tmp_path / "good.parquet").vectors[:].tolist() == [row["embedding"] for row in rows]
    rows[2][column] = value
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(BeirHybridError, match=message):
        read_vectors(tmp_path / "bad.parquet")
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "good.parquet").read_bytes()[:-50])
    with pytest.raises(BeirHybridError, match=r"bad\.parquet: cannot be read as Parquet"):
        read_vectors(tmp_path / "bad.parquet")


def test_the_docs_have_the_same_snippets(exported: Exported, tmp_path: Path) -> None:
    said = (Path(__file__).parents[3] / "docs" / "exports.md").read_text()
    for folder in (write_faiss(exported, tmp_path / "my-faiss"), write_hub(exported, tmp_path / "my-dataset")):
        assert python_of(folder).replace("'my-dataset'", '"my-dataset"') in said


def python_of(folder: Path) -> str:
    """The code in a README."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    return str(code)
