"""The grid as a trainer's evaluator: the same figures, and a training that does not notice."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from transformers import EarlyStoppingCallback

from beir_hybrid.collections.blend import blended
from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.registry import load
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.during_training import GridEvaluator
from beir_hybrid.evaluation.grid import evaluate_grid
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments

METRICS = ("mono_AP", "mono_R@1", "cross_AP", "cross_R@1", "multi_AP", "multi_R@10", "multi_RankDistance", "mean_AP")


pytestmark = pytest.mark.usefixtures("one_thread")


def arguments(folder: Path, **changed: Any) -> HybridTrainingArguments:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 6, "max_steps": 12, "learning_rate": 1e-3, "save_strategy": "no",
        "eval_strategy": "steps", "eval_steps": 3, "logging_steps": 3, "use_cpu": True, "disable_tqdm": True,
        "temperature": 0.1,
    }  # fmt: skip
    return HybridTrainingArguments(output_dir=str(folder), **{**settings, **changed})


def random_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), name, keys.tolist(), rest


@pytest.mark.parametrize("name", ["toy", "sample-test"])
def test_its_metrics_are_the_grids(
    model: SentenceTransformer, tiny_model: Path, toy_collection: MultilingualCollection, name: str
) -> None:
    collection = toy_collection if name == "toy" else load(name)
    evaluator = GridEvaluator(collection, precision="float32")
    found = evaluator(model)
    assert list(found) == [f"{name}_{metric}" for metric in METRICS]
    assert evaluator.primary_metric == f"{name}_mean_AP"
    assert evaluator.greater_is_better
    results = evaluate_grid(
        DenseEncoder(tiny_model, device="cpu", precision="float32", progress=False), collection, progress=False
    )
    for metric in METRICS[:-1]:
        kind, measure = metric.split("_")
        assert found[f"{name}_{metric}"] == results.value(setting=kind, measure=measure, average="macro")
    three = [found[f"{name}_{kind}_AP"] for kind in ("mono", "cross", "multi")]
    assert found[f"{name}_mean_AP"] == pytest.approx(sum(three) / 3, abs=1e-15)


def test_part_of_the_grid(model: SentenceTransformer, toy_collection: MultilingualCollection) -> None:
    evaluator = GridEvaluator(
        toy_collection, measures=["RR"], settings=["mono/en", "mono/de", "multi/hi"], name="dev", precision="float32"
    )
    results = evaluate_grid(DenseEncoder(model, precision="float32", progress=False), toy_collection, progress=False)
    english, german = (results.value(setting=f"mono/{code}", measure="AP") for code in ("en", "de"))
    hindi = results.value(setting="multi/hi", measure="AP")
    found = evaluator(model)
    assert list(found) == ["dev_mono_AP", "dev_mono_RR", "dev_multi_AP", "dev_multi_RR", "dev_mean_AP"]
    assert found["dev_mono_AP"] == pytest.approx((english + german) / 2, abs=1e-12)
    assert found["dev_mean_AP"] == pytest.approx((found["dev_mono_AP"] + hindi) / 2, abs=1e-12)


def test_blends_do_not_count_beside_the_others(
    model: SentenceTransformer, toy_collection: MultilingualCollection
) -> None:
    collection = blended(toy_collection, ["de+en"])
    found = GridEvaluator(collection, measures=["AP"], name="x")(model)
    assert {"x_blend_mono_AP", "x_blend_multi_AP"} < set(found)
    three = [found[f"x_{kind}_AP"] for kind in ("mono", "cross", "multi")]
    assert found["x_mean_AP"] == pytest.approx(np.mean(three), abs=1e-15)
    alone = GridEvaluator(collection, measures=["AP"], settings=["blend"], name="x")(model)
    assert list(alone) == ["x_blend_mono_AP", "x_blend_multi_AP", "x_mean_AP"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"measures": ["APP"]}, "unknown measure"), ({"measures": "AP"}, "lists of names"),
     ({"settings": ["mono/fr"]}, "unknown setting")],
)  # fmt: skip
def test_what_is_wrong_is_said_at_once(
    toy_collection: MultilingualCollection, changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(BeirHybridError, match=says):
        GridEvaluator(toy_collection, **changed)


def test_prompts(model: SentenceTransformer, tiny_model: Path, toy_collection: MultilingualCollection) -> None:
    model.prompts = {"query": "where ", "document": ""}
    before = dict(model.prompts)
    own = GridEvaluator(toy_collection, precision="float32")(model)
    given = GridEvaluator(toy_collection, query_prompt="music ", passage_prompt="garden ", precision="float32")(model)
    assert model.prompts == before  # a checkpoint must not carry the evaluator's
    for found, prompts in ((own, ("where ", "")), (given, ("music ", "garden "))):
        encoder = DenseEncoder(
            tiny_model,
            query_prompt=prompts[0],
            passage_prompt=prompts[1],
            precision="float32",
            device="cpu",
            progress=False,
        )
        results = evaluate_grid(encoder, toy_collection, progress=False)
        assert found["toy_multi_AP"] == results.value(setting="multi", measure="AP", average="macro")


def test_the_model_is_left_as_it_was(model: SentenceTransformer, toy_collection: MultilingualCollection) -> None:
    model.train()
    frozen = model.transformers_model.embeddings.eval()
    model[1].weight = torch.nn.Parameter(torch.ones(2))
    model[1].weight.grad = torch.full((2,), 3.0)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    states = random_states()
    evaluator = GridEvaluator(toy_collection)
    assert evaluator(model) == evaluator(model)  # no dropout
    assert random_states() == states
    assert not any(module.training for module in frozen.modules())
    assert all(module.training for module in model.modules() if module not in set(frozen.modules()))
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert [value.grad.tolist() for value in model.parameters() if value.grad is not None] == [[3.0, 3.0]]
    model.eval()
    evaluator(model)
    assert not any(module.training for module in model.modules())


def test_modes_come_back_after_an_error(model: SentenceTransformer, toy_collection: MultilingualCollection) -> None:
    evaluator = GridEvaluator(toy_collection)
    model.train()
    with torch.no_grad():
        model.transformers_model.encoder.layer[0].output.dense.bias.fill_(torch.nan)
    with pytest.raises(BeirHybridError, match="not finite"):
        evaluator(model)
    assert all(module.training for module in model.modules())


def test_file(model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection) -> None:
    evaluator = GridEvaluator(toy_collection)
    found = [evaluator(model, str(tmp_path / "eval"), epoch, steps) for epoch, steps in ((0.5, 3), (1.0, 6))]
    with (tmp_path / "eval" / "Grid_evaluation_toy_results.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["epoch"], row["steps"]) for row in rows] == [("0.5", "3"), ("1.0", "6")]
    for row, metrics in zip(rows, found, strict=True):
        assert {f"toy_{name}": float(row[name]) for name in METRICS} == metrics
    GridEvaluator(toy_collection, write_csv=False)(model, str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


class _Constant(SentenceEvaluator):
    """Does nothing. The trainer's own evaluation loop may draw a random number, whatever the evaluator."""

    def __call__(self, *args: Any, **kwargs: Any) -> float:
        return 0.0


