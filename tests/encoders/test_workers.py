from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.storing import encode_to_store
from beir_hybrid.errors import BeirHybridError

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [f"a {'river ' * (row % 7)}and tower {row}" for row in range(200)]

PROGRAM = """
import sys
from beir_hybrid.encoders.dense import DenseEncoder
from tests.encoders.test_workers import TEXTS
if __name__ == "__main__":
    encoder = DenseEncoder(sys.argv[1], device=["cpu", "cpu"], precision="float32", batch_tokens=64)
    encoder.encode(TEXTS, "query")
    print(*(process.pid for process in encoder._workers._processes), flush=True)
    sys.stdin.read()
"""


def test_several_processes_encode_as_one(tiny_model: Path, tmp_path: Path) -> None:
    one = DenseEncoder(tiny_model, device="cpu", precision="float32", batch_tokens=64, progress=False)
    two = DenseEncoder(tiny_model, device=["cpu", "cpu"], precision="float32", batch_tokens=64, progress=False)
    done: list[int] = []
    for precision in ("float32", "bf16", "float32"):
        wanted = one.encode(TEXTS, "passage", precision=precision)
        assert np.array_equal(two.encode(TEXTS, "passage", precision=precision, advance=done.append), wanted)
    assert sum(done) == 3 * len(TEXTS)
    stored = encode_to_store(two, TEXTS, "passage", tmp_path / "store", shard_rows=90)
    np.testing.assert_allclose(np.asarray(stored), wanted, atol=1e-6)  # the batches are those of shards

    workers = two._workers
    assert workers is not None
    os.kill(workers._processes[0].pid or 0, signal.SIGKILL)
    os.kill(workers._processes[1].pid or 0, signal.SIGKILL)
    with pytest.raises(BeirHybridError, match=r"the process that encodes on cpu has ended \(exit code -9"):
        two.encode(TEXTS, "passage")
    assert np.array_equal(two.encode(TEXTS, "passage"), wanted)  # by new ones
    assert two._workers is not workers


def test_what_goes_wrong_in_a_process_is_told(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = DenseEncoder(tiny_model, device=["cpu", "cpu"], precision="float32", batch_tokens=64, progress=False)
    encoder.model[0].auto_model.embeddings.word_embeddings.weight.data = encoder.model[
        0
    ].auto_model.embeddings.word_embeddings.weight.data[:6]
    with pytest.raises(BeirHybridError, match="encoding on cpu failed: IndexError: index out of range"):
        encoder.encode(TEXTS, "passage")


@pytest.mark.slow
def test_no_process_outlives_the_one_that_started_it(tiny_model: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(script), str(tiny_model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    started = [int(pid) for pid in process.stdout.readline().split()]
    assert len(started) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < until
        time.sleep(0.2)
