from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from beir_hybrid import load_collection
from beir_hybrid.cli import app
from beir_hybrid.evaluation.figures import Results, combine
from beir_hybrid.evaluation.from_runs import read_runs, run_name
from beir_hybrid.evaluation.grid import grid_from_embeddings
from beir_hybrid.evaluation.published import published_results
from beir_hybrid.evaluation.reports.report import write_report
from beir_hybrid.evaluation.write_runs import write_runs
from tests.conftest import make_collection

TOY = make_collection(items=24)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def measured(system: str, seed: int, noise: float = 0.5, batching: str = "") -> Results:
    generator = np.random.default_rng(seed)
    items = np.random.default_rng(99).standard_normal((len(TOY.items), 8))
    queries, passages = items[TOY.query_item], generator.standard_normal((len(TOY.passages), 8))
    passages[TOY.relevant.passages] = queries[TOY.relevant.queries]
    noisy = (vectors + noise * generator.standard_normal(vectors.shape) for vectors in (queries, passages))
    return grid_from_embeddings(*noisy, TOY, system=system, batching=batching)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of a poor system and of three runs of a good one."""
    folder = tmp_path_factory.mktemp("reports")
    measured("poor", 0, 1.2).write_json(folder / "poor" / "results.json")
    for seed in (1, 2, 3):
        measured("good", seed, 0.3, "hybrid").write_json(folder / f"good{seed}" / "results.json")
    write_report([measured("poor", 0, 1.2), measured("good", 1, 0.3, "hybrid")], folder / "both")
    return folder


def test_two_folders(folder: Path) -> None:
    result = run(folder / "poor", folder / "good1")
    assert result.exit_code == 0, result.output
    for said in ("toy, difference from poor", "good (hybrid)", "multi RankDistance ↓", "wins/ties/losses", "Holm"):
        assert said in result.output
    assert "by question language" not in result.output
    assert run(folder / "poor" / "results.json", folder / "good1").output == result.output
    assert run(folder / "both").output == result.output


def test_runs_of_a_system(folder: Path) -> None:
    runs = ",".join(str(folder / f"good{seed}") for seed in (1, 2, 3))
    result = run(folder / "poor", f"good={runs}", "--measure", "AP")
    assert result.exit_code == 0, result.output
    assert "toy, each run, mean over settings (macro)" in result.output
    assert "run 3" in result.output
    assert "RankDistance" not in result.output
    each = [part for seed in (1, 2, 3) for part in ("--system", f"good={folder / f'good{seed}'}")]
    assert run(folder / "poor", *each, "--measure", "AP").output == result.output


def test_files_are_written(folder: Path, tmp_path: Path) -> None:
    targets = {name: tmp_path / f"c.{name}" for name in ("json", "csv", "latex", "markdown")}
    result = run(
        folder / "poor", folder / "good1", "--baseline", "good (hybrid)", "--test", "t", "--by-language", "--seed", "3",
        *(part for name, path in targets.items() for part in (f"--{name}", path)),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    written = json.loads(targets["json"].read_text())
    assert written["provenance"]["test"]["test"] == "t"
    assert written["provenance"]["test"]["seed"] == 3
    assert {row["baseline"] for row in written["differences"]} == {"good (hybrid)"}
    rows = list(csv.DictReader(targets["csv"].read_text().splitlines()))
    assert [float(row["p"]) for row in rows] == [row["p"] for row in written["differences"]]
    assert r"\toprule" in targets["latex"].read_text()
    assert "| question language | baseline |" in targets["markdown"].read_text()
    assert "toy, cross AP: poor against good (hybrid)" in result.output


def test_runs_of_any_system(tmp_path: Path) -> None:
    """Rankings are compared like reports, whether TREC runs or BEIR's results, and with reports."""
    data = load_collection("sample-test", languages=["en", "de"])
    random = np.random.default_rng(0)
    queries, passages = random.standard_normal((len(data.queries), 8)), random.standard_normal((len(data.passages), 8))
    settings = [data.setting(one) for one in ("mono/de", "mono/en", "multi/en")]
    grid_from_embeddings(queries, passages, data, system="report").write_json(tmp_path / "report" / "results.json")
    passages[data.relevant.passages] = queries[data.relevant.queries]
    write_runs(queries, passages, data, settings, tmp_path / "good", depth=20)
    (tmp_path / "beir").mkdir()
    for one in read_runs(tmp_path / "good", data):
        (tmp_path / "beir" / f"{run_name(one.view.setting)}.json").write_text(json.dumps(one.to_beir()))

    name = ("--collection", data.name)
    result = run(tmp_path / "report", tmp_path / "good", tmp_path / "beir", *name, "--permutations", "200")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if "mono R@1" in line]
    assert [row[0] for row in rows] == ["good,", "beir,"]
    assert rows[0][3:] == rows[1][3:]  # good, top 20 mono R@1 baseline value
    assert float(rows[0][6]) > float(rows[0][5])
    assert "different depth: AP, RankDistance of good, top 20" in " ".join(result.output.split())
    only = ("--measure", "P@5", "--permutations", "200")
    file = "sample-test@de+en.mono.en.trec.gz"
    result = run(tmp_path / "good" / file, f"beir={tmp_path / 'beir' / file.replace('trec.gz', 'json')}", *name, *only)
    assert result.exit_code == 0, result.output
    assert "mono P@5" in result.output
    assert "say of which collection: --collection" in refused(run(tmp_path / "report", tmp_path / "good"))
    assert "no such file" in refused(run(tmp_path / "report", tmp_path / "none", *name))


