"""Texts in, vectors out: any sentence-transformers model behind the two methods that BEIR asks of a model."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from beir_hybrid.encoders.digests import weights_digest as weights_digest
from beir_hybrid.encoders.encoding import (
    CPU_TOKENS,
    GPU_TOKENS,
    SENTENCES,
    WORTH_PROBING,
    FloatArray,
    Probe,
    encode,
    has_bf16_units,
    probe,
)
from beir_hybrid.encoders.loading import check_pooling, load_model
from beir_hybrid.encoders.presets import preset_for
from beir_hybrid.encoders.tokenised import Tokenised
from beir_hybrid.encoders.workers import Workers
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import read_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Precision = Literal["auto", "float32", "bf16"]
Side = Literal["query", "passage"]
TRAINING_RECORD = "hybrid_training.json"
"""Written beside a model by HybridTrainer: what it was trained on and how."""
_PASSAGE = ("document", "passage")
_LOOKED_AT = 1024
logger = logging.getLogger(__name__)


class DenseEncoder:
    """A dual encoder with shared weights: `encode_queries` and `encode_corpus`, as BEIR calls them.

    Texts are sorted by token length and batched by a budget of tokens, so that short texts do not pay for long ones.
    Vectors are float32 and L2-normalised, so that their inner product is the cosine.

    Args:
        model: `bundled:multilingual-e5-small`, a folder, a hub id, or a loaded SentenceTransformer.
        query_prompt, passage_prompt: What is put before each text. By default what the model says (its `query` and
            `document` or `passage` prompts), else what its family wants (see `presets`), else nothing.
        precision: `float32`, `bf16` (autocast: matrix products only), or `auto`: the faster of the two on this machine
            if both give the same vectors (cosine .999). It is tried once, on the first texts, where the processor has
            units for bf16; some thousand tokens and fewer are encoded in float32 without trying.
        batch_tokens: Tokens of a batch, padding included; by default what suits the device.
        device: As in torch; by default the best there is. Several, as ["cuda:0", "cuda:1"] or ["cpu", "cpu"], encode
            together, each in a process of its own; a script that does so keeps its code below
            `if __name__ == "__main__":`.
        pooling: `mean` or `cls`, for a bare transformer; by default what its family wants. A model that says itself how
            it pools can be asked for nothing else.
        progress: Show a bar while encoding, if standard error is a terminal.

    Raises:
        BeirHybridError: there is no such model, or it is not to be had.
    """

    score_function = "cos_sim"

    def __init__(
        self,
        model: str | Path | SentenceTransformer,
        *,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        precision: Precision = "auto",
        batch_tokens: int | None = None,
        device: str | Sequence[str] | None = None,
        pooling: str | None = None,
        progress: bool = True,
    ) -> None:
        if precision not in ("auto", "float32", "bf16"):
            raise unknown("precision", precision, ("auto", "float32", "bf16"))
        self.devices = () if device is None else (device,) if isinstance(device, str) else tuple(device)
        _check_devices(self.devices)
        first = next(iter(self.devices), None)
        if isinstance(model, str | Path):
            self.name = str(model)
            self.model = load_model(model, device=first, pooling=pooling)
        else:
            self.model = model
            check_pooling(model, pooling)
            self.name = getattr(model.model_card_data, "base_model", None) or type(model).__name__
        prompts = retrieval_prompts(self.model, model_name(self.model) if self.model is model else self.name)
        self.query_prompt = prompts["query"] if query_prompt is None else query_prompt
        self.passage_prompt = prompts["passage"] if passage_prompt is None else passage_prompt
        keep_prompts(self.model, self.query_prompt, self.passage_prompt)
        self.wanted_precision: str = precision
        device_type = self.model.device.type
        self._precision: str | None = precision if precision != "auto" else None
        if precision == "auto" and not has_bf16_units(device_type):
            self._precision = "float32"
        self._so_far: str | None = None
        self._workers: Workers | None = None
        self._probe: Probe | None = None
        self.batch_tokens = batch_tokens or (CPU_TOKENS if device_type == "cpu" else GPU_TOKENS)
        self.progress = progress

    def encode_queries(self, queries: Sequence[str], **_: Any) -> FloatArray:
        """Shape (queries, dimension). BEIR's options are taken and ignored: batches go by `batch_tokens`."""
        return self._with_bar(list(queries), "query", "questions")

    def encode_corpus(
        self,
        corpus: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[str]],
        **_: Any,
    ) -> FloatArray:
        """Shape (passages, dimension). A passage is its title, if any, a blank and its text."""
        if isinstance(corpus, Mapping):
            texts = corpus["text"]
            pairs = zip(corpus.get("title") or [""] * len(texts), texts, strict=True)
        else:
            pairs = ((passage.get("title"), passage["text"]) for passage in corpus)  # type: ignore[assignment]
        joined = [f"{title} {text}".strip() if title else text for title, text in pairs]
        return self._with_bar(joined, "passage", "passages")

    def encode(
        self,
        texts: Sequence[str],
        side: Side,
        *,
        precision: str | None = None,
        advance: Callable[[int], object] = lambda done: None,
    ) -> FloatArray:
        """Shape (texts, dimension), without a bar. `advance` is told how many texts each batch had."""
        tokens = Tokenised(self.model, texts, self.prompt(side))
        precision = precision or self._settled(tokens)
        batches = list(tokens.batches(self.batch_tokens))
        if len(self.devices) < 2 or len(batches) < 2 * len(self.devices):
            vectors = encode(self.model, tokens, precision, batches, advance)
        else:
            if self._workers is None or not self._workers.alive:
                self._workers = Workers(self.model, self.devices)
            dimension = self.model.get_embedding_dimension() or 0
            vectors = self._workers.encode(tokens, dimension, precision, batches, advance)
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(wrong):
            raise BeirHybridError(
                f"{self.name} gives a vector that is not finite for the text {texts[int(wrong[0])][:80]!r}. "
                "The weights may be damaged, or the precision too low: try precision='float32'."
            )
        return vectors

    def prompt(self, side: Side) -> str:
        """What is put before each text."""
        return self.query_prompt if side == "query" else self.passage_prompt

    @property
    def precision(self) -> str:
        """`float32` or `bf16`; with `auto`, where nothing has been encoded yet, it is tried on sentences of our own."""
        return self._precision or self._so_far or self._try(Tokenised(self.model, SENTENCES, self.passage_prompt))

    @precision.setter
    def precision(self, value: str) -> None:
        if value not in ("float32", "bf16"):
            raise unknown("precision", value, ("float32", "bf16"))
        self._precision = self.wanted_precision = value

    @property
    def precision_probe(self) -> dict[str, float] | None:
        """How fast bf16 was and how near to float32, if that was tried."""
        return asdict(self._probe) if self._probe else None

    def settle_precision(self, texts: Sequence[str], side: Side) -> str:
        """The precision for these texts; with `auto` it is now tried on the first of them, if it has not been yet."""
        return self._precision or self._settled(Tokenised(self.model, texts[:_LOOKED_AT], self.prompt(side)))

    @property
    def batching(self) -> str:
        """How the model was trained, where HybridTrainer left its record; else empty."""
        return str((training_record(self.name) or {}).get("batching", ""))

    def describe(self) -> dict[str, Any]:
        """What a result must carry about its encoder."""
        longest = self.model.max_seq_length
        about = {
            "model": self.name,
            "digest": weights_digest(self.model),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "dimension": self.model.get_embedding_dimension(),
            "max_tokens": None if longest == math.inf else longest,  # JSON has no infinity
            "modules": [type(module).__name__ for module in self.model],
            "pooling": getattr(next((m for m in self.model if hasattr(m, "pooling_mode")), None), "pooling_mode", None),
            "prompts": {"query": self.query_prompt, "passage": self.passage_prompt},
            "precision": self.precision,
        }
        if self.precision_probe:
            about["precision_probe"] = self.precision_probe
        record = training_record(self.name)
        return about | ({"training": record} if record else {})

    def _with_bar(self, texts: list[str], side: Side, what: str) -> FloatArray:
        from tqdm.auto import tqdm

        # disable=None: a bar on a terminal, nothing in a log file.
        with tqdm(
            total=len(texts), desc=f"Encoding {what}", unit="text", disable=None if self.progress else True
        ) as bar:
            return self.encode(texts, side, advance=bar.update)

    def _settled(self, tokens: Tokenised) -> str:
        if self._precision is not None:
            return self._precision
        if int(tokens.lengths.sum()) < WORTH_PROBING:
            self._so_far = "float32"
            return "float32"
        return self._try(tokens)

    def _try(self, tokens: Tokenised) -> str:
        self._probe = probe(self.model, tokens, self.batch_tokens)
        self._precision = self._probe.precision
        logger.info("%s: %s, for %s", self.name, self._precision, self._probe)
        return self._precision


