from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.loss import HybridInfoNCELoss


def reference(
    columns: list[np.ndarray], temperature: float, labels: list[int] | None = None, symmetric: bool = False
) -> float:
    """The definition, a row at a time, in float64."""
    queries, passages, *negatives = (c / np.linalg.norm(c, axis=1, keepdims=True) for c in columns)
    labels = list(range(len(queries))) if labels is None else labels
    total = 0.0
    for ask, find, more in [(queries, passages, negatives), (passages, queries, [])][: 1 + symmetric]:
        for i, vector in enumerate(ask):
            others = [find[j] for j in range(len(find)) if j == i or labels[j] != labels[i]]
            others += [row for column in more for row in column]
            scores = np.array([vector @ other for other in others]) / temperature
            total += np.log(np.exp(scores - scores.max()).sum()) + scores.max() - vector @ find[i] / temperature
    return total / len(queries) / (1 + symmetric)


def columns(count: int, seed: int = 0, rows: int = 7) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    base = random.normal(size=(rows, 5))
    return [base + random.normal(size=(rows, 5)) for _ in range(count)]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("labels", [None, [0, 1, 0, 2, 3, 1, 0]])
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_equals_the_reference(temperature: float, count: int, labels: list[int] | None, symmetric: bool) -> None:
    data = columns(count)
    loss = HybridInfoNCELoss(torch.nn.Identity(), temperature, symmetric)
    groups = None if labels is None else torch.tensor(labels)
    wanted = reference(data, temperature, labels, symmetric)
    exact = loss.from_embeddings([torch.tensor(column) for column in data], groups)
    assert exact.item() == pytest.approx(wanted, abs=1e-6)
    single = loss.from_embeddings([torch.tensor(column, dtype=torch.float32) for column in data], groups)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(wanted, rel=1e-5)


class _Model(torch.nn.Module):
    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": features["x"]}


def test_equals_multiple_negatives_ranking() -> None:
    features = [{"x": torch.tensor(column)} for column in columns(3)]
    labels = torch.arange(7)
    theirs = MultipleNegativesRankingLoss(_Model(), scale=1 / 0.05)(features, labels)
    ours = HybridInfoNCELoss(_Model(), 0.05)(features, labels)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)


def test_float32_under_autocast() -> None:
    data = [torch.tensor(column, dtype=torch.float32) for column in columns(2)]
    loss = HybridInfoNCELoss(_Model())
    plain = loss.from_embeddings(data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss.from_embeddings(data)
    assert cast.dtype == torch.float32
    assert cast.item() == plain.item()
    half = [one.bfloat16() for one in data]
    assert loss.from_embeddings(half).dtype == torch.float32


def test_a_translation_pulls_no_gradient() -> None:
    queries, passages = (torch.tensor(column, requires_grad=True) for column in columns(2, rows=2))
    loss = HybridInfoNCELoss(_Model(), 0.1).from_embeddings([queries, passages], torch.tensor([4, 4]))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.count_nonzero(passages.grad) == 0


def test_errors_and_card() -> None:
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(BeirHybridError, match="temperature"):
            HybridInfoNCELoss(_Model(), temperature)
    loss = HybridInfoNCELoss(_Model(), 0.1, True)
    with pytest.raises(BeirHybridError, match="1 column"):
        loss.from_embeddings([torch.ones(2, 2)])
    assert loss.get_config_dict() == {"temperature": 0.1, "symmetric": True}
    assert "2408.10536" in loss.citation