def test_micro_averages(folder: Path) -> None:
    assert "mean over questions (micro)" in run(folder / "both", "--micro").output


def test_what_cannot_be_compared_is_one_error(folder: Path, tmp_path: Path) -> None:
    poor = folder / "poor"
    assert "nothing to compare" in refused(run())
    assert "no two systems on one collection" in refused(run(poor))
    assert "both hold a system called 'good (hybrid)'" in refused(run(folder / "good1", folder / "good2"))
    assert "holds several systems" in refused(run(poor, f"x={folder / 'both'}"))
    assert "no results.json, which evaluate --report writes" in refused(run(poor, tmp_path))
    assert "expected NAME=FOLDER" in refused(run(poor, "=x"))
    assert "unknown test 'u'" in refused(run(folder / "both", "--test", "u"))
    assert "unknown measure 'nDCG@3'" in refused(run(folder / "both", "--measure", "nDCG@3"))
    assert "unknown baseline 'x'" in refused(run(folder / "both", "--baseline", "x"))


def test_values_that_are_missing_or_of_other_figures(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "good1", tmp_path / "good")
    (tmp_path / "good" / "queries.parquet").unlink()
    assert "do not hold the values of each question" in refused(run(folder / "poor", tmp_path / "good"))
    shutil.copy(folder / "good2" / "queries.parquet", tmp_path / "good")
    assert "belongs to other figures" in refused(run(folder / "poor", tmp_path / "good"))
    shutil.copy(folder / "good1" / "queries.parquet", tmp_path / "good")
    (tmp_path / "good" / "queries.parquet").write_bytes(b"PAR1")
    assert "belongs to other figures" in refused(run(folder / "poor", tmp_path / "good"))


def test_other_data_is_refused(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "good1" / "results.json").read_text())
    content["provenance"]["digest"] = "0" * 64
    shutil.copytree(folder / "good1", tmp_path / "good")
    (tmp_path / "good" / "results.json").write_text(json.dumps(content))
    assert "do not compare" in refused(run(folder / "poor", tmp_path / "good"))


def test_published_figures_have_no_values_to_compare(folder: Path, tmp_path: Path) -> None:
    combine(published_results("xquad-r")[:2]).write_json(tmp_path / "results.json")
    assert "do not hold the values of each question" in refused(run(tmp_path))


def test_evaluate_shows_what_is_published(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", str(tiny_model), "--collection", "sample-test", "--languages", "en,de", "--published")
    result = CliRunner().invoke(app, [*arguments, "--report", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    assert "No figures of sample-test@de+en have been published" in " ".join(result.output.split())
    assert "baseline" in (tmp_path / "report" / "figures.csv").read_text()
