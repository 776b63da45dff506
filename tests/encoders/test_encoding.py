from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from beir_hybrid.encoders import dense, encoding
from beir_hybrid.encoders.attention import attention_in_bf16
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.encoding import Probe
from beir_hybrid.encoders.tokenised import Tokenised

TEXTS = ["a river", "", "the tower of music in a garden", "engine " * 90, "winter", "a letter, a market"]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("prompt", ["", "query: "])
def test_batches_are_those_of_the_model(model: SentenceTransformer, side: str, prompt: str) -> None:
    model.tokenizer.padding_side = side
    tokens = Tokenised(model, TEXTS, prompt)
    assert tokens._features, "tokenised once only if the sample was equal"
    for rows in ([0, 1], [3], [5, 2, 4], range(6)):
        ours = tokens.batch(np.array(rows))
        theirs = model.preprocess([TEXTS[row] for row in rows], prompt=prompt or None)
        assert set(ours) == set(theirs)
        for name, value in theirs.items():
            assert torch.equal(ours[name], value) if torch.is_tensor(value) else ours[name] == value


def test_a_model_that_prepares_texts_otherwise_does_so_itself(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = model.preprocess
    monkeypatch.setattr(model, "preprocess", lambda texts, **named: own([text.upper() + " music" for text in texts]))
    tokens = Tokenised(model, TEXTS, "")
    ours = encoding.encode(model, tokens, "float32", tokens.batches(20))
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_every_text_is_tokenised_once(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = []
    own = model.preprocess
    monkeypatch.setattr(model, "preprocess", lambda texts, **named: prepared.extend(texts) or own(texts, **named))
    encoder = DenseEncoder(model, precision="float32", progress=False)
    encoder.encode_queries([f"a river {row}" for row in range(300)])
    assert len(prepared) <= 8


def test_batches_go_by_length_and_budget(model: SentenceTransformer) -> None:
    tokens = Tokenised(model, TEXTS * 5, "")
    batches = list(tokens.batches(40))
    assert sorted(np.concatenate(batches).tolist()) == list(range(30))
    lengths = [tokens.lengths[rows] for rows in batches]
    assert all(len(one) == 1 or len(one) * one.max() <= 40 for one in lengths)
    assert lengths[0].max() == tokens.lengths.max()
    by_length = sorted(lengths, key=lambda one: (-one.max(), -one.min()))
    assert (np.diff(np.concatenate(by_length)) <= 0).all()
    assert [rows.tolist() for rows in tokens.batches(40)] == [rows.tolist() for rows in batches]


@pytest.mark.parametrize(
    ("speedup", "cosine", "chosen"), [(2.0, 0.9999, "bf16"), (0.5, 0.9999, "float32"), (2.0, 0.99, "float32")]
)
def test_auto_is_what_was_faster_and_as_good(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, speedup: float, cosine: float, chosen: str
) -> None:
    asked = []
    monkeypatch.setattr(dense, "has_bf16_units", lambda device: True)
    monkeypatch.setattr(dense, "probe", lambda *_: asked.append(1) or Probe(speedup, cosine))
    encoder = DenseEncoder(tiny_model, progress=False)
    encoder.encode_queries(["a river"])  # too little to try it on
    assert (encoder.precision, asked) == ("float32", [])
    encoder.encode_queries(["a river and a tower"] * 2000)
    encoder.encode_queries(["a garden and a tower"] * 2000)
    assert (encoder.precision, asked) == (chosen, [1])
    assert encoder.describe()["precision_probe"] == {"bf16_speedup": speedup, "min_cosine": cosine}


def test_a_probe_compares_the_two(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(dense, "has_bf16_units", lambda device: True)
    encoder = DenseEncoder(tiny_model, progress=False)
    assert encoder.precision in ("float32", "bf16")  # asked before there are texts
    found = encoder.precision_probe
    assert found is not None
    assert found["bf16_speedup"] > 0
    assert 0.99 < found["min_cosine"] <= 1.00001


def test_without_units_nothing_is_tried(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "has_bf16_units", lambda device: False)
    encoder = DenseEncoder(tiny_model, progress=False)
    encoder.encode_queries(["a river and a tower"] * 2000)
    assert encoder.precision == "float32"
    assert "precision_probe" not in encoder.describe()


def test_weights_are_converted_once_and_put_back(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokenised(model, TEXTS, "")
    before = [(name, value, value.dtype) for name, value in model.named_parameters()]
    ours = encoding.encode(model, tokens, "bf16", tokens.batches(20))
    seen = []

    def fail(features: object) -> None:
        seen.extend(layer.weight.dtype for layer in model.modules() if isinstance(layer, torch.nn.Linear))
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "forward", fail)
    with pytest.raises(KeyboardInterrupt):
        encoding.encode(model, tokens, "bf16", tokens.batches(20))
    monkeypatch.undo()
    assert set(seen) == {torch.bfloat16}
    after = [(name, value, value.dtype) for name, value in model.named_parameters()]
    assert all(a[0] == b[0] and a[1] is b[1] and a[2] == b[2] for a, b in zip(before, after, strict=True))
    with attention_in_bf16(model):  # the weights are left to autocast
        plain = [encoding.vectors_of(model, tokens.batch(rows), "bf16") for rows in tokens.batches(20)]
    assert np.array_equal(np.concatenate(plain), ours[np.concatenate(list(tokens.batches(20)))])


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_threads_give_what_one_gives(
    model: SentenceTransformer, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokenised(model, [f"{text} {number}" for number in range(40) for text in TEXTS], "")
    seen, told = set(), []
    own = encoding.vectors_of

    def watched(*arguments: Any) -> encoding.FloatArray:
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        return own(*arguments)

    monkeypatch.setattr(encoding, "vectors_of", watched)
    ours = encoding.encode(model, tokens, precision, tokens.batches(200), told.append)
    assert sum(told) == len(tokens)
    assert len(seen) > 1
    assert {threads for _, threads in seen} == {1}
    assert torch.get_num_threads() == 4
    monkeypatch.setattr(encoding, "threads_may_share", lambda model: False)
    torch.set_num_threads(1)
    alone = encoding.encode(model, tokens, precision, tokens.batches(200))
    assert np.array_equal(ours, alone)


@pytest.mark.usefixtures("four_threads")
def test_what_goes_wrong_in_a_thread_is_heard_of(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokenised(model, TEXTS * 20, "")
    calls = []

    def failing(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) > 2:
            raise ValueError("out of luck")

    monkeypatch.setattr(encoding, "vectors_of", failing)
    with pytest.raises(ValueError, match="out of luck"):
        encoding.encode(model, tokens, "float32", tokens.batches(100))
    assert torch.get_num_threads() == 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode")]


def test_layers_that_may_change_are_run_by_one_thread(model: SentenceTransformer) -> None:
    assert encoding.threads_may_share(model)
    hook = model[0].register_forward_hook(lambda *_: None)
    assert not encoding.threads_may_share(model)
    hook.remove()
    assert encoding.threads_may_share(model)
    config = model.transformers_model.config  # type: ignore[union-attr]
    config.rope_parameters = {"rope_type": "dynamic"}
    assert not encoding.threads_may_share(model)
    config.rope_parameters = {"rope_type": "yarn"}
    assert encoding.threads_may_share(model)

    class Counted(torch.nn.Identity):
        pass

    model.append(Counted())
    assert not encoding.threads_may_share(model)
