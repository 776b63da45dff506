"""What a training holds in each of two processes, with fsdp and without.

    python benchmarks/sharded_memory.py [MODEL]

Trains on the bundled sample for two steps of four pairs a process, all weights, AdamW, float32: with copies of the
model (DDP) and with parts of it. Printed is what a process holds of weights, gradients and the optimiser's state when
the second step begins, and the peak of its resident memory in that step.
"""

from __future__ import annotations

import json
import subprocess
import sys

BUNDLED = "bundled:multilingual-e5-small"

_CHILD = """
import json, re, sys, tempfile
from pathlib import Path
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback
import beir_hybrid
from beir_hybrid import HybridTrainer, HybridTrainingArguments
from beir_hybrid.encoders.dense import DenseEncoder

name, fsdp = sys.argv[1], sys.argv[2] == "fsdp"

def resident(which):
    return int(re.search(which + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def held(tensors):
    parts = [one.to_local() if isinstance(one, DTensor) else one for one in tensors if isinstance(one, torch.Tensor)]
    return sum(one.numel() * one.element_size() for one in parts) / 2**20

class Measure(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients = held(one.grad for one in model.parameters() if one.grad is not None)

    def on_step_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        if state.global_step == 1:
            states = [value for one in optimizer.state.values() for value in one.values()]
            self.found = {"weights": held(model.parameters()), "gradients": self.gradients, "optimiser": held(states)}
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts here

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            self.found["peak"] = resident("VmHWM")

with tempfile.TemporaryDirectory() as folder:
    model = DenseEncoder(name, precision="float32").model
    model.max_seq_length = 32
    args = HybridTrainingArguments(
        output_dir=folder, per_device_train_batch_size=4, max_steps=2, use_cpu=True, dataloader_pin_memory=False,
        save_strategy="no", logging_strategy="no", disable_tqdm=True, fsdp=fsdp or None,
    )
    measure = Measure()
    HybridTrainer(model, args, beir_hybrid.load("sample-train"), callbacks=[measure]).train()
    every = [None] * dist.get_world_size()
    dist.all_gather_object(every, measure.found)
    if dist.get_rank() == 0:
        print("FOUND", json.dumps({name: max(one[name] for one in every) for name in every[0]}))
    dist.barrier()
    dist.destroy_process_group()
"""


def measure(model: str, how: str) -> dict[str, float]:
    """MiB in the process that has the most."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    done = subprocess.run(
        [*launch, sys.executable, "-c", _CHILD, model, how], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND"))
    found: dict[str, float] = json.loads(line.removeprefix("FOUND"))
    return found


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else BUNDLED
    copies, parts = measure(model, "ddp"), measure(model, "fsdp")
    for name in copies:
        ratio = parts[name] / copies[name]
        print(f"{name:10} {copies[name]:8,.0f} MiB copied {parts[name]:8,.0f} MiB sharded   {ratio:.2f} of it")


if __name__ == "__main__":
    main()
