"""Fixtures shared by all tests."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from filelock import FileLock

from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.encoders.bundled import bundled_encoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# That a machine is busy fails no test.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def bundled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled encoder in the user's cache, built on first use, by one of the processes that test."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "bundled.lock"):
        return bundled_encoder()


def make_collection(
    items: int = 48,
    languages: tuple[str, ...] = ("en", "de", "hi"),
    shared: int = 3,
    missing: float = 0.2,
    seed: int = 0,
) -> MultilingualCollection:
    """A synthetic parallel collection: every `shared`-th item shares its passage with the item before it.

    An item is missing from a language other than the first with probability `missing`. Each passage has a sentence
    beside it that answers nothing.
    """
    random_ = random.Random(seed)
    words = {
        code: [code + stem for stem in ("river", "tower", "music", "engine", "garden", "winter", "letter", "market")]
        for code in languages
    }
    builder = CollectionBuilder("toy", languages, CollectionInfo("CC0-1.0", "", "made by the tests"))
    answers: dict[tuple[int, int], int] = {}
    for item in range(items):
        for number, code in enumerate(languages):
            if number and random_.random() < missing:
                continue
            text = f"{' '.join(random_.sample(words[code], 3))} {item}"
            row = answers.get((item - 1, number)) if item % shared == 0 else None
            if row is None:
                row = builder.add_passage(f"{code}_p{item}", f"{text} is in {code} place {item}", number, "test")
                builder.add_passage(f"{code}_x{item}", f"{text} is nowhere in {code}", number, "test")
            answers[item, number] = row
            builder.add_query(f"q{item}_{code}", f"where is {text}?", number, f"q{item}", row, "test")
    return builder.build()


@pytest.fixture(scope="session")
def toy_collection() -> MultilingualCollection:
    """48 items in 3 languages, partially parallel, some sharing a passage."""
    return make_collection()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, toy_collection: MultilingualCollection) -> Path:
    """The folder of a sentence-transformers model: 2 layers of BERT, 32 dimensions, always the same weights."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_model")
    # Every word and every character is a piece. No trainer: that numbers pieces differently each time.
    texts = [*toy_collection.queries.texts, *toy_collection.passages.texts, "query: passage:"]
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    characters = sorted(set("".join(words)))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = dict.fromkeys([*special, *characters, *(f"##{one}" for one in characters), *words])
    BertTokenizerFast(vocab={piece: number for number, piece in enumerate(pieces)}).save_pretrained(folder / "bert")
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder / "bert")
    encoder = Transformer(str(folder / "bert"), max_seq_length=32)
    model = SentenceTransformer(modules=[encoder, Pooling(32, "mean"), Normalize()], device="cpu")
    model.prompts = {"query": "query: ", "document": "", "passage": "passage: "}
    model.save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.fixture
def model(tiny_model: Path) -> SentenceTransformer:
    """The tiny model, loaded anew."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(tiny_model), device="cpu")


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small models train fastest, and always alike, on one thread; nothing is asked of the hub."""
    import torch

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
