from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.batching import HybridBatchSampler
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.rows import HybridDataCollator, PairDataset, training_prompts
from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments

pytestmark = pytest.mark.usefixtures("one_thread")


def arguments(folder: Path, **changed: Any) -> HybridTrainingArguments:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 6, "per_device_eval_batch_size": 4, "max_steps": 4, "learning_rate": 1e-3,
        "save_strategy": "no", "logging_steps": 2, "use_cpu": True, "disable_tqdm": True, "temperature": 0.1,
    }  # fmt: skip
    return HybridTrainingArguments(output_dir=str(folder), **{**settings, **changed})


def weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_defaults() -> None:
    args = HybridTrainingArguments(output_dir="unused", use_cpu=True)
    assert (args.batching, args.alpha, args.temperature, args.symmetric) == ("hybrid", 0.5, 0.02, False)
    assert (args.learning_rate, args.weight_decay, args.per_device_train_batch_size) == (3e-5, 1e-2, 32)
    assert args.report_to == []
    assert args.batch_seed == args.seed == 42
    assert HybridTrainingArguments(output_dir="unused", use_cpu=True, data_seed=7).batch_seed == 7
    pickle.loads(pickle.dumps(args))


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"batching": "hybird"}, "Did you mean 'hybrid'"), ({"alpha": 2}, "alpha"), ({"temperature": 0}, "temperature"),
     ({"seed": -1}, "seed is -1"), ({"learning_rate": float("nan")}, "learning_rate is nan"),
     ({"learning_rate": -1.0}, "learning_rate is -1"), ({"weight_decay": -1.0}, "weight_decay is -1")],
)  # fmt: skip
def test_bad_arguments(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(BeirHybridError, match=says):
        arguments(tmp_path, **changed)


def test_bad_data(model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection) -> None:
    with pytest.raises(BeirHybridError, match="train_dataset is a dict"):
        HybridTrainer(model, arguments(tmp_path), {"a": 1})  # type: ignore[arg-type]
    with pytest.raises(BeirHybridError, match="batch size of at most"):
        HybridTrainer(model, arguments(tmp_path, per_device_train_batch_size=100), toy_collection)
    with pytest.raises(BeirHybridError, match="batch size of at most"):
        HybridTrainer(
            model, arguments(tmp_path, per_device_eval_batch_size=100), toy_collection, eval_dataset=toy_collection
        )
    with pytest.raises(BeirHybridError, match="nothing to train on"):
        HybridTrainer(model, arguments(tmp_path)).train()


def test_prompts() -> None:
    own = {"query": "query: ", "document": "", "passage": "passage: "}
    assert training_prompts(None, own) == {"query": "query: ", "passage": "passage: "}
    assert training_prompts(None, {"query": "", "document": None}) == {}
    assert training_prompts({"query": "q ", "document": "d "}, own) == {"query": "q ", "passage": "d "}
    assert training_prompts({}, own) == {}
    assert training_prompts("x ", own) == {"query": "x ", "passage": "x "}
    with pytest.raises(BeirHybridError, match="Did you mean 'query'"):
        training_prompts({"querry": "q "}, own)


def test_collator_puts_prompts_labels_and_kind(
    model: SentenceTransformer, toy_collection: MultilingualCollection
) -> None:
    pairs = ParallelPairs.from_collection(toy_collection)
    sampler = HybridBatchSampler(pairs, 4, "x-y")
    flats = next(iter(sampler))
    rows = PairDataset(pairs).__getitems__(flats)
    assert rows[0] == PairDataset(pairs)[flats[0]]
    collator = HybridDataCollator(model.preprocess, prompts=training_prompts(None, model.prompts))
    batch = collator(rows)
    assert batch["batch_kind"] == "x-y"
    assert batch["label"].tolist() == pairs.item_group[sampler.decode(flats)[0]].tolist()
    decoded = model.tokenizer.batch_decode(batch["query_input_ids"], skip_special_tokens=True)
    assert {text.replace(" ", "").split(":")[0] for text in decoded} == {"query"}
    assert (
        batch["passage_attention_mask"].sum(dim=1).max() == batch["passage_input_ids"].shape[1]
    )  # no padding to spare


def test_trains_saves_and_records(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for name in ("get_model_info", "get_dataset_info"):
        monkeypatch.setattr(f"sentence_transformers.base.model_card.{name}", lambda name: asked.append(name))
    before = weights(model)
    train, held_out = ParallelPairs.from_collection(toy_collection).split(12)
    args = arguments(
        tmp_path / "out", max_steps=9, save_strategy="steps", save_steps=4, eval_strategy="steps", eval_steps=4
    )
    trainer = HybridTrainer(model, args, train, held_out)
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    after = weights(model)
    assert not torch.equal(before["0.model.encoder.layer.0.attention.self.query.weight"],
                           after["0.model.encoder.layer.0.attention.self.query.weight"])  # fmt: skip

    records = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.rglob("hybrid_training.json")}
    assert set(records) == {"out", "final", "checkpoint-4", "checkpoint-8", "checkpoint-9"}
    assert records["checkpoint-4"]["steps"] == records["checkpoint-4"]["composition"]["steps"] == 4
    final = records["final"]
    assert final == records["out"]
    assert final["steps"] == final["composition"]["steps"] == 9
    assert final["composition"]["rows"] == 9 * 6
    assert final["prompts"] == {"query": "query: ", "passage": "passage: "}
    assert [source["digest"] for source in final["sources"]] == [toy_collection.digest] * 2
    assert [source["items"] for source in final["sources"]] == [36, 12]
    assert final["versions"]["sentence-transformers"]
    logged = {name for entry in trainer.state.log_history for name in entry}
    assert {"loss/x-x-mono", "loss/x-y", "eval_loss"} <= logged
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert all(math.isfinite(loss) for loss in losses)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.evaluate(held_out)["eval_loss"], abs=1e-12)

    card = (tmp_path / "final" / "README.md").read_text()
    assert "36 training samples" in card
    assert "3 languages, hybrid with alpha 0.5 batches" in card
    assert not asked  # the card is written without the network
    monkeypatch.undo()
    loaded = SentenceTransformer(str(tmp_path / "final"), device="cpu")
    assert_same(weights(loaded), after)


