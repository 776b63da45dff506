"""The command in several processes, started as users start it."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from beir_hybrid.cli import app
from beir_hybrid.cli.checkpoints import whole_checkpoints, work_folder
from beir_hybrid.files import read_json

COMMON = ("--languages", "en,de,zh", "--batch-size", "8", "--max-tokens", "16")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
MODULE = ("-m", "beir_hybrid.cli")
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}


def started(
    command: Sequence[str | Path], kill_after: float | None = None, work: Path | None = None
) -> tuple[int, str]:
    """The exit status and all that was said; everything is killed so many seconds after a new checkpoint in `work`."""
    with subprocess.Popen(
        [str(part) for part in command], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        if kill_after is not None and work is not None:
            threading.Thread(target=kill_later, args=(process, work, whole_checkpoints(work), kill_after)).start()
        assert process.stdout is not None
        said = process.stdout.read()
    return process.returncode, said


def kill_later(process: subprocess.Popen[str], work: Path, before: list[Path], after: float) -> None:
    while process.poll() is None:
        if set(whole_checkpoints(work)) - set(before):
            time.sleep(after)
            kill_all(process.pid)
            return
        time.sleep(0.02)


def kill_all(pid: int) -> None:
    try:
        root = psutil.Process(pid)
        for one in [root, *root.children(recursive=True)]:
            one.kill()
    except psutil.NoSuchProcess:
        pass


def train(model: Path, output: Path, *more: str | Path, steps: int = 6, save_steps: int = 2) -> list[str | Path]:
    numbers = ("--steps", str(steps), "--save-steps", str(save_steps))
    return ["train", model, "--output", output, *COMMON, *numbers, *more]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("beir-hybrid: error:")]


@pytest.fixture(scope="module")
def unbroken(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken") / "model"
    status, said = started([*TORCHRUN, *MODULE, *train(tiny_model, output)])
    assert status == 0, said
    for once in (
        "model:       ",
        "batches:     hybrid (alpha 0.5), 8 pairs in each of 2 processes",
        f"model: {output}",
    ):
        assert said.count(once) == 1
    assert [path.name for path in output.parent.iterdir()] == ["model"]
    return output


@pytest.mark.slow
def test_two_processes_train_one_model(tiny_model: Path, unbroken: Path, tmp_path: Path) -> None:
    record = read_json(unbroken / "hybrid_training.json", "a record")
    assert (record["processes"], record["steps"], record["composition"]["rows"]) == (2, 6, 6 * 2 * 8)
    assert weights(unbroken) != weights(tiny_model)
    # Again, by the other launcher.
    launch = (Path(sys.executable).parent / "accelerate", "launch", "--multi_gpu", "--num_processes=2")
    command = [*launch, *MODULE, *train(tiny_model, tmp_path / "model")]
    status, said = started(command)
    assert status == 0, said
    assert weights(tmp_path / "model") == weights(unbroken)


@pytest.mark.slow
def test_both_processes_may_fill_an_empty_cache(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ({"item": str(item), "language": code, "query": f"where is {item}?", "passage": f"{code}: at {item}"}
            for item in range(2000) for code in ("en", "de"))  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.setitem(ENVIRONMENT, "BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    data = ("--pairs-file", tmp_path / "pairs.jsonl", "--languages", "en,de")
    status, said = started([*TORCHRUN, *MODULE, *train(tiny_model, tmp_path / "model", *data)])
    assert status == 0, said
    assert "pairs: 2,000 parallel questions" in said
    assert len([path for path in (tmp_path / "cache" / "texts").iterdir() if path.is_dir()]) == 1


@pytest.mark.slow
def test_two_nodes_train_the_same_model(tiny_model: Path, unbroken: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1",
              "--rdzv-id=test", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}"]  # fmt: skip
    command = [str(part) for part in [*launch, *MODULE, *train(tiny_model, tmp_path / "model")]]
    nodes = [
        subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = [node.communicate(timeout=240)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert sum(one.count("output:") for one in said) == 1
    assert weights(tmp_path / "model") == weights(unbroken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "kills"), [((), 3), (("--dev", "sample-test.first20@de+en"), 1)], ids=["last", "best"]
)
def test_killed_at_random_two_processes_end_with_the_same_weights(
    tiny_model: Path, tmp_path: Path, options: tuple[str, ...], kills: int
) -> None:
    def command(output: Path, *more: str) -> list[str | Path]:
        return [*TORCHRUN, *MODULE, *train(tiny_model, output, *options, *more, steps=60, save_steps=5)]

    status, said = started(command(tmp_path / "whole"))
    assert status == 0, said
    random_, output, resumed = random.Random(0), tmp_path / "killed", 0
    for _ in range(kills):
        _, said = started(command(output, "--overwrite"), random_.uniform(0, 0.7), work_folder(output))
        resumed += "going on after step" in said
    if checkpoints := whole_checkpoints(work_folder(output)):
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in checkpoints[0].iterdir()}
        result = CliRunner().invoke(app, [str(one) for one in train(tiny_model, output, *options, "--overwrite")])
        assert result.exit_code == 2
        assert "begun with 2 processes, and this one has 1" in " ".join(result.output.split())
    status, said = started(command(output, "--overwrite"))
    assert status == 0, said
    assert resumed + ("going on after step" in said)
    assert weights(output) == weights(tmp_path / "whole")
    records = [read_json(tmp_path / name / "hybrid_training.json", "a record") for name in ("whole", "killed")]
    assert records[0] == records[1]
    assert {path.name for path in tmp_path.iterdir()} == {"killed", "whole"}


@pytest.mark.slow
def test_killed_a_sharded_training_ends_with_the_same_weights(tiny_model: Path, tmp_path: Path) -> None:
    def command(output: Path) -> list[str | Path]:
        sharded = ("--set", "fsdp=true", "--dev", "sample-test@de+en")
        return [*TORCHRUN, *MODULE, *train(tiny_model, output, *sharded, steps=40, save_steps=5)]

    status, said = started(command(tmp_path / "whole"))
    assert status == 0, said
    assert said.count("sharding:    FSDP 2, each of 2 processes keeps its part of the model") == 1
    status, said = started(command(tmp_path / "killed"), 0.3, work_folder(tmp_path / "killed"))
    assert status, said
    status, said = started(command(tmp_path / "killed"))
    assert status == 0, said
    assert "going on after step" in said
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    records = [read_json(tmp_path / name / "hybrid_training.json", "a record") for name in ("whole", "killed")]
    assert records[0] == records[1]
    assert records[0]["fsdp"] is not None
    assert {path.name for path in tmp_path.iterdir()} == {"killed", "whole"}


def test_an_error_of_the_first_is_told_once(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    status, said = started([*TORCHRUN, *MODULE, *train(tiny_model, tmp_path / "model")])
    assert status
    assert len(errors(said)) == 1, said
    assert "exists and is not a model" in errors(said)[0]
    assert "exitcode  : 2" in said
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine.txt"]


def test_a_wrong_call_is_told_once(tiny_model: Path, tmp_path: Path) -> None:
    status, said = started([*TORCHRUN, *MODULE, *train(tiny_model, tmp_path / "model", "--alfa", "1")])
    assert status
    assert said.count("No such option") == 1, said
    (tmp_path / "train.yaml").write_text("alfa: 1")
    config = ("--config", tmp_path / "train.yaml")
    status, said = started([*TORCHRUN, *MODULE, *train(tiny_model, tmp_path / "model", *config)])
    assert status
    assert len(errors(said)) == 1, said


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_both_processes(tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    tensors = load_file(broken / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layer.0.output.dense.bias"))
    tensors[name] = tensors[name] * float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    status, said = started([*TORCHRUN, *MODULE, *train(broken, tmp_path / "model")])
    assert status
    assert len(errors(said)) == 1, said
    assert "the loss is nan" in errors(said)[0]
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}


@pytest.mark.slow
def test_other_settings_in_one_process_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    """As on two machines whose users typed two commands."""
    words = " ".join(str(part) for part in train(tiny_model, tmp_path / "model"))
    script = f'exec {sys.executable} -m beir_hybrid.cli {words} --alpha "0.$RANK"'
    status, said = started([*TORCHRUN, "--no-python", "bash", "-c", script])
    assert status
    assert len(errors(said)) == 1, said
    assert "the processes differ in alpha: 0.0 in the first, 0.1 in number 1" in errors(said)[0]


@pytest.mark.slow
def test_the_end_of_one_process_ends_the_others(tiny_model: Path, tmp_path: Path) -> None:
    words = " ".join(str(part) for part in train(tiny_model, tmp_path / "model", steps=100_000))
    # A file, since torchrun reads `$$` in an argument in its own way.
    (tmp_path / "start.sh").write_text(
        f"if [ $RANK = 1 ]; then (sleep 15; kill -9 $$) & fi\nexec {sys.executable} -m beir_hybrid.cli {words}\n"
    )
    status, said = started([*TORCHRUN, "--no-python", "bash", tmp_path / "start.sh"])
    assert status
    # The first may tell it before it is ended too; what it never shows is the traceback of a connection that closed.
    assert all("another process of this training has ended" in one for one in errors(said)), said
    assert "beir_hybrid/cli/run.py" not in said
    assert not (tmp_path / "model").exists()
