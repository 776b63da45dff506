"""Attention in bf16 on a CPU, for encoding: the same numbers but for rounding, in half the time.

torch's fused kernel computes in float32 there, and where a row of scores does not fill its vector registers, partly one
number at a time. Here keys are padded to whole registers, and the products are made by the units for bf16. It is
registered with transformers by name, so that it serves every architecture that looks its attention up by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

NAME = "beir_hybrid_bf16"
_REGISTER = 32
"""Numbers of bf16 in a vector register of 512 bits."""
_LONGEST = 1024
"""Tokens beyond which all scores of a text are not held at once."""


@contextlib.contextmanager
def attention_in_bf16(model: SentenceTransformer) -> Iterator[None]:
    """While this lasts, a model that uses torch's fused attention uses ours."""
    inner = model.transformers_model
    before = getattr(getattr(inner, "config", None), "_attn_implementation", None)
    if inner is None or before != "sdpa" or not hasattr(inner, "set_attn_implementation"):
        yield
        return
    _register()
    inner.set_attn_implementation(NAME)
    try:
        yield
    finally:
        inner.set_attn_implementation(before)


def _register() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Softmax of the scaled products of queries and keys, times the values.

    Args:
        module: The layer.
        query: Shape (texts, heads, tokens, size); keys and values too.
        key: As above.
        value: As above.
        attention_mask: True where a token may be looked at, shape (texts or 1, 1 or heads, 1 or tokens, tokens).
        scaling: What products are multiplied by; by default the inverse root of the size.
        dropout: As in transformers; with any, as with everything else that is not plain, torch's attention is used.
        is_causal: Whether a token looks only at those before it.
        more: What the layer says besides.

    Returns:
        Shape (texts, tokens, heads, size), and no weights.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    tokens = key.shape[2]
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    plain = (
        query.dtype == key.dtype == value.dtype == torch.bfloat16
        and query.shape[:2] == key.shape[:2]
        and not dropout
        and not (causal and attention_mask is None)
        and (attention_mask is None or attention_mask.dtype == torch.bool)
        and all(more.get(name) is None for name in ("position_bias", "cache", "softcap", "s_aux"))
        and tokens <= _LONGEST
    )
    if not plain:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, is_causal, **more)
    missing = -tokens % _REGISTER
    if missing:
        key, value = (torch.nn.functional.pad(one, (0, 0, 0, missing)) for one in (key, value))
    with torch.autocast("cpu", enabled=False):  # it would have the softmax in float32, which is rounded right after
        scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scaling is None else scaling), key.transpose(2, 3))
        if attention_mask is not None or missing:
            scores += _bias(attention_mask, tokens, scores)
        return torch.matmul(torch.softmax(scores, dim=-1), value).transpose(1, 2).contiguous(), None


def _bias(mask: Tensor | None, tokens: int, scores: Tensor) -> Tensor:
    """What is added to the scores, so that only tokens that may be looked at have a weight."""
    import torch

    least = torch.finfo(scores.dtype).min  # not infinity: a text with nothing to look at is not to become NaN
    shape = (1, 1, 1) if mask is None else mask.shape[:3]
    bias = torch.zeros((*shape, scores.shape[3]), dtype=scores.dtype)
    if mask is not None:
        bias[..., :tokens].masked_fill_(~mask, least)
    bias[..., tokens:] = -torch.inf
    return bias