def test_training_lowers_the_held_out_loss(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection
) -> None:
    train, held_out = ParallelPairs.from_collection(toy_collection).split(12)
    trainer = HybridTrainer(model, arguments(tmp_path, max_steps=60, learning_rate=3e-3), train, held_out)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.9 * before


def test_the_seed_governs(tiny_model: Path, tmp_path: Path, toy_collection: MultilingualCollection) -> None:
    results = []
    for seed in (1, 1, 2):
        model = SentenceTransformer(str(tiny_model), device="cpu")
        HybridTrainer(model, arguments(tmp_path, seed=seed), toy_collection).train()
        results.append(weights(model)["0.model.encoder.layer.1.output.dense.weight"])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


class _StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_resumed_run_ends_with_the_same_weights(
    tiny_model: Path, tmp_path: Path, toy_collection: MultilingualCollection, accumulate: int
) -> None:
    # 48 items in batches of 6: 8 batches an epoch, so that the stop at step 11 (or 4) is in the middle of epoch 1.
    steps, stop = (20, 11) if accumulate == 1 else (8, 4)

    def trained(folder: str, resume: bool = False, **callbacks: Any) -> SentenceTransformer:
        model = SentenceTransformer(str(tiny_model), device="cpu")
        args = arguments(tmp_path / folder, max_steps=steps, gradient_accumulation_steps=accumulate)
        HybridTrainer(model, args, toy_collection, **callbacks).train(resume_from_checkpoint=resume or None)
        return model

    whole = trained("whole")
    trained("parts", callbacks=[_StopAt(stop)])
    assert (tmp_path / "parts" / f"checkpoint-{stop}").is_dir()
    resumed = trained("parts", resume=True)
    assert_same(weights(whole), weights(resumed))
    records = [json.loads((tmp_path / name / "hybrid_training.json").read_text()) for name in ("whole", "parts")]
    assert records[0] == records[1]


