"""HybridTrainer with FSDP: two gloo processes, each with its part of the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.during_training import GridEvaluator
from beir_hybrid.training.sharding import check_config
from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments

SCRIPT = """
import json, sys
from pathlib import Path
import peft, torch
import torch.distributed as dist
from sentence_transformers import SentenceTransformer
from torch.distributed.tensor import DTensor
from beir_hybrid import BeirHybridError, GridEvaluator, HybridTrainer, HybridTrainingArguments
from beir_hybrid.training.loss import HybridInfoNCELoss
from beir_hybrid.training.pairs import ParallelPairs
from tests.conftest import make_collection

torch.set_num_threads(1)
tiny, out, found = sys.argv[1], Path(sys.argv[2]), {}
collection = make_collection()
train_pairs, dev_pairs = ParallelPairs.from_collection(collection).split(12)
SGD = {"optim": "sgd", "max_grad_norm": 0.0, "weight_decay": 0.0, "lr_scheduler_type": "constant",
       "learning_rate": 1e-2, "max_steps": 3, "gather_across_devices": True}
CHECKPOINTS = {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 3, "dropout": None,
               "load_best_model_at_end": True, "metric_for_best_model": "eval_toy_mean_AP", "save_total_limit": None}


def trainer(name, evaluated=False, lora=False, **changed):
    settings = {
        "per_device_train_batch_size": 6, "per_device_eval_batch_size": 2, "max_steps": 6, "learning_rate": 1e-3,
        "save_strategy": "no", "logging_steps": 1, "use_cpu": True, "disable_tqdm": True, "temperature": 0.1,
        "dropout": 0.0, "dataloader_pin_memory": False, **changed,
    }
    model = SentenceTransformer(tiny, device="cpu")
    if lora:
        torch.manual_seed(dist.get_rank() if dist.is_initialized() else 0)  # every process another adapter
        model.add_adapter(peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=4, target_modules=["query", "value"]))
    args = HybridTrainingArguments(output_dir=str(out / name), **settings)
    more = {"eval_dataset": dev_pairs, "evaluator": GridEvaluator(collection)} if evaluated else {}
    return HybridTrainer(model, args, train_pairs, **more)


def run(name, resume=None, evaluated=False, lora=False, **changed):
    made = trainer(name, evaluated, lora, **changed)
    made.train(resume_from_checkpoint=resume)
    made.save_model(str(out / name / "model"))
    dist.barrier()
    found[name] = {"losses": [entry["loss"] for entry in made.state.log_history if "loss" in entry]}
    return made


for name, settings in {
    "plain": {},
    "cached": {"mini_batch_size": 4, "gather_across_devices": True, "gradient_accumulation_steps": 2,
               "max_grad_norm": 0.1, "max_steps": 4},
    "frozen": {"freeze_embeddings": True, "gradient_checkpointing": True, "symmetric": True},
    "bf16": {"bf16": True, "mini_batch_size": 4},
    "lora": {"lora": True},
    "sgd": SGD,
}.items():
    run(name + "/ddp", **settings)
    made = run(name + "/fsdp", fsdp=True, **settings)
    about = found[name + "/fsdp"]
    about["parts"] = sorted({str(getattr(value, "placements", None)) for value in made.model.parameters()})
    about["local"] = sum(value.to_local().numel() for value in made.model.parameters())
    about["all"] = sum(value.numel() for value in made.model.parameters())
    about["optimizer"] = sum(value.to_local().numel() for state in made.optimizer.state.values()
                             for value in state.values() if isinstance(value, DTensor))
    about["units"] = sorted({type(one).__name__ for one in made.model.modules() if type(one).__name__[:4] == "FSDP"})
    about["twin"] = {value.device.type for value in made._sharded.twin.parameters()} == {"meta"}
try:
    HybridTrainer(made.model, made.args, train_pairs).train()
except BeirHybridError as error:
    found["again"] = str(error)

