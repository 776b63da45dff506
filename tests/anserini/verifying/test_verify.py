"""An exported folder, read back by the real Pyserini on a real JVM."""

from __future__ import annotations

import dataclasses
import pickle
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from typer.testing import CliRunner

from beir_hybrid.anserini import jvm
from beir_hybrid.anserini.exporting import pyserini_files
from beir_hybrid.anserini.exporting.export import export_pyserini
from beir_hybrid.anserini.exporting.exported import Exported
from beir_hybrid.anserini.verifying.verify import verify_export
from beir_hybrid.cli import app
from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.files import read_json
from tests.anserini.test_jvm import needs_java

DEPTH = 20


@pytest.fixture
def exported(toy_collection: MultilingualCollection, tiny_model: Path, tmp_path: Path) -> Exported:
    # By the letters of this path Pyserini would take other classes, and no topics at all.
    folder = tmp_path / "balance" / "cacm-bpr-sentence" / "index"
    return export_pyserini(DenseEncoder(tiny_model), toy_collection, folder)


@needs_java
def test_of_rounded_vectors_pyserini_encodes_finer_ones(
    toy_collection: MultilingualCollection, tiny_model: Path, tmp_path: Path
) -> None:
    encoder = DenseEncoder(tiny_model, precision="bf16")
    exported = export_pyserini(encoder, toy_collection, tmp_path / "index", setting="multi/en")
    found = verify_export(exported, depth=DEPTH, encoded=5)
    assert found.passed, found.table()
    assert {one.part: one.questions for one in found.hits} == {
        "Faiss": 48, "FaissSearcher": 48, "command line": 48, "encoder": 5, "encoder command": 5
    }  # fmt: skip
    assert found.vectors["largest_difference"] > 1e-5
    assert found.vectors["least_cosine"] > 0.999
    assert "rounded (bf16)" in " ".join(found.left_out)


@needs_java
def test_pyserini_finds_what_we_do(exported: Exported) -> None:
    found = verify_export(exported, depth=DEPTH)
    assert found.passed, found.table()
    parts = {(one.setting, one.part): one for one in found.hits}
    assert set(exported.settings) == {"toy/multi/en", "toy/multi/de", "toy/multi/hi"}
    for name, queries in exported.settings.items():
        for part in ("Faiss", "FaissSearcher", "command line", "encoder"):
            assert parts[name, part].questions == len(queries.ids)
            assert parts[name, part].apart < 1e-5
    assert sum(one.part == "encoder command" for one in found.hits) == 1
    assert {one.measure for one in found.measures} == {"AP", "nDCG@10", "R@10", "R@100"}
    assert all(abs(one.ours - one.pyserini) < 1e-3 for one in found.measures)
    assert found.vectors["largest_difference"] < 1e-5
    assert not found.left_out
    record = read_json(exported.folder / "verification.json", "a verification")
    assert record["passed"] is True
    assert {"pyserini", "anserini", "lucene", "java", "faiss-cpu", "beir_hybrid"} <= set(record["versions"])
    assert "Verified: all agree." in found.table()


@needs_java
def test_the_commands_of_the_readme_run(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """All in one process, for starting Java and Pyserini takes most of the time."""
    folder = str(exported.folder)
    page = (exported.folder / "README.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    monkeypatch.chdir(folder)  # Java keeps the directory that it was started in
    printed = []
    with jvm.JavaProcess() as java:
        for line in lines:
            python, kind, what, *arguments = shlex.split(line)
            assert python == "python"
            if kind == "-m":
                call: dict[str, Any] = {"folder": folder, "module": what, "arguments": arguments}
                printed.append(java.call("beir_hybrid.anserini.verifying.readback:command", timeout=300, **call))
            else:
                assert kind == "-c"
                java.call("timeit:timeit", timeout=300, stmt=what, number=1)  # fails where there is no such passage
    assert len(lines) == 3 + 1 + 3 + 3  # searching, with its own encoder, evaluating, BM25
    assert sum("ndcg_cut_10" in text for text in printed) == 3
    runs = {path.name for path in (exported.folder / "runs").iterdir()}
    assert runs == {"toy.multi.en.txt", "toy.multi.de.txt", "toy.multi.hi.txt", "bm25.toy.multi.en.txt"}


def shifted(exported: Exported) -> None:
    """An index whose rows have moved by one against their ids."""
    path = str(exported.folder / "index")
    index = faiss.read_index(path)
    vectors = index.reconstruct_n(0, index.ntotal)
    moved = faiss.IndexFlatIP(index.d)
    moved.add(np.roll(vectors, 1, axis=0))
    faiss.write_index(moved, path)


def renamed(exported: Exported) -> None:
    """An id that is another one."""
    path = exported.folder / "docid"
    path.write_text(path.read_text().replace("\n", "x\n", 1))


def cut_short(exported: Exported) -> None:
    """Fewer ids than vectors."""
    path = exported.folder / "docid"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


@pytest.mark.parametrize(
    ("damage", "told"),
    [(shifted, "Faiss: question 0"), (renamed, "docid: .* row 0 is another id"), (cut_short, "docid: ")],
)
def test_without_java_the_faiss_part_is_verified(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Exported], None], told: str
) -> None:
    monkeypatch.setattr(jvm, "available", lambda: "there is none")
    intact = verify_export(exported, depth=DEPTH)
    assert intact.passed
    assert {one.part for one in intact.hits} == {"Faiss"}
    assert "trec_eval, for there is no Java: there is none" in " ".join(intact.left_out)
    damage(exported)
    found = verify_export(exported, depth=DEPTH)
    assert not found.passed
    assert "NOT the same" in found.table()
    assert re.search(told, found.table())


