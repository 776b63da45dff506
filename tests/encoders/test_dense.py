from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi
from sentence_transformers import SentenceTransformer

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.encoders.dense import DenseEncoder, load_model, weights_digest
from beir_hybrid.encoders.presets import preset_for
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import write_json


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("intfloat/multilingual-e5-small", "e5"),
        ("intfloat/e5-base-v2", "e5"),
        ("bundled:multilingual-e5-small", "e5"),
        ("BAAI/bge-m3", "bge-m3"),
        ("sentence-transformers/LaBSE", "labse"),
        ("FacebookAI/xlm-roberta-base", "xlm-r"),
        ("xlm-r-large", "xlm-r"),
        ("google-bert/bert-base-multilingual-cased", "other"),
        ("/models/balance5-small", "other"),
    ],
)
def test_families(name: str, family: str) -> None:
    assert preset_for(name).name == family


def test_vectors_are_those_of_sentence_transformers(tiny_model: Path, toy_collection: MultilingualCollection) -> None:
    texts = [*toy_collection.queries.texts, "", "word " * 700]
    encoder = DenseEncoder(tiny_model, query_prompt="query: ", precision="float32", batch_tokens=300)
    expected = SentenceTransformer(str(tiny_model), device="cpu").encode(
        texts, prompt="query: ", normalize_embeddings=True, batch_size=7
    )
    np.testing.assert_allclose(encoder.encode_queries(texts), expected, atol=2e-6)


def test_the_batching_changes_nothing(tiny_model: Path, toy_collection: MultilingualCollection) -> None:
    texts = list(toy_collection.passages.texts)
    small = DenseEncoder(tiny_model, precision="float32", batch_tokens=1)
    large = DenseEncoder(tiny_model, precision="float32", batch_tokens=10**6)
    corpus = [{"text": text} for text in texts]
    np.testing.assert_allclose(small.encode_corpus(corpus), large.encode_corpus(corpus), atol=2e-6)


def test_both_of_beirs_corpus_shapes(tiny_model: Path) -> None:
    encoder = DenseEncoder(tiny_model, precision="float32")
    rows = encoder.encode_corpus([{"title": "Bees", "text": "dance"}, {"title": "", "text": "Ants"}], batch_size=4)
    columns = encoder.encode_corpus({"title": ["Bees", ""], "text": ["dance", "Ants"]}, batch_size=4)
    np.testing.assert_array_equal(rows, columns)
    np.testing.assert_allclose(rows[0], encoder.encode_corpus([{"text": "Bees dance"}])[0], atol=2e-6)


def test_nothing_to_encode(tiny_model: Path) -> None:
    assert DenseEncoder(tiny_model).encode_queries([]).shape == (0, 32)


def test_prompts_are_kept_in_the_saved_model(tiny_model: Path, tmp_path: Path) -> None:
    encoder = DenseEncoder(tiny_model, query_prompt="q: ", passage_prompt="p: ")
    encoder.model.save(str(tmp_path / "saved"))
    again = DenseEncoder(tmp_path / "saved")
    assert (again.query_prompt, again.passage_prompt) == ("q: ", "p: ")
    assert again.describe()["prompts"] == {"query": "q: ", "passage": "p: "}
    assert again.describe()["digest"] == encoder.describe()["digest"]


def test_a_family_speaks_where_the_model_does_not(tiny_model: Path, tmp_path: Path) -> None:
    named = tmp_path / "multilingual-e5-small"
    shutil.copytree(tiny_model, named)
    encoder = DenseEncoder(named)
    assert (encoder.query_prompt, encoder.passage_prompt) == ("query: ", "passage: ")


def test_a_bare_transformer_gets_its_familys_pooling(tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(tiny_model)
    for name, pooling in (("bge-m3", "cls"), ("xlm-r", "mean")):
        model[0].auto_model.save_pretrained(tmp_path / name)
        model.tokenizer.save_pretrained(tmp_path / name)
        assert DenseEncoder(tmp_path / name).describe()["pooling"] == pooling


def test_the_record_of_a_training_is_read(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "trained")
    write_json(tmp_path / "trained" / "hybrid_training.json", {"batching": "x-y"})
    encoder = DenseEncoder(tmp_path / "trained")
    assert encoder.batching == "x-y"
    assert encoder.describe()["training"] == {"batching": "x-y"}
    assert DenseEncoder(tiny_model).batching == ""


def test_the_digest_sees_a_weight(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    before = weights_digest(model)
    next(model.parameters()).data.view(-1)[0] += 1
    assert weights_digest(model) != before


@pytest.mark.parametrize("name", ["/no/such/folder", "bundled:e5", "no-such-organisation/no-such-model"])
def test_an_unknown_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEIR_HYBRID_OFFLINE", "1")
    with pytest.raises(BeirHybridError, match=r"unknown bundled model|cannot be loaded"):
        DenseEncoder(name)


def test_an_unreachable_hub_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    asked = []

    def unreachable(self: HfApi, name: str, timeout: float) -> None:
        asked.append(name)
        raise ConnectionError

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    with pytest.raises(BeirHybridError, match="cannot be loaded"):
        DenseEncoder("no-such-organisation/no-such-model")
    assert asked == ["no-such-organisation/no-such-model"]


def test_an_unknown_precision(tiny_model: Path) -> None:
    with pytest.raises(BeirHybridError, match="unknown precision 'int8'"):
        DenseEncoder(tiny_model, precision="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["cpux", "cuda:99", ["cpu", "meta:x"]])
def test_a_device_that_is_not_there(tiny_model: Path, device: str | list[str]) -> None:
    with pytest.raises(BeirHybridError, match=r"device '(cpux|cuda:99|meta:x)': "):
        DenseEncoder(tiny_model, device=device)


def test_a_damaged_folder(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BeirHybridError, match="cannot be loaded"):
        DenseEncoder(tmp_path / "cut")


def test_vectors_that_are_not_finite_are_refused(tiny_model: Path) -> None:
    encoder = DenseEncoder(tiny_model, precision="float32")
    encoder.model[0].auto_model.get_input_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(BeirHybridError, match="not finite"):
        encoder.encode_queries(["bees"])