# The union of what the processes were given, by hand and in one process.
batches = list(trainer("plain", **SGD).get_train_dataloader())[:3]
given = [None, None]
dist.all_gather_object(given, batches)
made = trainer("plain", **SGD)
model, optimizer = made.model, torch.optim.SGD(made.model.parameters(), lr=1e-2)
loss = HybridInfoNCELoss(model, 0.1)
for both in zip(*given):
    parts = [made.collect_features({key: value for key, value in one.items() if key != "batch_kind"}) for one in both]
    columns = [torch.cat([model(dict(one))["sentence_embedding"] for one in pair])
               for pair in zip(*(features for features, _ in parts))]
    optimizer.zero_grad()
    loss.from_embeddings(columns, torch.cat([labels for _, labels in parts])).backward()
    optimizer.step()
if dist.get_rank() == 0:
    model.save_pretrained(str(out / "sgd/one"))

# Checkpoints, judged while training; and on from one of them. Dropout shows whether the random states come back.
whole = run("whole", evaluated=True, fsdp=True, **CHECKPOINTS)
found["whole"] |= {"metrics": [e["eval_toy_mean_AP"] for e in whole.state.log_history if "eval_toy_mean_AP" in e],
                   "held_out": [e["eval_loss"] for e in whole.state.log_history if "eval_loss" in e],
                   "best": whole.state.best_global_step, "now": whole.evaluate()}
run("resumed", resume=str(out / "whole/checkpoint-3"), evaluated=True, fsdp=True, **CHECKPOINTS)
whole.save_model(str(out / "later"))
run("copies", save_strategy="steps", save_steps=3)
for name, fsdp, start in (("copies", True, "copies"), ("whole", False, "whole")):
    try:
        trainer("plain", fsdp=fsdp).train(resume_from_checkpoint=str(out / start / "checkpoint-3"))
    except BeirHybridError as error:
        found[name]["refused"] = str(error)
try:
    trainer("plain", evaluated=True, fsdp=True).evaluate()
except BeirHybridError as error:
    found["early"] = str(error)
