"""A model as a folder that Pyserini's AutoQueryEncoder reads, where that gives the same vectors.

Pyserini's encoder is a transformer, `mean` or `cls` pooling, L2 normalisation, and a prefix with a blank behind it. A
model that is more than that is not written: its queries are exported as vectors, and `PyseriniQueryEncoder` encodes new
ones. What is written is loaded back, and kept only if it gives the vectors of the model that it was made from.

Which class Pyserini takes for a path is a guess by the letters in it: `ance` in `/data/balance`, `sentence`, `dpr`. So
the flags always name the class, and all that the guess would otherwise decide.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.encoding import SENTENCES, FloatArray
from beir_hybrid.encoders.loading import quiet
from beir_hybrid.errors import library_errors

FOLDER = "encoder"
TOLERANCE = 1e-4
"""By how much a number of a vector may differ, in float32: machines and batches sum in another order."""
_POOLINGS = ("mean", "cls")


@dataclass(frozen=True)
class PyseriniEncoder:
    """How Pyserini is to encode queries itself.

    Attributes:
        pooling: `mean` or `cls`.
        prefix: What Pyserini puts before each query, with a blank between the two; empty for nothing.
        obstacles: Why it cannot; empty where it can.
    """

    pooling: str = "mean"
    prefix: str = ""
    obstacles: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        """Options of `python -m pyserini.search.faiss`, run in the exported folder."""
        prefix = [f"--query-prefix={self.prefix}"] if self.prefix else []
        return ["--encoder", FOLDER, "--encoder-class", "auto", "--pooling", self.pooling, "--l2-norm", *prefix]

    def describe(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"obstacles": list(self.obstacles)} if self.obstacles else {"folder": FOLDER, "flags": self.flags}


def pyserini_encoder(encoder: DenseEncoder) -> PyseriniEncoder:
    """How Pyserini's AutoQueryEncoder reproduces a model's query vectors, or why it cannot. Writes nothing."""
    modules = list(encoder.model)
    obstacles = [_transformer_obstacle(encoder)]
    pooling = modules[1] if len(modules) > 1 else None
    mode = getattr(pooling, "pooling_mode", None)
    if mode not in _POOLINGS:
        obstacles.append(f"it pools by {mode or 'a module of its own'}; Pyserini by {' or '.join(_POOLINGS)}")
    elif encoder.query_prompt and not getattr(pooling, "include_prompt", True):
        obstacles.append("it leaves the prompt's tokens out of the pooling")
    if others := [type(module).__name__ for module in modules[2:] if type(module).__name__ != "Normalize"]:
        obstacles.append(f"its module {', '.join(others)} comes after the pooling")
    if encoder.model.truncate_dim is not None:
        obstacles.append("its vectors are cut short (truncate_dim)")
    prompt = encoder.query_prompt
    if prompt and (not prompt.endswith(" ") or prompt == " "):
        obstacles.append(f"its prompt {prompt!r} does not end in a blank after a word, and Pyserini puts one there")
    return PyseriniEncoder(str(mode or ""), prompt.removesuffix(" "), tuple(one for one in obstacles if one))


def write_encoder(encoder: DenseEncoder, folder: Path) -> PyseriniEncoder:
    """Write a model into the new `folder` as transformers saves one, if Pyserini then gives the same query vectors.

    Args:
        folder: For weights (safetensors, float32), configuration and tokenizer. Where the model cannot be written, or
            what was written gives other vectors, it is not there afterwards.

    Returns:
        The flags for Pyserini, or the obstacles.

    Raises:
        BeirHybridError: no space or no permission.
    """
    plan = pyserini_encoder(encoder)
    if plan.obstacles:
        return plan
    try:
        with quiet():
            encoder.model.transformers_model.save_pretrained(folder)  # type: ignore[union-attr]
            encoder.model.tokenizer.save_pretrained(folder)
        for path in folder.iterdir():  # safetensors lets nobody else read its files
            path.chmod((folder / "config.json").stat().st_mode)
        with (
            quiet(),
            library_errors(f"{folder}: what was just written cannot be read", "Report it with the model's name."),
        ):
            reason = _difference(encoder, folder, plan)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if reason:
        shutil.rmtree(folder)
        return PyseriniEncoder(plan.pooling, plan.prefix, (reason,))
    return plan


def _transformer_obstacle(encoder: DenseEncoder) -> str:
    """What keeps AutoModel from being the model's first module; empty if nothing does."""
    import torch
    from transformers import AutoModel

    model = encoder.model.transformers_model
    if model is None or encoder.model[0].__class__.__name__ != "Transformer" or encoder.model.tokenizer is None:
        return "it is no transformer with a tokenizer"
    if getattr(model, "peft_config", None) or getattr(model, "_hf_peft_config_loaded", False):
        return "it has an adapter that is not merged into its weights"
    known: Any = AutoModel._model_mapping.get(type(model.config), None)
    if known is not type(model):
        return f"transformers' AutoModel would load its configuration as another class than {type(model).__name__}"
    if (kinds := {str(one.dtype) for one in model.parameters()}) != {str(torch.float32)}:
        return f"its weights are {', '.join(sorted(kinds))}, and Pyserini computes in float32"
    return ""


def _difference(encoder: DenseEncoder, folder: Path, plan: PyseriniEncoder) -> str:
    """Why what was written does not give the model's vectors; empty where it does."""
    texts = list(dict.fromkeys(SENTENCES))
    texts.append(" ".join(texts * 100)[: 8 * min(encoder.model.max_seq_length or 512, 4096)])  # is to be cut
    expected = encoder.encode(texts, "query", precision="float32")
    found = _as_pyserini_does(folder, texts, plan)
    apart = float(np.abs(found - expected).max())
    if apart <= TOLERANCE:
        return ""
    return f"read back by transformers it gives other vectors (a number differs by {apart:.2g})"


def _as_pyserini_does(folder: Path, texts: list[str], plan: PyseriniEncoder) -> FloatArray:
    """What its AutoQueryEncoder does, which cannot be imported without Java: one text at a time."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, clean_up_tokenization_spaces=True)
    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    with torch.inference_mode():
        for text in texts:
            asked = f"{plan.prefix} {text}" if plan.prefix else text
            tokens = tokenizer(asked, return_tensors="pt", return_token_type_ids=False, truncation=True)
            states = model(**tokens)[0][0]
            vector = states.mean(dim=0) if plan.pooling == "mean" else states[0]
            rows.append(torch.nn.functional.normalize(vector, dim=0).numpy())
    return np.stack(rows)