@needs_java
def test_other_encoded_queries_judgements_and_encoders_are_noticed(exported: Exported) -> None:
    name, queries = next(iter(exported.settings.items()))
    path = exported.folder / "queries" / queries.file / "embedding.pkl"
    frame = pickle.loads(path.read_bytes())
    frame["embedding"] = list(np.roll(np.stack(frame["embedding"]), 1, axis=0))
    frame.to_pickle(path)
    other = next(one for one in exported.settings.values() if one is not queries)
    qrels = exported.folder / "qrels" / f"{other.file}.txt"
    qrels.write_text("\n".join(qrels.read_text().splitlines()[5:]) + "\n")
    manifest: dict[str, Any] = {**exported.manifest}
    flags = [flag for flag in manifest["query_encoder"]["flags"] if flag != "--query-prefix=query:"]
    found = verify_export(dataclasses.replace(exported, manifest=manifest | {"query_encoder": {"flags": flags}}))
    assert not found.passed
    wrong = {(one.setting, one.part) for one in found.hits if one.wrong}
    assert (name, "FaissSearcher") in wrong
    assert (name, "command line") in wrong
    assert (other.view.name, "FaissSearcher") not in wrong
    assert (other.view.name, "encoder") in wrong
    assert any(one.wrong for one in found.measures if one.setting == other.view.name)


def test_an_approximate_index_is_held_to_faiss_and_its_recall_is_told(
    toy_collection: MultilingualCollection, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jvm, "available", lambda: "there is none")
    options = {"index": "IVF8,Flat", "parameters": "nprobe=1", "query_encoder": False}
    exported = export_pyserini(DenseEncoder(tiny_model), toy_collection, tmp_path / "index", **options)
    found = verify_export(exported, depth=DEPTH)
    assert found.passed
    assert set(found.recall) == set(exported.settings)
    assert all(0 < share < 1 for share in found.recall.values())
    assert "recall" in found.table().splitlines()[0]


def test_why_pyserini_does_not_encode_is_told(
    toy_collection: MultilingualCollection, model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jvm, "available", lambda: "there is none")
    model.append(Dense(32, 16))
    exported = export_pyserini(DenseEncoder(model), toy_collection, tmp_path / "index")
    assert not (exported.folder / "encoder").exists()
    found = verify_export(exported, depth=DEPTH)
    assert found.passed
    told = "its module Dense comes after the pooling"
    assert told in found.table()
    readme = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert told in readme
    assert "PyseriniQueryEncoder" in readme


@pytest.mark.parametrize("wrong", [False, True])
def test_the_command_says_by_its_exit_code_what_was_found(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    monkeypatch.setattr(jvm, "available", lambda: "there is none")
    if wrong:
        write = pyserini_files.write_docids
        monkeypatch.setattr(pyserini_files, "write_docids", lambda path, docids: write(path, list(docids)[::-1]))
    call = ["export", str(tiny_model), "--collection", "sample-test", "--setting", "multi/en", "--verify"]
    done = CliRunner().invoke(app, [*call, "--output", str(tmp_path / "index")])
    assert done.exit_code == int(wrong), done.output
    assert ("NOT the same: do not use this folder." if wrong else "Verified: all agree.") in done.output
    assert read_json(tmp_path / "index" / "verification.json", "a verification")["passed"] is not wrong


def test_a_shard_is_not_verified(tiny_model: Path, tmp_path: Path) -> None:
    call = ["export", str(tiny_model), "--collection", "sample-test", "--verify", "--shard", "0", "--shards", "2"]
    done = CliRunner().invoke(app, [*call, "--output", str(tmp_path / "index")])
    assert done.exit_code == 2
    assert "leave it out for a --shard" in " ".join(done.output.split())


def test_questions_that_are_equal_once_they_are_read_have_one_vector(tiny_model: Path, tmp_path: Path) -> None:
    builder = CollectionBuilder("trimmed", ("en",), CollectionInfo("", "", "the test"))
    row = builder.add_passage("p", "enriver is here", 0, "test")
    texts = ("where is enriver?", "\twhere is enriver? ", "entower where \n", "\rentower where")
    for number, text in enumerate(texts):
        builder.add_query(f"q{number}", text, 0, f"q{number}", row, "test")
    encoder = DenseEncoder(tiny_model, precision="bf16")
    exported = export_pyserini(encoder, builder.build(), tmp_path / "index", setting="mono/en", query_encoder=False)
    (queries,) = exported.settings.values()
    for one, other in ((0, 1), (2, 3)):
        assert queries.topic_texts[one] == queries.topic_texts[other]
        np.testing.assert_array_equal(queries.vectors[one], queries.vectors[other])
    np.testing.assert_allclose(queries.vectors[2], encoder.encode_queries(["entower where"])[0], atol=1e-2)