def _check_devices(devices: Sequence[str]) -> None:
    import torch

    for device in devices:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BeirHybridError(f"device {device!r}: {reason} Name one that is here, such as cpu.") from None


def retrieval_prompts(model: SentenceTransformer, name: str) -> dict[str, str]:
    """`{"query": ..., "passage": ...}`: what the model called `name` says itself, else what its family wants.

    sentence-transformers gives every model empty prompts for `query` and `document`: they say nothing. One for
    `passage` does, also an empty one, and so does the record of a training.
    """
    own = model.prompts or {}
    passage = next((prompt for side in _PASSAGE if (prompt := own.get(side))), "")
    if own.get("query") or passage or "passage" in own:
        return {"query": own.get("query") or "", "passage": passage}
    trained = (training_record(name) or {}).get("prompts")
    if isinstance(trained, dict):
        return {side: str(trained.get(side) or "") for side in ("query", "passage")}
    preset = preset_for(name)
    return {"query": preset.query_prompt, "passage": preset.passage_prompt}


def model_name(model: SentenceTransformer) -> str:
    """Where a loaded model came from, as far as it knows: a hub id or a folder; else the name of its type."""
    base = getattr(model.model_card_data, "base_model", None)
    config = getattr(model.transformers_model, "config", None)
    return str(base or getattr(config, "_name_or_path", None) or type(model).__name__)


def keep_prompts(model: SentenceTransformer, query: str, passage: str) -> None:
    """Make these the model's prompts, so that training it uses them, and saving it keeps them."""
    # Under both names for passages: where none is asked for, the other would still be there.
    model.prompts = {**model.prompts, "query": query, **dict.fromkeys(_PASSAGE, passage)}


def training_record(model: str | Path) -> dict[str, Any] | None:
    """What HybridTrainer wrote beside the model in this folder, if it did."""
    path = Path(model) / TRAINING_RECORD
    if not path.is_file():
        return None
    record = read_json(path, "the record of a training")
    return record if isinstance(record, dict) else None
