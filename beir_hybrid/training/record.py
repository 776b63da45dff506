"""The record beside a trained model: what it was trained on, how, with what, and on which batches."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from sentence_transformers.base.model_card import get_losses
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardCallback

from beir_hybrid.training.mixing import HYBRID, batching_name
from beir_hybrid.training.rows import as_dataset

if TYPE_CHECKING:
    from beir_hybrid.training.trainer import HybridTrainer

RECORD = "hybrid_training.json"
_PACKAGES = ("beir_hybrid", "torch", "transformers", "sentence-transformers", "accelerate", "numpy")


def training_record(trainer: HybridTrainer) -> dict[str, Any]:
    """What `hybrid_training.json` holds, as of the trainer's current step.

    `composition` counts the global steps so far, epoch after epoch: with gradient accumulation there are several of
    them to an optimiser step. Its `settings` are the settings of the batches as probabilities.
    """
    args, state, sampler = trainer.args, trainer.state, trainer.train_sampler
    sources = []
    for part, data in (("train", trainer.train_dataset), ("eval", trainer.eval_dataset)):
        if dataset := as_dataset(data, part):
            pairs = dataset.pairs
            sources.append({"part": part, "name": pairs.source, "digest": pairs.digest, "items": len(pairs)})
            sources[-1]["languages"] = list(pairs.languages)
    return {
        "sources": sources,
        "batching": batching_name(args.batching),
        "alpha": args.alpha,
        "alpha_schedule": args.alpha_schedule,
        "language_weights": args.language_weights,
        "pairs": args.pairs,
        "pair_per": args.pair_per,
        "loss": type(trainer.loss).__name__,
        "temperature": getattr(trainer.loss, "temperature", None),
        "symmetric": getattr(trainer.loss, "symmetric", None),
        "negatives": getattr(trainer.loss, "negatives", None),
        "mini_batch_size": getattr(trainer.loss, "mini_batch_size", None),
        "gather_across_devices": getattr(trainer.loss, "gather_across_devices", None),
        "freeze_embeddings": args.freeze_embeddings,
        "dropout": args.dropout,
        "prompts": getattr(trainer.data_collator, "prompts", None),
        "max_seq_length": getattr(trainer.model, "max_seq_length", None),
        "seed": args.seed,
        "batch_seed": args.batch_seed,
        "batch_size": args.train_batch_size,
        "processes": trainer.accelerator.num_processes,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "precision": trainer.accelerator.mixed_precision,
        "device": trainer.accelerator.device.type,
        "learning_rate": args.learning_rate,
        "weight_decay": args.weight_decay,
        "warmup_steps": args.warmup_steps,
        "lr_scheduler": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
        "steps": state.global_step,
        "max_steps": state.max_steps,
        "epoch": state.epoch,
        "best_checkpoint": state.best_model_checkpoint,
        "best_metric": state.best_metric,
        # The epoch moves on by whole batches, so this is exact, also where the last accumulation was cut short.
        "composition": sampler.composition(round((state.epoch or 0) * sampler.steps)) if sampler else None,
        "versions": {name: _version(name) for name in _PACKAGES},
    }


class HybridModelCardCallback(SentenceTransformerModelCardCallback):
    """The parent's model card, which reads its facts from a datasets.Dataset, told the same facts about parallel pairs.

    The widget's examples are left out: they are similarities computed by the untrained model.
    """

    def on_init_end(  # type: ignore[override]  # as the parent does
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any,
        trainer: HybridTrainer,
        **kwargs: Any,
    ) -> None:
        """Fill in the card of `model`."""
        card = model.model_card_data
        # A model from the hub has its base named since it was loaded. For one from a folder the parent would ask the
        # hub about every name that can be made of the folder's: not from a training.
        card.local_files_only = True
        card.add_tags("generated_from_trainer")
        card.set_losses(get_losses(trainer.loss))
        batches = batching_name(args.batching)
        if args.batching == HYBRID:
            to = f" to {args.alpha_schedule['end']}" if args.alpha_schedule else ""
            batches += f" with alpha {args.alpha}{to}"
        for part in ("train", "eval"):
            dataset = as_dataset(getattr(trainer, f"{part}_dataset"), part)
            if dataset is None:
                continue
            pairs = dataset.pairs
            name = f"{pairs.source} ({len(pairs.languages)} languages, {batches} batches)"
            facts = card.compute_dataset_metrics(dataset, {"name": name, "size": len(pairs)}, trainer.loss)
            setattr(card, f"{part}_datasets", [facts])
            if part == "train":
                card.ir_model = True
                card.add_tags(f"dataset_size:{len(pairs)}")
                if not card.language:
                    card.set_language(list(pairs.languages))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None
