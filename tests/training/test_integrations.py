"""What sentence-transformers and transformers offer around a training, with HybridTrainer: the real thing, small."""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import peft
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from transformers import EarlyStoppingCallback

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.training.loss import EXPLICIT_ONLY, HybridInfoNCELoss
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["where is enriver entower 3?", "detower is in de place 7", "himusic"]


def arguments(folder: Path, **changed: Any) -> HybridTrainingArguments:
    """Plain gradient descent without dropout: what is equal stays equal."""
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 6, "per_device_eval_batch_size": 4, "max_steps": 4, "learning_rate": 1e-2,
        "save_strategy": "no", "logging_steps": 1, "use_cpu": True, "disable_tqdm": True, "temperature": 0.1,
        "dropout": 0.0, "optim": "sgd", "max_grad_norm": 0.0, "weight_decay": 0.0, "lr_scheduler_type": "constant",
    }  # fmt: skip
    return HybridTrainingArguments(output_dir=str(folder), **{**settings, **changed})


def weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def gradients(model: SentenceTransformer, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def batches(model: SentenceTransformer, rows: int = 21, columns: int = 4) -> list[dict[str, Any]]:
    """Columns of texts of many lengths: enough rows for the encoder to run them in chunks."""
    random = np.random.default_rng(5)
    words = [code + stem for code in ("en", "de") for stem in ("river", "tower", "music", "engine", "garden")]
    return [
        model.preprocess([" ".join(random.choice(words, random.integers(1, 9))) for _ in range(rows)])
        for _ in range(columns)
    ]


def test_lora(model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection) -> None:
    model.add_adapter(peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=4, target_modules=["query", "value"]))
    before = weights(model)
    settings = {"optim": "adamw_torch", "save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    HybridTrainer(model, arguments(tmp_path / "out", **settings), toy_collection).train()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if ".lora_" in name}

    model.save_pretrained(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "model.safetensors").exists()  # the adapter alone
    wanted = model.encode(TEXTS)
    np.testing.assert_allclose(SentenceTransformer(str(tmp_path / "saved")).encode(TEXTS), wanted, atol=1e-6)
    for folder in (tmp_path / "saved", tmp_path / "out" / "checkpoint-6"):
        encoder = DenseEncoder(folder, query_prompt="", precision="float32")
        np.testing.assert_allclose(encoder.encode_queries(TEXTS), wanted, atol=1e-6)
    assert encoder.batching == "hybrid"

    again = SentenceTransformer(model[0].auto_model.config._name_or_path, device="cpu")
    again = SentenceTransformer(modules=[again[0], *list(model)[1:]], device="cpu")
    again.prompts = model.prompts
    again.add_adapter(peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=4, target_modules=["query", "value"]))
    resumed = HybridTrainer(again, arguments(tmp_path / "out", **settings), toy_collection)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    np.testing.assert_allclose(again.encode(TEXTS), wanted, atol=1e-6)


