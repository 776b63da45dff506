"""The families' recipes, against plain transformers, on small random models of their architectures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.encoders.dense import DenseEncoder, load_model
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments

TEXTS = ["bees dance", "wo tanzen die bienen", "a", "where do the bees dance in winter, and why?"]
Pool = Callable[[object, torch.Tensor], torch.Tensor]


def cls(output: object, mask: torch.Tensor) -> torch.Tensor:
    return output.last_hidden_state[:, 0]  # type: ignore[attr-defined]


def mean(output: object, mask: torch.Tensor) -> torch.Tensor:
    kept = mask.unsqueeze(-1).float()
    return (output.last_hidden_state * kept).sum(dim=1) / kept.sum(dim=1)  # type: ignore[attr-defined]


def pooler(output: object, mask: torch.Tensor) -> torch.Tensor:
    return output.pooler_output  # type: ignore[attr-defined]


def by_hand(folder: Path, texts: list[str], pool: Pool, prompt: str = "") -> np.ndarray:
    """Normalised vectors with nothing but transformers."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    tokens = tokenizer([prompt + text for text in texts], padding=True, return_tensors="pt")
    with torch.no_grad():
        vectors = pool(model(**tokens), tokens["attention_mask"])
    return np.asarray(torch.nn.functional.normalize(vectors, dim=1).numpy())


def check(encoder: DenseEncoder, folder: Path, pool: Pool, query: str = "", passage: str = "") -> None:
    assert (encoder.query_prompt, encoder.passage_prompt) == (query, passage)
    queries, passages = encoder.encode_queries(TEXTS), encoder.encode_corpus([{"text": text} for text in TEXTS])
    np.testing.assert_allclose(queries, by_hand(folder, TEXTS, pool, query), atol=1e-5)
    np.testing.assert_allclose(passages, by_hand(folder, TEXTS, pool, passage), atol=1e-5)


def make(folder: Path, family: str, with_pooler: bool = True) -> Path:
    """A bare transformer of 2 layers: `xlm-roberta` or `bert`. Weights are large enough for its parts to matter."""
    shared = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    first, last, pad, unknown = ("<s>", "</s>", "<pad>", "<unk>") if family != "bert" else (
        "[CLS]", "[SEP]", "[PAD]", "[UNK]")  # fmt: skip
    special = [first, pad, last, unknown] if family != "bert" else [pad, unknown, first, last]
    characters = [chr(code) for code in range(32, 127)]
    vocabulary = {piece: number for number, piece in enumerate([*special, *characters])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # every character
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token=first, sep_token=last, pad_token=pad, unk_token=unknown,
        model_max_length=60,
    ).save_pretrained(folder)  # fmt: skip
    size = len(vocabulary)
    torch.manual_seed(len(family))
    model = (
        BertModel(BertConfig(vocab_size=size, max_position_embeddings=64, **shared), add_pooling_layer=with_pooler)
        if family == "bert"
        else XLMRobertaModel(
            XLMRobertaConfig(vocab_size=size, max_position_embeddings=64, pad_token_id=1, bos_token_id=0,
                             eos_token_id=2, type_vocab_size=1, **shared)
        )
    )  # fmt: skip
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(8)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_a_bare_xlm_r(tmp_path: Path) -> None:
    folder = make(tmp_path / "xlm-roberta-tiny", "xlm-roberta")
    for pooling, pool in ((None, mean), ("mean", mean), ("cls", cls)):
        encoder = DenseEncoder(folder, pooling=pooling, precision="float32")
        check(encoder, folder, pool, "Query: ", "Passage: ")
        assert encoder.describe()["pooling"] == (pooling or "mean")
        # Saved, it says for itself how it pools and what stands before its texts.
        saved = tmp_path / f"saved-{pooling}"
        encoder.model.save_pretrained(str(saved))
        check(DenseEncoder(saved, precision="float32"), folder, pool, "Query: ", "Passage: ")
    assert not np.allclose(by_hand(folder, TEXTS, mean), by_hand(folder, TEXTS, cls), atol=1e-2)


def test_a_pooling_that_is_not_the_models_own(tmp_path: Path) -> None:
    folder = make(tmp_path / "xlm-roberta-tiny", "xlm-roberta")
    model = load_model(folder)
    model.save_pretrained(str(tmp_path / "saved"))
    assert DenseEncoder(tmp_path / "saved", pooling="mean").describe()["pooling"] == "mean"
    for given in (tmp_path / "saved", model):
        with pytest.raises(BeirHybridError, match="'cls' is asked for, and the model itself pools by 'mean'"):
            DenseEncoder(given, pooling="cls")
        with pytest.raises(BeirHybridError, match="unknown pooling 'max'"):
            DenseEncoder(given, pooling="max")
    static = SentenceTransformer(modules=[StaticEmbedding(model.tokenizer.backend_tokenizer, embedding_dim=4)])
    with pytest.raises(BeirHybridError, match="says nothing of pooling"):
        DenseEncoder(static, pooling="mean")


def test_labse_with_its_head(tmp_path: Path) -> None:
    bare, folder = make(tmp_path / "bert", "bert"), tmp_path / "LaBSE"
    encoder = Transformer(str(bare))
    head = Dense(32, 32, activation_function=torch.nn.Tanh())
    SentenceTransformer(modules=[encoder, Pooling(32, "cls"), head, Normalize()]).save_pretrained(str(folder))

    def recipe(output: object, mask: torch.Tensor) -> torch.Tensor:
        return torch.tanh(cls(output, mask) @ head.linear.weight.T + head.linear.bias)

    check(DenseEncoder(folder, precision="float32"), bare, recipe)


