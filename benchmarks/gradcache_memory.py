"""Peak memory of a training step by batch size, with mini-batches (GradCache) and without.

    python benchmarks/gradcache_memory.py [MINI_BATCH_SIZE [BATCH_SIZE ...]]

A random XLM-R of 4 layers and 128 dimensions, texts of 32 tokens, AdamW. Every figure is the peak resident memory of a
fresh process over what it held before the step. Beside it stands what must grow with the batch, whatever is done: the
tokens, the embeddings and their gradients, and the score matrix with its mask, softmax and gradient.
"""

from __future__ import annotations

import json
import subprocess
import sys

BATCHES = (64, 128, 256, 512, 1024)
MINI_BATCH = 32
TOKENS, DIMENSIONS = 32, 128

_CHILD = """
import json, resource, sys, time
import torch
from transformers import XLMRobertaConfig, XLMRobertaModel
from beir_hybrid.training.loss import HybridInfoNCELoss

rows, mini, tokens, dimensions = (int(one) for one in sys.argv[1:])
torch.manual_seed(0)

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = XLMRobertaModel(XLMRobertaConfig(
            vocab_size=5000, hidden_size=dimensions, num_hidden_layers=4, num_attention_heads=4,
            intermediate_size=4 * dimensions, max_position_embeddings=tokens + 4), add_pooling_layer=False)
    def forward(self, features):
        return {"sentence_embedding": self.body(**features).last_hidden_state[:, 0]}

def batch(rows):
    shape = (rows, tokens)
    return [{"input_ids": torch.randint(5, 5000, shape), "attention_mask": torch.ones(shape, dtype=torch.long)}
            for _ in range(2)]

def step(rows, mini):
    loss = HybridInfoNCELoss(model, mini_batch_size=mini or None)
    started = time.perf_counter()
    loss(batch(rows), torch.arange(rows)).backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - started

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

model = Encoder()
optimizer = torch.optim.AdamW(model.parameters())
step(4, 2)  # the optimiser's state, and what libraries keep
before = peak()
seconds = step(rows, mini)
print(json.dumps({"peak": peak() - before, "seconds": seconds}))
"""


def measure(rows: int, mini: int) -> dict[str, float]:
    """Peak MiB and seconds of a step; `mini` 0 for no mini-batches."""
    command = [sys.executable, "-c", _CHILD, *(str(one) for one in (rows, mini, TOKENS, DIMENSIONS))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  batch {rows}: {done.stderr.strip().splitlines()[-1] if done.stderr else 'killed'}")
        return {"peak": float("nan"), "seconds": float("nan")}
    found: dict[str, float] = json.loads(done.stdout)
    return found


def must_grow(rows: int) -> float:
    """MiB: two columns of tokens and masks, of embeddings twice with gradients, and four score matrices."""
    return (2 * rows * TOKENS * 2 * 8 + 2 * rows * DIMENSIONS * 4 * 4 + 4 * rows * rows * 4) / 2**20


def main() -> None:
    mini = int(sys.argv[1]) if len(sys.argv) > 1 else MINI_BATCH
    batches = tuple(int(one) for one in sys.argv[2:]) or BATCHES
    print(f"{'batch':>6} {'all at once':>22} {f'mini-batches of {mini}':>24} {'must grow':>11}")
    peaks = []
    for rows in batches:
        plain, cached = measure(rows, 0), measure(rows, mini)
        peaks.append(cached["peak"])
        shown = (f"{one['peak']:9,.0f} MiB {one['seconds']:6.1f} s" for one in (plain, cached))
        print(f"{rows:6} {'   '.join(shown):>47} {must_grow(rows):7.1f} MiB", flush=True)
    growth, allowed = peaks[-1] - peaks[0], must_grow(batches[-1]) - must_grow(batches[0])
    print(
        f"mini-batches, batch {batches[0]} to {batches[-1]}: {growth:+.0f} MiB, of which {allowed:.0f} MiB must be; "
        f"{growth - allowed:+.0f} MiB beyond ({(growth - allowed) / peaks[0]:+.0%} of the first peak)."
    )


if __name__ == "__main__":
    main()
