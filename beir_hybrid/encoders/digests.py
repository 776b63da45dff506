"""What vectors depend on, as SHA-256: two models, or two lists of texts, with one digest are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_NO_MATTER = {"_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype"}
_LAST_CALL = {"padding", "truncation"}
_BLOCK = 4096


def weights_digest(model: SentenceTransformer) -> str:
    """SHA-256 over the names, types and values of all weights."""
    import torch

    state = hashlib.sha256()
    for key, tensor in model.state_dict().items():
        state.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def model_digest(model: SentenceTransformer) -> str:
    """SHA-256 over all that a vector depends on but the prompt: weights, tokenizer, modules and their settings."""
    parts: list[Any] = [weights_digest(model), model.max_seq_length, _tokenizer_state(model.tokenizer)]
    for module in model:
        settings: Any = getattr(module, "get_config_dict", dict)
        config: Any = getattr(getattr(module, "config", None), "to_dict", dict)
        # Heads and activations are no weights. Where a model lies and who saved it changes no vector.
        shape = {name: value for name, value in config().items() if name not in _NO_MATTER}
        parts.append([type(module).__name__, settings(), shape])
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _tokenizer_state(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(backend, "to_str"):
        # How it last padded and cut is no part of it.
        state = {key: value for key, value in json.loads(backend.to_str()).items() if key not in _LAST_CALL}
    else:
        state = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    return state | {"sides": [getattr(tokenizer, f"{kind}_side", None) for kind in ("padding", "truncation")]}


def texts_digest(texts: Sequence[str]) -> str:
    """SHA-256 over the texts in their order. Reads them all, a block at a time."""
    state = hashlib.sha256()
    for start in range(0, len(texts), _BLOCK):
        for text in texts[start : start + _BLOCK]:
            encoded = text.encode("utf-8", "surrogatepass")
            state.update(len(encoded).to_bytes(8, "little") + encoded)
    return state.hexdigest()