@pytest.mark.parametrize("bf16", [False, True])
def test_frozen_embeddings(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection, bf16: bool
) -> None:
    words = model.transformers_model.get_input_embeddings().weight
    before = words.detach().clone()
    trainer = HybridTrainer(model, arguments(tmp_path, freeze_embeddings=True, bf16=bf16), toy_collection)
    result = trainer.train()
    assert math.isfinite(result.training_loss)
    assert torch.equal(words, before)
    assert words.grad is None
    optimised = [value for group in trainer.optimizer.param_groups for value in group["params"]]
    assert optimised
    assert all(value is not words for value in optimised)
    assert all(value.dtype == torch.float32 for value in optimised)


def test_a_loss_that_is_not_finite_stops(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection
) -> None:
    with torch.no_grad():
        model.transformers_model.encoder.layer[0].output.dense.bias.fill_(torch.nan)
    with pytest.raises(BeirHybridError, match="step 1, a x-y batch: the loss is nan"):
        HybridTrainer(model, arguments(tmp_path, batching="x-y"), toy_collection).train()


def test_workers_and_other_batchings(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection
) -> None:
    trainer = HybridTrainer(model, arguments(tmp_path, batching="x-x", dataloader_num_workers=1), toy_collection)
    trainer.train()
    assert "loss/x-x" in trainer.state.log_history[0]


SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from sentence_transformers import SentenceTransformer
from beir_hybrid.training.rows import PairDataset
from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments
sys.path.insert(0, sys.argv[3])
from conftest import make_collection

folder = Path(sys.argv[1])
fetched = []
rows = PairDataset.__getitems__
PairDataset.__getitems__ = lambda self, flats: fetched.append(list(flats)) or rows(self, flats)

def run(resume):
    fetched.clear()
    model = SentenceTransformer(sys.argv[2], device="cpu")
    args = HybridTrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=4, max_steps=16, save_steps=9, use_cpu=True, seed=3,
        disable_tqdm=True, learning_rate=1e-3,
    )
    trainer = HybridTrainer(model, args, make_collection())
    trainer.train(resume_from_checkpoint=resume)
    assert trainer.accelerator.num_processes == 2
    total = sum(value.double().sum().item() for value in model.state_dict().values())
    return {"batches": list(fetched), "weights": total, "rank": args.process_index}

done = [run(None), run(str(folder / "checkpoint-9"))]
(folder / f"rank{done[0]['rank']}.json").write_text(json.dumps(done))
"""


def test_two_processes(tiny_model: Path, tmp_path: Path, toy_collection: MultilingualCollection) -> None:
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(tests.parent), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, str(tmp_path), str(tiny_model), str(tests)],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]

    # 48 items in steps of 2 x 4 rows: 6 steps an epoch. The sampler's own plan says who gets what.
    sampler = HybridBatchSampler(ParallelPairs.from_collection(toy_collection), 4, seed=3, world_size=2)
    expected = np.concatenate([sampler.plan(epoch).flat for epoch in range(3)])
    for rank, (whole, resumed) in enumerate(ranks):
        mine = expected[:, rank * 4 : rank * 4 + 4].tolist()
        assert whole["batches"][:16] == mine[:16]
        assert resumed["batches"][:7] == mine[9:16]  # from the middle of epoch 1
        assert resumed["weights"] == whole["weights"] == ranks[0][0]["weights"]
    for one, other in zip(ranks[0][0]["batches"][:16], ranks[1][0]["batches"][:16], strict=True):
        item, query, passage = sampler.decode([*one, *other])
        groups = sampler.pairs.groups(item)
        assert len(set(groups.tolist())) == 8
        assert len({q == p for q, p in zip(query.tolist(), passage.tolist(), strict=True)}) == 1
        assert (query != passage).all() or len(set(query.tolist())) == 1
