from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

import beir_hybrid
from beir_hybrid.anserini import jvm
from beir_hybrid.evaluation.figures import Results
from tests.cli.test_cli import data_dir as data_dir
from tests.cli.test_cli import refused, run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_runs_and_embeddings(tiny_model: Path, data_dir: Path, tmp_path: Path) -> None:
    kept, runs, out = (tmp_path / name for name in ("kept", "runs", "out.json"))
    given = ["evaluate", tiny_model, "--data-dir", data_dir, "--languages", "en,zh", "--precision", "float32"]
    result = run(*given, "--embeddings", kept, "--write-runs", runs, "--system", "tiny", "--json", out)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (runs / "tiny").iterdir()} == {
        f"xquad-r@en+zh.{name}.trec.gz"
        for name in ("mono.en", "mono.zh", "cross.en-zh", "cross.zh-en", "multi.en", "multi.zh")
    }
    assert len(list(kept.iterdir())) == 2
    again = run(*given, "--embeddings", kept, "--runs", f"read={runs / 'tiny'}", "--json", tmp_path / "two.json")
    assert again.exit_code == 0, again.output
    figures = Results.read(tmp_path / "two.json").figures
    assert {one.system for one in figures} == {str(tiny_model), "read"}
    first = {(one.setting, one.measure, one.average): one.value for one in figures if one.system != "read"}
    read = {(one.setting, one.measure, one.average): one.value for one in figures if one.system == "read"}
    assert read.keys() == first.keys()
    assert all(read[key] == pytest.approx(first[key], abs=1e-12) for key in first)
    assert "write their runs to one folder" in refused(run(*given, tiny_model, "--write-runs", runs))


@pytest.mark.skipif(bool(jvm.available()), reason=f"no BM25: {jvm.available()}")
def test_bm25_beside_a_model(tiny_model: Path, data_dir: Path) -> None:
    result = run("evaluate", tiny_model, "--bm25", "--data-dir", data_dir, "--languages", "en,zh", "--setting", "mono")
    assert result.exit_code == 0, result.output
    (row,) = (line.split() for line in result.output.splitlines() if line.strip().startswith("BM25"))
    assert float(row[3]) > 0.8  # BM25 ○ baseline AP


def test_baselines_come_before_what_was_trained_here(tiny_model: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    shutil.copytree(tiny_model, trained)
    (trained / "hybrid_training.json").write_text('{"batching": "hybrid"}')
    models = (trained, tiny_model, "--system", "mine", "--system", "tiny")
    result = run("evaluate", *models, "--collection", "sample-test", "--languages", "en,de", "--setting", "mono")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if "○" in line or "●" in line]
    assert [row[:-2] for row in rows] == [["tiny", "○", "baseline"], ["mine", "(hybrid)", "●", "ours"]]


def test_nothing_to_evaluate() -> None:
    assert "name a model" in refused(run("evaluate"))
    assert "NAME=FOLDER" in refused(run("evaluate", "--collection", "sample-test", "--runs", "folder"))


def test_an_index_that_is_there_already(
    tiny_model: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    where = ["--data-dir", data_dir, "--languages", "en,zh"]
    index, runs, read = (tmp_path / name for name in ("index", "runs", "read"))
    assert run("export", tiny_model, *where, "--precision", "float32", "--output", index).exit_code == 0
    given = ["evaluate", tiny_model, *where, "--precision", "float32"]
    result = run(*given, "--write-runs", runs, "--system", "one")
    assert result.exit_code == 0, result.output
    again = run(*given, "--write-runs", read, "--system", "one", "--passage-vectors", index)
    assert again.exit_code == 0, again.output
    assert again.output == result.output
    for path in (runs / "one").iterdir():
        assert trec_top(read / "one" / path.name) == trec_top(path)

    assert "needs --passage-vectors" in refused(run(*given, "--query-vectors", index))
    assert "with 2 models" in refused(run(*given, tiny_model, "--passage-vectors", index))
    assert "leave one of the two out" in refused(run(*given, "--passage-vectors", index, "--query-vectors", index))
    lines = tmp_path / "queries.jsonl"
    lines.write_text('{"id": "a", "vector": [1, 2]}\n')
    assert "and no model" in refused(run("evaluate", *where, "--passage-vectors", index))
    call = run("evaluate", *where, "--passage-vectors", index, "--query-vectors", lines)
    assert "no vector for" in refused(call)
    other = SentenceTransformer(str(tiny_model), device="cpu")
    other[0].model.embeddings.word_embeddings.weight.data *= 2
    other.save(str(tmp_path / "other"))
    call = run("evaluate", tmp_path / "other", *where, "--passage-vectors", index)
    assert "has other weights" in refused(call)


def trec_top(path: Path) -> list[tuple[str, str]]:
    """The first passage of each question in a run."""
    with gzip.open(path, "rt") as stream:
        rows = [line.split() for line in stream]
    return [(row[0], row[2]) for row in rows if row[3] == "1"]


def test_bad_runs_are_named_and_nothing_is_overwritten(tmp_path: Path) -> None:
    view = beir_hybrid.load("sample-test").view("multi/en")
    query, passage = next(iter(view.queries)), next(iter(view.corpus))
    file, out = tmp_path / "sample-test.multi.en.trec", tmp_path / "out.json"
    line = f"{query} Q0 {passage} 1 1.0 t\n"
    given = ["evaluate", "--collection", "sample-test", "--runs", f"x={tmp_path}", "--json", out, "--measure", "AP"]
    out.write_text("kept")
    for text, said in (
        (line + line, f"{file}, line 2: document '{passage}' stands twice"),
        (line + f"{query} Q0 none 2 0.5 t\n", f"{file}, line 2: document 'none' is not in sample-test/multi/en"),
        (line + line.replace(query, "none"), f"{file}, line 2: query 'none' is not in"),
        (line.replace("1.0", "nan"), f"{file}, line 1: the score"),
        ("", "is empty"),
    ):
        file.write_text(text)
        assert said in refused(run(*given))
        assert out.read_text() == "kept"
    file.write_text(line)
    assert "RankDistance: 36 queries have not found all" in refused(run(*given, "--measure", "RankDistance"))
    assert "only multi setting with a run" in refused(run(*given, "--measure", "MRC")).replace("\n", " ")
    assert out.read_text() == "kept"
    result = run(*given)
    assert result.exit_code == 0, result.output
    assert "x: 35 questions have no results in" in result.stderr
    assert len(Results.read(out).queries[0].values) == 36
