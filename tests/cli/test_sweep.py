from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from beir_hybrid.cli import app
from beir_hybrid.cli.sweep import combinations
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.files import read_json
from beir_hybrid.training.trainer import HybridTrainer

CONFIG = "model: {model}\nlanguages: en,de\nbatch-size: 8\nsteps: 2\nmax-tokens: 16\narguments:\n  weight_decay: 0.2\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG.format(model=tiny_model))
    return path


def sweep(config: Path, *arguments: str) -> Result:
    evaluation = ("--evaluate", "sample-test", "--languages", "en,de")
    return run("sweep", config, "--output", config.parent / "sweep", *evaluation, *arguments)


def test_only_hybrid_has_alphas() -> None:
    assert list(combinations(["hybrid", "x-y"], [0.0, 0.5], [0])) == [
        "hybrid-alpha0-seed0",
        "hybrid-alpha0.5-seed0",
        "x-y-seed0",
    ]
    assert list(combinations(["x-y: 1, x-x: 3"], [0.5], [2])) == ["x-y0.25+x-x0.75-seed2"]


def test_each_combination_is_trained_and_evaluated_once(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings: list[Any] = []
    train = HybridTrainer.train

    def counted(self: HybridTrainer, **arguments: Any) -> Any:
        trainings.append((self.args.batching, self.args.alpha, self.args.seed, self.args.weight_decay))
        return train(self, **arguments)

    monkeypatch.setattr(HybridTrainer, "train", counted)
    output = config.parent / "sweep"
    result = sweep(config, "--alpha", "0,1", "--seed", "3", "--batching", "hybrid,x-y")
    assert result.exit_code == 0, result.output
    assert trainings == [("hybrid", 0, 3, 0.2), ("hybrid", 1, 3, 0.2), ("x-y", 0.5, 3, 0.2)]
    names = {"hybrid-alpha0-seed3", "hybrid-alpha1-seed3", "x-y-seed3"}
    written = {"sweep.json", "table.md", "results.json", "report.md", "heatmap.png"}
    assert names | written <= {path.name for path in output.iterdir()}
    results = Results.read(output / "results.json")
    assert {(one.system, one.batching) for one in results.figures} == {
        ("alpha0-seed3", "hybrid"),
        ("alpha1-seed3", "hybrid"),
        ("seed3", "x-y"),
    }
    for text in ((output / "table.md").read_text(), result.output):
        assert "alpha1-seed3 (hybrid)" in text
        assert "multi RankDistance" in text

    (output / "x-y-seed3" / "results.json").unlink()  # stopped before it was evaluated
    result = sweep(config, "--alpha", "0,1", "--seed", "3,4", "--batching", "x-y")
    assert result.exit_code == 0, result.output
    assert trainings[3:] == [("x-y", 0.5, 4, 0.2)]
    assert read_json(output / "x-y-seed4" / "hybrid_training.json", "a record")["seed"] == 4
    assert {one.system for one in Results.read(output / "results.json").figures} == {"seed3", "seed4"}
    page = (output / "report.html").read_text()
    assert "each run, mean over settings" in page  # seeds are runs of one system
    assert "run 2 of 2" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--alpha", "0,much"], "--alpha is '0,much'; expected floats"),
        (["--seed", "0.5"], "--seed is '0.5'; expected ints"),
        (["--batching", "x-z"], "x-z"),
        (["--evaluate", "sample-tset"], "unknown collection 'sample-tset'"),
        (["--evaluate", "sample-train"], "was trained on sample-train"),
    ],
)
def test_a_wrong_sweep_is_one_error(config: Path, arguments: list[str], said: str) -> None:
    result = sweep(config, *arguments)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())


def test_other_settings_in_the_same_folder_are_refused(config: Path) -> None:
    assert sweep(config, "--batching", "x-y").exit_code == 0
    config.write_text(config.read_text().replace("steps: 2", "steps: 3"))
    result = sweep(config, "--batching", "x-y")
    assert result.exit_code == 2
    assert "steps was 2 and is 3" in " ".join(result.output.split())
