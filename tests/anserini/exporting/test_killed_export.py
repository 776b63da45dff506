"""An export that is killed at whatever moment, and started again, leaves what an unbroken one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from beir_hybrid.files import sha256_file

SCRIPT = """
import functools, os, signal, sys
from pathlib import Path
from beir_hybrid.anserini.exporting import export as module
from tests.anserini.exporting.test_export import Random
from tests.conftest import make_collection

left = int(sys.argv[2])  # so many files and folders are given their names; then the process dies at once

def counted(rename):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        return rename(*arguments, **options)
    return call

os.replace, os.rename = counted(os.replace), counted(os.rename)
module.Source = functools.partial(module.Source, shard_rows=16)
module.export_pyserini(Random(), make_collection(), Path(sys.argv[1]), vectors=True, index=sys.argv[3], progress=False)
"""


def run(target: Path, renames: int, index: str) -> int:
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, target, str(renames), index], env=environment, cwd=root
    ).returncode


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def test_killed_while_encoding_indexing_and_at_the_end(tmp_path: Path) -> None:
    index = "IVF4,Flat"
    assert run(tmp_path / "unbroken", 0, index) == 0
    target = tmp_path / "index"
    # The first dies while it encodes, the others while they write the files beside the index, each getting further.
    for renames in (5, 14, 6, 12):
        assert run(target, renames, index) == -signal.SIGKILL
        assert not target.exists()
    assert run(target, 0, index) == 0
    assert contents(target) == contents(tmp_path / "unbroken")
    assert {path.name for path in tmp_path.iterdir()} == {"unbroken", "index"}
