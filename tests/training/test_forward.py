from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from beir_hybrid.training import forward
from beir_hybrid.training.forward import CHUNKS, embed


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu").eval()


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("least", [0, 64])
def test_chunks_give_the_same_embeddings_and_gradients(
    model: SentenceTransformer, lengths: list[int], least: int
) -> None:
    features = model.preprocess([("river " * length).strip() for length in lengths])
    weight = model[0].auto_model.encoder.layer[0].attention.self.query.weight
    found = []
    for run in (lambda: model(dict(features))["sentence_embedding"], lambda: embed(model, dict(features))):
        model.zero_grad()
        with mock.patch.object(forward, "LEAST_SAVED", least):
            embeddings = run()
        (embeddings * torch.arange(len(lengths) * 32.0).view(-1, 32)).sum().backward()
        found.append((embeddings.detach(), weight.grad.clone()))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-2, rtol=1e-3)


def widths_of(model: SentenceTransformer, texts: list[str]) -> list[int]:
    """How many tokens wide each run is."""
    widths: list[int] = []
    handle = model[0].register_forward_pre_hook(lambda module, args: widths.append(args[0]["input_ids"].shape[1]))
    embed(model, model.preprocess(texts))
    handle.remove()
    return widths


def test_short_texts_are_not_padded_to_the_longest(model: SentenceTransformer) -> None:
    widths = widths_of(model, ["river"] * (CHUNKS * 16 - 1) + ["river " * 25])
    assert len(widths) == CHUNKS
    assert sorted(widths)[-2] < 10 < 25 < max(widths)


def test_a_batch_with_little_padding_is_run_at_once(model: SentenceTransformer) -> None:
    assert len(widths_of(model, ["river"] * (CHUNKS * 2 - 1) + ["river " * 25])) == 1
    assert len(widths_of(model, ["river tower"] * 64)) == 1


def test_padding_on_the_left_is_left_alone(model: SentenceTransformer) -> None:
    features = model.preprocess(["river", "river tower music"] * CHUNKS)
    flipped = {name: value.flip(1) if torch.is_tensor(value) else value for name, value in features.items()}
    torch.testing.assert_close(embed(model, dict(flipped)), model(dict(flipped))["sentence_embedding"])
