"""Models that Pyserini's AutoQueryEncoder reproduces, and those that it does not."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from transformers import T5Config, T5EncoderModel

from beir_hybrid.anserini.encoder_folder import PyseriniEncoder, pyserini_encoder, write_encoder
from beir_hybrid.anserini.query_encoder import PyseriniQueryEncoder
from beir_hybrid.encoders.dense import DenseEncoder
from tests.anserini.test_jvm import TIMEOUT, needs_java

TEXTS = ["where is deriver 3?", "en music", "", "x" * 300, " ".join(["where is entower?"] * 40)]


def pooled(model: SentenceTransformer, mode: str, *more: Any, **options: Any) -> SentenceTransformer:
    """The same transformer with another pooling, and other modules after it."""
    made = SentenceTransformer(modules=[model[0], Pooling(32, mode, **options), *more], device="cpu")
    made.prompts = model.prompts
    return made


READ_BACK = """
from beir_hybrid.anserini import jvm; jvm.start()
import argparse, os, sys, numpy as np
import pyserini.search.faiss.__main__ as command
parser = argparse.ArgumentParser()
command.define_dsearch_args(parser)
for number, (folder, flags) in enumerate({cases!r}):
    os.chdir(folder)
    a = parser.parse_args(["--index", ".", *flags])
    for encoder in (a.encoder, folder + "/" + a.encoder):
        made = command.init_query_encoder(encoder, a.encoder_class, a.tokenizer, "", None, a.device, a.max_length,
            a.pooling, a.l2_norm, a.query_prefix)
        found = np.stack([made.encode(text) for text in {texts!r}])
        assert abs(found - np.load("expected.npy")).max() < 1e-5, encoder
    print("same")
"""


@needs_java
def test_pyserini_gives_the_same_vectors_from_a_path_that_it_would_misread(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    cases = []
    for number, (pooling, prompt) in enumerate(itertools.product(("mean", "cls"), ("query: ", ""))):
        encoder = DenseEncoder(pooled(model, pooling), query_prompt=prompt)
        # By these letters Pyserini would take an encoder of DPR's, ANCE's, TCT-ColBERT's or CLIP's.
        folder = tmp_path / "balance" / "dpr_tct_colbert" / "sentence-clip-dse" / str(number)
        folder.mkdir(parents=True)
        plan = write_encoder(encoder, folder / "encoder")
        assert not plan.obstacles
        np.save(folder / "expected.npy", encoder.encode(TEXTS, "query", precision="float32"))
        cases.append((str(folder), plan.flags))
    code = READ_BACK.format(cases=cases, texts=TEXTS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.stdout.count("same\n") == len(cases), done.stderr


def test_the_flags_say_all_that_pyserini_would_guess(model: SentenceTransformer) -> None:
    plan = pyserini_encoder(DenseEncoder(pooled(model, "cls"), query_prompt="Instruct: find\nQuery: "))
    assert plan == PyseriniEncoder("cls", "Instruct: find\nQuery:", ())
    assert plan.flags == [
        *("--encoder", "encoder", "--encoder-class", "auto", "--pooling", "cls", "--l2-norm"),
        "--query-prefix=Instruct: find\nQuery:",
    ]
    assert "--query-prefix" not in " ".join(pyserini_encoder(DenseEncoder(model, query_prompt="")).flags)


CHANGES: list[tuple[Callable[[SentenceTransformer], Any], str]] = [
    (lambda model: pooled(model, "mean", Dense(32, 16), Normalize()), "its module Dense comes after the pooling"),
    (lambda model: pooled(model, "max"), "it pools by max"),
    (lambda model: pooled(model, "mean", include_prompt=False), "leaves the prompt's tokens out"),
    (lambda model: model.bfloat16(), "weights are torch.bfloat16"),
    (lambda model: setattr(model, "truncate_dim", 8), "truncate_dim"),
]


@pytest.mark.parametrize(("change", "reason"), CHANGES, ids=[reason for _, reason in CHANGES])
def test_what_pyserini_cannot_do_is_said_and_not_written(
    model: SentenceTransformer, tmp_path: Path, change: Callable[[SentenceTransformer], Any], reason: str
) -> None:
    plan = write_encoder(DenseEncoder(change(model) or model), tmp_path / "encoder")
    assert [reason in obstacle for obstacle in plan.obstacles] == [True]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("prompt", ["query:", " ", "query:\n"])
def test_a_prompt_without_a_blank_behind_a_word_cannot_be_a_prefix(model: SentenceTransformer, prompt: str) -> None:
    (obstacle,) = pyserini_encoder(DenseEncoder(model, query_prompt=prompt)).obstacles
    assert repr(prompt) in obstacle


def test_a_model_that_automodel_would_load_otherwise_is_not_written(model: SentenceTransformer) -> None:
    config = T5Config(vocab_size=99, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    model[0].model = T5EncoderModel(config)
    assert "another class than T5EncoderModel" in pyserini_encoder(DenseEncoder(model)).obstacles[0]


def test_what_gives_other_vectors_when_read_back_is_taken_away(
    model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model[0].model, "save_pretrained", _with_other_weights(model))
    plan = write_encoder(DenseEncoder(model), tmp_path / "encoder")
    assert "read back by transformers it gives other vectors" in plan.obstacles[0]
    assert not list(tmp_path.iterdir())


def _with_other_weights(model: SentenceTransformer) -> Callable[[Path], None]:
    import copy

    other = copy.deepcopy(model[0].model)
    with torch.no_grad():
        next(iter(other.parameters())).mul_(1.5)
    return lambda folder: other.save_pretrained(folder)


def test_our_query_encoder_takes_any_model(model: SentenceTransformer) -> None:
    encoder = DenseEncoder(pooled(model, "mean", Dense(32, 16), Normalize()))
    ours = PyseriniQueryEncoder(encoder)
    expected = encoder.encode_queries(TEXTS)
    np.testing.assert_array_equal(ours.encode_batch(TEXTS), expected)
    np.testing.assert_allclose(ours.encode(TEXTS[1]), expected[1], atol=1e-6)
    assert ours.encode("a").shape == (16,)
