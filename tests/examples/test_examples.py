from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
