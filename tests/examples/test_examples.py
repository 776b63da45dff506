from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_train_hybrid(tiny_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "train_hybrid.py"), str(tiny_model), "--steps", "2", "--batch-size", "8"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "->" in line]
    assert [line.split()[0] for line in lines] == ["mono", "cross", "multi", "multi"]
