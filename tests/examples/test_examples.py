from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from beir_hybrid.anserini import jvm
from beir_hybrid.collections.formats.beir_export import prepare_beir

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_train_hybrid(tiny_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "train_hybrid.py"), str(tiny_model), "--steps", "2", "--batch-size", "8"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "->" in line]
    assert [line.split()[0] for line in lines] == ["mono", "cross", "multi", "multi"]


def test_evaluate_sbert(tiny_model: Path, tmp_path: Path) -> None:
    prepare_beir("sample-test/cross/en-de", tmp_path / "data")
    command = [sys.executable, str(EXAMPLES / "evaluate_sbert.py"), str(tmp_path / "data"), str(tiny_model)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = dict(line.split(": ") for line in done.stdout.splitlines() if "@" in line)
    assert 0 <= float(figures["NDCG@10"]) <= 1
    assert float(figures["Recall@1000"]) == 1  # the pool is smaller than that


def run(tmp_path: Path, script: str, *arguments: str) -> list[str]:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_evaluate_dense(tiny_model: Path, tmp_path: Path) -> None:
    lines = run(tmp_path, "evaluate_dense.py", "sample-test", str(tiny_model))
    assert [line.split(":")[0] for line in lines if "nDCG@10" in line] == ["mono", "cross", "multi"]
    assert sum("'NDCG@10'" in line for line in lines) == 2
    assert any("ranks apart" in line for line in lines)


@pytest.mark.skipif(bool(jvm.available()), reason=f"no BM25: {jvm.available()}")
def test_evaluate_bm25(tmp_path: Path) -> None:
    lines = [line for line in run(tmp_path, "evaluate_bm25.py", "sample-test", "runs") if "NDCG" in line]
    assert len(lines) == len(list((tmp_path / "runs").iterdir())) == 11
    assert any(line.startswith("sample-test/mono/en") for line in lines)


def test_compare_batching(tiny_model: Path, tmp_path: Path) -> None:
    lines = run(tmp_path, "compare_batching.py", str(tiny_model), "--steps", "2", "--batch-size", "8")
    rows = [line.split() for line in lines if line.strip().startswith(("x-y", "hybrid"))]
    assert len(rows) == 8  # two systems: AP in mono, cross and multi, and the distance
