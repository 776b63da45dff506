"""Every command of docs/pyserini.md, in the order in which they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from beir_hybrid.files import read_json
from tests.anserini.test_jvm import needs_java

PAGE = Path(__file__).parents[2] / "docs" / "pyserini.md"
MODEL = "bundled:multilingual-e5-small"
WITHOUT = 'pip install "beir-hybrid[pyserini]"'


def script(page: str) -> str:
    """The page's blocks of shell and Python as one script for bash; only the installation is left out."""
    lines = ["set -euxo pipefail"]
    for kind, block in re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL):
        if kind == "sh" and not block.startswith(WITHOUT):
            lines.append(block)
        elif kind == "python":
            lines.append(f"python - <<'END'\n{block}END\n")
    return "\n".join(lines)


@needs_java
@pytest.mark.slow
def test_the_page_runs(tiny_model: Path, tmp_path: Path) -> None:
    commands = script(PAGE.read_text(encoding="utf-8"))
    assert commands.count(MODEL) == 3
    assert commands.count("python -m beir_hybrid.anserini pyserini.") == 6
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        ["bash", "-c", commands.replace(MODEL, str(tiny_model))],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Verified: all agree.") == 2
    for folder in ("my-index", "my-hnsw"):
        assert read_json(tmp_path / folder / "verification.json", "a verification")["passed"] is True
    figures = re.findall(r"^(map|recall_10)\s+all\s+(\S+)$", done.stdout, re.MULTILINE)
    assert len(figures) == 4
    assert figures[:2] == figures[2:]  # the encoded questions, and Pyserini's own encoding of them
    assert float(figures[1][1]) > 0
    runs = {path.name for path in (tmp_path / "my-index" / "runs").iterdir()}
    assert runs == {"encoded.txt", "own.txt", "bm25.txt"}
    hits = re.findall(r"^([a-z]{2}_\d+_\d+) \d\.\d+$", done.stdout, re.MULTILINE)
    assert len(hits) == 3
