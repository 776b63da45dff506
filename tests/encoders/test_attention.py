"""Attention in bf16 beside its definition in float64, and beside torch's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from transformers.integrations import sdpa_attention

from beir_hybrid.encoders import attention
from beir_hybrid.encoders.attention import NAME, attention_in_bf16
from beir_hybrid.encoders.encoding import encode
from beir_hybrid.encoders.tokenised import Tokenised

LAYER = SimpleNamespace(is_causal=False)


def made(texts: int, heads: int, tokens: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values as layers make them: views in which heads come first."""
    random = torch.Generator().manual_seed(seed)
    return tuple(  # type: ignore[return-value]
        torch.randn(texts, tokens, heads, size, generator=random).to(torch.bfloat16).transpose(1, 2) for _ in range(3)
    )


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """In float64; shape (texts, tokens, heads, size)."""
    scores = query.double() @ key.double().transpose(2, 3) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return (torch.softmax(scores, dim=-1) @ value.double()).transpose(1, 2)


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 70),
    st.sampled_from([8, 32, 64]),
    st.booleans(),
    st.integers(0, 99),
)
@settings(max_examples=40)
def test_it_is_attention(texts: int, heads: int, tokens: int, size: int, masked: bool, seed: int) -> None:
    query, key, value = made(texts, heads, tokens, size, seed)
    mask = None
    if masked:
        lengths = torch.randint(1, tokens + 1, (texts,), generator=torch.Generator().manual_seed(seed))
        mask = (torch.arange(tokens) < lengths[:, None])[:, None, None].expand(texts, 1, tokens, tokens)
    found, weights = attention._attention(LAYER, query, key, value, mask)  # type: ignore[arg-type]
    assert weights is None
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), reference(query, key, value, mask), atol=0.05, rtol=0.02)


def test_a_text_with_nothing_to_look_at_is_not_nan() -> None:
    query, key, value = made(1, 2, 5, 8, 0)
    mask = torch.zeros(1, 1, 5, 5, dtype=torch.bool)
    found, _ = attention._attention(LAYER, query, key, value, mask)  # type: ignore[arg-type]
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dropout": 0.1}, "dropout"),
        ({"is_causal": True}, "tokens look at those before them"),
        ({"position_bias": torch.zeros(1, 2, 5, 5, dtype=torch.bfloat16)}, "a bias for positions"),
        ({"attention_mask": torch.zeros(1, 1, 5, 5, dtype=torch.bfloat16)}, "a mask of numbers"),
        ({"query": torch.randn(1, 2, 5, 8)}, "float32"),
        ({"query": torch.randn(1, 4, 5, 8, dtype=torch.bfloat16)}, "queries share keys"),
    ],
)
def test_what_is_not_plain_is_left_to_torch(change: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(sdpa_attention, "sdpa_attention_forward", lambda *_, **__: asked.append(True))
    query, key, value = made(1, 2, 5, 8, 0)
    attention._attention(  # type: ignore[misc]
        LAYER, **{"query": query, "key": key, "value": value, "attention_mask": None, "scaling": None, **change}
    )
    assert asked, why


def test_long_texts_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = made(1, 2, 40, 8, 0)
    ours, _ = attention._attention(LAYER, query, key, value, None)  # type: ignore[arg-type]
    monkeypatch.setattr(attention, "_LONGEST", 30)
    theirs, _ = attention._attention(LAYER, query, key, value, None)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


def test_a_model_uses_it_for_a_while(model: SentenceTransformer) -> None:
    config = model.transformers_model.config  # type: ignore[union-attr]
    texts = ["a river", "the tower of music in a garden", "engine " * 40, "winter"]
    tokens = Tokenised(model, texts, "")
    plain = encode(model, tokens, "float32", tokens.batches(100))
    before = config._attn_implementation
    with pytest.raises(KeyboardInterrupt), attention_in_bf16(model):
        assert config._attn_implementation == NAME
        raise KeyboardInterrupt
    assert config._attn_implementation == before == "sdpa"
    ours = encode(model, tokens, "bf16", tokens.batches(100))
    assert (ours * plain).sum(axis=1).min() > 0.999
    np.testing.assert_array_equal(encode(model, tokens, "float32", tokens.batches(100)), plain)


def test_a_model_with_attention_of_its_own_keeps_it(model: SentenceTransformer) -> None:
    inner = model.transformers_model
    assert inner is not None
    inner.set_attn_implementation("eager")
    with attention_in_bf16(model):
        assert inner.config._attn_implementation == "eager"
    inner.set_attn_implementation("sdpa")
