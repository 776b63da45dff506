from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import faiss
import pytest
from typer.testing import CliRunner, Result

import beir_hybrid
from beir_hybrid.cli import app
from beir_hybrid.collections.registry import load
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.files import read_json

REPORT = {"results.json", "queries.parquet", "report.md", "report.html", "report.tex", "figures.csv", "heatmap.png"}
SAMPLE = Path(__file__).parents[2] / "beir_hybrid" / "collections" / "sample"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result) -> str:
    """The one error line of a call that was wrong."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A folder with `xquad-r/`, which here holds the sample's two smallest languages."""
    folder = tmp_path / "data" / "xquad-r"
    folder.mkdir(parents=True)
    for language in ("en", "zh"):
        shutil.copy(SAMPLE / "test" / f"{language}.json", folder)
    return tmp_path / "data"


@pytest.mark.parametrize("command", [[], ["datasets"], ["train"], ["evaluate"], ["compare"], ["export"], ["demo"]])
def test_help_teaches(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output
    assert len(result.output.split()) > 20


def test_the_version() -> None:
    assert run("--version").output == f"beir-hybrid {beir_hybrid.__version__}\n"


def test_datasets_are_listed() -> None:
    result = run("datasets")
    assert result.exit_code == 0
    for word in ("xquad-r", "mlqa-r", "CC BY-NC 4.0", "13,014", "bundled"):
        assert word in result.output


def test_evaluate_prints_and_writes(tiny_model: Path, tmp_path: Path) -> None:
    result = run(
        "evaluate", tiny_model, "--collection", "sample-test", "--languages", "en,de", "--json", tmp_path / "out.json",
        "--report", tmp_path / "report", "--system", "tiny",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "multi RankDistance" in result.output
    results = Results.read(tmp_path / "out.json")
    assert {figure.system for figure in results.figures} == {"tiny"}
    assert results.value(setting="cross/en-de", measure="AP") > 0
    assert results.provenance["digest"] == load("sample-test", languages=["en", "de"]).digest
    assert {path.name for path in (tmp_path / "report").iterdir()} == REPORT
    assert len(Results.read(tmp_path / "report" / "results.json").queries) == len(results.queries) > 0


def test_several_models_share_the_tables(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", tiny_model, tiny_model, "--collection", "sample-test", "--languages", "en,de")
    result = run(*arguments, "--system", "one", "--system", "two", "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert "difference" in result.output
    assert {figure.system for figure in Results.read(tmp_path / "out.json").figures} == {"one", "two"}
    assert "1 names for 2 models" in refused(run(*arguments, "--system", "one"))


def test_evaluate_only_what_is_asked(tiny_model: Path, tmp_path: Path) -> None:
    result = run(
        "evaluate", tiny_model, "--collection", "sample-test", "--languages", "en,de,es", "--setting", "cross/en-de",
        "--measure", "RR", "--measure", "nDCG@10", "--json", tmp_path / "out.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = Results.read(tmp_path / "out.json").figures
    assert {(figure.setting, figure.measure) for figure in figures} == {
        ("sample-test@de+en+es/cross/en-de", "RR"),
        ("sample-test@de+en+es/cross/en-de", "nDCG@10"),
    }


def test_train_then_evaluate_then_export(tiny_model: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    result = run(
        "train", tiny_model, "--output", trained, "--languages", "en,de,zh", "--steps", "3", "--batch-size", "8",
        "--batching", "x-y", "--max-tokens", "16",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    record = read_json(trained / "hybrid_training.json", "a record")
    assert (record["batching"], record["steps"], record["sources"][0]["name"]) == ("x-y", 3, "sample-train@de+en+zh")
    said = refused(run("train", tiny_model, "--output", trained))
    assert "exists already" in said

    result = run(
        "evaluate", trained, "--collection", "sample-test", "--languages", "en,de", "--json", tmp_path / "o.json"
    )
    assert result.exit_code == 0, result.output
    results = Results.read(tmp_path / "o.json")
    assert results.figures[0].batching == "x-y"
    assert results.provenance["encoder"]["training"]["sources"][0]["name"].startswith("sample-train")
    said = refused(run("evaluate", trained, "--collection", "sample-train"))
    assert "was trained on sample-train@de+en+zh" in said

    result = run(
        "export", trained, "--collection", "sample-test", "--setting", "mono/en", "--output", tmp_path / "index"
    )
    assert result.exit_code == 0, result.output
    docids = (tmp_path / "index" / "docid").read_text().splitlines()
    assert faiss.read_index(str(tmp_path / "index" / "index")).ntotal == len(docids)
    assert set(docids) == set(load("sample-test").view("mono/en").corpus)


def test_export_of_another_kind_and_in_parts(tiny_model: Path, tmp_path: Path) -> None:
    common = ("export", tiny_model, "--collection", "sample-test", "--languages", "en,de")
    result = run(*common, "--output", tmp_path / "ivf", "--index", "IVF4,Flat", "--parameters", "nprobe=4")
    assert result.exit_code == 0, result.output
    assert "recall@10 1.0000, recall@98 1.0000" in result.output
    assert "README.md" in result.output
    for number in (0, 1):
        result = run(*common, "--output", tmp_path / "parts", "--shards", 2, "--shard", number)
        assert f"this is shard {number} of 2" in result.output, result.output
    result = run(*common, "--output", tmp_path / "parts", "--shards", 2)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "parts" / "docid").read_bytes() == (tmp_path / "ivf" / "docid").read_bytes()
    assert "needs 9,999 or more" in refused(run(*common, "--output", tmp_path / "no", "--index", "IVF9999,Flat"))
    said = refused(run(*common, "--output", tmp_path / "no", "--setting", "mono/en", "--setting", "mono/de"))
    assert "search different passages" in said


def test_demo_leaves_a_report(tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "demo"
    result = run(
        "demo", "--model", tiny_model, "--collection", "sample-test", "--languages", "en,de", "--steps", "2",
        "--batch-size", "8", "--output", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert {path.name for path in output.iterdir()} == {*REPORT, "model"}
    assert "difference" in result.output
    systems = read_json(output / "results.json", "results")["provenance"]["systems"]
    assert [system["encoder"].get("training", {}).get("batching") for system in systems] == [None, "hybrid"]
    assert systems[0]["encoder"]["digest"] != systems[1]["encoder"]["digest"]


def test_demo_says_that_it_goes_on_with_the_sample(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BEIR_HYBRID_OFFLINE", "1")
    monkeypatch.delenv("BEIR_HYBRID_DATA", raising=False)
    result = run(
        "demo", "--model", tiny_model, "--languages", "en,de", "--steps", "1", "--batch-size", "8", "--output",
        tmp_path / "demo",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "XQuAD-R is not to be had: offline" in result.output
    assert "Going on with the bundled sample (sample-test)" in result.output


def test_the_data_folder_of_the_environment_is_used(
    tiny_model: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEIR_HYBRID_DATA", str(data_dir))
    arguments = ("evaluate", tiny_model, "--languages", "en,zh", "--setting", "mono", "--json", tmp_path / "o.json")
    assert run(*arguments).exit_code == 0
    assert Results.read(tmp_path / "o.json").provenance["collection"] == "xquad-r@en+zh"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--collection", "squad"], "unknown collection 'squad'"),
        (["--languages", "en,xx"], "unknown language in sample-test: 'xx'"),
        (["--setting", "mono/xx"], "unknown setting 'sample-test/mono/xx'"),
        (["--measure", "Precision"], "Precision"),
        (["--precision", "int3"], "unknown precision 'int3'"),
        (["--data-dir", "/nowhere", "--collection", "xquad-r"], "/nowhere/xquad-r: no such folder"),
    ],
)
def test_unknown_names_are_one_error(tiny_model: Path, arguments: list[str], said: str) -> None:
    assert said in refused(run("evaluate", tiny_model, "--collection", "sample-test", *arguments))


@pytest.mark.parametrize("command", ["evaluate", "train", "export"])
def test_an_unknown_model_is_one_error(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEIR_HYBRID_OFFLINE", "1")
    output = [] if command == "evaluate" else ["--output", tmp_path / "out"]
    said = refused(run(command, "no/such-model", "--collection", "sample-test", *output))
    assert "the model 'no/such-model' cannot be loaded" in said
    assert not list(tmp_path.iterdir())


def test_a_truncated_file_is_one_error(tiny_model: Path, data_dir: Path) -> None:
    path = data_dir / "xquad-r" / "zh.json"
    path.write_bytes(path.read_bytes()[:-5000])
    said = refused(run("evaluate", tiny_model, "--data-dir", data_dir, "--languages", "en,zh"))
    assert "zh.json" in said
    path.unlink()
    assert "zh.json: no such file" in refused(
        run("evaluate", tiny_model, "--data-dir", data_dir, "--languages", "en,zh")
    )


def test_no_permission_to_write_is_one_error(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # what even root cannot write below
    target = tmp_path / "file" / "out"
    common = ("--collection", "sample-test", "--languages", "en,de")
    assert "cannot be written" in refused(run("evaluate", tiny_model, *common, "--json", target))
    assert "cannot be written" in refused(run("export", tiny_model, *common, "--output", target))
    assert "cannot be written" in refused(run("train", tiny_model, "--output", target, "--steps", "1"))


def test_a_full_disk_while_the_model_is_saved(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from beir_hybrid.training.trainer import HybridTrainer

    def full(self: Any, model: Any, folder: str) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(HybridTrainer, "write_model", full)
    said = refused(run("train", tiny_model, "--output", tmp_path / "m", "--steps", "1", "--batch-size", "8"))
    assert "No space left on device" in said
    assert not list(tmp_path.iterdir())


def test_a_full_disk_while_figures_are_written(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, text: str, **_: Any) -> None:
        self.write_bytes(text.encode()[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "out.json").write_text(json.dumps("earlier"))
    monkeypatch.setattr(Path, "write_text", full)
    arguments = ("--collection", "sample-test", "--languages", "en,de", "--json", tmp_path / "out.json")
    assert "No space left on device" in refused(run("evaluate", tiny_model, *arguments))
    assert json.loads((tmp_path / "out.json").read_bytes()) == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_blend_is_evaluated(tiny_model: Path, tmp_path: Path) -> None:
    result = run(
        "evaluate", tiny_model, "--collection", "sample-test@de+en", "--setting", "blend/de+en/multi", "--json",
        tmp_path / "out.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = Results.read(tmp_path / "out.json").figures
    assert {figure.setting for figure in figures} == {
        "sample-test@de+en/blend/de+en/multi",
        "sample-test@de+en/blend/multi",
    }
    said = refused(run("evaluate", tiny_model, "--collection", "sample-test/multi/en"))
    assert "name 'sample-test', and the setting 'multi/en' beside it (--setting)" in said