@pytest.mark.parametrize("mini_batch_size", [None, 5])
@pytest.mark.parametrize("settings", [{}, {"symmetric": True}, {"negatives": EXPLICIT_ONLY}])
def test_matryoshka(model: SentenceTransformer, settings: dict[str, Any], mini_batch_size: int | None) -> None:
    model.eval()
    dimensions, shares = [32, 16, 8], [1.0, 0.5, 2.0]
    table = torch.stack([torch.arange(21) // 2, torch.full((21,), -1), torch.arange(21) % 4 - 2], dim=1)
    inside = HybridInfoNCELoss(model, 0.1, mini_batch_size=mini_batch_size, **settings)
    modified = MatryoshkaLoss(model, inside, dimensions, shares)
    features = batches(model)
    found = modified([dict(column) for column in features], table)
    found_gradients = gradients(model, found)

    by_hand = HybridInfoNCELoss(model, 0.1, **settings)
    vectors = [model(dict(column))["sentence_embedding"] for column in features]
    wanted = sum(
        share * by_hand.from_embeddings([torch.nn.functional.normalize(one[:, :size], dim=1) for one in vectors], table)
        for size, share in zip(dimensions, shares, strict=True)
    )
    assert found.item() == pytest.approx(wanted.item(), abs=1e-5)
    torch.testing.assert_close(found_gradients, gradients(model, wanted), atol=1e-5, rtol=1e-3)


def test_matryoshka_in_the_trainer(tiny_model: Path, tmp_path: Path, toy_collection: MultilingualCollection) -> None:
    found = []
    for size in (None, 4):
        model = SentenceTransformer(str(tiny_model), device="cpu")
        loss = MatryoshkaLoss(model, HybridInfoNCELoss(model, 0.1, mini_batch_size=size), [32, 8])
        args = arguments(tmp_path, per_device_train_batch_size=16)
        trainer = HybridTrainer(model, args, toy_collection, toy_collection, loss=loss)
        trainer.train()
        assert math.isfinite(trainer.evaluate()["eval_loss"])
        found.append(weights(model))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)
    trainer.save_model(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text()
    assert all(paper in card for paper in ("2205.13147", "2408.10536", "2101.06983"))


@pytest.mark.parametrize("mini_batch_size", [None, 4])
def test_bf16(
    tiny_model: Path, tmp_path: Path, toy_collection: MultilingualCollection, mini_batch_size: int | None
) -> None:
    losses = []
    for bf16 in (False, True):
        model = SentenceTransformer(str(tiny_model), device="cpu")
        args = arguments(tmp_path, bf16=bf16, mini_batch_size=mini_batch_size, max_steps=6)
        trainer = HybridTrainer(model, args, toy_collection)
        trainer.train()
        assert all(value.dtype == torch.float32 for value in model.parameters())
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("mini_batch_size", [None, 4])
def test_an_accumulated_step_is_the_mean_of_its_batches(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection, mini_batch_size: int | None
) -> None:
    # Each batch with its own negatives: not the one batch that has all rows.
    rate = 1e-2
    args = arguments(
        tmp_path, gradient_accumulation_steps=2, max_steps=1, learning_rate=rate, mini_batch_size=mini_batch_size
    )
    trainer = HybridTrainer(model, args, toy_collection)
    before, parts, columns, labels = weights(model), [], [], []
    for batch in list(trainer.get_train_dataloader())[:2]:
        features, label = trainer.collect_features({k: v for k, v in batch.items() if k != "batch_kind"})
        columns.append(features)
        labels.append(label)
        parts.append(gradients(model.eval(), HybridInfoNCELoss(model, 0.1)([dict(one) for one in features], label)))
    trainer.train()
    after = weights(model)
    for name in parts[0]:
        wanted = before[name] - rate * (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(after[name], wanted, atol=1e-6, rtol=0)

    model.load_state_dict(before)
    with torch.no_grad():
        together = [
            torch.cat([model(dict(one))["sentence_embedding"] for one in pair]) for pair in zip(*columns, strict=True)
        ]
        apart = [
            HybridInfoNCELoss(model, 0.1)([dict(c) for c in pair], one)
            for pair, one in zip(columns, labels, strict=True)
        ]
        whole = HybridInfoNCELoss(model, 0.1).from_embeddings(together, torch.cat(labels))
    assert whole.item() > sum(apart).item() / 2 + 0.1  # more negatives


def test_early_stopping_keeps_the_best(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection
) -> None:
    train, held_out = ParallelPairs.from_collection(toy_collection).split(12)
    # So high a rate that the held-out loss rises sooner or later.
    args = arguments(
        tmp_path, max_steps=60, learning_rate=0.05, optim="adamw_torch", eval_strategy="steps", eval_steps=2,
        save_strategy="steps", save_steps=2, load_best_model_at_end=True, metric_for_best_model="eval_loss",
    )  # fmt: skip
    trainer = HybridTrainer(model, args, train, held_out, callbacks=[EarlyStoppingCallback(2)])
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert trainer.state.global_step < 60
    assert min(losses[-2:]) >= min(losses[:-2]) == trainer.state.best_metric
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.state.best_metric, abs=1e-6)
    record = json.loads((tmp_path / "hybrid_training.json").read_text())
    assert record["best_metric"] == trainer.state.best_metric
    assert record["composition"]["steps"] == record["steps"] == trainer.state.global_step


@pytest.mark.parametrize("mini_batch_size", [None, 5])
def test_gradient_checkpointing_changes_nothing(
    tiny_model: Path, tmp_path: Path, toy_collection: MultilingualCollection, mini_batch_size: int | None
) -> None:
    found = []
    for checkpointing in (False, True):
        model = SentenceTransformer(str(tiny_model), device="cpu")
        size = {"mini_batch_size": mini_batch_size, "per_device_train_batch_size": 16}
        args = arguments(tmp_path, gradient_checkpointing=checkpointing, **size)
        HybridTrainer(model, args, toy_collection).train()
        assert model.transformers_model.is_gradient_checkpointing == checkpointing
        found.append(weights(model))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=0)


def test_the_card_says_what_the_training_saw(
    model: SentenceTransformer, tmp_path: Path, toy_collection: MultilingualCollection
) -> None:
    train, held_out = ParallelPairs.from_collection(toy_collection).split(12)
    args = arguments(tmp_path / "out", max_steps=9, save_strategy="steps", save_steps=4, mini_batch_size=4)
    trainer = HybridTrainer(model, args, train, held_out)
    trainer.save_model(str(tmp_path / "untrained"))
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))

    assert "Batches:" not in (tmp_path / "untrained" / "README.md").read_text()
    for folder, steps in (("out/checkpoint-4", 4), ("out/checkpoint-8", 8), ("final", 9)):
        card = (tmp_path / folder / "README.md").read_text()
        composition = json.loads((tmp_path / folder / "hybrid_training.json").read_text())["composition"]
        assert composition["steps"] == steps
        assert card.count("* Batches:") == 1
        assert f"* Batches: {steps}, {6 * steps} rows\n" in card
        for name, title in (("kinds", "of each kind"), ("languages", "in one language")):
            counts = ", ".join(f"{key} {count}" for key, count in composition[name].items())
            assert f"* Batches {title}: {counts}\n" in card
        assert card.count(f"* SHA-256 of the data: `{toy_collection.digest}`\n") == 2
        assert "2408.10536" in card
        assert "2101.06983" in card


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload asks for: every file is small, and a commit carries its files."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        home = f"http://{self.headers['Host']}/someone/toy"
        if self.path == "/api/repos/create":
            self.answer({"url": home, "name": "someone/toy", "id": "0"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [one["path"] for one in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                told = json.loads(line)
                if told["key"] == "file":
                    self.files[told["value"]["path"]] = base64.b64decode(told["value"]["content"])
            self.answer({"commitUrl": f"{home}/commit/{'0' * 40}", "commitOid": "0" * 40, "hookOutput": ""})
        else:
            self.send_error(404, self.path)

    def do_GET(self) -> None:
        self.answer({"id": "someone/toy", "sha": "0" * 40, "siblings": [], "tags": [], "private": False})

    def answer(self, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


PUSH = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from sentence_transformers import SentenceTransformer
from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments
sys.path.insert(0, sys.argv[3])
from conftest import make_collection

args = HybridTrainingArguments(
    output_dir=sys.argv[2], per_device_train_batch_size=4, max_steps=3, use_cpu=True, disable_tqdm=True,
    save_strategy="no", push_to_hub=True, hub_model_id="someone/toy", hub_token="none",
)
trainer = HybridTrainer(SentenceTransformer(sys.argv[1], device="cpu"), args, make_collection())
trainer.train()
trainer.push_to_hub()
"""


def test_a_push_to_the_hub(tiny_model: Path, tmp_path: Path) -> None:
    _Hub.files.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tests = Path(__file__).parents[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(tests.parent),
    }  # fmt: skip
    try:
        command = [sys.executable, "-c", PUSH, str(tiny_model), str(tmp_path / "out"), str(tests)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr[-4000:]
    assert {"README.md", "hybrid_training.json", "model.safetensors", "modules.json", "tokenizer.json"} <= set(
        _Hub.files
    )
    assert "* Batches: 3, 12 rows\n" in _Hub.files["README.md"].decode()
    assert json.loads(_Hub.files["hybrid_training.json"])["steps"] == 3
    for name, content in _Hub.files.items():
        target = tmp_path / "down" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    pushed, kept = DenseEncoder(tmp_path / "down"), DenseEncoder(tmp_path / "out")
    assert pushed.batching == "hybrid"
    np.testing.assert_array_equal(pushed.encode_queries(TEXTS), kept.encode_queries(TEXTS))
