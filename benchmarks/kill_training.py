"""Kill a training at random, again and again, and compare the model that comes out with an unbroken run's.

    python benchmarks/kill_training.py [MODEL] [--processes 2] [--kills 20] [--steps 300] [--seed 0]

MODEL is as for `beir-hybrid train`; without one, a small one with random weights is made. A kill (SIGKILL) comes at a
random moment after the training has said what it will do; where the training is through before, it starts anew. With
several processes, which torchrun starts, each second kill is of one of them alone, whose end must end the others; else
all are killed at once, torchrun with them. Other options are given to `beir-hybrid train`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch
from transformers import BertConfig, BertModel, BertTokenizer

import beir_hybrid
from beir_hybrid.files import sha256_file

EVERY = 3
WINDOW = 3.0
OPTIONS = ("--languages", "en,de,zh", "--batch-size", "8", "--max-tokens", "32", "--save-steps", str(EVERY))
Kill = Callable[[subprocess.Popen[str]], None]


def train(command: list[str], kill: Kill | None = None, after: float = 0.0) -> tuple[int, str]:
    """The exit status, and what the training said; it is killed so many seconds after it said where it will save."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    said, timer = [], None
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith("output:") and kill is not None:
                timer = threading.Timer(after, kill, [process])
                timer.start()
    if timer:
        timer.cancel()
    return process.returncode, "".join(said)


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill it with all that it started: torchrun's processes are in no group of its own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        for one in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def kill_one(process: subprocess.Popen[str], random_: random.Random) -> None:
    """Kill one of the processes that train."""
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        random_.choice(psutil.Process(process.pid).children()).kill()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that a training makes and that name no folder."""
    names = ("model.safetensors", "hybrid_training.json", "tokenizer.json", "modules.json")
    return {name: sha256_file(folder / name) for name in names}


def trained_command(model: str, processes: int, steps: int, more: list[str]) -> list[str]:
    """The command, but for its output."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*start, "-m", "beir_hybrid.cli", "train", model, *OPTIONS, "--steps", str(steps), *more, "--output"]


def small_model(folder: Path) -> str:
    """Two layers of BERT that read the characters of the sample, with dropout, so that random states matter."""
    collection = beir_hybrid.load("sample-train")
    characters = sorted(
        {one for texts in (collection.queries.texts, collection.passages.texts) for one in "".join(texts)}
    )
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{one}" for one in characters)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    BertTokenizer(vocab=vocabulary, do_lower_case=False).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=len(vocabulary), **shape)).save_pretrained(folder)  # type: ignore[arg-type]
    return str(folder)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    for name, value in (("processes", 1), ("kills", 20), ("steps", 300), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options, more = parser.parse_known_args()  # the rest is of `beir-hybrid train`
    random_, killed, resumed, through, unmarked = random.Random(options.seed), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as own:
        model = options.model or small_model(Path(own))
        command = trained_command(model, options.processes, options.steps, more)
        whole, broken = Path(folder) / "whole", Path(folder) / "broken"
        status, said = train([*command, str(whole)])
        if status:
            raise SystemExit(said)
        expected = digests(whole)
        while killed < options.kills:
            alone = options.processes > 1 and killed % 2
            kill: Kill = (lambda process: kill_one(process, random_)) if alone else kill_all
            status, said = train([*command, str(broken), "--overwrite"], kill, random_.uniform(0, WINDOW))
            resumed += "going on after step" in said
            if status == -9 or (alone and status and "SIGKILL" in said):
                killed += 1
                checkpoints = Path(folder).glob(".broken.training/checkpoint-*")
                unmarked += any(not (path / "whole.json").is_file() for path in checkpoints)
            elif status == 0:
                through += 1
                if digests(broken) != expected:
                    raise SystemExit(f"after {killed} kills the model is ANOTHER than that of an unbroken run")
            else:
                raise SystemExit(said)
        status, said = train([*command, str(broken), "--overwrite"])
        resumed += "going on after step" in said
        same = status == 0 and digests(broken) == expected
        left = sorted(path.name for path in Path(folder).iterdir())
    print(f"{killed} kills, {unmarked} of them left a checkpoint half written; {resumed} runs went on from one")
    print(f"{through + 1} models came out; beside them lies: {', '.join(left)}")
    print("all have the bytes of the unbroken run's" if same else f"the last is ANOTHER model\n{said}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
