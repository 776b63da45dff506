"""Texts in, vectors out: any sentence-transformers model behind the two methods that BEIR asks of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from beir_hybrid.encoders.loading import check_pooling, load_model
from beir_hybrid.encoders.presets import preset_for
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import read_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FloatArray = npt.NDArray[np.float32]
Precision = Literal["auto", "float32", "bf16"]
TRAINING_RECORD = "hybrid_training.json"
"""Written beside a model by HybridTrainer: what it was trained on and how."""
_PASSAGE = ("document", "passage")


class DenseEncoder:
    """A dual encoder with shared weights: `encode_queries` and `encode_corpus`, as BEIR calls them.

    Texts are sorted by token length and batched by a budget of tokens, so that short texts do not pay for long ones.
    Vectors are float32 and L2-normalised, so that their inner product is the cosine.

    Args:
        model: `bundled:multilingual-e5-small`, a folder, a hub id, or a loaded SentenceTransformer.
        query_prompt, passage_prompt: What is put before each text. By default what the model says (its `query` and
            `document` or `passage` prompts), else what its family wants (see `presets`), else nothing.
        precision: `float32`, `bf16` (autocast: matrix products only), or `auto`: bf16 where the processor has units
            for it.
        batch_tokens: Tokens of a batch, padding included.
        device: As in torch; by default the best there is.
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
        batch_tokens: int = 2048,
        device: str | None = None,
        pooling: str | None = None,
        progress: bool = True,
    ) -> None:
        if precision not in ("auto", "float32", "bf16"):
            raise unknown("precision", precision, ("auto", "float32", "bf16"))
        if isinstance(model, str | Path):
            self.name = str(model)
            self.model = load_model(model, device=device, pooling=pooling)
        else:
            self.model = model
            check_pooling(model, pooling)
            self.name = getattr(model.model_card_data, "base_model", None) or type(model).__name__
        prompts = retrieval_prompts(self.model, model_name(self.model) if self.model is model else self.name)
        self.query_prompt = prompts["query"] if query_prompt is None else query_prompt
        self.passage_prompt = prompts["passage"] if passage_prompt is None else passage_prompt
        keep_prompts(self.model, self.query_prompt, self.passage_prompt)
        self.precision = _precision(precision, self.model.device.type)
        self.batch_tokens = batch_tokens
        self.progress = progress

    def encode_queries(self, queries: Sequence[str], **_: Any) -> FloatArray:
        """Shape (queries, dimension). BEIR's options are taken and ignored: batches go by `batch_tokens`."""
        return self._encode(list(queries), self.query_prompt, "questions")

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
        return self._encode(joined, self.passage_prompt, "passages")

    @property
    def batching(self) -> str:
        """How the model was trained, where HybridTrainer left its record; else empty."""
        return str((training_record(self.name) or {}).get("batching", ""))

    def describe(self) -> dict[str, Any]:
        """What a result must carry about its encoder."""
        about = {
            "model": self.name,
            "digest": weights_digest(self.model),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "dimension": self.model.get_embedding_dimension(),
            "max_tokens": self.model.max_seq_length,
            "modules": [type(module).__name__ for module in self.model],
            "pooling": getattr(next((m for m in self.model if hasattr(m, "pooling_mode")), None), "pooling_mode", None),
            "prompts": {"query": self.query_prompt, "passage": self.passage_prompt},
            "precision": self.precision,
        }
        record = training_record(self.name)
        return about | ({"training": record} if record else {})

    def _encode(self, texts: list[str], prompt: str, what: str) -> FloatArray:
        import torch
        from sentence_transformers.util import batch_to_device
        from tqdm.auto import tqdm

        dimension = self.model.get_embedding_dimension() or 0
        vectors = np.empty((len(texts), dimension), dtype=np.float32)
        lengths = self._lengths(texts, prompt)
        self.model.eval()
        device = self.model.device
        autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")
        # disable=None: a bar on a terminal, nothing in a log file.
        bar = tqdm(total=len(texts), desc=f"Encoding {what}", unit="text", disable=None if self.progress else True)
        with bar, torch.inference_mode(), autocast:
            for rows in _batches(lengths, self.batch_tokens):
                features = self.model.preprocess([texts[row] for row in rows], prompt=prompt or None)
                output = self.model(batch_to_device(features, device))["sentence_embedding"]
                vectors[rows] = torch.nn.functional.normalize(output.float(), dim=1).cpu().numpy()
                bar.update(len(rows))
        if not np.isfinite(vectors).all():
            bad = texts[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
            raise BeirHybridError(
                f"{self.name} gives a vector that is not finite for the text {bad[:80]!r}. "
                "The weights may be damaged, or the precision too low: try precision='float32'."
            )
        return vectors

    def _lengths(self, texts: list[str], prompt: str) -> npt.NDArray[np.int64]:
        """Tokens a text, capped at the model's maximum; characters where the model has no fast tokenizer."""
        longest = self.model.max_seq_length or 512
        tokenizer = self.model.tokenizer
        if not getattr(tokenizer, "is_fast", False):
            return np.array([min(longest, len(prompt) + len(text)) for text in texts], dtype=np.int64)
        found = np.empty(len(texts), dtype=np.int64)
        for start in range(0, len(texts), 4096):  # token lists are large: keep a block of them
            block = [prompt + text for text in texts[start : start + 4096]]
            # Padding is said, since a tokenizer remembers what it was last told.
            tokens = tokenizer(block, padding=False, truncation=True, max_length=longest, return_attention_mask=False)
            found[start : start + 4096] = [len(ids) for ids in tokens["input_ids"]]
        return found


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


def weights_digest(model: SentenceTransformer) -> str:
    """SHA-256 over the names, types and values of all weights."""
    import torch

    state = hashlib.sha256()
    for key, tensor in model.state_dict().items():
        state.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def training_record(model: str | Path) -> dict[str, Any] | None:
    """What HybridTrainer wrote beside the model in this folder, if it did."""
    path = Path(model) / TRAINING_RECORD
    if not path.is_file():
        return None
    record = read_json(path, "the record of a training")
    return record if isinstance(record, dict) else None


def _batches(lengths: npt.NDArray[np.int64], budget: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows in batches, longest first, so that memory runs out at once or never."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def _precision(wanted: Precision, device: str) -> str:
    """bf16 where there are units for it: elsewhere it is emulated, and slower than float32."""
    if wanted != "auto":
        return wanted
    import torch

    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device == "cpu":
        has = any(getattr(torch.cpu, f"_is_{unit}_supported", lambda: False)() for unit in ("avx512_bf16", "amx_tile"))
        return "bf16" if has else "float32"
    return "float32"
