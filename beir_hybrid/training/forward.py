"""Running the encoder on a batch of training texts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.attention import SDPBackend, sdpa_kernel

CHUNKS = 4
LEAST_SAVED = 256
"""Tokens of padding that a further run has to save: some of its cost is the same however few rows it has."""


def embed(model: nn.Module, features: dict[str, Tensor]) -> Tensor:
    """The sentence embeddings of a tokenised column, shape (rows, dimensions).

    On a CPU, where padding costs as much as text, rows of like length are run together in a few chunks, each cut to its
    longest, where that saves enough: batches are drawn without regard to length, and most of a plain batch may be
    padding. The embeddings are the same but for rounding and the draw of dropout. Of a sharded model every run gathers
    all weights, and all processes must come to as many runs: it takes a batch at once.
    """
    mask = features.get("attention_mask")
    if mask is None or mask.device.type != "cpu":
        return _run(model, features)
    # Gradient checkpointing runs layers again while going backward, where this context has ended: with another kernel
    # they would not be the same layers.
    checkpointing = any(
        getattr(module, "gradient_checkpointing", False) or hasattr(module, "_checkpoint_wrapped_module")  # FSDP's own
        for module in model.modules()
    )
    with contextlib.nullcontext() if checkpointing else _cpu_attention():
        # Texts that end where the padding begins; else what is cut off would not be padding.
        if len(mask) < 2 * CHUNKS or isinstance(model, FSDPModule) or not bool(mask[:, 0].all()):
            return _run(model, features)
        lengths = mask.sum(dim=1)
        order = torch.argsort(lengths, stable=True)
        chunks = [(rows, int(lengths[rows[-1]])) for rows in order.chunk(CHUNKS)]
        saved = mask.numel() - sum(len(rows) * longest for rows, longest in chunks)
        if saved < LEAST_SAVED * (len(chunks) - 1):
            return _run(model, features)
        parts = [_run(model, _cut(features, rows, longest)) for rows, longest in chunks]
        return torch.cat(parts)[torch.argsort(order)]


def _run(model: nn.Module, features: dict[str, Tensor]) -> Tensor:
    embedding: Tensor = model(features)["sentence_embedding"]
    return embedding


def _cut(features: dict[str, Tensor], rows: Tensor, longest: int) -> dict[str, Tensor]:
    shape = features["attention_mask"].shape
    cut = {}
    for name, value in features.items():
        if isinstance(value, Tensor) and value.shape[:2] == shape:
            cut[name] = value[rows, :longest]
        elif isinstance(value, Tensor) and value.shape[:1] == shape[:1]:
            cut[name] = value[rows]
        else:
            cut[name] = value
    return cut


@contextlib.contextmanager
def _cpu_attention() -> Iterator[None]:
    """Plain attention: torch's fused kernel for the CPU saves memory, but its backward pass is several times slower."""
    with sdpa_kernel(SDPBackend.MATH):
        yield
