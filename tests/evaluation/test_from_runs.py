from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.lazy import take
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation import measures
from beir_hybrid.evaluation.from_runs import evaluate_runs, read_runs, run_name
from beir_hybrid.evaluation.grid import grid_from_embeddings
from beir_hybrid.retrieval.runs import Run
from beir_hybrid.retrieval.search import top_k
from tests.conftest import make_collection


def vectors(collection: MultilingualCollection) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    found = [
        random.normal(size=(len(side), 16)).astype(np.float32) for side in (collection.queries, collection.passages)
    ]
    return tuple(one / np.linalg.norm(one, axis=1, keepdims=True) for one in found)  # type: ignore[return-value]


def made(collection: MultilingualCollection, depth: int | None = None) -> list[Run]:
    queries, passages = vectors(collection)
    runs = []
    for setting in collection.settings:
        view = collection.view(setting)
        ids = [collection.passages.ids[row] for row in view.passage_rows.tolist()]
        scores, found = top_k(queries[view.query_rows], passages[view.passage_rows], depth or len(ids), ids)
        runs.append(Run.of(view, view.query_rows[:, None], view.passage_rows[found], scores))
    return runs


def test_whole_runs_have_the_figures_of_the_grid(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    grid = grid_from_embeddings(*vectors(toy_collection), toy_collection, system="s")
    runs = made(toy_collection)
    found = evaluate_runs(runs, system="s")
    assert [(one.setting, one.measure, one.average, one.queries) for one in found.figures] == [
        (one.setting, one.measure, one.average, one.queries) for one in grid.figures
    ]
    np.testing.assert_allclose([one.value for one in found.figures], [one.value for one in grid.figures], atol=1e-12)
    assert [one.ids for one in found.queries] == [one.ids for one in grid.queries]
    assert "depth" not in found.provenance
    for run in runs:
        run.write(tmp_path / f"{run_name(run.view.setting)}.trec.gz")
    (tmp_path / "notes.md").write_text("no run")
    again = evaluate_runs(read_runs(tmp_path, toy_collection), system="s")
    assert again.figures == found.figures


@pytest.mark.parametrize("same_ids", [False, True])
def test_measures_of_whole_rankings_are_those_of_runs(
    same_ids: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    collection = make_collection(items=12)
    if same_ids:  # some questions are passages: none finds itself
        count = len(collection.passages) // 3
        ids = [*take(collection.queries.ids, np.arange(count)), *list(collection.passages.ids)[count:]]
        collection = replace(collection, passages=replace(collection.passages, ids=ids, index=None), same_ids=True)
    names = ["AWRF", "AWRF@1", "AWRF@3", *([] if same_ids else ["MRC"])]
    queries, passages = vectors(collection)
    passages[3:9] = passages[0]  # ties
    grid = grid_from_embeddings(queries, passages, collection, measures=names)
    monkeypatch.setattr("beir_hybrid.retrieval.best._BYTES_HELD", 0)
    monkeypatch.setattr("beir_hybrid.retrieval.best._ROWS_SORTED_AT_ONCE", 3)
    assert grid_from_embeddings(queries, passages, collection, measures=names).figures == grid.figures
    multi = [str(setting) for setting in collection.settings if setting.kind == "multi"]
    grid_from_embeddings(queries, passages, collection, settings=multi, runs=tmp_path, depth=len(passages))
    found = evaluate_runs(read_runs(tmp_path, collection), measures=names)
    assert {one.measure for one in grid.figures} == set(names)
    for ours, theirs in zip(grid.queries, found.queries, strict=True):
        assert (ours.key, ours.ids) == (theirs.key, theirs.ids)
        if ours.measure == "MRC":
            assert ours.values == pytest.approx(theirs.values, abs=1e-12)
        else:
            assert ours.values.tolist() == theirs.values.tolist()
    assert [one.value for one in grid.figures] == pytest.approx([one.value for one in found.figures], abs=1e-12)
    one = grid_from_embeddings(queries, passages, collection, measures=names, settings=multi[:1])
    assert [values.values.tolist() for values in one.queries] == [
        values.values.tolist() for values in grid.queries if values.setting == multi[0]
    ]


def test_mrc_of_runs_is_that_of_ir_measures_and_needs_two_languages(toy_collection: MultilingualCollection) -> None:
    runs = [run for run in made(toy_collection, 7) if run.view.setting.kind == "multi"]
    found = evaluate_runs(runs, measures=["MRC"])
    run = {query: scores for one in runs for query, scores in one.to_beir().items()}
    qrels = {query: dict(judged) for one in runs for query, judged in one.view.qrels.items()}
    before = measures.question_item(toy_collection)
    try:
        expected = {metric.query_id: metric.value for metric in ir_measures.iter_calc([measures.MRC], qrels, run)}
    finally:
        measures.question_item(before)
    default = {metric.query_id: metric.value for metric in ir_measures.iter_calc([measures.MRC], qrels, run)}
    assert default == pytest.approx(expected, nan_ok=True)
    got = {query: value for one in found.queries for query, value in zip(one.ids, one.values.tolist(), strict=True)}
    assert got == {query: value for query, value in expected.items() if not np.isnan(value)}
    assert len(got) < len(expected)  # some items have a question in one language alone
    with pytest.raises(BeirHybridError, match="toy/multi/en is the only multi setting with a run"):
        evaluate_runs(runs[:1], measures=["MRC"])
    with pytest.raises(BeirHybridError, match="'first' does not tell what it is a translation of"):
        ir_measures.calc_aggregate([measures.MRC], {"first": {"a": 1}}, {"first": {"a": 1.0}})


def test_cut_runs_leave_out_what_is_not_defined(toy_collection: MultilingualCollection) -> None:
    runs = made(toy_collection, 5)
    found = evaluate_runs(runs)
    assert found.provenance["depth"] == 5
    assert found.provenance["undefined"] == ["RankDistance"]
    assert not found.select(measure="RankDistance")
    with pytest.raises(BeirHybridError, match="RankDistance"):
        evaluate_runs(runs, measures=["RankDistance"])
    grid = grid_from_embeddings(*vectors(toy_collection), toy_collection, measures=["R@5"])
    cut = evaluate_runs(runs, measures=["R@5", "AWRF@5"])
    np.testing.assert_allclose(
        [one.value for one in cut.select(measure="R@5")], [one.value for one in grid.figures], atol=1e-12
    )
    fair = cut.select(measure="AWRF@5")
    assert fair
    assert all(0 <= one.value <= 1 for one in fair)


def test_a_question_without_results_counts(toy_collection: MultilingualCollection) -> None:
    (run,) = (one for one in made(toy_collection) if str(one.view.setting) == "toy/mono/en")
    kept = run.queries != run.view.query_rows[0]
    some = Run.of(run.view, run.queries[kept], run.passages[kept], run.scores[kept])
    whole, less = (evaluate_runs([one], measures=["AP"]) for one in (run, some))
    own = whole.queries[0].values
    assert less.figures[0].queries == whole.figures[0].queries
    assert less.provenance["without_results"] == 1
    assert "without_results" not in whole.provenance
    assert less.figures[0].value == pytest.approx((own.sum() - own[0]) / len(own))


def test_what_is_no_run_of_the_collection(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    runs = made(toy_collection)
    for wrong, says in (([], "no run"), ([runs[0], runs[0]], "two runs are of toy/mono/en")):
        with pytest.raises(BeirHybridError, match=says):
            evaluate_runs(wrong)
    with pytest.raises(BeirHybridError, match="no such folder"):
        read_runs(tmp_path / "none", toy_collection)
    with pytest.raises(BeirHybridError, match="no runs here"):
        read_runs(tmp_path, toy_collection)
    (tmp_path / "toy.mono.fr.trec").write_text("q Q0 d 1 1.0 t\n")
    with pytest.raises(BeirHybridError, match=r"toy.mono.fr is no setting of toy.*toy.mono.en.trec"):
        read_runs(tmp_path, toy_collection)


def test_results_of_beir_are_runs(toy_collection: MultilingualCollection, tmp_path: Path) -> None:
    runs = made(toy_collection)
    for run in runs:
        (tmp_path / f"{run_name(run.view.setting)}.json").write_text(json.dumps(run.to_beir()))
    (tmp_path / "metrics.json").write_text("[]")  # whatever else a script wrote
    assert evaluate_runs(read_runs(tmp_path, toy_collection)).figures == evaluate_runs(runs).figures
    name = f"{run_name(runs[0].view.setting)}.json"
    (one,) = read_runs(tmp_path / name, toy_collection)
    assert one.view.setting == runs[0].view.setting
    query = next(iter(runs[0].to_beir()))
    for content, said in (
        ("[]", "expected BEIR's results"),
        ('{"q": [1]}', "expected BEIR's results"),
        (f'{{"{query}": {{"x": "1"}}}}', "the score of 'x' for"),
        (f'{{"{query}": {{"x": 1}}}}', "'x'"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(BeirHybridError, match=said) as caught:
            read_runs(tmp_path / name, toy_collection)
        assert name in str(caught.value)
    with pytest.raises(BeirHybridError, match="is no setting of"):
        read_runs(tmp_path / "metrics.json", toy_collection)
