"""`export --faiss --hub`, and evaluating from what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from beir_hybrid.evaluation.figures import Results
from tests.cli.test_cli import data_dir as data_dir
from tests.cli.test_cli import refused, run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_an_export_with_its_homes(
    tiny_model: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    where = ["--data-dir", data_dir, "--languages", "en,zh"]
    index, faiss, hub = (tmp_path / name for name in ("index", "faiss", "hub"))
    given = ["export", tiny_model, *where, "--precision", "float32", "--output", index, "--faiss", faiss, "--hub", hub]
    result = run(*given, "--no-hub-texts", "--index", "SQ8")
    assert result.exit_code == 0, result.output
    assert f"hub dataset: {hub} (CC BY-SA 4.0)" in result.output.replace("\n", " ")
    # The index is compressed; the dataset has what was encoded.
    figures = {}
    for name, given_too in {"model": [tiny_model], "hub": ["--query-vectors", hub], "faiss": [tiny_model]}.items():
        out = tmp_path / f"{name}.json"
        vectors = [] if name == "model" else ["--passage-vectors", tmp_path / name]
        setting = ["--setting", "multi", "--measure", "AP"]
        read = run("evaluate", *given_too, *where, *vectors, *setting, "--precision", "float32", "--json", out)
        assert read.exit_code == 0, read.output
        assert ("approximations" in read.output) == (name == "faiss")
        figures[name] = [figure.value for figure in Results.read(out).figures]
    assert figures["hub"] == pytest.approx(figures["model"], abs=1e-9)
    assert figures["faiss"] == pytest.approx(figures["model"], abs=0.05)
    assert "is not a hub dataset" in refused(run(*given, "--overwrite", "--hub", data_dir))
    assert "name one folder twice" in refused(run(*given, "--overwrite", "--hub", index))
    assert "take a whole index" in refused(run(*given, "--overwrite", "--shard", "0", "--shards", "2"))
    index.rename(tmp_path / "elsewhere")
    assert f"{faiss}: exists already" in refused(run(*given))
