"""HybridTrainer on several sources, with explicit negatives, with rows of like length and with an adaptive alpha."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training import trainer as trainer_module
from beir_hybrid.training.pairs import Negatives, ParallelPairs
from beir_hybrid.training.rows import HybridDataCollator, PairDataset
from beir_hybrid.training.trainer import HybridTrainer
from tests.conftest import make_collection
from tests.training.test_trainer import arguments, assert_same, weights

pytestmark = pytest.mark.usefixtures("one_thread")


def with_negatives(pairs: ParallelPairs) -> ParallelPairs:
    """Item i has i % 3 negatives in each language: the passages of the next items, which answer those."""
    rows: list[int] = []
    groups: list[int] = []
    start = [0]
    for item in range(len(pairs)):
        for language in range(len(pairs.languages)):
            for step in range(1, item % 3 + 1):
                other = (item + 3 * step) % len(pairs)
                if (row := int(pairs.passage_row[other, language])) >= 0:
                    rows.append(row)
                    groups.append(int(pairs.item_group[other]))
            start.append(len(rows))
    negatives = Negatives(pairs.passage_texts, np.array(start), np.array(rows), np.array(groups))
    return replace(pairs, negatives=negatives)


def test_rows_carry_negatives_and_whom_they_answer(
    model: SentenceTransformer, toy_collection: MultilingualCollection
) -> None:
    pairs = with_negatives(ParallelPairs.from_collection(toy_collection))
    dataset, width = PairDataset(pairs, 2), len(pairs.languages)
    assert dataset.column_names == ("query", "passage", "negative_1", "negative_2")
    items = [0, 1, 2, 5]  # with 0, 1, 2 and 2 negatives, in the language that is always there
    rows = dataset.__getitems__([item * width * width for item in items])
    assert [row["label"].count(-2) for row in rows] == [2, 1, 0, 0]
    assert all((row["negative_2"] == "") == (row["label"][2] == -2) for row in rows)
    assert rows[2]["negative_1"] == pairs.pair(5, 0, 0)[1]
    assert rows[2]["label"][1] == pairs.item_group[5]
    batch = HybridDataCollator(model.preprocess, prompts={"query": "query: ", "passage": "passage: "})(rows)
    assert batch["label"].shape == (4, 3)
    texts = model.tokenizer.batch_decode(batch["negative_1_input_ids"], skip_special_tokens=True)
    assert {text.replace(" ", "").split(":")[0] for text in texts} == {"passage"}
    with pytest.raises(BeirHybridError, match="no explicit negatives; set it to 0"):
        PairDataset(ParallelPairs.from_collection(toy_collection), 1)


@pytest.mark.parametrize("negatives", ["in-batch", "explicit-only"])
def test_trains_with_negatives(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection, negatives: str
) -> None:
    pairs = with_negatives(ParallelPairs.from_collection(toy_collection))
    before = weights(model)
    trainer = HybridTrainer(model, arguments(tmp_path, hard_negatives=2, negatives=negatives), pairs)
    trainer.train()
    assert any(not torch.equal(value, before[name]) for name, value in weights(model).items())
    with pytest.raises(BeirHybridError, match="no explicit negatives"):
        HybridTrainer(model, arguments(tmp_path, hard_negatives=2), toy_collection)
    with pytest.raises(BeirHybridError, match="at 1 where negatives"):
        arguments(tmp_path, negatives="explicit-only")


def test_trains_on_several_sources(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection
) -> None:
    other = make_collection(items=30, languages=("de", "fr"), seed=3)
    second = replace(ParallelPairs.from_collection(other), source="second", same_language=False)
    args = arguments(
        tmp_path, max_steps=12, source_weights={toy_collection.name: 1.0, "second": 2.0}, repeat_items=True
    )
    trainer = HybridTrainer(model, args, [toy_collection, second], eval_dataset=toy_collection)
    trainer.train()
    record = json.loads((tmp_path / "hybrid_training.json").read_text())
    assert [(one["part"], one["name"], one["items"]) for one in record["sources"]] == [
        ("train", toy_collection.name, 48), ("train", "second", 30), ("eval", toy_collection.name, 48),
    ]  # fmt: skip
    drawn = record["composition"]["sources"]
    assert sum(drawn.values()) == 12
    assert drawn["second"] > 0
    assert record["source_weights"] == {toy_collection.name: 1.0, "second": 2.0}
    card = str(model.model_card_data.train_datasets)
    assert "second (2 languages" in card
    with pytest.raises(BeirHybridError, match="'thrid'"):
        HybridTrainer(model, arguments(tmp_path, source_weights={"thrid": 1}), [toy_collection, second])


def test_rows_of_like_length(
    model: SentenceTransformer,
    tmp_path: Path,
    toy_collection: MultilingualCollection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = HybridTrainer(model, arguments(tmp_path, length_bucketing=True), toy_collection)
    trainer.train()
    assert json.loads((tmp_path / "hybrid_training.json").read_text())["length_bucketing"] is True
    lengths = trainer.train_sampler._drawing.lengths  # type: ignore[union-attr]
    pairs = trainer.train_sampler.pairs  # type: ignore[union-attr]
    text = pairs.parts[0].passage_texts[int(pairs.parts[0].passage_row[0, 0])]
    assert lengths is not None
    assert lengths.of(np.array([0]), 0) == len(model.tokenizer(text)["input_ids"]), "the model's own tokens"
    monkeypatch.setattr(trainer_module, "_COUNTED", 10)
    assert trainer._measure(pairs) is True, "of too many passages, characters"


def test_an_adaptive_training_resumes_exactly(
    tiny_model: Path, tmp_path: Path, toy_collection: MultilingualCollection
) -> None:
    def train(folder: Path, steps: int, resume: bool = False) -> tuple[HybridTrainer, dict[str, torch.Tensor]]:
        model = SentenceTransformer(str(tiny_model), device="cpu")
        args = arguments(
            folder, max_steps=30, save_strategy="steps", save_steps=steps, lr_scheduler_type="constant",
            alpha_schedule={"adaptive": {"every": 4, "rate": 2.0}},
        )  # fmt: skip
        trainer = HybridTrainer(model, args, toy_collection)
        if not resume:
            args.max_steps = steps if steps < 30 else 30
        trainer.train(resume_from_checkpoint=resume)
        return trainer, weights(model)

    whole, expected = train(tmp_path / "whole", 30)
    train(tmp_path / "part", 11)
    again, found = train(tmp_path / "part", 11, resume=True)
    assert_same(found, expected)
    schedules: list[Any] = [one.train_sampler.schedule for one in (whole, again)]  # type: ignore[union-attr]
    assert schedules[0].history == schedules[1].history
    assert len(set(schedules[0].history)) > 3
    records = [json.loads((tmp_path / name / "hybrid_training.json").read_text()) for name in ("whole", "part")]
    assert records[0]["composition"] == records[1]["composition"]
    assert records[0]["composition"]["settings"]["alpha"]["history"] == schedules[0].history
    with pytest.raises(BeirHybridError, match="change every 3 steps or more"):
        HybridTrainer(
            SentenceTransformer(str(tiny_model), device="cpu"),
            arguments(tmp_path, alpha_schedule={"adaptive": {"every": 2}}),
            toy_collection,
        )


def test_a_family_is_trained_with_the_prompts_that_it_is_evaluated_with(
    tiny_model: Path, tmp_path: Path, toy_collection: MultilingualCollection
) -> None:
    folder = tmp_path / "e5-small-tiny"
    shutil.copytree(tiny_model, folder)
    config = folder / "config_sentence_transformers.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prompts": {"query": "", "document": ""}}))
    model = SentenceTransformer(str(folder), device="cpu")
    trainer = HybridTrainer(model, arguments(tmp_path / "out", max_steps=1), toy_collection)
    expected = {"query": "query: ", "passage": "passage: "}
    assert trainer.data_collator.prompts == expected  # type: ignore[union-attr]
    trainer.train()
    trainer.save_model(str(tmp_path / "any-name"))
    encoder = DenseEncoder(tmp_path / "any-name", progress=False)
    assert {"query": encoder.query_prompt, "passage": encoder.passage_prompt} == expected