@pytest.mark.parametrize("dropout", [None, 0.0])
def test_the_training_does_not_notice(
    tiny_model: Path, tmp_path: Path, toy_collection: MultilingualCollection, dropout: float | None
) -> None:
    ends = []
    for evaluator in (_Constant() if dropout is None else None, GridEvaluator(toy_collection)):
        model = SentenceTransformer(str(tiny_model), device="cpu")
        strategy = "no" if evaluator is None else "steps"
        args = arguments(tmp_path, eval_strategy=strategy, max_steps=9, dropout=dropout)
        HybridTrainer(model, args, toy_collection, evaluator=evaluator).train()
        states = random_states() if dropout is None else ()
        ends.append(({name: value.clone() for name, value in model.state_dict().items()}, states))
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.1 if dropout is None else 0.0}
    assert all(torch.equal(value, ends[1][0][name]) for name, value in ends[0][0].items())
    assert ends[0][1] == ends[1][1]


def test_the_best_checkpoint_is_loaded_and_training_stops_early(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection
) -> None:
    train, _ = ParallelPairs.from_collection(toy_collection).split(12)
    evaluator = GridEvaluator(toy_collection, name="dev")
    args = arguments(
        tmp_path, max_steps=60, learning_rate=0.02, save_strategy="steps", save_steps=3, lr_scheduler_type="constant",
        load_best_model_at_end=True, metric_for_best_model="eval_dev_mean_AP",
    )  # fmt: skip
    trainer = HybridTrainer(model, args, train, evaluator=evaluator, callbacks=[EarlyStoppingCallback(2)])
    trainer.train()
    by_step = {
        entry["step"]: entry["eval_dev_mean_AP"] for entry in trainer.state.log_history if "eval_dev_mean_AP" in entry
    }
    best = max(by_step, key=lambda step: by_step[step])
    assert trainer.state.global_step == max(by_step) == best + 6 < 60
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    assert evaluator(model)["dev_mean_AP"] == by_step[best]  # the weights are the best step's again
    assert trainer.evaluate()["eval_dev_mean_AP"] == by_step[best]
    assert {f"eval_dev_{name}" for name in METRICS} <= set(trainer.evaluate())
    assert all(math.isfinite(value) for value in by_step.values())
    with (tmp_path / "eval" / "Grid_evaluation_dev_results.csv").open(encoding="utf-8") as stream:
        steps = [int(row["steps"]) for row in csv.DictReader(stream)]
    assert steps[: len(by_step)] == sorted(by_step)
    trainer.save_model(str(tmp_path / "final"))
    card = (tmp_path / "final" / "README.md").read_text(encoding="utf-8")
    assert "mean_AP" in card


def test_a_past_training_on_the_collection_is_no_hindrance(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection
) -> None:
    trainer = HybridTrainer(model, arguments(tmp_path, max_steps=1, eval_strategy="no"), toy_collection)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    again.model_card_data.base_model = str(tmp_path / "model")
    with pytest.raises(BeirHybridError, match="was trained on toy"):
        evaluate_grid(DenseEncoder(again, progress=False), toy_collection, progress=False)
    assert GridEvaluator(toy_collection)(again)["toy_mean_AP"] > 0