(out / f"found-{dist.get_rank()}.json").write_text(json.dumps(found))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all the trainings are, run in one launch."""
    folder = tmp_path_factory.mktemp("sharding")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*command, str(folder / "script.py"), str(tiny_model), str(folder)],
        env={**environment, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    first, second = (json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1))
    assert first.keys() == second.keys()
    return dict(first)


def weights(folder: Path) -> dict[str, Any]:
    return load_file(next(path for path in folder.glob("*.safetensors")))


def apart(one: Path, other: Path) -> float:
    """The largest difference of a weight."""
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "cached", "frozen", "lora", "sgd"])
def test_sharded_training_is_that_of_copies(folder: Path, tiny_model: Path, name: str) -> None:
    assert apart(folder / name / "fsdp" / "model", folder / name / "ddp" / "model") < 1e-6
    if name != "lora":  # an adapter alone is saved
        assert apart(folder / name / "fsdp" / "model", tiny_model) > 1e-3
    embeddings = [value for key, value in weights(folder / name / "fsdp" / "model").items() if "word_emb" in key]
    before = next(value for key, value in weights(tiny_model).items() if "word_emb" in key)
    assert all(np.array_equal(before, one) == (name == "frozen") for one in embeddings)


@pytest.mark.slow
def test_it_is_that_of_one_process_with_all_rows(folder: Path) -> None:
    assert apart(folder / "sgd" / "fsdp" / "model", folder / "sgd" / "one") < 1e-6


@pytest.mark.slow
def test_bf16(folder: Path, found: dict[str, Any]) -> None:
    assert found["bf16/fsdp"]["losses"] == pytest.approx(found["plain/fsdp"]["losses"], abs=0.02)
    assert found["bf16/fsdp"]["losses"] != found["plain/fsdp"]["losses"]
    assert {str(value.dtype) for value in weights(folder / "bf16" / "fsdp" / "model").values()} == {"float32"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "cached", "frozen", "bf16", "lora"])
def test_each_process_has_its_part(found: dict[str, Any], name: str) -> None:
    about = found[f"{name}/fsdp"]
    assert about["parts"] == ["(Shard(dim=0),)"]
    assert about["local"] == pytest.approx(about["all"] / 2, rel=0.01)
    assert 0 < about["optimizer"] <= 2 * about["local"]  # two moments of what is trained
    assert about["units"] == ["FSDPBertEmbeddings", "FSDPBertLayer", "FSDPSentenceTransformer"]
    assert about["twin"]  # no weights are kept elsewhere


@pytest.mark.slow
def test_what_is_saved_is_an_ordinary_model(folder: Path) -> None:
    texts = ["where is enriver entower 3?", "detower is in de place 7"]
    names = [{path.relative_to(folder / "plain" / kind) for path in (folder / "plain" / kind).rglob("*")}
             for kind in ("fsdp", "ddp")]  # fmt: skip
    assert names[0] == names[1]
    one, other = (SentenceTransformer(str(folder / "plain" / kind / "model"), device="cpu") for kind in ("fsdp", "ddp"))
    np.testing.assert_allclose(one.encode(texts), other.encode(texts), atol=1e-6)
    for path in (folder / "plain" / "fsdp" / "model").iterdir():
        assert path.suffix in (".safetensors", ".bin") or path.is_dir() or "FSDP" not in path.read_text()
    assert DenseEncoder(folder / "plain" / "fsdp" / "model").batching == "hybrid"
    record = json.loads((folder / "plain" / "fsdp" / "model" / "hybrid_training.json").read_text())
    assert (record["fsdp"] is not None, record["processes"], record["steps"]) == (True, 2, 6)


@pytest.mark.slow
def test_a_resumed_training_is_the_unbroken_one(folder: Path, found: dict[str, Any]) -> None:
    assert apart(folder / "resumed" / "model", folder / "whole" / "model") == 0
    assert apart(folder / "later", folder / "whole" / "model") == 0
    assert found["resumed"]["losses"] == found["whole"]["losses"]
    assert "without fsdp" in found["copies"]["refused"]
    assert "with fsdp" in found["whole"]["refused"]


@pytest.mark.slow
def test_an_evaluator_sees_the_whole_model(folder: Path, found: dict[str, Any], toy_collection: Any) -> None:
    about = found["whole"]
    assert about["best"] == 3 * (1 + int(np.argmax(about["metrics"])))
    model = SentenceTransformer(str(folder / "whole" / "model"), device="cpu")  # the best
    wanted = GridEvaluator(toy_collection)(model)["toy_mean_AP"]
    assert about["now"]["eval_toy_mean_AP"] == max(about["metrics"]) == pytest.approx(wanted, abs=1e-3)
    assert about["now"]["eval_loss"] == pytest.approx(about["held_out"][about["best"] // 3 - 1], abs=1e-6)
    assert "call train() first" in found["early"]
    assert "load it anew" in found["again"]


@pytest.mark.parametrize(
    "config", [{"version": 1}, {"state_dict_type": "SHARDED_STATE_DICT"}, {"auto_wrap_policy": "SIZE_BASED_WRAP"}]
)
def test_what_cannot_be_sharded_is_said_first(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(BeirHybridError, match=f"{next(iter(config))} is .* leave"):
        HybridTrainingArguments(output_dir=str(tmp_path), use_cpu=True, fsdp=True, fsdp_config=config)
    check_config({"reshard_after_forward": False, "version": "2"})


def test_one_process_has_nothing_to_share(tmp_path: Path, model: SentenceTransformer, toy_collection: Any) -> None:
    args = HybridTrainingArguments(output_dir=str(tmp_path), use_cpu=True, fsdp=True)
    with pytest.raises(BeirHybridError, match=r"here is 1 .*start them by torchrun"):
        HybridTrainer(model, args, toy_collection)
