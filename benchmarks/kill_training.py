"""Kill a training at random, again and again, and compare the model that comes out with an unbroken run's.

    python benchmarks/kill_training.py MODEL [KILLS [STEPS [SEED]]]

MODEL is as for `beir-hybrid train`; 20 kills and 300 steps unless told otherwise. A kill (SIGKILL) comes at a random
moment after the training has said what it will do; where the training is through before, it starts anew.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from beir_hybrid.files import sha256_file

EVERY = 3
WINDOW = 3.0
OPTIONS = ("--languages", "en,de,zh", "--batch-size", "8", "--max-tokens", "32", "--save-steps", str(EVERY))


def train(command: list[str], kill_after: float | None = None) -> tuple[int, str]:
    """The exit status, and what the training said; it is killed so many seconds after it said where it will save."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    said, timer = [], None
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith("output:") and kill_after is not None:
                timer = threading.Timer(kill_after, process.kill)
                timer.start()
    if timer:
        timer.cancel()
    return process.returncode, "".join(said)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that a training makes and that name no folder."""
    names = ("model.safetensors", "hybrid_training.json", "tokenizer.json", "modules.json")
    return {name: sha256_file(folder / name) for name in names}


def main() -> None:
    model = sys.argv[1]
    kills, steps, seed = (
        int(sys.argv[at]) if len(sys.argv) > at else value for at, value in ((2, 20), (3, 300), (4, 0))
    )
    random_, killed, resumed, through, unmarked = random.Random(seed), 0, 0, 0, 0
    command = [sys.executable, "-m", "beir_hybrid.cli", "train", model, *OPTIONS, "--steps", str(steps), "--output"]
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder) / "whole", Path(folder) / "broken"
        status, said = train([*command, str(whole)])
        if status:
            raise SystemExit(said)
        expected = digests(whole)
        while killed < kills:
            status, said = train([*command, str(broken), "--overwrite"], random_.uniform(0, WINDOW))
            resumed += "going on after step" in said
            if status == -9:
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