def test_a_bare_labse_has_its_head_in_the_pooler(tmp_path: Path) -> None:
    folder = make(tmp_path / "LaBSE", "bert")
    encoder = DenseEncoder(folder, precision="float32")
    check(encoder, folder, pooler)
    assert not np.allclose(by_hand(folder, TEXTS, pooler), by_hand(folder, TEXTS, cls), atol=1e-2)
    assert encoder.describe()["modules"] == ["Transformer", "Pooling", "Dense", "Normalize"]
    encoder.model.save_pretrained(str(tmp_path / "saved"))
    check(DenseEncoder(tmp_path / "saved", precision="float32"), folder, pooler)
    # Asked for, the plain vectors are to be had; and there is nothing else where the pooler was not saved.
    for pooling, pool in (("cls", cls), ("mean", mean)):
        check(DenseEncoder(folder, pooling=pooling, precision="float32"), folder, pool)
    headless = make(tmp_path / "headless" / "LaBSE", "bert", with_pooler=False)
    check(DenseEncoder(headless, precision="float32"), headless, cls)


def test_e5(tmp_path: Path) -> None:
    folder = make(tmp_path / "multilingual-e5-small", "xlm-roberta")
    check(DenseEncoder(folder, precision="float32"), folder, mean, "query: ", "passage: ")


def test_bge_m3(tmp_path: Path) -> None:
    folder = make(tmp_path / "bge-m3", "xlm-roberta")
    check(DenseEncoder(folder, precision="float32"), folder, cls)
    modules = [Transformer(str(folder)), Pooling(32, "cls"), Normalize()]
    SentenceTransformer(modules=modules).save_pretrained(str(tmp_path / "st" / "bge-m3"))
    check(DenseEncoder(tmp_path / "st" / "bge-m3", precision="float32"), folder, cls)


def test_prompts_of_its_own(tmp_path: Path) -> None:
    folder = make(tmp_path / "bert", "bert")
    for number, passages in enumerate(({"document": "doc: "}, {"passage": "doc: "}, {"passage": "doc: ", "sts": "s "})):
        model = SentenceTransformer(modules=[Transformer(str(folder)), Pooling(32, "mean")])
        model.prompts = {"query": "ask: ", **passages}
        named = tmp_path / str(number) / "my-e5-small"  # what the model says goes before what its family wants
        model.save_pretrained(str(named))
        check(DenseEncoder(named, precision="float32"), folder, mean, "ask: ", "doc: ")
        # Told otherwise, it stays so when saved.
        told = DenseEncoder(named, passage_prompt="", precision="float32")
        told.model.save_pretrained(str(tmp_path / "told"))
        check(DenseEncoder(tmp_path / "told", precision="float32"), folder, mean, "ask: ", "")


def test_no_prompts_are_kept_too(tmp_path: Path) -> None:
    folder = make(tmp_path / "e5-small", "xlm-roberta")
    told = DenseEncoder(folder, query_prompt="", passage_prompt="", precision="float32")
    check(DenseEncoder(told.model, precision="float32"), folder, mean)
    told.model.save_pretrained(str(tmp_path / "saved" / "e5-small"))
    check(DenseEncoder(tmp_path / "saved" / "e5-small", precision="float32"), folder, mean)
    # A loaded model that says nothing still has a family.
    check(DenseEncoder(load_model(folder), precision="float32"), folder, mean, "query: ", "passage: ")


def test_a_bare_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As the hub's own library leaves it in its cache.
    home = tmp_path / "hub" / "models--someone--LaBSE"
    folder = make(tmp_path / "LaBSE", "bert")
    shutil.copytree(folder, home / "snapshots" / ("0" * 40))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("BEIR_HYBRID_OFFLINE", "1")
    check(DenseEncoder("someone/LaBSE", precision="float32"), folder, pooler)


@pytest.mark.parametrize(
    ("name", "family", "prompts"),
    [("xlm-r-tiny", "xlm-roberta", ("Query: ", "Passage: ")), ("e5-small", "xlm-roberta", ("query: ", "passage: ")),
     ("bge-m3", "xlm-roberta", ("", "")), ("LaBSE", "bert", ("", ""))],
)  # fmt: skip
def test_training_and_evaluation_read_alike(
    tmp_path: Path, toy_collection: MultilingualCollection, name: str, family: str, prompts: tuple[str, str]
) -> None:
    encoder = DenseEncoder(make(tmp_path / name, family), precision="float32")
    args = HybridTrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=1, use_cpu=True, per_device_train_batch_size=4, disable_tqdm=True,
        save_strategy="no",
    )  # fmt: skip
    trainer = HybridTrainer(encoder.model, args, toy_collection)
    sides = {side: prompt for side, prompt in zip(("query", "passage"), prompts, strict=True) if prompt}
    assert trainer.data_collator.prompts == sides
    trainer.train()
    # A folder whose name is another family's: what the training did goes before that.
    for folder in (tmp_path / "saved", tmp_path / "saved-e5-small"):
        trainer.save_model(str(folder))
        settings = json.loads((folder / "config_sentence_transformers.json").read_text())
        assert (settings["prompts"]["query"], settings["prompts"]["document"]) == prompts
        again = DenseEncoder(folder, precision="float32")
        assert (again.query_prompt, again.passage_prompt) == prompts
        np.testing.assert_allclose(again.encode_queries(TEXTS), encoder.encode_queries(TEXTS), atol=1e-5)
        # As sentence-transformers' own methods do.
        theirs = SentenceTransformer(str(folder), device="cpu")
        for find, vectors in (
            (theirs.encode_query, again.encode_queries(TEXTS)),
            (theirs.encode_document, again.encode_corpus([{"text": one} for one in TEXTS])),
        ):
            np.testing.assert_allclose(find(TEXTS, normalize_embeddings=True), vectors, atol=1e-5)
