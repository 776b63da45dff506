"""Steps a second of HybridTrainer beside SentenceTransformerTrainer: the same batches of the same texts.

    python benchmarks/steps_per_second.py [STEPS]

The peer has MultipleNegativesRankingLoss with scale 1/temperature and a datasets.Dataset of the texts in the order in
which HybridTrainer draws them. A BERT of 2 layers and 128 dimensions with random weights, on the CPU; the two take
turns in one process, and the fastest run of each counts.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset  # type: ignore[import-untyped]
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import BertWordPieceTokenizer
from torch.utils.data import SequentialSampler
from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from beir_hybrid import HybridBatchSampler, HybridTrainer, HybridTrainingArguments, ParallelPairs, load

ROUNDS = 3
BATCH = 32
TEMPERATURE = 0.02
RATIO = 0.97


def make_model(folder: Path, texts: list[str]) -> Path:
    """Save a small encoder with a tokenizer of these texts."""
    tokenizer = BertWordPieceTokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=8000, show_progress=False)
    BertTokenizerFast(vocab=tokenizer.get_vocab()).save_pretrained(folder / "bert")
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder / "bert")
    encoder = Transformer(str(folder / "bert"), max_seq_length=64)
    SentenceTransformer(modules=[encoder, Pooling(128, "mean"), Normalize()], device="cpu").save_pretrained(
        str(folder / "model")
    )
    return folder / "model"


def in_order(pairs: ParallelPairs, steps: int, seed: int) -> Any:
    """The texts of the first steps of HybridTrainer, one batch after the other."""
    sampler = HybridBatchSampler(pairs, BATCH, seed=seed)
    epochs = -(-steps // sampler.steps)
    flat = np.concatenate([sampler.plan(epoch).flat for epoch in range(epochs)])[:steps].ravel()
    texts = [
        pairs.pair(item, query, passage)
        for item, query, passage in zip(*(a.tolist() for a in sampler.decode(flat)), strict=True)
    ]
    return Dataset.from_dict({"query": [query for query, _ in texts], "passage": [passage for _, passage in texts]})


def sequential(dataset: Any, **settings: Any) -> DefaultBatchSampler:
    return DefaultBatchSampler(SequentialSampler(dataset), **settings)


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"  # the peer would ask the hub about the model's folder
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    collection = load("sample-train")
    pairs = ParallelPairs.from_collection(collection)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = make_model(folder, [*collection.queries.texts, *collection.passages.full_texts])
        common: dict[str, Any] = {
            "output_dir": str(folder / "out"), "max_steps": steps, "per_device_train_batch_size": BATCH, "seed": 0,
            "learning_rate": 3e-5, "weight_decay": 1e-2, "save_strategy": "no", "logging_steps": 10,
            "report_to": "none", "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False,
        }  # fmt: skip
        dataset = in_order(pairs, steps, common["seed"])

        def ours(model: SentenceTransformer) -> SentenceTransformerTrainer:
            return HybridTrainer(model, HybridTrainingArguments(**common, temperature=TEMPERATURE), pairs)

        def peer(model: SentenceTransformer) -> SentenceTransformerTrainer:
            args = SentenceTransformerTrainingArguments(**common, batch_sampler=sequential)
            loss = MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE)
            return SentenceTransformerTrainer(model, args, train_dataset=dataset, loss=loss)

        print(f"{steps} steps of {BATCH} rows, {torch.get_num_threads()} threads; the fastest of {ROUNDS} runs")
        speeds: dict[str, list[float]] = {"HybridTrainer": [], "SentenceTransformerTrainer": []}
        for number in range(ROUNDS + 1):
            for name, make in (("HybridTrainer", ours), ("SentenceTransformerTrainer", peer)):
                trainer = make(SentenceTransformer(str(path), device="cpu"))
                trainer.remove_callback(PrinterCallback)
                metrics = trainer.train().metrics
                if number:  # the first round warms up
                    speeds[name].append(steps / metrics["train_runtime"])
                    print(f"{name:28} {speeds[name][-1]:6.2f} steps/s, mean loss {metrics['train_loss']:.4f}")
        ratio = max(speeds["HybridTrainer"]) / max(speeds["SentenceTransformerTrainer"])
        print(f"HybridTrainer / SentenceTransformerTrainer = {ratio:.3f} (at least {RATIO})")


if __name__ == "__main__":
    main()
